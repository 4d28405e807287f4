"""What messages are made of: integers, strings that end in NUL, and counted bytes (PostgreSQL docs 55.6, 55.7).

Names and values are `str` here, UTF-8 with what is no UTF-8 escaped (PEP 383), so that a user name in another encoding
comes out as it went in.
"""

from struct import Struct

from forebay_core.pgwire.types import MAX_LENGTH, ProtocolError

_header = Struct(">cI")
_int16 = Struct(">H")
_int32 = Struct(">i")
_uint32 = Struct(">I")


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A message: type, length and body."""
    return _header.pack(kind, len(body) + 4) + body


def int16(number: int) -> bytes:
    """An Int16; counts are unsigned (a Bind may have 65535 parameters)."""
    return _int16.pack(number)


def int32(number: int) -> bytes:
    """A signed Int32."""
    return _int32.pack(number)


def uint32(number: int) -> bytes:
    """An unsigned Int32: object identifiers and process numbers."""
    return _uint32.pack(number)


def string(value: str | bytes) -> bytes:
    """A String. Raises ValueError if it has a NUL in it: what follows would be read as another field."""
    raw = value if isinstance(value, bytes) else encoded(value)
    if 0 in raw:
        raise ValueError(f"a NUL inside {raw!r}")
    return raw + b"\0"


def counted(value: bytes | None) -> bytes:
    """A value with its length in front; None is NULL."""
    return int32(-1) if value is None else int32(len(value)) + value


def encoded(value: str) -> bytes:
    """The bytes that `text` made `value` of."""
    return value.encode("utf-8", "surrogateescape")


def text(value: bytes) -> str:
    """A String's bytes as `str`."""
    return value.decode("utf-8", "surrogateescape")


class Reader:
    """Reads a message's fields one after the other; each read past the end raises ProtocolError, naming the message."""

    __slots__ = ("_at", "_body", "_what")

    def __init__(self, what: str, body: bytes) -> None:
        self._what = what
        self._body = body
        self._at = 0

    def _advance(self, size: int, expected: str) -> int:
        start = self._at
        if size < 0 or start + size > len(self._body):
            raise self.problem(f"expected {expected} at byte {start} of its {len(self._body)}")
        self._at = start + size
        return start

    def problem(self, detail: str) -> ProtocolError:
        """An error that names the message."""
        return ProtocolError(f"{self._what}: {detail}")

    def int16(self) -> int:
        """An unsigned Int16."""
        number: int = _int16.unpack_from(self._body, self._advance(2, "an Int16"))[0]
        return number

    def int32(self) -> int:
        """A signed Int32."""
        number: int = _int32.unpack_from(self._body, self._advance(4, "an Int32"))[0]
        return number

    def uint32(self) -> int:
        number: int = _uint32.unpack_from(self._body, self._advance(4, "an Int32"))[0]
        return number

    def take(self, size: int) -> bytes:
        start = self._advance(size, f"{size} bytes")
        return self._body[start : self._at]

    def raw(self) -> bytes:
        """A String's bytes, without its NUL."""
        end = self._body.find(0, self._at)
        start = self._advance(end + 1 - self._at if end >= 0 else -1, "a string that ends in NUL")
        return self._body[start:end]

    def text(self) -> str:
        """A String."""
        return text(self.raw())

    def counted(self) -> bytes | None:
        """A value with its length in front; None is NULL."""
        size = self.int32()
        return None if size == -1 else self.take(size)

    def rest(self) -> bytes:
        start, self._at = self._at, len(self._body)
        return self._body[start:]

    def at_end(self) -> bool:
        return self._at == len(self._body)

    def end(self) -> None:
        """Raises ProtocolError if anything is left."""
        if not self.at_end():
            raise self.problem(f"{len(self._body) - self._at} bytes too many")


def read_message(data: bytes, start: int, limit: int) -> tuple[bytes, bytes, int] | None:
    """The message at `start`: its type, its body and its end; None if it is not all there.

    For what is said while a connection is set up; afterwards there are the scans. Raises ProtocolError if its length
    is less than 4 or more than `limit` bytes, before these are there.
    """
    if len(data) - start < 5:
        return None
    kind, length = _header.unpack_from(data, start)
    if not 4 <= length <= min(limit, MAX_LENGTH):
        raise ProtocolError(f"message {kind!r} has the length {length}, expected 4 to {limit}")
    end = start + 1 + length
    return (kind, data[start + 5 : end], end) if end <= len(data) else None
