"""Connections behind a balancer that speaks the PROXY protocol: real sockets, every split, and who is turned away."""

import asyncio
import contextlib
import socket
import ssl

import pytest
from tests.support.certs import CA

from forebay_core.proxy_protocol import SIGNATURE
from forebay_proxy.listeners import Listeners, listening
from forebay_proxy.proxied_listener import ProxiedListener

V2 = SIGNATURE + b"\x21\x11\x00\x0c" + socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + b"\0\1\0\2"
HEADERS = [(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n", "192.0.2.7"), (V2, "192.0.2.7"), (b"PROXY UNKNOWN\r\n", None)]


class Echo(asyncio.Protocol):
    """Answers with who it takes its client for, then with what it hears."""

    def __init__(self, peer):
        self.peer = peer

    def connection_made(self, transport):
        self.transport = transport
        transport.write(f"{self.peer}\n".encode())

    def data_received(self, data):
        self.transport.write(data)


class Proxy:
    def __init__(self):
        self.rejections = []

    def __call__(self, peer=None):
        return Echo(peer)

    def count_rejection(self, reason):
        self.rejections.append(reason)


@pytest.fixture
async def behind():
    sock = listening("127.0.0.1", 0)
    proxy = Proxy()
    listener = ProxiedListener(sock.dup(), proxy, None)
    yield sock.getsockname()[1], proxy
    listener.close()
    sock.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize(("header", "client"), HEADERS)
async def test_the_client_is_who_the_header_says_and_no_byte_behind_it_is_lost(behind, header, client):
    port, _ = behind
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(header + b"hello\n")
    assert await reader.readline() == f"{client}\n".encode()
    assert await reader.readline() == b"hello\n"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(("header", "client"), HEADERS)
async def test_a_header_may_come_byte_by_byte(behind, header, client):
    port, _ = behind
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in header:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0)
    assert await reader.readline() == f"{client}\n".encode()
    writer.close()
    await writer.wait_closed()


async def test_who_sends_no_header_is_turned_away_and_counted(behind):
    port, proxy = behind
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    assert proxy.rejections == ["proxy_protocol"]
    writer.close()


async def test_who_leaves_within_its_header_is_turned_away(behind):
    port, proxy = behind
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PROXY TC")
    writer.write_eof()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    assert proxy.rejections == ["proxy_protocol"]
    writer.close()


async def test_when_too_many_say_nothing_the_oldest_has_to_go(behind, monkeypatch):
    monkeypatch.setattr("forebay_proxy.proxied_listener.AT_ONCE", 3)
    port, proxy = behind
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n")
    async with asyncio.timeout(2):
        assert await reader.readline() == b"192.0.2.7\n"
        for ended, _ in silent[:3]:
            assert await ended.read() == b""
    assert proxy.rejections == ["silent"] * 3
    for other in (writer, *(w for _, w in silent)):
        other.close()
        await other.wait_closed()


@contextlib.asynccontextmanager
async def connected(sock):
    reader, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
    yield reader, writer
    writer.close()
    with contextlib.suppress(ConnectionResetError):
        await writer.wait_closed()


async def ends(reader):
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""


async def test_who_begins_no_handshake_has_not_said_all_yet(ca: CA, monkeypatch):
    monkeypatch.setattr("forebay_proxy.proxied_listener.AT_ONCE", 1)
    read = asyncio.Event()

    class Listener(ProxiedListener):
        async def _header(self, sock):
            peer = await super()._header(sock)
            read.set()
            return peer

    with listening("127.0.0.1", 0) as sock:
        proxy = Proxy()
        listener = Listener(sock.dup(), proxy, server_context(ca))
        async with connected(sock) as (reader, writer), asyncio.timeout(2):
            writer.write(b"PROXY UNKNOWN\r\n")
            await read.wait()
            async with connected(sock):
                await ends(reader)
                assert proxy.rejections == ["silent"]
        listener.close()


@pytest.mark.parametrize("proxied", [True, False])
async def test_a_handshake_has_an_end(ca: CA, monkeypatch, proxied):
    for module in ("proxied_listener", "listeners"):
        monkeypatch.setattr(f"forebay_proxy.{module}.HANDSHAKE_TIMEOUT", 0.1)
    with listening("127.0.0.1", 0) as sock:
        listeners = Listeners(asyncio.get_running_loop(), Proxy())
        await listeners.listen(sock, server_context(ca), proxied=proxied)
        async with connected(sock) as (reader, writer), asyncio.timeout(2):
            writer.write(b"PROXY UNKNOWN\r\n" if proxied else b"")
            await ends(reader)
        listeners.close()


def server_context(ca):
    pair, context = ca.server(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context
