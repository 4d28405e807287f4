"""The forward proxies that are measured: ours, squid, tinyproxy, and HAProxy as a plain relay of bytes, which is what a
tunnel is to it."""

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

from tests.support.forebay import Forebay, pool_document

from bench import configs
from bench.peers import by_file, started
from bench.place import Place, Running


class Zeros:
    """An origin that sends zeros for as long as they are taken. It grants a CONNECT, which a plain relay passes on."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._opened = 0
        threading.Thread(target=self._accept, daemon=True).start()

    async def opened(self) -> int:
        return self._opened

    async def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                sock, _ = self._listener.accept()
                self._opened += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        block = bytes(1 << 20)
        with sock, contextlib.suppress(OSError):
            stream = sock.makefile("rb")
            while (head := read_head(stream)).startswith(b"CONNECT"):
                sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while head:
                sock.sendall(block)


def read_head(stream: Any) -> bytes:
    head = b""
    while (line := stream.readline()) not in (b"\r\n", b""):
        head += line
    return head


async def zeros(directory: Path) -> Zeros:
    return Zeros()


async def forebay(place: Place) -> Running:
    forward = {"allowHosts": ["127.0.0.0/8"], "ports": [place.backend], "perOrigin": {"maxConnections": 64}}
    document = pool_document("forward", {"name": "out", "pool": {"size": 64}}, {"forward": forward})
    return await started(Forebay(place.directory, document), document)


squid = by_file("squid", configs.SQUID, "-N", "-f")
tinyproxy = by_file("tinyproxy", configs.TINYPROXY, "-d", "-c")
