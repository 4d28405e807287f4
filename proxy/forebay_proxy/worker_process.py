"""One worker process, as the supervisor sees it."""

import asyncio
import signal
from pathlib import Path
from time import monotonic
from typing import Any

from forebay_core.ledger import Answer
from forebay_proxy.control import Link

SILENT = 3.0  # seconds without a heartbeat (there is one a second) after which others serve a worker's clients too


class WorkerProcess:
    """See the module's docstring. Times are monotonic seconds."""

    def __init__(self, number: int, memory: Path, former: str = "") -> None:
        self.number = number
        self.memory = memory
        self.former = former  # the life that the memory held at the start
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
