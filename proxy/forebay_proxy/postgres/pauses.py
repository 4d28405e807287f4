"""Databases that are paused by name (`PAUSE db` on the admin database): who asks for a connection of one waits here,
and not at the pool, until it is resumed. Leases go on to their end."""

from math import inf
from time import monotonic

from forebay_core.lease import PAUSE_TIMED_OUT, QUEUE_FULL, Waiter
from forebay_proxy.upstream import Upstream
from forebay_proxy.wheel import Wheel


class Asker(Waiter):
    """Waits for a connection of a database."""

    __slots__ = ()

    def acquire(self) -> None:
        """Ask for one, now or again."""
        raise NotImplementedError


class Pause:
    """Of one database. An entry of the timer wheel."""

    __slots__ = ("_held", "_timeout", "_wheel", "deadline", "wheel_due")

    def __init__(self, wheel: Wheel, timeout: float) -> None:
        """`timeout`: seconds that each may wait here."""
        self._wheel = wheel
        self._timeout = timeout
        self._held: dict[Asker, Upstream] = {}  # in the order in which they came, which is that of their deadlines
        self.deadline = self.wheel_due = inf

    def hold(self, asker: Asker, upstream: Upstream) -> None:
        """Have it wait; it is refused at once where too many wait."""
        now = monotonic()
        if len(upstream.gated) + len(upstream.pool.waiters) >= upstream.pool.max_waiting:
            asker.refuse(QUEUE_FULL, now)
            return
        if not asker.deadline:  # else it has waited elsewhere before
            asker.ready_at = now
        asker.deadline = now + self._timeout
        self._held[asker] = upstream
        upstream.gated[asker] = None
        if self.deadline == inf:
            self._wheel.arm(self, asker.deadline)

    def forget(self, asker: Asker) -> bool:
        """It has gone, or goes on. False: it was not here."""
        upstream = self._held.pop(asker, None)
        if upstream is None:
            return False
        del upstream.gated[asker]
        return True

    def end(self) -> None:
        """The database is paused no more, and its time here counts against nobody's deadline."""
        self._wheel.disarm(self)
        for asker in list(self._held):
            self.forget(asker)
            asker.deadline = 0.0
            asker.acquire()

    def on_deadline(self, now: float) -> None:
        """The first, at least, has waited too long."""
        while self._held:
            asker = next(iter(self._held))
            if asker.deadline > now:
                self._wheel.arm(self, asker.deadline)
                return
            self.forget(asker)
            asker.refuse(PAUSE_TIMED_OUT, now)
