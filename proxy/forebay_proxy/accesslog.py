"""The access log: one JSON line per request, connection or session.

The loop only formats and appends; a daemon thread writes (`lines.py`). What waits is bounded; beyond that lines are
dropped and counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted

from forebay_proxy.files import reason
from forebay_proxy.lines import Lines

BATCH = 32 << 10  # bytes after which the thread is woken early
FLUSH = 0.25  # seconds that a line waits at most for others
WAITING = 4 << 20  # bytes, formatted and not yet written: some 10,000 lines
LONGEST = 2000  # characters of a field that the client chose

log = logging.getLogger(__name__)


def nothing_lost() -> dict[str, int]:
    """Lost lines by reason: those that came when it was full, or that it still had when its process ended, and those
    with which the file descriptor had an error."""
    return {"full": 0, "error": 0}


class AccessLog:
    """Writes to a file descriptor, standard output by default. One per worker; built after a fork."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int = 1,
        clock: Callable[[], float] = time.time,
        waiting: int = WAITING,
        lost: dict[str, int] | None = None,
    ) -> None:
        """``clock`` gives Unix time; ``waiting`` is the bound in bytes; ``lost`` is where lost lines are counted."""
        self.lines_total = 0
        self._lost = nothing_lost() if lost is None else lost
        self._failed = False
        self._loop = loop
        self._clock = clock
        self._writer = Lines(fd, waiting, "access log", self._not_written)
        self._lines: list[bytes] = []
        self._size = 0  # bytes in _lines
        self._timer: asyncio.TimerHandle | None = None
        self._second, self._prefix = -1, ""

    def write(
        self,
        *,
        client: str,
        method: bytes,
        target: bytes,
        host: bytes,
        status: int,
        upstream: str | None,
        endpoint: str | None,
        bytes_in: int,
        bytes_out: int,
        wait: float | None,
        connect: float | None,
        upstream_time: float | None,
        total: float,
        attempts: int,
        reused: bool,
        error: str | None = None,
        trace: str | None = None,
        slow: bool = False,
        user: str | None = None,
        verdict: str | None = None,
    ) -> None:
        """A request has ended: times are in seconds (logged as ms), None where it did not get that far;
        ``status`` 0 where nothing was answered; ``trace`` is the id of its trace; ``user`` and
        ``verdict`` are a forward proxy's.
        """
        end = ',"slow":true}\n' if slow else "}\n"
        if verdict is not None:
            end = f',"user":{_text(user)},"verdict":{_text(verdict)}{end}'
        line = (
            f'{{"time":"{self._time()}","client":{quoted(client)},"method":{_wire(method)},'
            f'"target":{_wire(target)},"host":{_wire(host)},"status":{status},"upstream":{_text(upstream)},'
            f'"endpoint":{_text(endpoint)},"bytes_in":{bytes_in},"bytes_out":{bytes_out},'
            f'"wait_ms":{_ms(wait)},"connect_ms":{_ms(connect)},"upstream_ms":{_ms(upstream_time)},'
            f'"total_ms":{_ms(total)},"attempts":{attempts},"reused":{"true" if reused else "false"},'
            f'"error":{_text(error)},"trace":{_text(trace)}{end}'
        ).encode("ascii")
        self._append(line)

    def write_members(self, **members: str | float | bool | None) -> None:
        """Something else than a request has ended: a line of these, with the time."""
        told = {name: value[:LONGEST] if isinstance(value, str) else value for name, value in members.items()}
        self._append(json.dumps({"time": self._time()} | told, separators=(",", ":")).encode("ascii") + b"\n")

    def _append(self, line: bytes) -> None:
        size = len(line)
        if not self._writer.accept(size):
            self._lost["full"] += 1
            return
        self.lines_total += 1
        self._lines.append(line)
        self._size += size
        if self._size >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH, self.flush)

    def flush(self) -> None:
        """Hand what waits to the thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            self._writer.put(self._lines)
            self._lines, self._size = [], 0

    def end(self) -> None:
        """No more lines come: the thread writes what is left, and ends."""
        self.flush()
        self._writer.end()

    def close(self, timeout: float = 1.0) -> None:
        """Write what is left, as the process ends. Blocks for ``timeout`` seconds at most, no stuck reader holds an
        exit; what is not written by then counts as lost."""
        self.end()
        self._writer.join(timeout)
        self._lost["full"] += self.lines_total - self._writer.passed

    def _time(self) -> str:
        """RFC 3339, UTC, with milliseconds; the part down to the second is made once a second."""
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03d}Z"

    def _not_written(self, error: OSError, lines: int) -> None:
        if not self._failed:
            self._failed = True
            log.error("the access log can't be written: %s", reason(error))
        self._lost["error"] += lines


def _text(value: str | None) -> str:
    return "null" if value is None else quoted(value)


def _wire(value: bytes) -> str:
    return quoted(value[:LONGEST].decode("latin-1"))


def _ms(seconds: float | None) -> str:
    return "null" if seconds is None else f"{seconds * 1000:.3f}"
