"""Raw sockets: send exactly these bytes, and read an answer with a parser that forgives nothing.

The parser follows RFC 9112. What a lenient client would repair is an error here, so that a proxy that writes
something odd is found out.
"""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9]) [\t\x20-\x7e\x80-\xff]*\r\n")
FIELD = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)[ \t]*\r\n"
)
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
MAX_LINE = 1 << 20  # bytes; a longer line is an error


class MalformedAnswer(Exception):
    """The answer breaks RFC 9112."""


class CutAnswer(Exception):
    """The connection ended inside an answer, or before its first byte (`begun` is False)."""

    def __init__(self, message: str, *, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


@dataclass
class Answer:
    """One final answer, with the interim (1xx) ones that came before it."""

    version: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list["Answer"] = field(default_factory=list)
    framing: str = "none"  # none | length | chunked | close
    chunks: int = 0

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The field's value; None when absent. Raises MalformedAnswer when it came more than once."""
        values = self.all(name)
        if len(values) > 1:
            raise MalformedAnswer(f"{name} came {len(values)} times: {values}")
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        """Whether the connection ends with this answer."""
        options = {option.strip().lower() for value in self.all("connection") for option in value.split(",")}
        return "close" in options or self.framing == "close" or (self.version == "1.0" and "keep-alive" not in options)


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    """Read one answer to a request with `method`; a 101, or a 2xx to CONNECT, ends with its head.

    Raises MalformedAnswer and CutAnswer.
    """
    interim: list[Answer] = []
    while True:
        answer = await _read_head(reader, begun=bool(interim))
        if not 100 <= answer.status < 200 or answer.status == 101:
            break
        if answer.all("content-length") or answer.all("transfer-encoding"):
            raise MalformedAnswer(f"a {answer.status} with framing fields: {answer.headers}")
        interim.append(answer)
    answer.interim = interim
    answer.framing, length = _framing(answer, method)
    try:
        if answer.framing == "length":
            answer.body = await reader.readexactly(length)
        elif answer.framing == "close":
            answer.body = await reader.read(-1)
        elif answer.framing == "chunked":
            await _read_chunks(reader, answer)
    except asyncio.IncompleteReadError as error:
        raise CutAnswer(f"cut in the body of a {answer.status}", begun=True) from error
    except ConnectionError as error:
        raise CutAnswer(f"{type(error).__name__} in the body of a {answer.status}", begun=True) from error
    return answer


def _framing(answer: Answer, method: str) -> tuple[str, int]:
    """RFC 9112 section 6.3, with anything doubtful refused."""
    codings, length = answer.all("transfer-encoding"), answer.get("content-length")
    if length is not None and re.fullmatch("[0-9]{1,19}", length, re.ASCII) is None:
        raise MalformedAnswer(f"Content-Length: {length!r}")
    if codings and (codings != ["chunked"] or length is not None or answer.version == "1.0"):
        raise MalformedAnswer(f"HTTP/{answer.version} with Transfer-Encoding {codings}, Content-Length {length}")
    tunnels = answer.status == 101 or (method == "CONNECT" and 200 <= answer.status < 300)
    if (tunnels or answer.status == 204) and (codings or length is not None):
        raise MalformedAnswer(f"a {answer.status} to {method} with framing fields: {answer.headers}")
    if method == "HEAD" or tunnels or answer.status in (204, 304):
        return "none", 0
    if codings:
        return "chunked", 0
    return ("close", 0) if length is None else ("length", int(length))


async def _line(reader: asyncio.StreamReader, *, begun: bool = True) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        begun = begun or bool(error.partial)
        raise CutAnswer(f"closed after {error.partial[-60:]!r}", begun=begun) from error
    except asyncio.LimitOverrunError as error:
        raise MalformedAnswer(f"a line of more than {MAX_LINE} bytes") from error
    except ConnectionError as error:
        raise CutAnswer(type(error).__name__, begun=begun) from error


async def _read_fields(reader: asyncio.StreamReader) -> list[tuple[str, str]]:
    fields = []
    while (line := await _line(reader)) != b"\r\n":
        found = FIELD.fullmatch(line)
        if found is None:
            raise MalformedAnswer(f"field line {line!r}")
        fields.append((found[1].decode("latin-1"), found[2].decode("latin-1")))
    return fields


async def _read_head(reader: asyncio.StreamReader, *, begun: bool) -> Answer:
    line = await _line(reader, begun=begun)
    found = STATUS_LINE.fullmatch(line)
    if found is None:
        raise MalformedAnswer(f"status line {line!r}")
    return Answer(f"1.{found[1].decode()}", int(found[2]), await _read_fields(reader))


async def _read_chunks(reader: asyncio.StreamReader, answer: Answer) -> None:
    parts = []
    while True:
        line = await _line(reader)
        found = CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise MalformedAnswer(f"chunk size line {line!r}")
        size = int(found[1], 16)
        if size == 0:
            break
        data = await reader.readexactly(size + 2)
        if not data.endswith(b"\r\n"):
            raise MalformedAnswer(f"chunk ends with {data[-2:]!r}")
        parts.append(data[:-2])
    answer.chunks = len(parts)
    answer.body = b"".join(parts)
    answer.trailers = await _read_fields(reader)


class Connection:
    """A client connection that sends what it is told and reads answers strictly. `async with` closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(
        cls,
        port: int,
        host: str = "127.0.0.1",
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "localhost",
        receive_buffer: int | None = None,
    ) -> Self:
        """Connect. `receive_buffer` (bytes) makes SO_RCVBUF small, for a client that does not read."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
            name = server_name if tls is not None else None
            return cls(*await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name, limit=MAX_LINE))
        except BaseException:
            sock.close()
            raise

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET", within: float = 20.0) -> Answer:
        async with asyncio.timeout(within):
            return await read_answer(self.reader, method)

    async def ask(self, data: bytes, within: float = 20.0) -> Answer:
        """Send one request's bytes and read its answer, which may come before all of them are sent."""
        with contextlib.suppress(ConnectionError):  # then the answer, or its absence, tells
            await self.send(data)
        return await self.answer(data.partition(b" ")[0].decode("latin-1"), within)

    def half_close(self) -> None:
        self.writer.write_eof()

    async def rest(self, within: float = 20.0) -> bytes:
        """Everything until the other side closes; a reset ends it as well."""
        parts = []
        async with asyncio.timeout(within):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(1 << 16):
                    parts.append(data)
        return b"".join(parts)

    def stop_reading(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # the other side was first
            await self.writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def request_bytes(
    target: str = "/",
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    host: str = "test.example",
) -> bytes:
    """A well-formed HTTP/1.1 request; a body gets a Content-Length."""
    fields = [("Host", host), *headers]
    if body is not None:
        fields.append(("Content-Length", str(len(body))))
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields)
    return head.encode("latin-1") + b"\r\n" + (body or b"")


def chunked(pieces: Iterable[bytes], trailers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A chunked body (RFC 9112 section 7.1)."""
    parts = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    tail = "".join(f"{name}: {value}\r\n" for name, value in trailers).encode("latin-1")
    return b"".join(parts) + b"0\r\n" + tail + b"\r\n"


def unverified() -> ssl.SSLContext:
    """A client's TLS context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def fetch(
    port: int,
    target: str = "/",
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    within: float = 20.0,
) -> Answer:
    """One request on a connection of its own."""
    async with await Connection.open(port, tls=tls) as connection:
        return await connection.ask(request_bytes(target, method, headers, body), within)
