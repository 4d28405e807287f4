"""The chunked coding in pure Python (RFC 9112 section 7.1)."""

import re

from forebay_core.http1.fields import VALUE, check_breaks, check_fields, field_line
from forebay_core.http1.types import (
    CHUNK_END,
    CHUNK_LINE,
    CHUNK_SIZE,
    DROPPED_FROM_TRAILERS,
    FORWARDED_PREFIX,
    LARGE_TRAILER,
    MAX_CHUNK_EXTENSION,
    MAX_CHUNK_SIZE,
    refusal,
)

_SIZE = rb"([0-9A-Fa-f]{1,16}+)([ \t]*+;%s*+)?+\r\n" % VALUE
_SIZE_PART = rb"[0-9A-Fa-f]{1,16}+(?:([ \t]*+;%s*+)\r?+|([ \t]++)|\r)?+" % VALUE
_FIRST_SIZE = re.compile(_SIZE)
_FIRST_SIZE_PART = re.compile(_SIZE_PART)
_NEXT_SIZE = re.compile(rb"\r\n" + _SIZE)  # the CRLF after a chunk's data belongs to the next line here
_NEXT_SIZE_PART = re.compile(rb"\r(?:\n(?:%s)?)?" % _SIZE_PART)
_SIZE_WINDOW = 2 + 16 + MAX_CHUNK_EXTENSION + 2 + 1  # bytes: a line that does not end in them is too long


def read_trailer(data: bytes, max_trailer: int) -> tuple[bytes, int] | None:
    """The trailer at the start of `data`: the lines to pass on, and the index after its blank line.

    None while it is incomplete. `max_trailer` is in bytes without the blank line; offsets in errors count from the
    trailer's start. Both codecs use this one: trailers are rare.
    """
    if data.startswith(b"\r\n"):
        return b"", 2
    blank = data.find(b"\r\n\r\n", 0, max_trailer + 2)
    if blank < 0:
        check_breaks(data, 0, min(len(data), max_trailer + 2), False)
        if len(data) >= max_trailer + 2:
            raise refusal(LARGE_TRAILER, max_trailer)
        return None
    check_fields(data, 0, blank + 2, False)
    lines = [
        line[0]
        for line in field_line.finditer(data, 0, blank + 2)
        if (name := line[1].lower().replace(b"_", b"-")) not in DROPPED_FROM_TRAILERS
        and not name.startswith(FORWARDED_PREFIX)
    ]
    return b"".join(lines), blank + 4


class ChunkDecoder:
    """Takes the chunked coding off a body (RFC 9112 section 7.1); not to be fed again after it raised."""

    __slots__ = ("_carry", "_first", "_in_trailer", "_left", "_max_trailer", "done", "trailer")

    def __init__(self, max_trailer: int) -> None:
        """`max_trailer` bounds the trailer's field lines, in bytes."""
        self.done = False
        self.trailer = b""  # validated lines, each with its CRLF, without fields that have no place in a trailer
        self._max_trailer = max_trailer
        self._carry = b""  # framing that the last feed ended in the middle of
        self._first = True
        self._in_trailer = False
        self._left = 0  # bytes of the current chunk

    def feed(self, data: bytes, start: int) -> tuple[bytes, int]:
        """The payload found in `data[start:]`, and the index after what was consumed. Raises ProtocolError.

        All is consumed until the message is done; then the index is where the next message starts.
        """
        parts: list[bytes] = []
        stop = len(data)
        while start < stop and not self.done:
            if self._left:
                part = data[start : start + self._left]
                parts.append(part)
                start += len(part)
                self._left -= len(part)
            elif self._in_trailer:
                start = self._read_trailer(data, start)
            else:
                start = self._read_size(data, start)
        return parts[0] if len(parts) == 1 else b"".join(parts), start

    def _read_size(self, data: bytes, start: int) -> int:
        text = self._carry + data[start : start + _SIZE_WINDOW] if self._carry else data[start : start + _SIZE_WINDOW]
        line = (_FIRST_SIZE if self._first else _NEXT_SIZE).match(text)
        if line is None:
            self._check_part(text)
            self._carry = text
            return len(data)
        if line[2] is not None and len(line[2]) > MAX_CHUNK_EXTENSION:
            raise refusal(CHUNK_LINE)
        self._left = int(line[1], 16)
        if self._left > MAX_CHUNK_SIZE:
            raise refusal(CHUNK_SIZE)
        start += line.end() - len(self._carry)
        self._carry = b""
        self._first = False
        self._in_trailer = self._left == 0
        return start

    def _check_part(self, text: bytes) -> None:
        """Refuse what no further byte could make a size line."""
        part = (_FIRST_SIZE_PART if self._first else _NEXT_SIZE_PART).fullmatch(text)
        if part is None and not self._first and not text.startswith(b"\r\n"[: len(text)]):
            raise refusal(CHUNK_END)
        if part is None or (part.lastindex and len(part[part.lastindex]) > MAX_CHUNK_EXTENSION):
            raise refusal(CHUNK_LINE)

    def _read_trailer(self, data: bytes, start: int) -> int:
        text = self._carry + data[start : start + self._max_trailer + 2]
        found = read_trailer(text, self._max_trailer)
        if found is None:
            self._carry = text
            return len(data)
        self.trailer, used = found
        self.done = True
        return start + used - len(self._carry)
