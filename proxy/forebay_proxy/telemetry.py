"""The access log and the tracer of a worker, made only where the document asks for them."""

import asyncio
import random
import threading
from typing import Protocol

from forebay_core.spec import model
from forebay_proxy.accesslog import AccessLog
from forebay_proxy.tracing import Tracer


class Observed(Protocol):
    """A worker's proxy, which tells what it has done."""

    def observe_with(self, log: AccessLog | None, tracer: Tracer | None, *, log_all: bool) -> None: ...


class Telemetry:
    """`configure` it with each document. `lost`: where lines of the log are counted that were not written."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: dict[str, int]) -> None:
        self._loop = loop
        self._lost = lost
        self._asked = model.Telemetry()
        self._log: AccessLog | None = None
        self._tracer: Tracer | None = None

    def configure(self, telemetry: model.Telemetry, name: str, proxy: Observed) -> None:
        """Take a document's settings (the tracer is made anew when its own change). `name`: the pool's."""
        before = self._asked
        if telemetry == before:
            return
        self._asked = telemetry
        log, tracer = self._log, self._tracer
        log_all = telemetry.access_log == "json"
        if not log_all and not telemetry.slow_request:
            self._log = None
        elif log is None:
            self._log = AccessLog(self._loop, lost=self._lost)
        if telemetry.tracing is None:
            self._tracer = None
        elif telemetry.tracing != before.tracing:
            endpoint, ratio = telemetry.tracing.endpoint, telemetry.tracing.sample_ratio
            self._tracer = Tracer(endpoint, ratio, name, random.Random())
        proxy.observe_with(self._log, self._tracer, log_all=log_all)
        # What they have left may be taken slowly, or by nobody: requests don't wait for that.
        if log is not None and log is not self._log:
            log.end()
        if tracer is not None and tracer is not self._tracer:
            threading.Thread(target=tracer.close, name="end of a tracer", daemon=True).start()

    def close(self) -> None:
        """Write and send what is left."""
        if self._log is not None:
            self._log.close()
        if self._tracer is not None:
            self._tracer.close()
