"""A latency histogram that is cheap to feed: a bisect and two additions; the rest is done when it is read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

# Upper bounds in seconds, inclusive (Prometheus' `le`): from the wait of a hand-over to the longest time-out.
# 20 ms is the autoscaler's default target, so it has a bound of its own.
SECONDS = (
    50e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0,
)  # fmt: skip


class HistogramSnapshot(NamedTuple):
    """``counts`` per bucket, not cumulated, the last one above all bounds; ``sum`` of what was observed."""

    counts: tuple[int, ...]
    sum: float


class Histogram:
    """Counts per bucket and their sum, in the unit of the bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS, start: HistogramSnapshot | None = None) -> None:
        """``bounds`` rise; ``start`` is what another had counted. Raises ValueError: they don't fit."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1) if start is None else list(start[0])
        self.sum = 0.0 if start is None else start[1]
        if len(self.counts) != len(bounds) + 1:
            raise ValueError(f"{len(self.counts)} counts for {len(bounds)} bounds: expected one more")

    def __repr__(self) -> str:
        return f"<Histogram {self.count} observed, p50 {self.quantile(0.5)}, p95 {self.quantile(0.95)}>"

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(self.counts)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: Histogram) -> None:
        """Add another's counts. Raises ValueError where its bounds differ."""
        self.counts = [mine + theirs for mine, theirs in self._pairs(other)]
        self.sum += other.sum

    def delta(self, older: Histogram) -> Histogram:
        """What was observed since ``older``, an earlier state of the same histogram. Raises ValueError where
        it can't be one: its bounds differ, or it counts more.
        """
        counts = tuple(mine - theirs for mine, theirs in self._pairs(older))
        if min(counts) < 0:
            raise ValueError("the older histogram counts more than the newer: it is of another process")
        return Histogram(self.bounds, HistogramSnapshot(counts, self.sum - older.sum))

    def quantile(self, q: float) -> float | None:
        """The value that the share ``q`` (0 to 1) is at or below, linear within its bucket as Prometheus'
        ``histogram_quantile``; the highest bound for what lies above it. None: nothing was observed.
        """
        rank, below = q * self.count, 0
        for index, bound in enumerate(self.bounds):
            inside = self.counts[index]
            if inside and below + inside >= rank:
                lower = self.bounds[index - 1] if index else 0.0
                return lower + (bound - lower) * (rank - below) / inside
            below += inside
        return self.bounds[-1] if self.counts[-1] else None

    def snapshot(self) -> HistogramSnapshot:
        """What ``Histogram(bounds, snapshot)`` restores, also in another process."""
        return HistogramSnapshot(tuple(self.counts), self.sum)

    def _pairs(self, other: Histogram) -> Iterable[tuple[int, int]]:
        if self.bounds != other.bounds:
            raise ValueError("histograms with different bounds can't be combined")
        return zip(self.counts, other.counts, strict=True)
