"""Local mode's supervisor: starts the workers, keeps their number, divides the budget, gathers their state.

- It opens one SO_REUSEPORT listening socket per worker and never closes one while it lives: closing resets what
  stands in the socket's queue. A worker inherits them all and accepts from those that it is told to; what a dead
  worker served is served by the others at once.
- Grants come from the ledger (`forebay_core.ledger`), one order at a time, each tick until answered.
- The dead are restarted with backoff, with their memory: the life, its grant, and what it left open, go on.
- Workers die with the supervisor. Its lock is inherited by them, so a successor waits until they have.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from forebay_core.ledger import EMPTY, Answer, Ledger, floor, step
from forebay_core.spec.load import DocumentError, load
from forebay_core.spec.model import ProxyPool
from forebay_proxy.control import Link
from forebay_proxy.gathered import Counters
from forebay_proxy.leavings import Leavings
from forebay_proxy.resolver import is_literal
from forebay_proxy.state_directory import StartError, StateDirectory, file_state
from forebay_proxy.tasks import Tasks
from forebay_proxy.tls import TLSFileError
from forebay_proxy.worker import client_tls, listening, server_tls
from forebay_proxy.worker_process import WorkerProcess

log = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks at ledger, states and the document's file
START_TIMEOUT = 30.0  # seconds that a worker may take until it answers
ASK_TIMEOUT = 2.0
APPLY_TIMEOUT = 5.0
HUNG = 30.0  # seconds without a heartbeat after which a worker is killed
FIRST_BACKOFF, LAST_BACKOFF = 0.05, 5.0  # seconds between restarts of a worker that keeps dying
STEADY = 10.0  # seconds of life after which a death is no longer part of a row


class Supervisor:
    """Runs one pool. `start`, then `run` until `stop`."""

    def __init__(self, path: Path, text: str, pool: ProxyPool) -> None:
        self._path = path
        self._text = text
        self.pool = pool
        self._tasks = Tasks("supervisor")
        self._workers: dict[int, WorkerProcess] = {}
        self._leaving: set[WorkerProcess] = set()
        self._sockets: list[socket.socket] = []
        self._directory = StateDirectory(path)
        self._ledger: Ledger = EMPTY
        self._gone: set[str] = set()
        self._left: dict[str, Leavings] = {}
        self._number = 0
        self._surge = 0  # workers beyond `replicas`, while one is replaced
        self._replacing = asyncio.Lock()
        self._restarting = 0  # the dead that wait for their backoff
        self._backoff = FIRST_BACKOFF
        self._stopping = False
        self._over = asyncio.Event()
        self._wake = asyncio.Event()
        self._seen = file_state(path)
        self._looked = monotonic()
        self.reload_success = True
        self.restarts_total = 0
        self.dead = Counters()

    # ------------------------------------------------------------------ start

    async def start(self) -> tuple[str, int]:
        """Lock, listen, start the workers. Returns where it listens; raises StartError."""
        try:
            for upstream in self.pool.spec.upstreams:
                if upstream.tls is not None:
                    client_tls(upstream, self.pool.spec.protocol)
            server_tls(self.pool)
        except TLSFileError as error:
            raise StartError(str(error)) from None
        await self._directory.acquire()
        for name, count in (await self._directory.inherit()).items():
            self._count_left(name, count)
        listen = self.pool.spec.listen
        host, port = listen.address, listen.port
        try:
            for _ in range(self.pool.spec.maximum_replicas):
                sock = listening(host, port)
                self._sockets.append(sock)
                port = sock.getsockname()[1]
        except OSError as error:
            raise StartError(f"can't listen on {host}:{port}: {os.strerror(error.errno or 0)}") from None
        await asyncio.gather(*(self._launch(self._enlist()) for _ in range(self.pool.spec.replicas)))
        self._tasks.spawn(self._run(), "run")
        return host, port

    # ------------------------------------------------------------------ workers

    def _enlist(self, dead: WorkerProcess | None = None) -> WorkerProcess:
        """A worker to be; one that takes the place of a dead one gets its number and its memory."""
        if dead is None:
            self._number += 1
            worker = WorkerProcess(self._number, self._directory.memory())
        else:
            worker = WorkerProcess(dead.number, dead.memory, dead.life or dead.former)
        self._workers[worker.number] = worker
        return worker

    async def _launch(self, worker: WorkerProcess) -> None:
        """Start its process and give it what it needs. `_died` hears when that fails."""
        if self._stopping:
            return
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *(sock.fileno() for sock in self._sockets)]
        try:
            worker.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "forebay_proxy.supervised", str(worker.memory), *map(str, fds),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=(*fds, self._directory.lock),
            )  # fmt: skip
        except OSError as error:
            log.error("can't start a worker: %s", os.strerror(error.errno or 0))
            ours.close()
            del self._workers[worker.number]  # the next tick finds one missing
            self._retire(worker)
            return
        finally:
            theirs.close()
        link = Link(
            lambda message: self._told(worker, message),
            lambda: self._line_ended(worker),
        )
        worker.link = link
        await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
        text = self._text
        try:
            reply = await link.ask(START_TIMEOUT, do="start", document=text)
        except (TimeoutError, ConnectionResetError):
            self._kill(worker, "did not start")
            return
        if "error" in reply:
            log.error("worker %d: %s", worker.pid, reply["error"])
            self._kill(worker, "could not start")
            return
        worker.beat = monotonic()
        worker.answer = Answer(reply["sequence"], reply["held"])
        worker.life = reply["life"]
        if text is not self._text:  # it changed meanwhile
            await self._apply(worker)
        await self._control()

    def _told(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        if "beat" in message:
            worker.beat = monotonic()
        elif "last" in message:
            worker.kept = message["last"]

    def _kill(self, worker: WorkerProcess, why: str) -> None:
        log.error("worker %d %s and is killed", worker.pid, why)
        if worker.process is not None and worker.process.returncode is None:
            worker.process.kill()

    def _line_ended(self, worker: WorkerProcess) -> None:
        if self._over.is_set():
            return
        self._tasks.spawn(self._died(worker), f"end of worker {worker.number}")

    async def _died(self, worker: WorkerProcess) -> None:
        """The control line has ended, so the process has or is about to."""
        assert worker.process is not None
        await worker.process.wait()
        state = worker.kept or worker.state
        if state is not None:
            self.dead.add(state)
        if worker in self._leaving:
            self._leaving.discard(worker)
            self._retire(worker)
        elif not self._stopping:
            del self._workers[worker.number]
            self.restarts_total += 1
            lived = monotonic() - worker.started
            self._backoff = FIRST_BACKOFF if lived > STEADY else min(2 * self._backoff, LAST_BACKOFF)
            log.warning("worker %d ended with %s; it is replaced", worker.pid, worker.end)
            self._restarting += 1
            await self._assign_sockets()  # its clients are served by the others meanwhile
            await asyncio.sleep(self._backoff)
            self._restarting -= 1
            if self._stopping or len(self._workers) >= self._wanted:
                self._retire(worker)
            else:
                await self._launch(self._enlist(worker))
        self._wake.set()

    def _retire(self, worker: WorkerProcess) -> None:
        """A drained worker has ended: what it still held counts until it is known to be closed."""
        for name, count in self._directory.bury(worker.memory).items():
            self._count_left(name, count)
        self._gone.add(worker.life or worker.former)

    def _count_left(self, name: str, count: int) -> None:
        for upstream in self.pool.spec.upstreams:
            if upstream.name == name and upstream.budget is not None:
                before = self._left.get(name)
                total = count + (before.left if before is not None else 0)
                self._left[name] = Leavings(total, upstream.budget.linger, monotonic())

    async def _leave(self, worker: WorkerProcess, delay: float) -> None:
        """Drain a worker; `_died` hears its end. One that does not end by itself is killed."""
        if self._workers.get(worker.number) is not worker:
            return  # it leaves already, or has died
        worker.leaving = True
        timeout = self.pool.spec.drain.timeout
        del self._workers[worker.number]
        self._leaving.add(worker)
        assert worker.link is not None
        assert worker.process is not None
        if not self._stopping:
            await self._assign_sockets()  # others have taken its place before it lets go
        worker.link.tell(do="drain", delay=delay, timeout=timeout)
        try:
            async with asyncio.timeout(delay + timeout + 5):
                await worker.process.wait()
        except TimeoutError:
            self._kill(worker, "did not drain in time")

    # ------------------------------------------------------------------ control loop

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._wake.wait()
            self._wake.clear()
            if self._stopping:
                continue
            await self._reload_if_changed()
            self._keep_number()
            await self._control()
            await self._gather()
            self._kill_hung()

    @property
    def _wanted(self) -> int:
        return self.pool.spec.replicas + self._surge

    def _keep_number(self) -> None:
        """As many workers as the document says."""
        for _ in range(self._wanted - len(self._workers) - self._restarting):
            self._tasks.spawn(self._launch(self._enlist()), "start a worker")
        surplus = max(0, len(self._workers) - self._wanted)
        for worker in [w for w in self._workers.values() if w.live][::-1][:surplus]:
            self._tasks.spawn(self._leave(worker, 0.0), f"drain worker {worker.number}")

    async def _control(self) -> None:
        """Listening sockets to those who live, then one step of the ledger, then what it says to the workers."""
        await self._assign_sockets()
        self._step()
        workers = [w for w in (*self._workers.values(), *self._leaving) if w.life and not w.silent]
        await asyncio.gather(*(self._push(w) for w in workers if self._ledger.unanswered(w.life, w.answer)))

    def _step(self) -> None:
        budgets: dict[str, int] = {}
        for upstream in self.pool.spec.upstreams:
            if upstream.budget is None:
                continue
            budget = upstream.budget
            left = self._left.get(upstream.name)
            if left is not None:
                endpoints = upstream.endpoints or ()  # names are not looked up here: what they left lasts for `linger`
                left.observe({(e.host, e.port) for e in endpoints if is_literal(e.host)}, monotonic())
                if not left.left:
                    del self._left[upstream.name]
            budgets[upstream.name] = budget.max_connections - budget.reserved - (left.left if left else 0)
        if not self._left:
            self._directory.forget()
        share = {
            u.name: floor(u.budget.max_connections - u.budget.reserved, self.pool.spec.replicas)
            for u in self.pool.spec.upstreams
            if u.budget is not None
        }
        wanted: dict[str, Mapping[str, int]] = {w.life: share for w in self._workers.values() if w.live}
        answers = {
            w.life: w.answer for w in (*self._workers.values(), *self._leaving) if w.life and w.answer is not None
        }
        ledger = step(self._ledger, budgets, wanted, answers, frozenset(self._gone))
        self._gone.clear()
        if ledger is not None:
            self._ledger = ledger

    async def _push(self, worker: WorkerProcess) -> None:
        reply = await self._ask(
            worker,
            do="push",
            life=worker.life,
            sequence=self._ledger.sequence,
            grants=self._ledger.grants(worker.life),
        )
        if reply is not None and reply["life"] == worker.life:
            worker.answer = Answer(reply["sequence"], reply["held"])

    async def _ask(self, worker: WorkerProcess, **message: Any) -> dict[str, Any] | None:
        """The worker's reply; None where it has none in time, or not this time: the next tick asks again."""
        assert worker.link is not None
        try:
            reply = await worker.link.ask(ASK_TIMEOUT, **message)
        except (TimeoutError, ConnectionResetError):
            return None
        if "error" in reply:
            log.error("worker %d: %s: %s", worker.pid, message["do"], reply["error"])
            return None
        return reply

    async def _assign_sockets(self) -> None:
        """Every listening socket to a worker that has room for its clients. One that is silent keeps what it serves,
        and others serve it too. Where none has room, all serve: a request is to get its 503, not nothing."""
        heard = [w for _, w in sorted(self._workers.items()) if w.live and not w.silent]
        servers = [w for w in heard if w.able] or heard
        if not servers:
            return
        assigned: dict[WorkerProcess, list[int]] = {w: [] for w in heard}
        for index in range(max(len(self._sockets), len(servers))):
            assigned[servers[index % len(servers)]].append(index % len(self._sockets))
        await asyncio.gather(*(self._serve(w, sockets) for w, sockets in assigned.items() if w.serving != sockets))

    async def _serve(self, worker: WorkerProcess, sockets: list[int]) -> None:
        worker.serving = sockets
        if await self._ask(worker, do="serve", sockets=sockets) is None:
            worker.serving = None

    async def _gather(self) -> None:
        async def ask(worker: WorkerProcess) -> None:
            reply = await self._ask(worker, do="state")
            if reply is None:
                return
            worker.state = state = reply["state"]
            held = {name: u["held"] for name, u in state["upstreams"].items() if u["grant"] is not None}
            if worker.answer is not None and state["sequence"] >= worker.answer.sequence:
                worker.answer = Answer(state["sequence"], held)

        workers = [w for w in (*self._workers.values(), *self._leaving) if w.life and not w.silent]
        await asyncio.gather(*(ask(w) for w in workers))

    def _kill_hung(self) -> None:
        now = monotonic()
        stopped, self._looked = now - self._looked > HUNG / 2, now
        for worker in self._workers.values():
            if stopped:  # we were, not they: what they have told since is still unread
                worker.beat = now
            elif worker.live and now - worker.beat > HUNG:
                self._kill(worker, f"has not answered for {HUNG:.0f} s")

    # ------------------------------------------------------------------ changes

    def reload(self) -> None:
        """Read the document again, even if the file looks the same."""
        self._seen = None
        self._wake.set()

    async def _reload_if_changed(self) -> None:
        seen = file_state(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            text = self._path.read_text("utf-8")
            pool = load(text, form="local")
            self._refuse_what_needs_a_restart(pool)
            for upstream in pool.spec.upstreams:
                if upstream.tls is not None:
                    client_tls(upstream, self.pool.spec.protocol)
            server_tls(pool)
        except (DocumentError, TLSFileError, StartError, OSError, UnicodeDecodeError) as error:
            self.reload_success = False
            log.error("%s is not taken, the last good document stays in force:\n%s", self._path, error)
            return
        self.reload_success = True
        self.pool, self._text = pool, text
        # First the document: an upstream that is removed ends what waits for it with the grant that it has.
        await asyncio.gather(*(self._apply(worker) for worker in list(self._workers.values()) if worker.live))
        await self._control()
        log.info("%s is in force", self._path)

    async def _apply(self, worker: WorkerProcess) -> None:
        assert worker.link is not None
        try:
            reply = await worker.link.ask(APPLY_TIMEOUT, do="apply", document=self._text)
        except TimeoutError:
            log.warning("worker %d hangs; it takes the document when it goes on", worker.pid)
        except ConnectionResetError:
            return  # it has died; its successor gets the new document
        else:
            if "error" in reply:
                log.error("worker %d: %s", worker.pid, reply["error"])

    def _refuse_what_needs_a_restart(self, pool: ProxyPool) -> None:
        old, new = self.pool.spec, pool.spec
        for name, a, b in (
            ("spec.protocol", old.protocol, new.protocol),
            ("spec.listen.port", old.listen.port, new.listen.port),
            ("spec.listen.address", old.listen.address, new.listen.address),
            ("metadata.name", self.pool.metadata.name, pool.metadata.name),
        ):
            if a != b:
                raise StartError(f"{name}: {b!r} instead of {a!r} needs a restart")

    async def replace_workers(self) -> None:
        """One after the other: a new worker first, then the old one drains."""
        async with self._replacing:
            for old in list(self._workers.values()):
                if self._workers.get(old.number) is not old:
                    continue  # it has died, and its successor is new already
                self._surge = 1
                try:
                    new = self._enlist()
                    await self._launch(new)
                    while not await self._ready(new.number):
                        await asyncio.sleep(0.05)
                finally:
                    self._surge = 0
                if self._stopping:
                    return
                await self._leave(old, 0.0)

    async def _ready(self, number: int) -> bool:
        """Whether the worker with this number has room, or is no longer wanted (a reload, the end)."""
        worker = self._workers.get(number)
        if self._stopping or (worker is None and not self._restarting):
            return True
        await self._control()
        await self._gather()
        return worker is not None and worker.able

    async def command(self, name: str) -> None:
        """recycle, pause or resume, to all workers."""
        for worker in self._workers.values():
            if worker.live and worker.link is not None:
                worker.link.tell(do="command", command=name)

    # ------------------------------------------------------------------ reading

    async def state(self) -> dict[str, Any]:
        """What `/state` answers and `/metrics` is made from."""
        await self._gather()
        workers = [w.state for w in (*self._workers.values(), *self._leaving) if w.state is not None]
        return {
            "name": self.pool.metadata.name,
            "namespace": self.pool.metadata.namespace or "",
            "workers": workers,
            "dead": self.dead.as_state(),
            "supervisor": {
                "pid": os.getpid(),
                "restarts": self.restarts_total,
                "reload_success": self.reload_success,
                "ledger": {
                    "sequence": self._ledger.sequence,
                    "entries": [
                        {"life": life, "upstream": name, "grant": e.grant, "bound": e.bound, "since": e.since}
                        for (life, name), e in self._ledger.entries.items()
                    ],
                    "left": {name: leavings.left for name, leavings in self._left.items()},
                },
            },
        }

    @property
    def ready(self) -> bool:
        """Whether any worker serves."""
        return any(w.live and w.state is not None and w.state["ready"] for w in self._workers.values())

    # ------------------------------------------------------------------ stop

    async def stop(self, delay: float) -> None:
        """Drain all workers, then end."""
        if self._stopping:
            return
        self._stopping = True
        for sock in self._sockets:
            sock.close()  # the workers have theirs; once those are closed as well, clients are refused, and don't hang
        await asyncio.gather(*(self._leave(w, delay) for w in list(self._workers.values()) if w.life))
        self._over.set()

    async def over(self) -> None:
        """Wait until it has stopped."""
        await self._over.wait()
        for worker in (*self._workers.values(), *self._leaving):
            if worker.process is not None and worker.process.returncode is None:
                worker.process.kill()
                await worker.process.wait()
        await self._tasks.close()
        self._directory.release()

    def interrupt(self, number: int) -> None:
        """SIGTERM drains with the document's delay, SIGINT at once; a second one ends it."""
        if self._stopping:
            self._over.set()
        elif number == signal.SIGTERM:
            self.drain()
        else:
            self._tasks.spawn(self.stop(0.0), "stop")

    def drain(self) -> None:
        """Drain all workers with the document's delay, then end."""
        self._tasks.spawn(self.stop(self.pool.spec.drain.delay), "stop")

    def replace_all(self) -> None:
        """Replace the workers one after the other."""
        self._tasks.spawn(self.replace_workers(), "replace workers")

    @property
    def token(self) -> str:
        """What opens the admin port."""
        return self._directory.token
