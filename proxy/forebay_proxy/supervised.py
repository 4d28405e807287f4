"""A worker process under the supervisor: `python -m forebay_proxy.supervised MEMORY CONTROL_FD LISTEN_FD...`.

Kept free of everything that only the supervisor needs (aiohttp, prometheus_client, click): one of several workers
should cost little memory. It dies with the supervisor: the end of the control line ends it.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from forebay_core.postgres.console import Value
from forebay_core.spec.load import DocumentError, load
from forebay_proxy.control import Link
from forebay_proxy.descriptors import raise_limit
from forebay_proxy.files import FileError
from forebay_proxy.journal import Record
from forebay_proxy.memory import Memory
from forebay_proxy.postgres.proxy import PgProxy
from forebay_proxy.state_directory import cancel_socket
from forebay_proxy.stderr import log_to_stderr
from forebay_proxy.tasks import Tasks
from forebay_proxy.worker import Worker

log = logging.getLogger(__name__)

BEAT = 1.0  # seconds
ROWS_TIMEOUT = 3.0  # seconds for the other workers' rows: the supervisor waits 2 for each of them
# Seconds that the last lines and spans of a drained worker may take: the supervisor waits 5 beyond the drain.
LAST_WORDS = 4.0


class Supervised:
    """The worker's end of the control line."""

    def __init__(self, memory: Path, sockets: list[socket.socket]) -> None:
        self._memory = memory
        self._sockets = sockets
        self._serving: set[int] = set()
        self._changing = asyncio.Lock()  # of what is served: one order after the other
        self._worker: Worker | None = None
        self._tasks = Tasks("control")
        self.link = Link(self._told, self._supervisor_gone)
        self.over: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def _told(self, message: dict[str, Any]) -> None:
        self._tasks.spawn(self._do(message), str(message["do"]))

    def _supervisor_gone(self) -> None:
        os._exit(1)  # at once: whoever comes next counts on our being gone

    async def _do(self, message: dict[str, Any]) -> None:
        try:
            answer = await getattr(self, f"do_{message['do']}")(message)
        except (DocumentError, FileError, OSError) as error:
            answer = {"error": str(error)}
        except Exception as error:  # a mistake of ours must not pass for a worker that hangs
            log.exception("%s failed", message["do"])
            answer = {"error": f"{type(error).__name__}: {error}"}
        if "id" in message:
            self.link.tell(to=message["id"], **(answer or {}))

    @property
    def worker(self) -> Worker:
        assert self._worker is not None, "the supervisor says `start` first"
        return self._worker

    async def do_start(self, message: dict[str, Any]) -> dict[str, Any]:
        pool, secret = load(message["document"], form="local"), bytes.fromhex(message["secret"])
        self._worker = Worker(pool, Memory.at(self._memory), self._memory.stem, secret)
        self._worker.tell_others = lambda name, of: self.link.tell(order=name, of=of)
        self._worker.rows_of_others = self._rows_of_others
        if isinstance(self._worker.proxy, PgProxy):
            self._worker.proxy.join_peers(cancel_socket(self._memory))
        await self._worker.start()
        self._tasks.spawn(self._beat(), "beat")
        return self._worker.answer()

    async def do_serve(self, message: dict[str, Any]) -> None:
        """Accept from these of the listening sockets, and from no others."""
        wanted = set(message["sockets"])
        async with self._changing:
            for index in wanted - self._serving:
                await self.worker.listen(self._sockets[index])
                self._serving.add(index)
            for index in self._serving - wanted:
                await self.worker.ignore(self._sockets[index])
                self._serving.discard(index)

    async def do_apply(self, message: dict[str, Any]) -> None:
        await self.worker.apply(load(message["document"], form="local"))

    async def do_push(self, message: dict[str, Any]) -> dict[str, Any]:
        return self.worker.push(message["life"], message["sequence"], message["grants"], message["deadline"])

    async def do_end(self, message: dict[str, Any]) -> dict[str, Any]:
        """End at an upstream what others have left; answers what has gone."""
        records = map(Record.of_json, message["records"])
        return {"gone": [record.as_json() for record in self.worker.end(message["upstream"], records)]}

    async def do_state(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"state": self.worker.state()}

    async def do_command(self, message: dict[str, Any]) -> None:
        """As `Worker.carry_out`."""
        self.worker.carry_out(message["command"], message["of"])

    async def do_rows(self, message: dict[str, Any]) -> dict[str, Any]:
        """What this worker has for a table of PostgreSQL's admin database."""
        proxy = self.worker.proxy
        return {"rows": proxy.rows(message["table"]) if isinstance(proxy, PgProxy) else []}

    async def _rows_of_others(self, table: str) -> list[Mapping[str, Value]]:
        try:
            reply = await self.link.ask(ROWS_TIMEOUT, rows=table)
        except (TimeoutError, ConnectionResetError):
            return []
        found: list[Mapping[str, Value]] = reply["rows"]
        return found

    async def do_drain(self, message: dict[str, Any]) -> None:
        draining = self._tasks.spawn(self.worker.drain(message["delay"], message["timeout"]), "draining")
        await self.worker.listeners.deaf.wait()
        for sock in self._sockets:  # where no other worker has them: whoever comes now is refused, and does not hang
            sock.close()
        await draining
        self.link.tell(last=self.worker.state())
        await self._close()
        self.link.tell(last=self.worker.state())  # with the lines that could not be written
        if not self.over.done():
            self.over.set_result(0)

    async def _close(self) -> None:
        """The access log and the tracer have their last words. Both wait for others and hold the loop meanwhile, the
        tracer for half a minute if need be: a thread ends the process when it has been long enough."""
        hurry = threading.Timer(LAST_WORDS, os._exit, (0,))
        hurry.daemon = True
        hurry.start()
        await self.worker.close()
        hurry.cancel()

    async def _beat(self) -> None:
        while True:
            self.link.tell(beat=True)
            await asyncio.sleep(BEAT)


async def serve(memory: Path, control: socket.socket, sockets: list[socket.socket]) -> int:
    """Run until drained."""
    supervised = Supervised(memory, sockets)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: None)  # the terminal's are for the supervisor, which tells us
    await loop.create_connection(lambda: supervised.link, sock=control)
    return await supervised.over


def main() -> int:
    log_to_stderr()
    memory, *fds = sys.argv[1:]
    control, *sockets = (socket.socket(fileno=int(fd)) for fd in fds)
    raise_limit()
    code = uvloop.run(serve(Path(memory), control, sockets))
    logging.shutdown()  # it writes what is left, and nobody else calls it on this way out
    return code


if __name__ == "__main__":
    os._exit(main())
