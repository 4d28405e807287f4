"""What the targets stand in front of: one nginx for answers of every size, and small servers in the bench's own process
for what nginx can't do. They cost all targets the same, and their time is nobody's figure."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.certs import CA
from tests.support.nginx import Nginx
from tests.support.raw import fetch, unverified

from bench import configs
from bench.place import program

SIZES = {"16k": 16, "64k": 64}  # KiB
DELAY = 0.005  # seconds that `slow` holds a connection for a request, as a short query would
HEAD_END = b"\r\n\r\n"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"  # of RFC 6455's example key, which bench.echo sends
)
KIB = b"0123456789abcdef" * 64
SLOW_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n" + KIB


class NginxBackend(Nginx):
    """`/16k` and `/64k` are files of that size; all else is answered with 1 KiB and ten fields."""

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        files = directory / "files"
        files.mkdir(parents=True, exist_ok=True)
        for name, size in SIZES.items():
            (files / name).write_bytes(KIB * size)
        more = ""
        self.ca: Path | None = None
        if tls:
            ca = CA(directory, "backend-ca")
            pair = ca.server()
            self.ca = ca.cert
            more = configs.NGINX_TLS.format(cert=pair.cert, key=pair.key)
        super().__init__(directory, more + configs.BACKEND_SERVER.replace("FILES", str(files)), ssl=tls)
        self._asked = 0

    async def opened(self) -> int:
        self._asked += 1
        answer = await fetch(self.port, "/connections", tls=unverified() if self.ca else None)
        return int(answer.body.split()[7]) - self._asked


async def http(directory: Path) -> NginxBackend:
    program("nginx")
    return await NginxBackend(directory).start()


async def https(directory: Path) -> NginxBackend:
    program("nginx")
    return await NginxBackend(directory, tls=True).start()


class Listening:
    """A server in this process: a protocol per connection, and a count of those."""

    port: int

    def __init__(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._protocol = protocol
        self._opened = 0

    async def start(self) -> "Listening":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def _accept(self) -> asyncio.Protocol:
        self._opened += 1
        return self._protocol()

    async def opened(self) -> int:
        return self._opened

    async def close(self) -> None:
        self._server.close()


class Echo(asyncio.Protocol):
    """Sends back what it is sent; a request to upgrade is granted first. The frames of a WebSocket are bytes to it, as
    they are to a proxy."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET "):
            data = data.partition(HEAD_END)[2]  # one read: it comes from a proxy that writes heads whole
            self.transport.write(SWITCH)
        if data:
            self.transport.write(data)


class Slow(asyncio.Protocol):
    """Answers each request with 1 KiB after DELAY."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while HEAD_END in self.buffer:
            _, _, self.buffer = self.buffer.partition(HEAD_END)
            asyncio.get_running_loop().call_later(DELAY, self._answer)

    def _answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(SLOW_ANSWER)


async def echo(_: Path) -> Listening:
    return await Listening(Echo).start()


async def slow(_: Path) -> Listening:
    return await Listening(Slow).start()
