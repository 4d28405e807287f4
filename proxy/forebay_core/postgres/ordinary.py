"""Texts of which nothing has to be known, however many values stand in them: told in one pass of one expression.

`marks` reads what is left token by token, at a hundred times the cost. So this is for the long ones, an INSERT of
thousands of rows or a hundred UPDATEs in one Query, in whose values anything may stand. It reads as `lexer` does, whose
every rule has its place here; what is not plainly covered (a comment in a comment) is left to it.
"""

import re

from forebay_core.postgres.lexer import ESCAPED, GO_ON, PLAIN, SPACE

_END = rb"(?![A-Za-z0-9_$\x80-\xff])"  # of a word
_SKIP = rb"(?:" + SPACE + rb"++|--[^\n\r]*+|/\*(?:[^*/]|\*(?!/)|/(?!\*))*+\*/)"
# What a statement with a mark begins with. SET LOCAL has none.
_MARKED = (
    rb"(?:(?:reset|listen|unlisten|load|prepare|deallocate|discard|declare|close|do|explain)" + _END + rb"|set" + _END
    + rb"(?!" + _SKIP + rb"*+(?:local|transaction|constraints)" + _END + rb"))"
)  # fmt: skip
_TEMPORARY = rb"(?:create|into|replace|global|local)" + _END + _SKIP + rb"*+temp(?:orary)?" + _END
# Runs of one kind that are gone through; two of them to a value, and under 10 ms.
_MOST = b"32768"
_TAG = rb"(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?"


class Ordinary:
    """Whether no statement of a text begins with a word that may be a mark, makes something temporary, or has one of
    `names` in it, but in strings and comments. `names` are regular expressions, of whole identifiers."""

    def __init__(self, names: tuple[bytes, ...]) -> None:
        found = rb"(?:" + rb"|".join(names) + rb")"
        self._standard, self._backslashes = _expression(found, PLAIN), _expression(found, ESCAPED)

    def __call__(self, text: bytes, standard_strings: bool = True) -> bool:
        return (self._standard if standard_strings else self._backslashes).match(text) is not None


def _expression(names: bytes, string: bytes) -> re.Pattern[bytes]:
    start = _SKIP + rb"*+(?!" + _MARKED + rb")"
    return re.compile(
        start
        + rb"(?:" + _SKIP
        + rb"|[^'\"$\-/;A-Za-z_\x80-\xff]++|-|/(?!\*)"
        + rb"|e" + ESCAPED + rb"(?:" + GO_ON + ESCAPED + rb")*+"
        + rb"|" + string + rb"(?:" + GO_ON + string + rb")*+"
        + rb'|(?!u&"|' + names + _END + rb"|" + _TEMPORARY + rb")[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+"
        + rb"|;" + start
        + rb'|"(?!' + names + rb'")(?:[^"]|"")*+"'
        + rb"|(?-i:\$(?P<tag>" + _TAG + rb")\$.*?\$(?P=tag)\$)|\$(?!" + _TAG + rb"\$)"
        + rb"){0," + _MOST + rb"}+\Z",
        re.DOTALL | re.IGNORECASE,
    )  # fmt: skip
