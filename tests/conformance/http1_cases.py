"""What the tables of HTTP/1 heads and bodies are made of; they say what every HTTP/1 front of this project must do.

The codec's tests run them on the codec alone; a test with a running proxy can send the same bytes over a socket.
"""

from typing import Any, NamedTuple

MAX_HEAD = 4096  # bytes; the limit that the size cases are made for


class Good(NamedTuple):
    name: str
    data: bytes
    facts: dict[str, Any]  # members of RequestHead or ResponseHead
    options: dict[str, Any] = {}  # arguments of the scan function that differ from the default


class Hostile(NamedTuple):
    name: str
    data: bytes
    status: int
    detail: str  # a part of the error's text


class Body(NamedTuple):
    name: str
    data: bytes
    payload: bytes
    trailer: bytes = b""
    rest: int = 0  # bytes after the body


def request(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: a") -> bytes:
    """A request's head of these lines."""
    return b"".join(part + b"\r\n" for part in (line, *((host,) if host is not None else ()), *fields, b""))


def response(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """A response's head of these lines."""
    return b"".join(part + b"\r\n" for part in (line, *fields, b""))
