"""The end of a connection, with real sockets: what is sent, when, and what is not waited for."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from tests.support.certs import CA
from tests.support.forebay import http_pool, pool_document
from tests.support.raw import request_bytes
from tests.support.waiting import until

from forebay_core.spec.load import parse
from forebay_proxy.ending import end_tls, uncork
from forebay_proxy.http.client import LINGER, LINGER_MOST, ClientConnection
from forebay_proxy.memory import Memory
from forebay_proxy.tls import ClientTLS, ServerTLS
from forebay_proxy.wheel import Wheel
from forebay_proxy.worker import Worker

BIG = b"answer" * 1_000_000  # more than the kernel takes of a client that does not read
PATIENCE = 10.0


class Server(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self) -> None:
        self.made = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made.set_result(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@contextmanager
def connected(port: int, context: ssl.SSLContext | None) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
        yield sock


def all_of(sock: socket.socket) -> bytes:
    """What comes until the connection's end; over TLS an end without close_notify raises."""
    found = []
    while data := sock.recv(1 << 16):
        found.append(data)
    return b"".join(found)


Scene = Callable[[Any, Any, Server], Coroutine[Any, Any, None]]


def played(scene: Scene, ca: CA | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
    """Play a scene between a transport of ours and a client with a blocking socket."""

    async def play() -> None:
        server: Server

        def accepted() -> Server:
            nonlocal server
            server = Server()
            return server

        loop = asyncio.get_running_loop()
        pair = ca.server("localhost") if ca else None
        ours = ServerTLS(pair.cert, pair.key).context if pair else None
        theirs = ClientTLS("verify-full", ca.cert).context if ca else None
        if theirs is not None:
            theirs.maximum_version = version
        listener = await loop.create_server(accepted, "127.0.0.1", 0, ssl=ours)
        listener.sockets[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, ca is None)
        async with listener:
            context = connected(listener.sockets[0].getsockname()[1], theirs)
            client = await asyncio.to_thread(context.__enter__)
            try:
                async with asyncio.timeout(PATIENCE):
                    await scene(await server.made, client, server)
                    await server.lost
            finally:
                client.close()

    uvloop.run(play())


@pytest.fixture(params=[None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tcp", "tls-1.2", "tls-1.3"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scene], None]:
    if request.param is None:
        return partial(played, ca=None)
    return partial(played, ca=CA(tmp_path), version=request.param)


def end(transport: Any, data: bytes, proxy: Any) -> None:
    """Close the connection with an answer, as the first thing that is written to it."""
    client = ClientConnection(proxy, "127.0.0.1")
    client.connection_made(transport)
    client.close_with(data)


def test_over_tcp_the_answer_comes_with_the_end(proxy: Any) -> None:
    async def scene(transport: Any, client: socket.socket, server: Server) -> None:
        client.setblocking(False)
        end(transport, b"answer", proxy)
        with pytest.raises(BlockingIOError):
            client.recv(100)
        await server.lost
        assert client.recv(100) == b"answer"
        assert client.recv(100) == b""

    played(scene, ca=None)


def test_a_client_that_goes_on_sending_gets_its_answer(proxy: Any) -> None:
    """The close resets it, as there is input that nobody will read: the answer has been sent before."""

    async def scene(transport: Any, client: socket.socket, server: Server) -> None:
        transport.pause_reading()
        client.sendall(b"more")
        end(transport, b"answer", proxy)
        await server.lost
        assert client.recv(100) == b"answer"

    played(scene, ca=None)


def test_over_tls_the_answer_and_the_end_come_before_the_loops_next_turn(tmp_path: Path, proxy: Any) -> None:
    async def scene(transport: Any, client: socket.socket, server: Server) -> None:
        end(transport, b"answer", proxy)
        # No await until here: the loop had no turn.
        assert client.recv(100) == b"answer"
        assert client.recv(100) == b""

    played(scene, CA(tmp_path))


def test_what_is_no_last_answer_comes_at_once(proxy: Any) -> None:
    """The first write of a client's connection, and those after it, until the last."""

    async def scene(transport: Any, client: socket.socket, server: Server) -> None:
        ours = ClientConnection(proxy, "127.0.0.1")
        ours.connection_made(transport)
        transport.set_protocol(ours)
        client.setblocking(False)
        for _ in range(3):
            ours.write(b"answer")
            assert client.recv(100) == b"answer"
        ours.close_with(b"last")
        assert client.recv(100) == b"last"
        ours.connection_lost(None)
        transport.set_protocol(server)

    played(scene, ca=None)


def test_the_last_that_is_written_comes_with_the_end(proxy: Any) -> None:
    async def scene(transport: Any, client: socket.socket, server: Server) -> None:
        ours = ClientConnection(proxy, "127.0.0.1")
        ours.connection_made(transport)
        client.setblocking(False)
        ours.write_last(b"last")
        with pytest.raises(BlockingIOError):
            client.recv(100)
        ours.close()
        await server.lost
        assert client.recv(100) == b"last"
        assert client.recv(100) == b""

    played(scene, ca=None)


def test_what_was_written_before_comes_when_the_cork_goes() -> None:
    async def scene(transport: Any, client: socket.socket, server: Server) -> None:
        transport.write(b"held")
        uncork(transport)
        assert client.recv(100) == b"held"
        transport.close()

    played(scene, ca=None)


def test_the_transport_is_closed_though_the_client_says_and_sends_nothing(
    play: Callable[[Scene], None], proxy: Any
) -> None:
    async def scene(transport: Any, client: socket.socket, server: Server) -> None:
        end(transport, b"answer", proxy)
        assert await server.lost is None
        assert await asyncio.to_thread(all_of, client) == b"answer"

    play(scene)


def test_all_that_the_kernel_does_not_take_at_once_is_sent(play: Callable[[Scene], None], proxy: Any) -> None:
    async def scene(transport: Any, client: socket.socket, server: Server) -> None:
        end(transport, BIG, proxy)
        assert transport.get_extra_info("ssl_object") or transport.get_write_buffer_size()
        assert await asyncio.to_thread(all_of, client) == BIG

    play(scene)


def test_it_comes_after_what_the_transport_has_still_to_send(tmp_path: Path) -> None:
    """TLS tells of nothing that waits in the transport below it."""

    async def scene(transport: Any, client: socket.socket, server: Server) -> None:
        transport.write(BIG)
        assert not transport.get_write_buffer_size()
        end_tls(transport, b"answer")
        assert await asyncio.to_thread(all_of, client) == BIG + b"answer"

    played(scene, CA(tmp_path))


def test_a_client_that_has_gone_is_no_error(play: Callable[[Scene], None], proxy: Any) -> None:
    async def scene(transport: Any, client: socket.socket, server: Server) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # a reset
        end(transport, b"answer", proxy)

    play(scene)


class Slow:
    """A transport whose peer does not read: all that it is given stays."""

    def __init__(self, unsent: bytes = b"") -> None:
        self.unsent = unsent
        self.closed_with: bytes | None = None
        self.aborted = False
        self.get_extra_info = {"ssl_object": SimpleNamespace(write=len)}.get

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def can_write_eof(self) -> bool:
        return False  # as TLS

    def write(self, data: bytes) -> None:
        self.unsent += data

    def close(self) -> None:
        self.closed_with = self.unsent

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def proxy() -> Iterator[Any]:
    loop = asyncio.new_event_loop()
    wheel = Wheel(loop)
    yield SimpleNamespace(
        wheel=wheel,
        patience=[PATIENCE] * 7,
        http=SimpleNamespace(response_buffer=1 << 16),
        trusted=(),
        admit=lambda client: True,
        clients=set(),
        turned_away={},
        lone=None,
    )
    wheel.close()
    loop.close()


def client_on(transport: Any, proxy: Any) -> ClientConnection:
    client = ClientConnection(proxy, "127.0.0.1")
    client.transport, client.write, client.tls, client.corked = transport, transport.write, True, False
    return client


def test_a_clients_last_answer_does_not_overtake_the_one_before_it(proxy: Any) -> None:
    transport = Slow(b"first")
    client_on(transport, proxy).close_with(b"last")
    assert transport.closed_with == b"firstlast"


def test_a_client_that_never_takes_its_last_answer_over_tls_is_cut(proxy: Any) -> None:
    transport = Slow()
    client = client_on(transport, proxy)
    client.close_with(b"last")
    closed = monotonic()
    client.on_deadline(closed + LINGER)
    assert not transport.aborted
    assert client.deadline < closed + 3 * LINGER
    client.on_deadline(closed + LINGER_MOST)
    assert transport.aborted


@pytest.mark.parametrize(
    ("protocol", "tls", "corked"),
    [("http", False, True), ("http", True, False), ("tcp", False, False)],
)
async def test_which_listeners_cork(tmp_path: Path, ca: CA, protocol: str, tls: bool, corked: bool) -> None:
    pair = ca.server("localhost")
    files = {"tls": {"certFile": str(pair.cert), "keyFile": str(pair.key)}} if tls else {}
    upstream = {"name": "origin", "endpoints": [{"host": "127.0.0.1", "port": 80}]}
    spec = {"listen": {"port": 0, **files}}
    document = parse(pool_document(protocol, upstream, spec), form="local")
    worker = Worker(document, Memory.at(tmp_path / "memory"), "test", b"")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, not corked)  # of another document
        await worker.listen(sock)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == corked
        await worker.ignore(sock)
    await worker.close()


async def test_a_tls_client_that_reads_nothing_and_ends_is_let_go(
    tmp_path: Path, ca: CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not take is in the transport below TLS, which does not count it as its own."""
    monkeypatch.setattr("forebay_proxy.http.client.LINGER", 0.1)
    monkeypatch.setattr("forebay_proxy.http.client.LINGER_MOST", 0.3)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000)
    ended = asyncio.Event()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(1 << 16):
                writer.write(answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    backend = await asyncio.start_server(answers, "127.0.0.1", 0)
    pair = ca.server("localhost")
    document = http_pool(
        backend.sockets[0].getsockname()[1],
        spec={
            "http": {"keepAliveTimeout": "200ms", "streamIdleTimeout": "300ms"},
            "listen": {"port": 0, "tls": {"certFile": str(pair.cert), "keyFile": str(pair.key)}},
        },
    )
    pool = parse(document, form="local")
    worker = Worker(pool, Memory.at(tmp_path / "memory"), "test", b"")
    await worker.apply(pool)
    (upstream,) = worker.upstreams.values()

    def asks(address: tuple[str, int]) -> ssl.SSLSocket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(address)
        client = ssl.create_default_context(cafile=str(ca.cert)).wrap_socket(sock, server_hostname="localhost")
        client.sendall(request_bytes("/") * 2)
        return client

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        await worker.listen(listener)
        with await asyncio.to_thread(asks, listener.getsockname()) as client:
            await until(lambda: upstream.codes.get(200, 0) >= 2, PATIENCE)
            socket.socket.shutdown(client, socket.SHUT_WR)
            await until(lambda: not worker.proxy.clients, PATIENCE)
        await worker.drain(0, 0)
        await ended.wait()
        await worker.ignore(listener)
    await worker.close()
    backend.close()
