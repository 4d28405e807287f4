"""PostgreSQL bytes that every front of this project must refuse, and pieces to make messages of.

The codec's tests run them on the codec alone; a test with a running proxy can send the same bytes over a socket.
"""

from typing import NamedTuple


class Hostile(NamedTuple):
    name: str
    data: bytes
    detail: str  # a part of the error's text
    sqlstate: str = "08P01"


def message(kind: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """A message; `length` where the length field is to lie."""
    return kind + (len(body) + 4 if length is None else length).to_bytes(4, "big") + body


def packet(code: int, body: bytes = b"", length: int | None = None) -> bytes:
    """A packet without a type, as at start-up."""
    return (len(body) + 8 if length is None else length).to_bytes(4, "big") + code.to_bytes(4, "big") + body


SYNC = message(b"S")
HUGE = 0x3FFFFFFF  # one more than PostgreSQL takes

# What a client might send after its start-up. A good message stands before some, to see that the offset is right.
HOSTILE_CLIENTS = (
    Hostile("an unknown type", b"@", "unknown message type '@' at byte 0"),
    Hostile("an unknown type after a good message", SYNC + b"\x00\x00", r"unknown message type '\x00' at byte 5"),
    Hostile("HTTP", b"GET / HTTP/1.1\r\n\r\n", "unknown message type 'G' at byte 0"),
    Hostile("TLS in the middle", SYNC + b"\x16\x03\x01\x00\x05", r"unknown message type '\x16' at byte 5"),
    Hostile("a password after the start-up", message(b"p", b"x\0"), "unknown message type 'p'"),
    Hostile("an answer", message(b"Z", b"I"), "unknown message type 'Z'"),
    Hostile("a length of 3", message(b"Q", b"\0", 3), "message 'Q' at byte 0 has the length 3"),
    Hostile("a length of 0", message(b"S", b"", 0), "message 'S' at byte 0 has the length 0"),
    Hostile("a negative length", message(b"d", b"", 0xFFFFFFFF), "has the length 4294967295"),
    Hostile("a Query over 1 GB", message(b"Q", b"", HUGE), "has the length 1073741823"),
    Hostile("a CopyData over 1 GB", message(b"d", b"", HUGE), "has the length 1073741823"),
    Hostile("a Sync with a body", message(b"S", b"x"), "message 'S' at byte 0 has the length 5"),
    Hostile("a Terminate with a body", SYNC + message(b"X", b"x"), "message 'X' at byte 5 has the length 5"),
    Hostile("a CopyDone with a body", message(b"c", b"x"), "has the length 5"),
    Hostile("a long Execute", message(b"E", b"", 10_001), "has the length 10001"),
    Hostile("a long Describe", message(b"D", b"", 10_001), "has the length 10001"),
    Hostile("a long CopyFail", message(b"f", b"", 10_001), "has the length 10001"),
    Hostile("a Query without its NUL", message(b"Q", b"SELECT 1"), "message 'Q' at byte 0 is not one string"),
    Hostile("a Query with two NULs", message(b"Q", b"SELECT 1\0; DROP TABLE t\0"), "is not one string"),
    Hostile("a Query with a NUL in front", SYNC + message(b"Q", b"\0\0"), "message 'Q' at byte 5 is not one string"),
    Hostile("a CopyFail without its NUL", message(b"f", b"x"), "message 'f' at byte 0 is not one string"),
    Hostile("a Parse whose name has no end", message(b"P", b"abcd"), "message 'P' at byte 0 has a name"),
    Hostile("a Parse whose text has no end", message(b"P", b"a\0bcd"), "message 'P' at byte 0 is not a name"),
    Hostile("a Parse without a count", message(b"P", b"ab\0c\0"), "message 'P' at byte 0 is not a name"),
    Hostile("a Parse with half a count", message(b"P", b"a\0c\0\0"), "message 'P' at byte 0 is not a name"),
    Hostile("a Parse with a type too few", message(b"P", b"\0\0\0\1\0\0\0"), "message 'P' at byte 0 is not a name"),
    Hostile("a Parse with bytes behind it", message(b"P", b"\0\0\0\0x"), "message 'P' at byte 0 is not a name"),
    Hostile("a Bind whose portal has no end", message(b"B", b"12345678"), "message 'B' at byte 0 has a name"),
    Hostile("a Bind whose statement has no end", message(b"B", b"\x001234567"), "message 'B' at byte 0 has a name"),
    Hostile("a Bind that ends after its names", message(b"B", b"a\0b\x0012345"), "message 'B' at byte 0 is too short"),
    Hostile("a Describe of neither", message(b"D", b"X\0"), "message 'D' at byte 0 is for 88"),
    Hostile("a Close of neither", message(b"C", b"s\0"), "message 'C' at byte 0 is for 115"),
    Hostile("a Describe without its NUL", message(b"D", b"Sx"), "message 'D' at byte 0 is not one string"),
    Hostile("a Close with two NULs", message(b"C", b"S\0\0"), "message 'C' at byte 0 is not one string"),
    Hostile("an Execute without a limit", message(b"E", b"abcd\0"), "message 'E' at byte 0 is not a portal's name"),
    Hostile("an Execute with a long limit", message(b"E", b"\0\0\0\0\0\0"), "message 'E' at byte 0 is not a portal's"),
    Hostile("an Execute whose name has no end", message(b"E", b"abcde"), "message 'E' at byte 0 has a name"),
    Hostile("a FunctionCall too short", message(b"F", b"\0" * 9), "message 'F' at byte 0 has the length 13"),
)

READY = message(b"Z", b"I")
# What a server might send after its start-up.
HOSTILE_SERVERS = (
    Hostile("an unknown type", READY + b"\x00", r"unknown message type '\x00' from the server at byte 6"),
    Hostile("an authentication request", message(b"R", b"\0\0\0\0"), "unknown message type 'R' from the server"),
    Hostile("a ReadyForQuery without a status", message(b"Z"), "message 'Z' at byte 0 has the length 4"),
    Hostile("a ReadyForQuery with two", message(b"Z", b"II"), "message 'Z' at byte 0 has the length 6"),
    Hostile("an unknown status", READY + message(b"Z", b"i"), "message 'Z' at byte 6 has the status 105"),
    Hostile("a length of 3", message(b"D", b"", 3), "message 'D' at byte 0 has the length 3"),
    Hostile("a negative length", message(b"D", b"", 0xFFFFFFFC), "has the length 4294967292"),
    Hostile("a DataRow over 1 GB", message(b"D", b"", HUGE), "has the length 1073741823"),
    Hostile("a long CommandComplete", message(b"C", b"", 30_001), "message 'C' at byte 0 has the length 30001"),
    Hostile("a ParseComplete with a body", message(b"1", b"x"), "message '1' at byte 0 has the length 5"),
)

USER = b"user\0u\0"
# What a client might send first.
HOSTILE_STARTS = (
    Hostile("a length of 7", packet(0x30000, USER + b"\0", 7), "length 7 at byte 0"),
    Hostile("a length of 10001", packet(0x30000, USER + b"\0", 10_001), "length 10001 at byte 0"),
    Hostile("HTTP", b"GET / HTTP/1.1\r\n\r\n", "length 1195725856 at byte 0"),
    Hostile("protocol 2.0", packet(0x20000, USER), "protocol 2.0 is not supported", "0A000"),
    Hostile("protocol 4.0", packet(0x40000, USER), "protocol 4.0 is not supported", "0A000"),
    Hostile("another code", packet(80877105), "protocol 1234.5681 is not supported", "0A000"),
    Hostile("no user", packet(0x30000, b"database\0d\0\0"), "no user", "28000"),
    Hostile("an empty user", packet(0x30000, b"user\0\0\0"), "no user", "28000"),
    Hostile("nothing at all", packet(0x30000), "a string that ends in NUL at byte 0"),
    Hostile("no end", packet(0x30000, USER), "a string that ends in NUL at byte 7"),
    Hostile("a name without a value", packet(0x30000, USER + b"database\0"), "a string that ends in NUL"),
    Hostile("a value without its NUL", packet(0x30000, b"user\0u"), "a string that ends in NUL at byte 5"),
    Hostile("bytes behind the end", packet(0x30000, USER + b"\0x"), "1 bytes too many"),
    Hostile("an SSLRequest with a body", packet(80877103, b"x"), "SSLRequest: length 9"),
    Hostile("a GSSENCRequest with a body", packet(80877104, b"x"), "GSSENCRequest: length 9"),
    Hostile("a CancelRequest without a key", packet(80877102, b"\0\0\0\1"), "a key of 0 bytes"),
    Hostile("a CancelRequest with half a number", packet(80877102, b"\0\0"), "expected an Int32"),
    Hostile("a CancelRequest with a short key", packet(80877102, b"\0\0\0\1abc"), "a key of 3 bytes"),
    Hostile("a CancelRequest with a long key", packet(80877102, b"\0\0\0\1" + b"k" * 257), "a key of 257 bytes"),
)
