"""A statement's shape: its text without what it is about, for logs. Values may be anybody's secrets, words are not."""

from typing import Final

from forebay_core.postgres.lexer import Unreadable, tokens

LONGEST: Final = 1000  # characters of a shape
MOST_READ: Final = 1 << 16  # bytes of a text; a longer one has none
TIGHT: Final = frozenset(".,();:[]")  # no space before these, nor after those that open or join
OPENING: Final = frozenset(".([:")
OPERATOR: Final = frozenset("+-*/<>=~!@#%^&|`?")  # characters of operators, which stay together


def shape(text: bytes) -> str:
    """The text with `?` for each constant, without comments, spaced anew; empty where it can't be read."""
    if len(text) > MOST_READ:
        return ""
    try:
        found = tokens(text)
    except Unreadable:
        return ""
    parts: list[str] = []
    before = "("
    for kind, raw, _ in found:
        constant = kind == "s" or (kind == "n" and raw[:1] != b"$")
        word = "?" if constant else raw.decode("utf-8", "replace")
        if kind == "q":
            word = f'"{word}"'
        if before not in OPENING and kind not in TIGHT and not (before in OPERATOR and kind in OPERATOR):
            parts.append(" ")
        parts.append(word)
        before = kind
    return "".join(parts)[:LONGEST]
