"""The worker processes: started, kept to a number, restarted, drained, given listening sockets, asked for their state.

- There is one SO_REUSEPORT listening socket per worker that there may be, and none is ever closed while the supervisor
  lives: closing resets what stands in the socket's queue. A worker inherits them all and accepts from those that it is
  told to; what a dead worker served is served by the others at once.
- The dead are restarted with backoff, with their memory: the life, its grant, and what it left open, go on.
- A worker that is to go is drained; its memory is read when it has ended, for what it left.
"""

import asyncio
import logging
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from forebay_proxy.budgeting import Budgeting
from forebay_proxy.control import Link
from forebay_proxy.document import Document
from forebay_proxy.files import reason
from forebay_proxy.gathered import Counters
from forebay_proxy.journal import Record
from forebay_proxy.listeners import listening
from forebay_proxy.state_directory import StartError, StateDirectory
from forebay_proxy.tasks import Tasks
from forebay_proxy.worker_process import WorkerProcess

log = logging.getLogger(__name__)

START_TIMEOUT = 30.0  # seconds that a worker may take until it answers
APPLY_TIMEOUT = 5.0
HUNG = 30.0  # seconds without a heartbeat after which a worker is killed
FIRST_BACKOFF, LAST_BACKOFF = 0.05, 5.0  # seconds between restarts of a worker that keeps dying
STEADY = 10.0  # seconds of life after which a death is no longer part of a row


class Workers:
    """See the module's docstring. `document` and `wanted`, the number that there should be, are the supervisor's."""

    def __init__(
        self,
        document: Document,
        directory: StateDirectory,
        budgeting: Budgeting,
        tasks: Tasks,
        *,
        started: Callable[[], Awaitable[None]],
        ended: Callable[[], None],
    ) -> None:
        """`started` is awaited when a worker can be granted something, `ended` told when one has died."""
        self.document = document
        self.wanted = 0
        self.stopping = False
        self._closed = False
        self.by_number: dict[int, WorkerProcess] = {}
        self.leaving: set[WorkerProcess] = set()
        self.restarting = 0  # the dead that wait for their backoff
        self.restarts_total = 0
        self.dead = Counters()
        self._directory = directory
        self._budgeting = budgeting
        self._tasks = tasks
        self._started = started
        self._ended = ended
        self._sockets: list[socket.socket] = []
        self._number = 0
        self._secret = secrets.token_hex(32)  # which all workers know
        self._paused: set[str] = set()  # databases that an order has paused, by name; "": all
        self._backoff = FIRST_BACKOFF
        self._looked = monotonic()

    # ------------------------------------------------------------------ who there is

    @property
    def all(self) -> list[WorkerProcess]:
        """With those that drain."""
        return [*self.by_number.values(), *self.leaving]

    @property
    def heard(self) -> list[WorkerProcess]:
        """Those that can be asked."""
        return [worker for worker in self.all if worker.life and not worker.silent]

    @property
    def live(self) -> list[WorkerProcess]:
        """Those that are to stay, the oldest first."""
        return [worker for _, worker in sorted(self.by_number.items()) if worker.live]

    # ------------------------------------------------------------------ start

    def listen(self) -> tuple[str, int]:
        """Open the listening sockets. Returns where; raises StartError."""
        spec = self.document.pool.spec
        host, port = spec.listen.address, spec.listen.port
        try:
            listening(host, port, shared=False).close()  # else two pools could share a port, and clients with it
            for _ in range(spec.maximum_replicas):
                sock = listening(host, port)
                self._sockets.append(sock)
                port = sock.getsockname()[1]
        except OSError as error:
            raise StartError(f"can't listen on {host}:{port}: {reason(error)}") from None
        return host, port

    def enlist(self, dead: WorkerProcess | None = None) -> WorkerProcess:
        """A worker to be; one that takes the place of a dead one gets its number and its memory."""
        if dead is None:
            self._number += 1
            worker = WorkerProcess(self._number, self._directory.memory())
        else:
            worker = WorkerProcess(dead.number, dead.memory, dead.life or dead.former)
        self.by_number[worker.number] = worker
        self._budgeting.begins(worker.name)
        return worker

    async def launch(self, worker: WorkerProcess) -> None:
        """Start its process and give it what it needs. `_died` hears when that fails."""
        if self.stopping:
            return
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *(sock.fileno() for sock in self._sockets)]
        try:
            self._directory.restore()
            worker.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "forebay_proxy.supervised", str(worker.memory), *map(str, fds),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=(*fds, self._directory.lock),
            )  # fmt: skip
        except (OSError, StartError) as error:
            log.error("can't start a worker: %s", reason(error) if isinstance(error, OSError) else error)
            ours.close()
            del self.by_number[worker.number]  # the next tick finds one missing
            self._retire(worker)
            return
        finally:
            theirs.close()
        worker.link = link = Link(lambda message: self._told(worker, message), lambda: self._line_ended(worker))
        await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
        document = self.document
        try:
            reply = await link.ask(START_TIMEOUT, do="start", document=document.text, secret=self._secret)
        except (TimeoutError, ConnectionResetError):
            worker.kill("did not start")
            return
        if "error" in reply:
            log.error("worker %d: %s", worker.pid, reply["error"])
            worker.kill("could not start")
            return
        worker.beat = monotonic()
        worker.life = reply["life"]
        for name in self._paused:  # before it serves anybody; orders that are given from now on it hears itself
            link.tell(do="command", command="pause", of=name)
        if document is not self.document:  # it changed meanwhile
            await self._apply(worker)
        await self._started()

    def _told(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        if "beat" in message:
            worker.beat = monotonic()
        elif "last" in message:
            worker.kept = message["last"]
        elif "order" in message:
            self.command(message["order"], message["of"], besides=worker)
        elif "rows" in message:
            self._tasks.spawn(self._rows(worker, message), "rows of workers")

    # ------------------------------------------------------------------ end

    def _line_ended(self, worker: WorkerProcess) -> None:
        if not self._closed:
            self._tasks.spawn(self._died(worker), f"end of worker {worker.number}")

    async def _died(self, worker: WorkerProcess) -> None:
        """The control line has ended, so the process has or is about to."""
        assert worker.process is not None
        await worker.process.wait()
        state = worker.kept or worker.state
        if state is not None:
            self.dead.add(state)
        if worker in self.leaving:
            self.leaving.discard(worker)
            self._retire(worker)
        elif not self.stopping:
            del self.by_number[worker.number]
            self.restarts_total += 1
            lived = monotonic() - worker.started
            self._backoff = FIRST_BACKOFF if lived > STEADY else min(2 * self._backoff, LAST_BACKOFF)
            log.warning("worker %d ended with %s; it is replaced", worker.pid, worker.end)
            self.restarting += 1
            await self.assign_sockets()  # its clients are served by the others meanwhile
            await asyncio.sleep(self._backoff)
            self.restarting -= 1
            if self.stopping or len(self.by_number) >= self.wanted:
                self._retire(worker)
            else:
                await self.launch(self.enlist(worker))
        self._ended()

    def _retire(self, worker: WorkerProcess) -> None:
        """It has ended for good: what it still held counts until it is known to be closed."""
        left = self._directory.bury(worker.memory)
        self._budgeting.ended(worker.name, worker.life or worker.former, left, self.document.pool.spec)

    async def leave(self, worker: WorkerProcess, delay: float) -> None:
        """Drain a worker; `_died` hears its end. One that does not end by itself is killed."""
        if self.by_number.get(worker.number) is not worker:
            return  # it leaves already, or has died
        worker.leaving = True
        timeout = self.document.pool.spec.drain.timeout
        del self.by_number[worker.number]
        self.leaving.add(worker)
        assert worker.link is not None
        assert worker.process is not None
        if not self.stopping:
            await self.assign_sockets()  # others have taken its place before it lets go
        worker.link.tell(do="drain", delay=delay, timeout=timeout)
        try:
            async with asyncio.timeout(delay + timeout + 5):
                await worker.process.wait()
        except TimeoutError:
            worker.kill("did not drain in time")

    async def stop(self, delay: float) -> None:
        """Drain all, and wait for those that drain already."""
        self.stopping = True
        draining = [worker.process.wait() for worker in self.leaving if worker.process is not None]
        for sock in self._sockets:
            sock.close()  # the workers have theirs; once those are closed as well, clients are refused, and don't hang
        await asyncio.gather(*(self.leave(worker, delay) for worker in self.live), *draining)

    async def close(self) -> None:
        """Nobody outlives this."""
        self._closed = True
        for worker in self.all:
            if worker.process is not None and worker.process.returncode is None:
                worker.process.kill()
                await worker.process.wait()

    # ------------------------------------------------------------------ each tick

    def keep_number(self) -> None:
        """As many as wanted: a new one is started, the youngest drained."""
        for _ in range(self.wanted - len(self.by_number) - self.restarting):
            self._tasks.spawn(self.launch(self.enlist()), "start a worker")
        surplus = max(0, len(self.by_number) - self.wanted)
        for _, worker in sorted(self.by_number.items(), reverse=True)[:surplus]:
            if worker.live:  # else it starts just now, and its turn comes
                self._tasks.spawn(self.leave(worker, 0.0), f"drain worker {worker.number}")

    async def gather(self) -> list[WorkerProcess]:
        """Ask all for their state; returns those who have told."""
        asked = self.heard
        told = await asyncio.gather(*(worker.look() for worker in asked))
        return [worker for worker, has in zip(asked, told, strict=True) if has]

    async def assign_sockets(self) -> None:
        """Every listening socket to a worker that has room for its clients. One that is silent keeps what it serves,
        and others serve it too. Where none has room, all serve: a request is to get its 503, not nothing."""
        heard = [worker for worker in self.live if not worker.silent]
        servers = [worker for worker in heard if worker.able] or heard
        if not servers:
            return
        assigned: dict[WorkerProcess, list[int]] = {worker: [] for worker in heard}
        for index in range(max(len(self._sockets), len(servers))):
            assigned[servers[index % len(servers)]].append(index % len(self._sockets))
        await asyncio.gather(*(worker.serve(sockets) for worker, sockets in assigned.items()))

    def kill_hung(self) -> None:
        now = monotonic()
        stopped, self._looked = now - self._looked > HUNG / 2, now
        for worker in self.by_number.values():
            if stopped:  # we were, not they: what they have told since is still unread
                worker.beat = now
            elif worker.live and now - worker.beat > HUNG:
                worker.kill(f"has not answered for {HUNG:.0f} s")

    async def end(self, upstream: str, records: list[Record]) -> list[Record]:
        """Have a worker end what those have left who have ended for good; returns what has gone."""
        for worker in self.live:
            if not worker.silent:
                told = await worker.ask(do="end", upstream=upstream, records=[record.as_json() for record in records])
                return [Record.of_json(record) for record in told["gone"]] if told is not None else []
        return []

    # ------------------------------------------------------------------ orders

    async def apply(self, document: Document) -> bool:
        """A changed document, to all; those that start get it then. False: one can't take it."""
        self.document = document
        return all(await asyncio.gather(*(self._apply(worker) for worker in self.live)))

    async def _apply(self, worker: WorkerProcess) -> bool:
        assert worker.link is not None
        try:
            reply = await worker.link.ask(APPLY_TIMEOUT, do="apply", document=self.document.text)
        except TimeoutError:
            log.warning("worker %d hangs; it takes the document when it goes on", worker.pid)
        except ConnectionResetError:
            pass  # it has died; its successor gets the new document
        else:
            if "error" in reply:
                log.error("worker %d: %s", worker.pid, reply["error"])
                return False
        return True

    def command(self, name: str, of: str = "", *, besides: WorkerProcess | None = None) -> None:
        """recycle, pause or resume; the last two, and kill, also of one database: to all but one, and pauses
        to those that start later."""
        if name == "pause":
            self._paused.add(of)
        elif name == "resume":
            self._paused.discard(of)
        for worker in self.live:
            assert worker.link is not None
            if worker is not besides:
                worker.link.tell(do="command", command=name, of=of)

    async def _rows(self, asking: WorkerProcess, message: dict[str, Any]) -> None:
        """Tell a worker what the others have for a table."""
        others = [worker for worker in self.live if worker is not asking and not worker.silent]
        told = await asyncio.gather(*(worker.ask(do="rows", table=message["rows"]) for worker in others))
        if asking.link is not None:
            asking.link.tell(to=message["id"], rows=[row for reply in told if reply for row in reply["rows"]])
