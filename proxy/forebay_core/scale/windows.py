"""The recent past: what each replica and the whole fleet did over the stable and the panic window.

Window lengths are those of Knative's pod autoscaler (stable-window 60 s, panic-window-percentage 10).
"""

from collections.abc import Iterable, Sequence
from operator import add
from typing import NamedTuple

from forebay_core.histogram import Histogram, HistogramSnapshot
from forebay_core.scale.readings import NOTHING, Delta, UpstreamReading

STABLE = 60.0  # seconds
PANIC = 6.0  # seconds


class Point(NamedTuple):
    """One upstream of one replica at one reading; counters are sums since the first point of its history."""

    at: float
    arrivals: int  # requests that have asked for a connection: waits ended and those who still wait
    leased_seconds: float  # the integral of what was leased
    in_use: int  # leased and opening, at that moment
    completions: int = 0  # leases that have ended
    busy_seconds: float = 0.0  # the integral of what all endpoints were busy with ...
    busiest_seconds: float = 0.0  # ... and of what the busiest was


class Usage(NamedTuple):
    """What one replica did with one upstream over a window."""

    arrivals: float  # per second
    leased: float  # mean
    peak: int  # the most in use at any reading
    completions: float = 0.0  # per second
    busy: float = 0.0  # at all endpoints, mean ...
    busiest: float = 0.0  # ... and at the one that had most


def point(before: Point | None, reading: UpstreamReading, at: float) -> Point:
    """The next point of a history."""
    seconds = at - before.at if before is not None else 0.0
    return Point(
        at,
        sum(reading.waits) + reading.waiting,
        (before.leased_seconds if before is not None else 0.0) + reading.leased * seconds,
        reading.leased + reading.opening,
        sum(reading.holds),
        (before.busy_seconds if before is not None else 0.0) + reading.busy * seconds,
        (before.busiest_seconds if before is not None else 0.0) + reading.busiest * seconds,
    )


def usage(points: Sequence[Point], seconds: float) -> Usage | None:
    """Over the last `seconds` before the newest point; None: there is only one."""
    if len(points) < 2:
        return None
    newest, first = points[-1], _first(points, points[-1].at - seconds)
    span = newest.at - points[first].at
    return Usage(
        max(0.0, newest.arrivals - points[first].arrivals) / span,
        (newest.leased_seconds - points[first].leased_seconds) / span,
        max([p.in_use for p in points[first:]]),
        (newest.completions - points[first].completions) / span,
        (newest.busy_seconds - points[first].busy_seconds) / span,
        (newest.busiest_seconds - points[first].busiest_seconds) / span,
    )


def _first(points: Sequence[Point], begin: float) -> int:
    """Index of the last point at or before `begin`, else 0; never the newest."""
    for index in range(len(points) - 2, -1, -1):
        if points[index].at <= begin:
            return index
    return 0


def trimmed(points: Sequence[Point]) -> Sequence[Point]:
    """Without what no window reaches any more."""
    begin = points[-1].at - STABLE
    drop = 0
    while drop + 1 < len(points) and points[drop + 1].at <= begin:
        drop += 1
    return points[drop:]


class Tick(NamedTuple):
    """What the fleet counted in one tick, for one upstream. `seconds` is the longest that a replica counted over."""

    at: float
    seconds: float
    waits: Sequence[int] = NOTHING
    holds: Sequence[int] = NOTHING
    hold_sum: float = 0.0
    connects: int = 0
    connect_sum: float = 0.0
    connect_errors: int = 0


def tick(at: float, deltas: Sequence[Delta]) -> Tick | None:
    """All replicas' deltas added up; None without any."""
    if not deltas:
        return None
    return Tick(
        at,
        max([d.seconds for d in deltas]),
        [sum(column) for column in zip(*[d.waits for d in deltas], strict=True)],
        [sum(column) for column in zip(*[d.holds for d in deltas], strict=True)],
        sum([d.hold_sum for d in deltas]),
        sum([d.connects for d in deltas]),
        sum([d.connect_sum for d in deltas]),
        sum([d.connect_errors for d in deltas]),
    )


def recent(ticks: Sequence[Tick], seconds: float, now: float) -> Sequence[Tick]:
    """The ticks of the last `seconds`."""
    return [t for t in ticks if t.at > now - seconds]


def histogram(counts: Iterable[Sequence[int]]) -> Histogram:
    """Counts of several ticks as one histogram."""
    total: Sequence[int] = NOTHING
    for each in counts:
        total = list(map(add, total, each))
    return Histogram(start=HistogramSnapshot(tuple(total), 0.0))


class Holds(NamedTuple):
    """Hold times: two views of the same leases, for `forebay_core.scale.baseline`."""

    p10: float  # seconds, to the resolution of a bucket
    mean: float  # seconds, exact


def holds(ticks: Sequence[Tick], seconds: float, now: float, at_least: int) -> Holds | None:
    """Of the last `seconds`, or as far back as it takes for `at_least` leases; None: there are fewer in all."""
    count, total, counts = 0, 0.0, []
    for each in reversed(ticks):
        if count >= at_least and each.at <= now - seconds:
            break
        count += sum(each.holds)
        total += each.hold_sum
        counts.append(each.holds)
    if count < max(1, at_least):
        return None
    return Holds(histogram(counts).quantile(0.1) or 0.0, total / count)
