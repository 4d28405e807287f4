"""How a TLS client's connection ends that does not take what it is sent."""

import asyncio
import contextlib
import random
import socket
import ssl
from pathlib import Path

import pytest
from tests.support.certs import CA
from tests.support.forebay import http_pool
from tests.support.raw import request_bytes

from forebay_core.retry import RetryBudget
from forebay_core.spec.load import parse
from forebay_proxy.http import client
from forebay_proxy.http.proxy import HttpProxy
from forebay_proxy.http.upstream import HttpConnection
from forebay_proxy.tasks import Tasks
from forebay_proxy.turn import Turn
from forebay_proxy.upstream import Upstream
from forebay_proxy.wheel import Wheel

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000)


class Books:
    """Nobody reads them."""

    def set_held(self, upstream: str, held: int) -> None: ...
    def note(self, upstream: str, sock: socket.socket) -> int:
        return -1

    def identify(self, record: int, pid: int, key: bytes) -> None: ...
    def erase(self, record: int) -> None: ...


async def test_a_client_that_reads_nothing_and_ends_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take is in the transport below TLS, which does not count it as its own."""
    monkeypatch.setattr(client, "LINGER", 0.1)
    monkeypatch.setattr(client, "LINGER_MOST", 0.3)
    loop = asyncio.get_running_loop()
    pair = CA(tmp_path).server()
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(pair.cert, pair.key)
    anything = ssl.create_default_context()
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE

    ended = asyncio.Event()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 16):
                writer.write(ANSWER)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    backend = await asyncio.start_server(answers, "127.0.0.1", 0)
    document = http_pool(80, spec={"http": {"keepAliveTimeout": "200ms", "streamIdleTimeout": "300ms"}})
    spec = parse(document, form="local").spec
    wheel, tasks = Wheel(loop), Tasks("connecting")
    upstream = Upstream(
        spec.upstreams[0], make=HttpConnection, wheel=wheel, turn=Turn(loop), tasks=tasks, memory=Books(),
        ssl_context=None, random=random.Random(1).random, retry_budget=RetryBudget(20.0, 3.0),
    )  # fmt: skip
    upstream.set_endpoints([("127.0.0.1", backend.sockets[0].getsockname()[1], 1, "127.0.0.1")])
    proxy = HttpProxy(wheel)
    proxy.configure(spec, {"origin": upstream}, 100)
    server = await loop.create_server(proxy, "127.0.0.1", 0, ssl=shown)
    listener = server.sockets[0]
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    def asks() -> ssl.SSLSocket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(listener.getsockname())
        connection = anything.wrap_socket(sock)
        connection.sendall(request_bytes("/") * 2)
        return connection

    with await asyncio.to_thread(asks) as there:
        async with asyncio.timeout(10):
            while upstream.codes.get(200, 0) < 2:
                await asyncio.sleep(0.01)
            socket.socket.shutdown(there, socket.SHUT_WR)
            while proxy.clients:
                await asyncio.sleep(0.01)
    server.close()
    backend.close()
    for connection in list(upstream.pool.connections):
        connection.transport.abort()  # type: ignore[attr-defined]
    await ended.wait()
    wheel.close()
