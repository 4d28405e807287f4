"""Thousands of deadlines on one loop timer.

A deadline moves with every request and hardly ever fires, so moving it must cost almost nothing: ``arm``
stores the new deadline in the entry and is done, unless it is earlier than the bucket that it waits in.
When a bucket's time comes, an entry whose deadline has moved on goes to a later bucket; the others are told.
(A timing wheel, as Varghese and Lauck's, with lazy re-insertion as in HAProxy's timers.)

Nothing fires early, and nothing later than one ``resolution`` plus the loop's own lag. An entry is in at most
one bucket. There is a loop timer only while a bucket is non-empty.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from math import ceil, inf
from typing import Protocol


class Entry(Protocol):
    """What has a deadline. Both attributes start as ``inf`` and are written by the wheel only.

    ``deadline`` is in the loop's seconds, inf: none. ``wheel_due`` is where the entry waits: it is looked at
    within one resolution after that, so a deadline that is not before it needs no other place.
    """

    deadline: float
    wheel_due: float

    def on_deadline(self, now: float) -> None:
        """The deadline has passed; it has been reset to inf, and may be armed anew from here."""


class Wheel:
    """Deadlines of one event loop. Entries are hashed by identity: they must not define ``__eq__``."""

    __slots__ = (
        "_bucket", "_buckets", "_closed", "_end", "_loop", "_resolution", "_start", "_starts", "_tick", "_timer",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, resolution: float = 0.1) -> None:
        """``resolution`` in seconds."""
        self._loop = loop
        self._resolution = resolution
        # Bucket n holds deadlines in ((n - 1) * resolution, n * resolution] and is due at the end of that
        # span. It is keyed by the span's start, which is what its entries keep as wheel_due.
        self._buckets: dict[float, dict[Entry, None]] = {}
        self._starts: list[tuple[float, int]] = []  # heap of (start, n)
        self._tick = 0  # the n of the last bucket served: new entries go behind it
        self._bucket: dict[Entry, None] = {}  # the one that was put into last, and its span: the next is often for it
        self._start = self._end = -inf
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        """How many entries wait, those without a deadline that have not been looked at yet among them."""
        return sum(map(len, self._buckets.values()))

    def arm(self, entry: Entry, deadline: float) -> None:
        """Set, move or (with inf) take away the deadline of an entry. For one that ends, see ``disarm``."""
        entry.deadline = deadline
        if deadline < entry.wheel_due:
            self.place(entry)

    def disarm(self, entry: Entry) -> None:
        """Let go of an entry that ends. ``arm(entry, inf)`` is cheaper but keeps it in memory until its old
        deadline.
        """
        entry.deadline = inf
        due = entry.wheel_due
        if due < inf:
            self._buckets[due].pop(entry, None)
            entry.wheel_due = inf

    def close(self) -> None:
        """Forget all entries, for good: nothing fires any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for bucket in self._buckets.values():
            for entry in bucket:
                entry.wheel_due = inf
            bucket.clear()  # also ends the loop of _fire, where an entry closes the wheel
        self._buckets.clear()
        self._starts.clear()

    def place(self, entry: Entry) -> None:
        """The part of ``arm`` for a deadline before ``wheel_due``, for callers that write out the rest."""
        if self._closed:
            return
        deadline, due = entry.deadline, entry.wheel_due
        if due < inf:
            self._buckets[due].pop(entry, None)
        if not self._start < deadline <= self._end:
            self._find_bucket(deadline)
        self._bucket[entry] = None
        entry.wheel_due = self._start

    def _find_bucket(self, deadline: float) -> None:
        # A deadline that has passed already still waits for a bucket: an entry is never told from within arm.
        tick = max(ceil(deadline / self._resolution), self._tick + 1)
        start = self._start = (tick - 1) * self._resolution
        self._end = tick * self._resolution
        bucket = self._buckets.get(start)
        if bucket is None:
            bucket = self._buckets[start] = {}
            heappush(self._starts, (start, tick))
            if self._starts[0][1] == tick:
                self._schedule()
        self._bucket = bucket

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._starts:
            self._timer = self._loop.call_at(self._starts[0][1] * self._resolution, self._fire)

    def _fire(self) -> None:
        now = self._loop.time()
        while self._starts and self._starts[0][1] * self._resolution <= now:
            start, self._tick = self._starts[0]
            self._end = -inf  # nothing goes into a bucket that has been served
            bucket = self._buckets[start]
            while bucket:  # on_deadline may disarm others of this bucket
                entry, _ = bucket.popitem()
                entry.wheel_due = inf
                if entry.deadline <= now:
                    entry.deadline = inf
                    self._tell(entry, now)
                elif entry.deadline < inf:
                    self.place(entry)
            if self._closed:
                return
            heappop(self._starts)
            del self._buckets[start]
        self._schedule()

    def _tell(self, entry: Entry, now: float) -> None:
        try:
            entry.on_deadline(now)
        except Exception as error:  # one entry's mistake must not cost the others their deadlines
            self._loop.call_exception_handler({"message": f"on_deadline of {entry!r} failed", "exception": error})
