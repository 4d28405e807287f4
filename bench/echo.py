"""`echo.py PORT SECONDS [websocket]`: 64 connections that send 512 bytes and wait for them, again and again, for so
long. Prints `N messages echoed`. With `websocket` they are upgraded first, and each message is a masked frame (RFC
6455)."""

import asyncio
import os
import sys
import time
from typing import Any

import uvloop

CLIENTS = 64
SIZE = 512
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FRAME = b"\x82\xfe" + SIZE.to_bytes(2, "big") + os.urandom(4 + SIZE)


class Client(asyncio.Protocol):
    """Counts what comes back whole."""

    until = 0.0

    def __init__(self, websocket: bool) -> None:
        self.upgrading = websocket
        self.message = FRAME if websocket else FRAME[-SIZE:]
        self.left = len(self.message)
        self.echoed = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.transport.write(UPGRADE if self.upgrading else self.message)

    def data_received(self, data: bytes) -> None:
        if self.upgrading:
            if not data.startswith(b"HTTP/1.1 101"):
                self._end(f"failed: the answer to the upgrade was {data[:60]!r}")
                return
            self.upgrading = False
            self.transport.write(self.message)
            return
        self.left -= len(data)
        if self.left:
            return
        self.echoed += 1
        self.left = len(self.message)
        if time.monotonic() < self.until:
            self.transport.write(self.message)
        else:
            self._end("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("failed: a connection was closed")

    def _end(self, complaint: str) -> None:
        if not self.ended.done():
            self.ended.set_result(complaint)
            self.transport.close()


async def main() -> str:
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    Client.until = time.monotonic() + seconds
    loop = asyncio.get_running_loop()
    clients = [Client("websocket" in sys.argv) for _ in range(CLIENTS)]
    await asyncio.gather(*(loop.create_connection(lambda c=c: c, "127.0.0.1", port) for c in clients))
    complaints = [await client.ended for client in clients]
    return next(filter(None, complaints), f"{sum(client.echoed for client in clients)} messages echoed")


if __name__ == "__main__":
    print(uvloop.run(main()))
