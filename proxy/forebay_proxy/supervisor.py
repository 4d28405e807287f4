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
import fcntl
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

from forebay_core.ledger import EMPTY, Answer, Ledger, floor, step
from forebay_core.spec.load import DocumentError, load
from forebay_core.spec.model import ProxyPool
from forebay_proxy.control import Link
from forebay_proxy.gathered import Counters
from forebay_proxy.leavings import Leavings
from forebay_proxy.memory import Memory
from forebay_proxy.tasks import Tasks
from forebay_proxy.tls import TLSFileError
from forebay_proxy.worker import client_tls, listening, server_tls

log = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks at ledger, states and the document's file
START_TIMEOUT = 30.0  # seconds that a worker may take until it answers
ASK_TIMEOUT = 2.0
HUNG = 30.0  # seconds without a heartbeat after which a worker is killed
FIRST_BACKOFF, LAST_BACKOFF = 0.05, 5.0  # seconds between restarts of a worker that keeps dying
STEADY = 10.0  # seconds of life after which a death is no longer part of a row


class StartError(Exception):
    """The pool can't be run; the message is one line for the user."""


class WorkerProcess:
    """One worker, as the supervisor sees it."""

    def __init__(self, number: int, memory: Path) -> None:
        self.number = number
        self.memory = memory
        self.process: asyncio.subprocess.Process | None = None
        self.link: Link | None = None
        self.life = ""
        self.answer: Answer | None = None
        self.state: dict[str, Any] | None = None
        self.beat = monotonic()
        self.started = monotonic()
        self.serving: list[int] | None = None
        self.leaving = False  # it drains, and is not restarted
        self.kept: dict[str, Any] | None = None  # its last state, told as it ended

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    @property
    def live(self) -> bool:
        """Whether it has started and answers."""
        return bool(self.life) and not self.leaving


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
        self._directory = state_directory(path)
        self._lock = -1
        self._ledger: Ledger = EMPTY
        self._gone: set[str] = set()
        self._left: dict[str, Leavings] = {}
        self._number = 0
        self._backoff = FIRST_BACKOFF
        self._stopping = False
        self._over = asyncio.Event()
        self._wake = asyncio.Event()
        self._seen = file_state(path)
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
        await self._take_lock()
        self._inherit()
        listen = self.pool.spec.listen
        host, port = listen.address, listen.port
        try:
            for _ in range(self.pool.spec.maximum_replicas):
                sock = listening(host, port)
                self._sockets.append(sock)
                port = sock.getsockname()[1]
        except OSError as error:
            raise StartError(f"can't listen on {host}:{port}: {os.strerror(error.errno or 0)}") from None
        await asyncio.gather(*(self._start_worker() for _ in range(self.pool.spec.replicas)))
        self._tasks.spawn(self._run(), "run")
        return host, port

    async def _take_lock(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        os.set_inheritable(self._lock, True)  # workers keep it locked until the last of them has ended
        for _ in range(100):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = int(os.pread(self._lock, 20, 0) or b"0")
                if pid and alive(pid):
                    raise StartError(f"{self._path} is already being run, by process {pid}") from None
                await asyncio.sleep(0.1)
            else:
                os.ftruncate(self._lock, 0)
                os.pwrite(self._lock, str(os.getpid()).encode(), 0)
                return
        raise StartError(f"workers of an earlier run of {self._path} have not ended")

    def _inherit(self) -> None:
        """What the workers of an earlier supervisor left open counts until it is known to be closed."""
        left: dict[str, int] = {}
        for path in self._directory.glob("*.memory"):
            memory = Memory.at(path)
            for name, count in memory.left.items():
                left[name] = left.get(name, 0) + count
            memory.close()
            path.unlink()
        for upstream in self.pool.spec.upstreams:
            if upstream.budget is not None and left.get(upstream.name):
                self._left[upstream.name] = Leavings(left[upstream.name], upstream.budget.linger, monotonic())

    # ------------------------------------------------------------------ workers

    async def _start_worker(self, dead: WorkerProcess | None = None) -> WorkerProcess:
        """Start a worker and give it what it needs; one that takes the place of a dead one gets its memory."""
        if dead is None:
            self._number += 1
            worker = WorkerProcess(self._number, self._directory / f"{self._number}.memory")
        else:
            worker = WorkerProcess(dead.number, dead.memory)
        self._workers[worker.number] = worker
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *(sock.fileno() for sock in self._sockets)]
        try:
            worker.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "forebay_proxy.supervised", str(worker.memory), *map(str, fds),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=(*fds, self._lock),
            )  # fmt: skip
        finally:
            theirs.close()
        link = Link(
            lambda message: self._told(worker, message),
            lambda: self._line_ended(worker),
        )
        worker.link = link
        await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
        try:
            reply = await link.ask(START_TIMEOUT, do="start", document=self._text)
        except (TimeoutError, ConnectionResetError):
            self._kill(worker, "did not start")
            return worker
        if "error" in reply:
            log.error("worker %d: %s", worker.pid, reply["error"])
            self._kill(worker, "could not start")
            return worker
        worker.beat = monotonic()
        worker.life = reply["life"]
        worker.answer = Answer(reply["sequence"], reply["held"])
        await self._control()
        return worker

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
        self._tasks.spawn(self._died(worker), f"end of worker {worker.number}")

    async def _died(self, worker: WorkerProcess) -> None:
        """The control line has ended, so the process has or is about to."""
        assert worker.process is not None
        code = await worker.process.wait()
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
            log.warning("worker %d ended with %s; it is replaced", worker.pid, describe(code))
            self._assign_sockets()  # its clients are served by the others meanwhile
            await asyncio.sleep(self._backoff)
            await self._start_worker(worker)
        self._wake.set()

    def _retire(self, worker: WorkerProcess) -> None:
        """A drained worker has ended: what it still held counts until it is known to be closed."""
        memory = Memory.at(worker.memory)
        for upstream in self.pool.spec.upstreams:
            count = memory.left.get(upstream.name, 0)
            if upstream.budget is not None and count:
                before = self._left.get(upstream.name)
                self._left[upstream.name] = Leavings(
                    count + (before.left if before else 0), upstream.budget.linger, monotonic()
                )
        memory.close()
        worker.memory.unlink()
        self._gone.add(worker.life)

    async def _leave(self, worker: WorkerProcess, delay: float, timeout: float) -> None:
        """Drain a worker; `_died` hears its end. One that does not end by itself is killed."""
        if worker.leaving:
            return
        worker.leaving = True
        self._workers.pop(worker.number, None)
        self._leaving.add(worker)
        assert worker.link is not None
        assert worker.process is not None
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
            await self._control()
            await self._gather()
            self._kill_hung()

    async def _control(self) -> None:
        """Listening sockets to those who live, then one step of the ledger, then what it says to the workers."""
        self._assign_sockets()
        self._step()
        workers = [w for w in (*self._workers.values(), *self._leaving) if w.life]
        await asyncio.gather(*(self._push(w) for w in workers if self._ledger.unanswered(w.life, w.answer)))

    def _step(self) -> None:
        budgets: dict[str, int] = {}
        for upstream in self.pool.spec.upstreams:
            if upstream.budget is None:
                continue
            budget = upstream.budget
            left = self._left.get(upstream.name)
            if left is not None:
                left.observe({(e.host, e.port) for e in upstream.endpoints or ()}, monotonic())
                if not left.left:
                    del self._left[upstream.name]
            budgets[upstream.name] = budget.max_connections - budget.reserved - (left.left if left else 0)
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
        assert worker.link is not None
        try:
            reply = await worker.link.ask(
                ASK_TIMEOUT,
                do="push",
                life=worker.life,
                sequence=self._ledger.sequence,
                grants=self._ledger.grants(worker.life),
            )
        except (TimeoutError, ConnectionResetError):
            return  # the next tick pushes again
        if reply["life"] == worker.life:
            worker.answer = Answer(reply["sequence"], reply["held"])

    def _assign_sockets(self) -> None:
        live = [w for _, w in sorted(self._workers.items()) if w.live]
        if not live:
            return
        assigned: dict[WorkerProcess, list[int]] = {w: [] for w in live}
        for index in range(max(len(self._sockets), len(live))):
            assigned[live[index % len(live)]].append(index % len(self._sockets))
        for worker, sockets in assigned.items():
            if worker.serving != sockets:
                worker.serving = sockets
                assert worker.link is not None
                worker.link.tell(do="serve", sockets=sockets)

    async def _gather(self) -> None:
        async def ask(worker: WorkerProcess) -> None:
            assert worker.link is not None
            try:
                reply = await worker.link.ask(ASK_TIMEOUT, do="state")
            except (TimeoutError, ConnectionResetError):
                return
            worker.state = state = reply["state"]
            held = {name: u["held"] for name, u in state["upstreams"].items() if u["grant"] is not None}
            if state["life"] == worker.life and worker.answer is not None:
                if state["sequence"] >= worker.answer.sequence:
                    worker.answer = Answer(state["sequence"], held)

        await asyncio.gather(*(ask(w) for w in (*self._workers.values(), *self._leaving) if w.life))

    def _kill_hung(self) -> None:
        for worker in self._workers.values():
            if worker.live and monotonic() - worker.beat > HUNG:
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
        for worker in self._workers.values():
            if worker.live and worker.link is not None:
                reply = await worker.link.ask(START_TIMEOUT, do="apply", document=text)
                if "error" in reply:
                    log.error("worker %d: %s", worker.pid, reply["error"])
        for _ in range(pool.spec.replicas - len(self._workers)):
            await self._start_worker()
        for worker in list(self._workers.values())[pool.spec.replicas :]:
            self._tasks.spawn(self._leave(worker, 0.0, pool.spec.drain.timeout), f"drain worker {worker.number}")
        log.info("%s is in force", self._path)

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
        for old in list(self._workers.values()):
            if not old.live:
                continue
            new = await self._start_worker()
            while not await self._ready(new):
                await asyncio.sleep(0.05)
            await self._leave(old, 0.0, self.pool.spec.drain.timeout)

    async def _ready(self, worker: WorkerProcess) -> bool:
        await self._control()
        await self._gather()
        return worker.state is not None and worker.state["ready"]

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
        timeout = self.pool.spec.drain.timeout
        await asyncio.gather(*(self._leave(w, delay, timeout) for w in list(self._workers.values()) if w.life))
        self._over.set()

    async def over(self) -> None:
        """Wait until it has stopped."""
        await self._over.wait()
        for worker in (*self._workers.values(), *self._leaving):
            if worker.process is not None and worker.process.returncode is None:
                worker.process.kill()
                await worker.process.wait()
        await self._tasks.close()
        for sock in self._sockets:
            sock.close()
        os.close(self._lock)

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

    def token(self) -> str:
        """The admin port's token: from the environment, else a new one, left where only this user can read it."""
        token = os.environ.get("FOREBAY_ADMIN_TOKEN") or secrets.token_hex(16)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / "token"
        path.touch(mode=0o600)
        path.write_text(token, "ascii")
        return token


def state_directory(path: Path) -> Path:
    """Where the lock and the memories of the pool in this file are kept, over restarts."""
    base = os.environ.get("XDG_RUNTIME_DIR") or os.path.join(tempfile.gettempdir(), f"forebay-{os.getuid()}")
    return Path(base) / "forebay" / sha256(str(path.resolve()).encode()).hexdigest()[:16]


def file_state(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def alive(pid: int) -> bool:
    """Whether a process of this user with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def describe(code: int) -> str:
    """An exit status for a person."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
