"""An upstream that a test writes out itself: exactly these bytes, at exactly this moment.

The test origin (tests.support.origin) behaves well or badly by its tables; this one does what a function says.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Self

from tests.support.raw import Connection

Script = Callable[[Connection], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def read_head(peer: Connection) -> bytes:
    """A request's head with its blank line."""
    return await peer.reader.readuntil(b"\r\n\r\n")


async def read_request(peer: Connection) -> tuple[bytes, bytes]:
    """A request's head, and its body as it stood on the wire (chunks and all)."""
    head = await read_head(peer)
    length = re.search(rb"\r\nContent-Length: ([0-9]+)\r\n", head)
    if length is not None:
        return head, await peer.reader.readexactly(int(length[1]))
    if b"\r\nTransfer-Encoding: chunked\r\n" not in head:
        return head, b""
    body = b""
    while not re.search(rb"(?:^|\r\n)0\r\n(?:[^\r]+\r\n)*\r\n$", body):
        body += await peer.reader.readuntil(b"\r\n")
    return head, body


class Backend:
    """`async with Backend(script) as backend: backend.port`. The script is run for each connection; what it returns
    from is closed. A script that fails makes the `async with` fail."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.port = 0
        self.accepted = 0
        self.errors: list[Exception] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if kind is None and self.errors:
            raise ExceptionGroup("the backend's script failed", self.errors)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._run(Connection(reader, writer)), name=f"backend connection {self.accepted}")
        self._tasks.add(task)

    async def _run(self, peer: Connection) -> None:
        try:
            await self._script(peer)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                self.errors.append(error)
        except ConnectionError:
            pass  # the proxy has closed a connection that it had no use for
        except Exception as error:
            self.errors.append(error)
        finally:
            await peer.close()
