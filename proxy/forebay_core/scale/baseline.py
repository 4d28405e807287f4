"""How long a lease lasts when nothing is in its way: what "slow" is measured against.

Learnt only from quiet ticks: nobody waited, less than half of the limit was leased, the replicas' CPUs had room. In all
others it is frozen, so that an incident is not learnt as normal, however long it lasts. It rises by at most 10 % per
hour of quiet, and is kept in status, so that a new leader does not learn the incident either.

Two numbers are kept, for two ways in which leases become longer:

- `p10`, the 10th percentile: even the fastest leases have become slower, so it is the backend that is slow. But it is
  known only to the resolution of a histogram's bucket, and may jump when a bucket's bound is crossed.
- `mean`: exact, but it also rises where the work has changed (some queries are long ones), which more connections cure.

`slowdown` is the smaller of both ratios: it rises only when both have.
"""

from typing import NamedTuple

from forebay_core.scale.windows import Holds

RISE = 0.10  # per hour of quiet, at most
WEIGHT = 0.1  # of a new batch in the average
BATCH = 100  # leases that an estimate is made of


class Baseline(NamedTuple):
    """Seconds of a lease without a queue in front of the backend's CPUs."""

    p10: float
    mean: float


class Learning(NamedTuple):
    """The baseline, None until the first batch is complete; and the quiet leases counted since the last one."""

    baseline: Baseline | None = None
    counts: tuple[int, ...] = ()
    sum: float = 0.0
    seconds: float = 0.0  # of quiet


def learn(learning: Learning, holds: Holds, seconds: float) -> Baseline:
    """The baseline after a batch of quiet leases that took `seconds` to gather."""
    new = Baseline(holds.p10, holds.mean)
    old = learning.baseline
    if old is None:
        return new
    most = 1 + RISE * seconds / 3600
    return Baseline(*(min(was * most, was + WEIGHT * (is_ - was)) for was, is_ in zip(old, new, strict=True)))


def slowdown(baseline: Baseline | None, holds: Holds | None) -> float | None:
    """How many times longer leases last than at the baseline; None where one of the two is not known."""
    if baseline is None or holds is None:
        return None
    return min(holds.p10 / max(baseline.p10, 1e-6), holds.mean / max(baseline.mean, 1e-6))
