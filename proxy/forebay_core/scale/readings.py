"""What a replica tells of itself, as the autoscaler takes it: parsed from `/state`, checked, never guessed.

Counters count since the start of the replica's process. What can't be true is dropped by `nonsense` with a reason;
what the caller could not get at all is simply absent from the sequence of readings.
"""

from collections.abc import Mapping, Sequence
from operator import sub
from typing import Any, NamedTuple

from forebay_core.histogram import SECONDS

BUCKETS = len(SECONDS) + 1
NOTHING = (0,) * BUCKETS
LARGEST = 2.0**53  # beyond it JSON's readers disagree, and sums are no longer exact


class ReadingError(ValueError):
    """A state document that is no reading: the message names the field and what was expected."""


class UpstreamReading(NamedTuple):
    """One upstream in one replica. Counts are connections or requests, times seconds."""

    waiting: int
    wait_oldest: float
    leased: int
    opening: int
    limit: int  # what the replica may open now
    ceiling: int  # size + maxOverflow
    lease_oldest: float = 0.0
    grant: int | None = None  # None: no budget
    left: int = 0  # places of the grant that the dead have left taken
    spare: int = 0  # places of the grant that are not for leases
    endpoints: int = 1
    busy: int = 0  # in use, or on their way in or out ...
    busiest: int = 0  # ... at the endpoint that has most of these
    healthy: int = 1  # endpoints that are not ejected
    paused: bool = False
    waits: Sequence[int] = NOTHING  # counter: waits that ended in any way, by bucket of `SECONDS`
    holds: Sequence[int] = NOTHING  # counter: leases that ended, by bucket
    hold_sum: float = 0.0  # counter: their seconds
    connects: int = 0  # counter: connections opened
    connect_sum: float = 0.0  # counter: seconds that it took
    connect_errors: int = 0  # counter

    @property
    def besides(self) -> int:
        """Places of the grant that serve nobody."""
        return self.left + self.spare if self.grant is not None else 0


class Reading(NamedTuple):
    """One replica at one moment."""

    life: str
    process: str  # another one means that the counters began anew
    at: float  # seconds on the caller's clock, when it was read
    cpu: float  # counter: seconds of CPU used
    loop_lag: float  # seconds
    upstreams: Mapping[str, UpstreamReading]
    cores: float = 1.0  # that the replica may use
    draining: bool = False


def reading(state: Mapping[str, Any], at: float, cores: float = 1.0) -> Reading:
    """The reading in a replica's state (`forebay_proxy.state`), taken at `at`. Raises ReadingError."""
    try:
        if not isinstance(state["life"], str):
            raise TypeError(f"life is {state['life']!r}")
        return Reading(
            life=state["life"],
            process=f"{state['pid']}@{state['started']}",
            at=at,
            cpu=state["cpu"],
            loop_lag=state["loop_lag"],
            upstreams={name: _upstream(upstream) for name, upstream in state["upstreams"].items()},
            cores=cores,
            draining=state["draining"],
        )
    except KeyError as error:
        raise ReadingError(f"the state has no field {error}") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ReadingError(f"the state is not what a replica serves: {error}") from error


def _upstream(state: Mapping[str, Any]) -> UpstreamReading:
    connections, endpoints = state["connections"], state["endpoints"]
    busy = [endpoint["busy"] for endpoint in endpoints.values()]
    connects, connect_sum = state["connect"]
    holds, hold_sum = state["hold"]
    # A wait for an origin's sake (`forebay_proxy.forward.origins`) is wanted: no connection and no replica shortens it.
    waits = [counts for outcome, (counts, _) in state["wait"].items() if outcome != "origin"]
    return UpstreamReading(
        waiting=state["waiting"],
        wait_oldest=state["wait_oldest"],
        leased=connections["leased"] + connections["draining"],
        opening=connections["opening"],
        limit=max(0, state["limit"] - state["left"]),
        ceiling=state["ceiling"],
        lease_oldest=state["lease_oldest"],
        grant=state["grant"],
        left=state["left"],
        spare=state["spare"],
        endpoints=len(endpoints),
        busy=sum(busy),
        busiest=max(busy, default=0),
        healthy=sum(1 for endpoint in endpoints.values() if endpoint["healthy"]),
        paused=state["paused"],
        waits=tuple(map(sum, zip(*waits, strict=True))),
        holds=tuple(holds),
        hold_sum=hold_sum,
        connects=sum(connects),
        connect_sum=connect_sum,
        connect_errors=sum(state["connect_errors"].values()),
    )


def nonsense(reading: Reading) -> str | None:
    """Why the reading can't be true (negative, not a number, too large, too few buckets), or None."""
    try:
        return _nonsense(reading)
    except TypeError as error:
        return f"a field is no number: {error}"


def _nonsense(reading: Reading) -> str | None:
    for field, value in (("at", reading.at), ("cpu", reading.cpu), ("loop_lag", reading.loop_lag)):
        if not 0 <= value < LARGEST:
            return f"{field} is {value}: expected a number of 0 or more"
    if not 0 < reading.cores < LARGEST:
        return f"cores is {reading.cores}: expected a number above 0"
    for name, upstream in reading.upstreams.items():
        for field in NUMBERS:
            value = getattr(upstream, field)
            if not 0 <= value < LARGEST:
                return f"{name}.{field} is {value}: expected a number of 0 or more"
        for field, counts in (("waits", upstream.waits), ("holds", upstream.holds)):
            if len(counts) != BUCKETS or not 0 <= min(counts) <= max(counts) < LARGEST:
                return f"{name}.{field} is {list(counts)}: expected {BUCKETS} counts of 0 or more"
        if upstream.grant is not None and not 0 <= upstream.grant < LARGEST:
            return f"{name}.grant is {upstream.grant}: expected a number of 0 or more"
    return None


NUMBERS = (
    "waiting", "wait_oldest", "leased", "opening", "limit", "ceiling", "lease_oldest", "left", "spare", "endpoints",
    "busy", "busiest", "healthy", "hold_sum", "connects", "connect_sum", "connect_errors",
)  # fmt: skip


class Delta(NamedTuple):
    """What one upstream of one replica counted between two readings."""

    seconds: float
    waits: Sequence[int]
    holds: Sequence[int]
    hold_sum: float
    connects: int
    connect_sum: float
    connect_errors: int


def delta(new: UpstreamReading, old: UpstreamReading, seconds: float) -> Delta | None:
    """What was counted in between; None where a counter went backwards: it is another process's."""
    found = Delta(
        seconds,
        list(map(sub, new.waits, old.waits)),
        list(map(sub, new.holds, old.holds)),
        new.hold_sum - old.hold_sum,
        new.connects - old.connects,
        new.connect_sum - old.connect_sum,
        new.connect_errors - old.connect_errors,
    )
    # hold_sum and connect_sum are sums of floats: a rounding error below zero is no step backwards.
    if min(*found.waits, *found.holds, found.connects, found.connect_errors) < 0 or found.hold_sum < -1e-6:
        return None
    return found
