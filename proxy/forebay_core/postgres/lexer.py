"""SQL's tokens, as far as it takes to tell words from what is quoted (PostgreSQL documentation, "Lexical Structure").

Works on bytes: a word may have any byte from 0x80 on. That holds for the server's encodings and UTF-8; in a few
encodings that only clients have, a backslash can be the second byte of a character (`AMBIGUOUS_ENCODINGS`).
"""

import re
from itertools import islice
from typing import NamedTuple

AMBIGUOUS_ENCODINGS = frozenset({"BIG5", "GB18030", "GBK", "JOHAB", "SHIFT_JIS_2004", "SJIS", "UHC"})


class Token(NamedTuple):
    """`kind` is w (a word, in lower case), q (a quoted identifier, unquoted), s (a string as it stands, quotes
    included), n (a number or parameter), else the character itself. `escaped`: a U& identifier with escapes.
    """

    kind: str
    text: bytes
    escaped: bool = False


SPACE = rb"[ \t\n\r\f\v]"
# A string goes on after white space with a new line in it, by the same rules.
GO_ON = rb"(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r])*+"
PLAIN = rb"'(?:[^']|'')*+'"
ESCAPED = rb"'(?:[^'\\]|\\.|'')*+'"


def _tokens(string: bytes) -> re.Pattern[bytes]:
    return re.compile(
        rb"(?P<skip>" + SPACE + rb"++|--[^\n\r]*+)"
        rb"|(?P<comment>/\*)"
        rb"|(?P<e>[eE]" + ESCAPED + rb"(?:" + GO_ON + ESCAPED + rb")*+)"
        rb"|(?P<s>" + string + rb"(?:" + GO_ON + string + rb")*+)"
        rb'|(?P<u>[uU]&"(?:[^"]|"")*+")'
        rb'|(?P<q>"(?:[^"]|"")*+")'
        rb"|(?P<d>\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$)"
        rb"|(?P<w>[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+)"
        rb"|(?P<n>\$?[0-9]++)"
        rb"|(?P<o>[^'\"])",
        re.DOTALL,
    )


_STANDARD, _BACKSLASHES = _tokens(PLAIN), _tokens(ESCAPED)
_COMMENT = re.compile(rb"/\*|\*/")


class Unreadable(Exception):
    """A quote or a comment has no end, or there are too many tokens."""


class TooMany(Unreadable):
    """There are more tokens than are read: `read` are those of whole statements, the next of which begins at byte
    `rest`."""

    def __init__(self, read: list[Token], rest: int) -> None:
        super().__init__("more tokens than are read")
        self.read, self.rest = read, rest


def tokens(text: bytes, standard_strings: bool = True, most: int | None = None) -> list[Token]:
    """The tokens without white space and comments, of which there may be `most` with these. `standard_strings` is the
    session's standard_conforming_strings. Raises Unreadable, and of that TooMany.
    """
    left = len(text) if most is None else most
    pattern = _STANDARD if standard_strings else _BACKSLASHES
    found: list[Token] = []
    place, end = 0, len(text)
    rest = before = 0  # where the statement under way begins, and how many tokens there are before it
    while place < end:
        match = pattern.match(text, place)
        if match is None:
            raise Unreadable(f"a quote at byte {place} has no end")
        if not left:
            raise TooMany(found[:before], rest)
        left -= 1
        kind, place = match.lastgroup, match.end()
        if kind == "comment":
            place = _after_comment(text, place, left)
        elif kind == "w":
            found.append(Token("w", match.group().lower()))
        elif kind == "q":
            found.append(Token("q", match.group()[1:-1].replace(b'""', b'"')))
        elif kind == "u":
            name = match.group()[3:-1].replace(b'""', b'"')
            # UESCAPE may name another character than the backslash, which then is not seen: unsure either way.
            found.append(Token("q", name, escaped=True))
        elif kind == "d":
            close = text.find(match.group(), place)
            if close < 0:
                raise Unreadable("a dollar quote has no end")
            found.append(Token("s", text[match.start() : close + len(match.group())]))
            place = close + len(match.group())
        elif kind in ("e", "s"):
            found.append(Token("s", match.group()))
        elif kind == "n":
            found.append(Token("n", match.group()))
        elif kind == "o":
            found.append(Token(match.group().decode("latin-1"), match.group()))
            if match.group() == b";":
                rest, before = place, len(found)
    return found


def _after_comment(text: bytes, place: int, left: int) -> int:
    depth = 1  # comments nest
    for match in islice(_COMMENT.finditer(text, place), left + 1):
        depth += 1 if match.group() == b"/*" else -1
        if depth == 0:
            return match.end()
    raise Unreadable("a comment has no end")
