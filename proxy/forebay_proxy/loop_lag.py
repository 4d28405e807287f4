"""How late the event loop runs its timers: the honest measure of a worker that has too much to do."""

import asyncio

INTERVAL = 0.1  # seconds
SHARE = 0.1  # of the average, that one beat makes: it is over about a second
MOST = 100  # beats that are made up for: those before weigh nothing


class LoopLag:
    """`seconds`: an exponential average (over about a second) of the lag. While the loop stands still no beat runs:
    each that was due meanwhile counts as late by what was left of the standstill. (As HdrHistogram corrects for
    "coordinated omission": else a long standstill would weigh no more than one late beat.)"""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.seconds = 0.0

    def start(self) -> None:
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        lag = max(0.0, self._loop.time() - self._due)
        for missed in range(min(int(lag / INTERVAL), MOST), -1, -1):
            self.seconds += (lag % INTERVAL + missed * INTERVAL - self.seconds) * SHARE
        self.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
