"""The demo's backend: `python -m forebay_proxy.demo_backend LIMIT`, HTTP on a free port of 127.0.0.1.

It bears LIMIT connections at a time and closes any further one unanswered; a request takes SERVICE seconds. It counts
from the inside, so nothing that comes and goes between two looks is missed. Standard output: a line with its port;
then a line of counts (JSON) for each line that it reads. `reset` begins the counts anew; the end of its input ends it.

Plain asyncio: its loop counts a connection out before it closes the socket, so a place is never counted twice.
"""

import asyncio
import json
import sys

SERVICE = 0.02  # seconds
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"


class Counts:
    """`peak`: the most connections at once, those that were then closed included."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0
        self.reset()

    def reset(self) -> None:
        self.peak = self.open
        self.refused = 0
        self.answered = 0

    def line(self) -> str:
        names = ("open", "peak", "refused", "answered")
        return json.dumps({name: getattr(self, name) for name in names}) + "\n"


class Served(asyncio.Protocol):
    """One connection. Requests have no body; the next is read when the last has been answered."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.buffer = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        counts = self.counts
        counts.open += 1
        counts.peak = max(counts.peak, counts.open)
        if counts.open > counts.limit:
            counts.refused += 1
            transport.close()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.next()

    def next(self) -> None:
        if self.timer is None and b"\r\n\r\n" in self.buffer and not self.transport.is_closing():
            _, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            self.timer = asyncio.get_running_loop().call_later(SERVICE, self.answer)

    def answer(self) -> None:
        self.timer = None
        self.counts.answered += 1
        self.transport.write(ANSWER)
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        self.counts.open -= 1
        if self.timer is not None:
            self.timer.cancel()


async def main(limit: int) -> None:
    loop = asyncio.get_running_loop()
    counts = Counts(limit)
    server = await loop.create_server(lambda: Served(counts), "127.0.0.1", 0, backlog=1024)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while command := await commands.readline():
        sys.stdout.write(counts.line())
        sys.stdout.flush()
        if command == b"reset\n":
            counts.reset()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
