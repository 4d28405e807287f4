"""One worker process, as the supervisor sees it."""

import asyncio
import logging
import signal
from pathlib import Path
from time import monotonic
from typing import Any

from forebay_core.budget.ledger import Answer, Push
from forebay_proxy.control import Link

log = logging.getLogger(__name__)

SILENT = 3.0  # seconds without a heartbeat (there is one a second) after which others serve a worker's clients too
ASK_TIMEOUT = 2.0


class WorkerProcess:
    """See the module's docstring. Times are monotonic seconds."""

    def __init__(self, number: int, memory: Path, former: str = "") -> None:
        self.number = number
        self.memory = memory
        self.former = former  # the life that the memory held at the start
        self.process: asyncio.subprocess.Process | None = None
        self.link: Link | None = None
        self.life = ""
        self.state: dict[str, Any] | None = None
        self.state_at = 0.0  # when it was told
        self.beat = monotonic()
        self.started = monotonic()
        self.serving: list[int] | None = None
        self.leaving = False  # it drains, and is not restarted
        self.kept: dict[str, Any] | None = None  # its last state, told as it ended

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    @property
    def name(self) -> str:
        """What the ledger knows its place by: its memory's."""
        return self.memory.stem

    @property
    def end(self) -> str:
        """How its process has ended, for a person."""
        code = self.process.returncode if self.process is not None else None
        return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"status {code}"

    @property
    def live(self) -> bool:
        """Whether it has started, and is to stay."""
        return bool(self.life) and not self.leaving

    @property
    def silent(self) -> bool:
        """Whether it hangs, or is stopped."""
        return monotonic() - self.beat > SILENT

    @property
    def able(self) -> bool:
        """Whether it has room for connections: a grant, and not all of it taken by what a dead predecessor left."""
        return self.state is not None and bool(self.state["ready"])

    def kill(self, why: str) -> None:
        log.error("worker %d %s and is killed", self.pid, why)
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    # ------------------------------------------------------------------ asking

    async def ask(self, **message: Any) -> dict[str, Any] | None:
        """Its reply; None where it has none in time, or not this time: the next tick asks again."""
        assert self.link is not None
        try:
            reply = await self.link.ask(ASK_TIMEOUT, **message)
        except (TimeoutError, ConnectionResetError):
            return None
        if "error" in reply:
            log.error("worker %d: %s: %s", self.pid, message["do"], reply["error"])
            return None
        return reply

    async def push(self, push: Push, deadline: float | None) -> Answer | None:
        """Tell it its grants; whatever it does with them, it answers."""
        reply = await self.ask(do="push", **push._asdict(), deadline=deadline)
        if reply is None:
            return None
        return Answer(reply["life"], reply["pod"], reply["sequence"], reply["held"], reply["draining"])

    async def look(self) -> bool:
        """Ask for its state. Whether it has told."""
        reply = await self.ask(do="state")
        if reply is not None:
            self.state, self.state_at = reply["state"], monotonic()
        return reply is not None

    async def serve(self, sockets: list[int]) -> None:
        """Have it accept from these listening sockets, and no others."""
        if self.serving == sockets:
            return
        self.serving = sockets
        if await self.ask(do="serve", sockets=sockets) is None:
            self.serving = None
