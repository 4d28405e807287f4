"""A PostgreSQL server that answers as it is told, and keeps every byte that it gets: for what no real one would say."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Self

from tests.conformance.pgwire_cases import message

from forebay_core.pgwire import backend
from forebay_core.pgwire.startup import SSL_REQUEST

READY = backend.ready_for_query(b"I")
ROW = backend.row_description([("n", 23)]) + backend.data_row(["1"]) + backend.command_complete("SELECT 1")
NOTICE = backend.notice_response("NOTICE", "00000", "something")
REPORTED = b"".join(
    backend.parameter_status(name, value)
    for name, value in (
        *(("client_encoding", "UTF8"), ("DateStyle", "ISO, MDY"), ("TimeZone", "UTC"), ("server_version", "17.0")),
        *(("standard_conforming_strings", "on"), ("application_name", "")),
    )
)
KEY = backend.backend_key_data(7, b"abcd")
GREETING = backend.AUTHENTICATION_OK + REPORTED + KEY + READY
CANCEL = (80877102).to_bytes(4, "big")

Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Takes connections at `port` while it is entered; those in `_writers` are aborted at its end."""

    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()


class ScriptedServer(Listener):
    """`async with ScriptedServer() as server: server.port`. `heard`: what each connection sent after its start-up
    packet. An answer is what is sent, or a function of the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.greetings: dict[bytes, Answer] = {}  # by user; others are let in
        self.answers: dict[bytes, Answer] = {}  # by the text of a Query; others get a row
        self.parses: dict[bytes, Answer] = {}  # by the text of a Parse; others as of USUAL
        self.usual: dict[bytes, Answer] = dict(USUAL)  # by the type of another message
        self.startups: list[bytes] = []
        self.heard: list[bytearray] = []
        self.cancels = 0
        self.cancel_ends = asyncio.Event()  # until then the connections of cancel requests stay open
        self.cancel_ends.set()
        self.tls: ssl.SSLContext | None = None  # with one it takes requests for TLS
        self.open = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._talk(reader, writer)
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = await start_packet(reader)
        if packet == SSL_REQUEST[4:]:
            writer.write(b"N" if self.tls is None else b"S")
            if self.tls is not None:
                await writer.start_tls(self.tls)
            packet = await start_packet(reader)
        if packet[:4] == CANCEL:
            self.cancels += 1
            await self.cancel_ends.wait()
            return
        self.startups.append(packet)
        self.heard.append(heard := bytearray())
        user = packet[4:].split(b"\0")[1]
        await self._answer(self.greetings.get(user, GREETING), reader, writer)
        while True:
            head = await reader.readexactly(5)
            heard += head
            body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
            heard += body
            kind = head[:1]
            if kind == b"X":
                return
            if kind == b"Q":
                await self._answer(self.answers.get(body[:-1], ROW + READY), reader, writer)
            else:
                text = body.split(b"\0")[1] if kind == b"P" else b""
                await self._answer(self.parses.get(text, self.usual.get(kind, b"")), reader, writer)

    async def _answer(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if callable(answer):
            await answer(reader, writer)
        else:
            writer.write(answer)
            await writer.drain()


async def start_packet(reader: asyncio.StreamReader) -> bytes:
    """Without its length."""
    length = int.from_bytes(await reader.readexactly(4), "big")
    return await reader.readexactly(length - 4)


USUAL = {
    b"P": backend.PARSE_COMPLETE,
    b"B": backend.BIND_COMPLETE,
    b"C": backend.CLOSE_COMPLETE,
    b"D": backend.NO_DATA,
    b"E": backend.data_row(["1"]) + backend.command_complete("SELECT 1"),
    b"S": READY,
    b"F": message(b"V", b"\xff\xff\xff\xff") + READY,
}


def then_close(data: bytes) -> Answer:
    """Send, and close as a server that has ended."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        raise ConnectionResetError

    return answer


def then_reset(data: bytes) -> Answer:
    """Send, and end as a machine that has crashed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        raise ConnectionResetError

    return answer


def for_ever(data: bytes) -> Answer:
    """Send this again and again, without an end."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.001)

    return answer


def in_pieces(data: bytes) -> Answer:
    """A byte at a time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for place in range(len(data)):
            writer.write(data[place : place + 1])
            await writer.drain()
            await asyncio.sleep(0)

    return answer


def sasl(first: bytes, *later: bytes) -> Answer:
    """A SCRAM exchange as a server that doesn't know how: `later` are its answers to each message of the other."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        for data in later:
            head = await reader.readexactly(5)
            said = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
            writer.write(data.replace(b"<theirs>", said.rpartition(b"r=")[2]))
            await writer.drain()

    return answer
