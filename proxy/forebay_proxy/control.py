"""The line between supervisor and worker: JSON, a message a line, over a socket pair.

The supervisor asks, the worker answers in any order. Unasked a worker tells that it lives (`beat`) and its last state
(`last`), passes on an order that is for all workers (`order`), and asks for what the others have for a table (`rows`).
When the line ends, the other end has died.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

LONGEST = 8 << 20  # bytes of one message; a state of 16 upstreams is about 20 KiB


class Link(asyncio.Protocol):
    """One end of the line."""

    def __init__(self, told: Callable[[dict[str, Any]], None], ended: Callable[[], None]) -> None:
        """`told` gets what is not an answer, `ended` hears once that the other end has gone."""
        self._told = told
        self._ended = ended
        self._transport: Any = None
        self._buffer = b""
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            future = self._asked.pop(message.get("to", 0), None)
            if future is None:
                self._told(message)
            elif not future.done():
                future.set_result(message)
        if len(self._buffer) > LONGEST:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the other end of the control line has gone"))
                future.exception()  # it may have no reader any more
        self._asked.clear()
        self._ended()

    def tell(self, **message: Any) -> None:
        """Send without waiting for an answer. One that is too long is not sent: who has asked for it waits in vain."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        if len(data) > LONGEST:
            log.error("a message of %d bytes is not sent: expected at most %d", len(data), LONGEST)
        elif self._transport is not None:
            self._transport.write(data)

    async def ask(self, patience: float, **message: Any) -> dict[str, Any]:
        """Send, and wait `patience` seconds for the answer. Raises TimeoutError, ConnectionResetError."""
        if self._transport is None:
            raise ConnectionResetError("the other end of the control line has gone")
        self._number += 1
        number = self._number
        future: asyncio.Future[dict[str, Any]]
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self.tell(id=number, **message)
        try:
            async with asyncio.timeout(patience):
                return await future
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
