"""The syntax of field lines in pure Python (RFC 9110 section 5, RFC 9112 section 5), for heads and trailers.

The compiled codec decides by itself, and lets these functions say what is wrong.
"""

import re
from typing import Final

from forebay_core.http1.types import (
    BAD_BYTE,
    BAD_NAME,
    BAD_VALUE,
    EMPTY_START_LINE,
    FOLDED_LINE,
    LARGE_HEAD,
    LONG_REQUEST_LINE,
    MANY_FIELDS,
    MAX_FIELDS,
    ProtocolError,
    refusal,
)

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110 section 5.6.2
VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]"  # RFC 9110 section 5.5
TRIMMED: Final = rb"[!-~\x80-\xff]*+(?:[ \t]++[!-~\x80-\xff]++)*+"  # the same, without whitespace at its ends

tokens: Final = re.compile(rb"%s++" % TOKEN)
field_line: Final = re.compile(rb"(%s++):(%s*+)\r\n" % (TOKEN, VALUE))
_field_lines = re.compile(rb"(?:%s++:%s*+\r\n){0,%d}+" % (TOKEN, VALUE, MAX_FIELDS))
_ROOM = len(b"n:\r\n") * MAX_FIELDS  # bytes in which there can't be too many fields
_value = re.compile(rb"%s*+" % VALUE)
_broken = re.compile(rb"\x00|(?<!\r)\n|\r(?!\n|\Z)")


def _by_initial(names: frozenset[bytes]) -> dict[bytes, bytes]:
    """Patterns of what follows the names' initials, by patterns of these. A name that ends in `-` is that of all that
    begin with it."""
    tails: dict[bytes, list[bytes]] = {}
    for name in sorted(names):
        rest = b"%s*+" % TOKEN if name.endswith(b"-") else b""
        tails.setdefault(name[:1], []).append(name[1:].replace(b"-", b"[-_]") + rest)
    return {b"[%s%s]" % (initial.upper(), initial): b"(?i:%s)" % b"|".join(rest) for initial, rest in tails.items()}


def any_of(names: frozenset[bytes]) -> bytes:
    """A pattern of these names, given lowercase, in any case and with `_` for `-`."""
    return b"(?:%s)" % b"|".join(initial + rest for initial, rest in _by_initial(names).items())


def lines_without(names: frozenset[bytes]) -> bytes:
    """A pattern of any number of field lines whose names are none of these; most are known by their first byte."""
    by_initial = _by_initial(names)
    taken = re.compile(b"|".join(by_initial))
    others = bytes(byte for byte in range(128) if tokens.match(b"%c" % byte) and not taken.match(b"%c" % byte))
    starts = [b"[%s]" % re.escape(others), *(b"%s(?!%s:)" % entry for entry in by_initial.items())]
    return b"(?:(?:%s)%s*+:%s*+\r\n)*+" % (b"|".join(starts), TOKEN, VALUE)


def check_incomplete(data: bytes, start: int, limit: int, response: bool) -> None:
    """Refuse what can't become a head of at most `limit` bytes any more."""
    if data.startswith(b"\r\n", start):
        raise refusal(EMPTY_START_LINE, start, response)
    stop = min(len(data), start + limit)
    check_breaks(data, start, stop, response)
    if len(data) - start >= limit:
        whole_line = data.find(b"\r\n", start, stop) >= 0
        raise refusal(LARGE_HEAD if whole_line else LONG_REQUEST_LINE, limit, response)


def check_breaks(data: bytes, start: int, stop: int, response: bool) -> None:
    """Refuse NUL, a bare LF and a bare CR (RFC 9112 section 2.2); a CR as the very last byte may still get its LF."""
    # Counting is much faster than searching, and the bytes of a peer that dribbles are looked at again and again.
    pairs = data.count(b"\r\n", start, stop)
    alone = data.count(b"\n", start, stop) + data.count(b"\r", start, stop) - 2 * pairs
    if alone or data.find(b"\x00", start, stop) >= 0:
        broken = _broken.search(data, start, stop)
        if broken is not None:
            raise refusal(BAD_BYTE, broken.start(), response)


def check_fields(data: bytes, start: int, stop: int, response: bool) -> None:
    """Refuse anything but strict `token ":" value CRLF` lines, and too many of them."""
    if _field_lines.fullmatch(data, start, stop) is None:
        raise bad_fields(data, start, stop, response)


def crowded(data: bytes, start: int, end: int) -> bool:
    """Whether a head has more than MAX_FIELDS lines besides its start line and its blank line."""
    return end - start > _ROOM and data.count(b"\r\n", start, end) > MAX_FIELDS + 2


def bad_fields(data: bytes, start: int, stop: int, response: bool) -> ProtocolError:
    """What is wrong with field lines that have been found bad."""
    while line := field_line.match(data, start, stop):
        start = line.end()
    if start == stop:
        return refusal(MANY_FIELDS, MAX_FIELDS, response)
    if data[start] in b" \t":
        return refusal(FOLDED_LINE, start, response)
    name = tokens.match(data, start, stop)
    after = name.end() if name else start
    if name is None or data[after] != ord(":"):
        return refusal(BAD_NAME, after, response)
    value = _value.match(data, after + 1, stop)
    return refusal(BAD_VALUE, value.end() if value else after + 1, response)
