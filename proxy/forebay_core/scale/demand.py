"""How many connections the work needs, and how many replicas those connections need.

- Little's law (J. D. C. Little, "A Proof for the Queuing Formula L = lambda W", 1961): requests per second times the
  seconds that each holds a connection are the connections in use on average.
- Square-root staffing (S. Halfin and W. Whitt, "Heavy-Traffic Limits for Queues with Many Exponential Servers",
  1981): with a + b * sqrt(a) servers for an average of a, the share of requests that have to wait depends on b alone,
  at any size. b = 1.5 is 8 %, most of which wait for a fraction of a hold time only.
"""

from collections.abc import Mapping
from math import ceil, inf, sqrt

from forebay_core.scale.windows import Usage

BETA = 1.5
BETA_KEPT = 2.0  # what stays has more: what is removed must not be missed a minute later
CATCH_UP = 2.5  # seconds in which a queue should be gone: well before those in it give up (pool.timeout is 5 s)


def average(usage: Usage, hold: float | None, waiting: int, limit: float = inf) -> float:
    """Connections in use on average, once those who wait are served too. `hold` is seconds, None: not known.

    What was really leased counts where it is more: leases without a hold time (tunnels, pinned ones) are in it.
    While `limit` is all that serves, the queue grows by what is above it: for another CATCH_UP, since more replicas
    take a while to start.
    """
    if hold is None:
        return usage.leased
    load = max(usage.arrivals * hold, usage.leased)
    return load + max(0.0, load - limit) + waiting * hold / CATCH_UP


def connections(average: float) -> int:
    """Connections wanted where `average` are in use."""
    return ceil(average + BETA * sqrt(average) - 1e-9)


def replicas(average: float, ceiling: int, beta: float = BETA) -> int:
    """The fewest replicas of `ceiling` connections each that bear an `average`, each with its own headroom.

    The smallest n with n * ceiling >= average + beta * sqrt(average * n), which is quadratic in sqrt(n).
    """
    spread = beta * sqrt(average)
    root = (spread + sqrt(spread * spread + 4 * ceiling * average)) / (2 * ceiling)
    return max(1, ceil(root * root - 1e-9))


def shared(total: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """`total` connections over lives, max-min fair: who wants little has it, the others get equal parts, at least 1."""
    left, shares = total, {}
    for index, (life, want) in enumerate(sorted(wanted.items(), key=lambda item: (item[1], item[0]))):
        shares[life] = max(1, min(want, left // (len(wanted) - index)))
        left -= shares[life]
    return shares
