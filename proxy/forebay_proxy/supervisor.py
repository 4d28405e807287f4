"""Local mode's supervisor: the control loop over the worker processes, and the pool's commands.

It joins the rooms that decide and act: what the document says (`document`), who runs (`workers`), what they may open
(`budgeting`), how many there should be (`scaling`). Each tick: take a changed document, keep the number, settle the
ledger, look at everybody, and every other second ask for a verdict. Workers die with the supervisor; its lock is
inherited by them, so a successor waits until they have.
"""

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from time import monotonic
from typing import Any

from forebay_core.budget import record
from forebay_core.budget.ledger import Answer, Push
from forebay_core.spec.model import ProxyPool, Spec
from forebay_proxy.budgeting import Budgeting
from forebay_proxy.document import Document, Refused, check_files, read
from forebay_proxy.scaling import Scaling
from forebay_proxy.state_directory import StartError, StateDirectory, file_state
from forebay_proxy.tasks import Tasks
from forebay_proxy.worker_process import WorkerProcess
from forebay_proxy.workers import Workers

log = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks at ledger, states and the document's file
NEW_TIMEOUT = 60.0  # seconds for a new worker to start and to get a grant, before an old one is replaced by it
PAUSE = 10.0  # seconds after a look that failed
ROUNDS = 8  # of writing and pushing in one tick: a cut takes three where nobody hangs


class Supervisor:
    """Runs one pool. `start`, then `over`."""

    def __init__(self, path: Path, text: str, pool: ProxyPool) -> None:
        self._path = path
        self._document = Document(text, pool)
        self._tasks = Tasks("supervisor")
        self._directory = StateDirectory(path)
        self._scaling = Scaling(pool.spec)
        self._deciding = asyncio.Lock()  # one order at a time
        self._surge = 0  # workers beyond what is wanted, while one is replaced
        self._replacing = asyncio.Lock()
        self._over = asyncio.Event()
        self._wake = asyncio.Event()
        self._seen = file_state(path)
        self._budgeting = Budgeting(pool.spec)
        self._workers = Workers(
            self._document, self._directory, self._budgeting, self._tasks, started=self._control, ended=self._wake.set
        )
        self.reload_success = True

    @property
    def pool(self) -> ProxyPool:
        return self._document.pool

    @property
    def _spec(self) -> Spec:
        return self._document.pool.spec

    @property
    def token(self) -> str:
        """What opens the admin port."""
        return self._directory.token

    async def start(self) -> tuple[str, int]:
        """Lock, listen, start the workers. Returns where it listens; raises StartError."""
        try:
            check_files(self.pool)
        except Refused as error:
            raise StartError(str(error)) from None
        await self._directory.acquire()
        self._budgeting.inherit(self._spec, await self._directory.inherit())
        host, port = self._workers.listen()
        self._workers.wanted = self._scaling.replicas
        await asyncio.gather(*(self._workers.launch(self._workers.enlist()) for _ in range(self._workers.wanted)))
        self._tasks.spawn(self._run(), "run")
        return host, port

    # ------------------------------------------------------------------ control loop

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._wake.wait()
            self._wake.clear()
            if self._workers.stopping:
                continue
            try:
                await self._look()
            except Exception:  # a mistake of ours must not end the loop, and not go unseen
                log.exception("the look failed, the next one is in %g s", PAUSE)
                await asyncio.sleep(PAUSE)

    async def _look(self) -> None:
        """Once round."""
        await self._reload_if_changed()
        self._set_surge(self._surge)  # the number that is wanted may have changed
        self._workers.keep_number()
        await self._control()
        await self._end_leavings()
        self._scale(await self._workers.gather())
        self._workers.kill_hung()

    async def _control(self) -> None:
        """Listening sockets to those who live, then what the ledger has for them."""
        await self._workers.assign_sockets()
        async with self._deciding:
            for _ in range(ROUNDS):
                asked = self._workers.heard
                answers = await self._ask(asked)
                written = self._budgeting.decide(self._spec, answers, self._scaling.wanted)
                self._directory.forget(self._budgeting.holding)
                if not written or len(answers) < len(asked):
                    return  # what is left to be pushed waits for the next tick, and not for one that hangs

    async def _ask(self, workers: list[WorkerProcess]) -> dict[str, Answer]:
        """Push to everybody what was written last. Answers by life: of this order only."""
        known = self._budgeting.ledger.lives()

        async def push(worker: WorkerProcess) -> Answer | None:
            told = self._budgeting.ledger.push(worker.life) if worker.life in known else Push(worker.life, 0, {})
            return await worker.push(told, self._budgeting.deadline(self._spec, worker.life))

        answers = await asyncio.gather(*(push(worker) for worker in workers))
        return {answer.life: answer for answer in answers if answer is not None}

    async def _end_leavings(self) -> None:
        """What those have left at servers who have ended for good."""
        if self._spec.session:
            for name in {name for _, name in self._budgeting.left}:
                self._budgeting.gone(name, await self._workers.end(name, self._budgeting.records(name)))

    def _scale(self, told: list[WorkerProcess]) -> None:
        """How many workers there should be, by what they have just told."""
        before = self._scaling.replicas
        states = [(worker.state, worker.state_at) for worker in told if worker.state is not None]
        if self._scaling.tick(self._spec, self._budgeting.ledger.in_force, states, monotonic()):
            verdict, now = self._scaling.verdict, self._scaling.replicas
            if verdict is not None and now != before:
                log.info("%d workers instead of %d: %s", now, before, verdict.message)
                self._wake.set()

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
        self.reload_success = False  # until it is
        try:
            self._document = read(self._path, self.pool)
        except Refused as error:
            log.error("%s is not taken, the last good document stays in force:\n%s", self._path, error)
            return
        self._scaling.follow(self._spec)
        # First the document: an upstream that is removed ends what waits for it with the grant that it has.
        taken = await self._workers.apply(self._document)
        await self._control()
        if not taken:
            log.error("%s is not in force in every worker", self._path)
            return
        self.reload_success = True
        log.info("%s is in force", self._path)

    async def replace_workers(self) -> None:
        """One after the other: a new worker first, then the old one drains."""
        workers = self._workers
        async with self._replacing:
            for old in list(workers.by_number.values()):
                if workers.by_number.get(old.number) is not old:
                    continue  # it has died, and its successor is new already
                self._set_surge(1)
                try:
                    another = await self._another()
                finally:
                    self._set_surge(0)
                if workers.stopping:
                    return
                if not another:
                    log.error("no new worker has started: those that there are go on")
                    return
                await workers.leave(old, 0.0)

    def _set_surge(self, surge: int) -> None:
        self._surge = surge
        self._workers.wanted = self._scaling.replicas + surge

    async def _another(self) -> bool:
        """Start one more worker, and wait until it has room, or until all are to stop. False: it is gone, and nobody
        wanted it to; or it has had its time."""
        workers, until = self._workers, monotonic() + NEW_TIMEOUT
        new = workers.enlist()
        await workers.launch(new)
        while not workers.stopping:
            worker = workers.by_number.get(new.number)
            if worker is None and not workers.restarting:
                return new.leaving  # drained, as fewer are wanted now
            new = worker or new
            if monotonic() > until:
                return False
            await self._control()
            await workers.gather()
            if worker is not None and worker.able:
                return True
            await asyncio.sleep(0.05)
        return True

    def command(self, name: str) -> None:
        """recycle, pause or resume, to all workers."""
        self._workers.command(name)

    # ------------------------------------------------------------------ reading

    async def state(self) -> dict[str, Any]:
        """What `/state` answers and `/metrics` is made from."""
        await self._workers.gather()
        known = [worker for worker in self._workers.all if worker.state is not None]
        workers = [{**(worker.state or {}), "silent": worker.silent} for worker in known]
        return {
            "name": self.pool.metadata.name,
            "namespace": self.pool.metadata.namespace or "",
            "workers": workers,
            "dead": self._workers.dead.as_state(),
            "supervisor": {
                "pid": os.getpid(),
                "restarts": self._workers.restarts_total,
                "reload_success": self.reload_success,
                "replicas": {
                    "wanted": self._scaling.replicas,
                    "current": len(self._workers.by_number),
                    "ready": sum(worker.able and not worker.silent for worker in self._workers.live),
                },
                "budgets": self._budgeting.as_state(self._spec, workers),
                "ledger": record.dump(self._budgeting.ledger),
                "verdict": self._scaling.as_state(),
            },
        }

    @property
    def ready(self) -> bool:
        """Whether any worker serves."""
        return any(worker.able and not worker.silent for worker in self._workers.live)

    # ------------------------------------------------------------------ stop

    async def stop(self, delay: float) -> None:
        """Drain all workers, then end."""
        if not self._workers.stopping:
            await self._workers.stop(delay)
            self._over.set()

    async def over(self) -> None:
        """Wait until it has stopped."""
        await self._over.wait()
        await self._workers.close()
        await self._tasks.close()
        self._directory.release()

    def interrupt(self, number: int) -> None:
        """SIGTERM drains with the document's delay, SIGINT at once; a second one ends it."""
        if self._workers.stopping:
            self._over.set()
        elif number == signal.SIGTERM:
            self.drain()
        else:
            self._tasks.spawn(self.stop(0.0), "stop")

    def drain(self) -> None:
        """Drain all workers with the document's delay, then end."""
        self._tasks.spawn(self.stop(self._spec.drain.delay), "stop")

    def replace_all(self) -> None:
        """Replace the workers one after the other."""
        self._tasks.spawn(self.replace_workers(), "replace workers")
