"""What an upstream has said before its reset, where a real network would need luck to show it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from tests.support.forebay import http_pool
from tests.support.raw import Connection, request_bytes
from tests.support.waiting import until

from forebay_core.spec.load import parse
from forebay_proxy.http.upstream import HttpConnection
from forebay_proxy.memory import Memory
from forebay_proxy.upstream import Upstream
from forebay_proxy.worker import Worker

LONG = 1_000_000  # bytes of a body; more than `requestBuffer`
BODY = b"no" * 500
HEAD = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 1000\r\n\r\n"
CHUNKS = b"HTTP/1.1 413 Content Too Large\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n%b\r\n0\r\n\r\n" % BODY


class Play:
    """One client of a worker, and the upstream's side of its connection."""

    def __init__(self, client: Connection, upstream: Upstream, listener: socket.socket) -> None:
        self.client = client
        self.upstream = upstream
        self._listener = listener

    @property
    def connection(self) -> HttpConnection:
        (connection,) = self.upstream.pool.connections
        assert isinstance(connection, HttpConnection)
        return connection

    async def accept(self) -> None:
        self.peer = (await asyncio.get_running_loop().sock_accept(self._listener))[0]

    async def hear(self, count: int) -> None:
        """So many bytes of a request or more."""
        loop = asyncio.get_running_loop()
        while count > 0:
            count -= len(await loop.sock_recv(self.peer, 1 << 16))

    def answer_and_reset(self, answer: bytes) -> None:
        """Before the worker's loop comes to see it."""
        self.connection.transport.pause_reading()
        self.peer.sendall(answer)
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.peer.close()


@asynccontextmanager
async def playing(directory: Path) -> AsyncIterator[Play]:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as mine:
        listener.setblocking(False)
        document = http_pool(listener.getsockname()[1], pool={"size": 1, "maxOverflow": 0, "prePing": "never"})
        pool = parse(document, form="local")
        worker = Worker(pool, Memory.at(directory / "memory"), "test", b"")
        await worker.apply(pool)
        await worker.listen(mine)
        (upstream,) = worker.upstreams.values()
        try:
            async with asyncio.timeout(5), await Connection.open(mine.getsockname()[1]) as client:
                yield Play(client, upstream, listener)
        finally:
            await worker.drain(0, 0)
            await worker.close()


def play(directory: Path, script: Callable[[Play], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with playing(directory) as there:
            await script(there)

    uvloop.run(whole())


@pytest.mark.parametrize(
    ("heard", "left"),
    [(b"", HEAD + BODY), (HEAD[:20], HEAD[20:] + BODY), (HEAD + BODY[:10], BODY[10:]), (b"", CHUNKS)],
)
@pytest.mark.parametrize("last", [False, True])
def test_an_answer_that_came_before_a_write_fails_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: bytes, left: bytes, last: bool
) -> None:
    """The upstream refuses the body and hangs up. It does so while the last piece of the body comes, or before."""
    monkeypatch.setattr("forebay_proxy.http.upstream.PIECE", 100)

    async def script(there: Play) -> None:
        client = there.client
        await client.send(request_bytes("/", "POST", [("Content-Length", str(LONG))]) + bytes(100_000))
        await there.accept()
        await there.hear(100_000)
        there.peer.sendall(heard)
        await until(lambda: not heard or not there.connection.untouched, step=0)
        if len(heard) > len(HEAD):
            await client.reader.readuntil(BODY[:10])
            there.answer_and_reset(left)
            await client.send(bytes(LONG - 100_000 if last else 1000))
            assert await client.reader.readexactly(len(left)) == left
        else:
            there.answer_and_reset(left)
            await client.send(bytes(LONG - 100_000 if last else 1000))
            answer = await client.answer("POST")
            assert (answer.status, answer.body) == (413, BODY)
        assert await client.rest() == b""
        assert there.upstream.codes == {413: 1}
        assert [endpoint.health.errors for endpoint in there.upstream.pool.endpoints] == [0]
        assert not there.upstream.pool.total

    play(tmp_path, script)


def test_half_an_answer_that_came_before_a_write_fails_is_none(tmp_path: Path) -> None:
    async def script(there: Play) -> None:
        await there.client.send(request_bytes("/", "POST", [("Content-Length", str(LONG))]) + bytes(100_000))
        await there.accept()
        await there.hear(100_000)
        there.answer_and_reset(HEAD[:-2])
        await there.client.send(bytes(1000))
        assert (await there.client.answer("POST")).status == 502
        assert there.upstream.rejections == {"upstream_reset": 1}

    play(tmp_path, script)


def test_what_came_before_a_request_is_not_its_answer(tmp_path: Path) -> None:
    """A connection that was kept for long is closed with a 408 by some."""

    async def script(there: Play) -> None:
        await there.client.send(request_bytes("/"))
        await there.accept()
        await there.hear(1)
        there.peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert (await there.client.answer()).status == 204
        there.answer_and_reset(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert (await there.client.ask(request_bytes("/", "POST", body=b"body"))).status == 502

    play(tmp_path, script)
