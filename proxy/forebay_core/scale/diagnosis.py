"""Why do requests wait? The causes, and the order in which they are asked for.

The cure of one cause worsens another, so the first that holds is the answer:

1. Connect, Replica: seen by themselves, whether anyone waits or not. They come first because both disturb what the
   others are told by: a loop that is late makes leases longer, an endpoint that is out makes limits unreachable.
2. None, unless more than 5 of 100 requests wait longer than `targetWait`; or where the pool is paused.
3. Backend: leases last longer than the baseline, or none end at all; or, without a baseline, more connections were
   tried and completions did not rise.
4. What holds the waiting replicas back: their grant (Pool, or Budget where the demand of all exceeds it), or their own
   size (Ceiling, or Budget where all of it is in use already).

Connect and Backend are said of a backend. Where requests say where to go there is none: a crawler meets slow sites and
sites that are gone all day, and more connections help with the others. Only where no attempt succeeds it is Connect.
"""

from enum import StrEnum
from math import inf
from typing import NamedTuple

from forebay_core.scale.relief import TOLERANCE

RECOVERED = 1.25  # slowdown below which a backend that was saturated is so no more
LATE = 0.05  # seconds of loop lag that show a replica without a core to run on
OPENING_SLOW = 0.5  # seconds to open a connection, on average
ERRORS = 3  # failed attempts to open that count as a failing upstream ...
ERROR_SHARE = 0.2  # ... where they are at least this share of all


class Cause(StrEnum):
    """Why requests wait. The values are those of `limitedBy` in status and of the metric `limited_by`."""

    POOL = "Pool"
    CEILING = "Ceiling"
    BUDGET = "Budget"
    REPLICA = "Replica"
    CONNECT = "Connect"
    BACKEND = "Backend"
    NONE = "None"


class Facts(NamedTuple):
    """One upstream over all replicas, condensed. Times in seconds, shares from 0 to 1."""

    target_wait: float
    target_cpu: float
    paused: bool = False
    anywhere: bool = False  # there is no one backend: requests say where to go
    wait_p95: float = 0.0
    cpu: float = 0.0  # share of what the replicas may use, mean
    loop_lag: float = 0.0  # mean
    connects: int = 0  # of the last half minute
    connect_errors: int = 0  # of the same
    connect_seconds: float = 0.0  # mean, of the last ten seconds; where there were fewer than three, of three
    unreachable: bool = False  # no replica has a healthy endpoint
    slowdown: float | None = None  # of leases, against the baseline
    relieved: bool = False  # the backend was saturated at the last tick
    stuck: float = 0.0  # seconds for which every lease has lasted, where none ended of late
    patience: float = inf  # seconds after which that is no longer a long lease
    trial_failed: bool = False
    starved: bool = False  # a waiting replica is held back by its grant
    everywhere: bool = False  # every replica is at its ceiling
    need: int = 0  # connections wanted by the replicas that there are, each within its ceiling
    budget: int | None = None
    replicas: int = 1
    max_replicas: int = 1


def diagnose(facts: Facts) -> tuple[Cause, str]:
    """The cause, and a sentence for a person."""
    return next(answer for ask in ORDER if (answer := ask(facts)) is not None)


def _connect(f: Facts) -> tuple[Cause, str] | None:
    if f.unreachable and not f.anywhere:
        return Cause.CONNECT, "no endpoint is healthy"
    attempts = f.connects + f.connect_errors
    if f.connect_errors >= ERRORS and f.connect_errors >= (1 if f.anywhere else ERROR_SHARE) * attempts:
        return Cause.CONNECT, f"{f.connect_errors} of {attempts} attempts to connect failed in the last half minute"
    if f.connect_seconds > OPENING_SLOW and not f.anywhere:
        return Cause.CONNECT, f"opening a connection takes {seconds(f.connect_seconds)} on average"
    return None


def _replica(f: Facts) -> tuple[Cause, str] | None:
    if f.cpu > f.target_cpu:
        return Cause.REPLICA, f"replicas use {f.cpu:.0%} of their CPU on average: the target is {f.target_cpu:.0%}"
    if f.loop_lag > LATE:
        return Cause.REPLICA, f"event loops are {seconds(f.loop_lag)} late on average"
    return None


def _none(f: Facts) -> tuple[Cause, str] | None:
    if f.paused:
        return Cause.NONE, "paused"
    if f.wait_p95 <= f.target_wait:
        return Cause.NONE, f"95 of 100 requests wait less than {seconds(f.target_wait)}"
    return None


def _backend(f: Facts) -> tuple[Cause, str] | None:
    if f.anywhere:
        return None
    if f.stuck > f.patience:
        return Cause.BACKEND, f"no lease has ended for a while, the oldest is {seconds(f.stuck)} old"
    if f.slowdown is not None and f.slowdown > (RECOVERED if f.relieved else TOLERANCE):
        return Cause.BACKEND, f"leases last {f.slowdown:.1f} times longer than the baseline: nothing is added"
    if f.trial_failed:
        return Cause.BACKEND, "more connections were tried and completions did not rise"
    return None


def _limits(f: Facts) -> tuple[Cause, str]:
    if f.budget is not None and (f.need > f.budget if f.starved else f.need >= f.budget):
        return Cause.BUDGET, f"{f.need} connections are wanted, the budget is {f.budget}"
    if f.starved:
        return Cause.POOL, "a replica waits at its grant: it gets what others leave"
    if f.replicas >= f.max_replicas:
        return Cause.CEILING, f"all {f.replicas} replicas that there may be are at work: allow more, or a larger size"
    if f.everywhere:
        return Cause.CEILING, "every replica is at size + maxOverflow: more replicas, or a larger size"
    return Cause.CEILING, "clients are spread unevenly, some replicas are at size + maxOverflow: a larger size helps"


ORDER = (_connect, _replica, _none, _backend, _limits)


def seconds(value: float) -> str:
    """For a person."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
