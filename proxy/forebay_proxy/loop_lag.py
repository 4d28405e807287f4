"""How late the event loop runs its timers: the honest measure of a worker that has too much to do."""

import asyncio

INTERVAL = 0.1  # seconds


class LoopLag:
    """`seconds`: an exponential average (over about a second) of the lag."""

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
        self.seconds += (lag - self.seconds) * 0.1
        self.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
