"""How fast replicas may follow a wish: `behavior` as in the Kubernetes API autoscaling/v2.

The meaning is that of Kubernetes' horizontal pod autoscaler (documentation: "Configurable scaling behavior"):

1. Stabilization: of all wishes within the window, up takes the smallest and down the greatest.
2. Policies: each allows a change per period, counted from the number of replicas at the period's beginning;
   `selectPolicy` takes the policy that allows most (Max), least (Min), or no change (Disabled).
"""

from collections.abc import Sequence
from math import ceil, floor
from typing import NamedTuple

from forebay_core.spec.scaling import Behavior, ScaleDown, ScaleUp, ScalingPolicy

LONGEST_PERIOD = 1800.0  # seconds; no policy looks further back


class Wish(NamedTuple):
    """How many replicas were wanted at a moment, before any limit of speed."""

    at: float
    replicas: int


class Change(NamedTuple):
    """Replicas added (positive) or removed (negative) at a moment."""

    at: float
    by: int


class Pace(NamedTuple):
    """What has to be remembered to keep to the behavior."""

    wishes: Sequence[Wish] = ()
    changes: Sequence[Change] = ()


def follow(behavior: Behavior, pace: Pace, current: int, wanted: int, now: float) -> tuple[int, Pace]:
    """How many replicas there may be now, and the pace to remember."""
    up, down = behavior.scale_up, behavior.scale_down
    longest = max(up.stabilization_window_seconds, down.stabilization_window_seconds)
    before = pace.wishes or (Wish(now, current),)  # nothing is known of before: what is there was wanted
    wishes = (*[w for w in before if w.at > now - longest], Wish(now, wanted))
    stable = stabilized(behavior, wishes, current, now)
    if stable > current:
        replicas = min(stable, most(up, pace.changes, current, now))
    else:
        replicas = max(stable, least(down, pace.changes, current, now))
    changes = tuple(c for c in pace.changes if c.at > now - LONGEST_PERIOD)
    if replicas != current:
        changes = (*changes, Change(now, replicas - current))
    return replicas, Pace(wishes, changes)


def stabilized(behavior: Behavior, wishes: Sequence[Wish], current: int, now: float) -> int:
    """`current`, moved only as far as every wish of the window agrees."""
    newest = wishes[-1].replicas
    up_from = now - behavior.scale_up.stabilization_window_seconds
    down_from = now - behavior.scale_down.stabilization_window_seconds
    up = min([w.replicas for w in wishes if w.at > up_from], default=newest)
    down = max([w.replicas for w in wishes if w.at > down_from], default=newest)
    return min(max(current, up), down)


def most(up: ScaleUp, changes: Sequence[Change], current: int, now: float) -> int:
    """The most replicas that the policies allow now; never below `current`."""
    if up.select_policy == "Disabled":
        return current
    allowed = [_up_to(policy, _at_begin(policy, changes, current, now)) for policy in up.policies]
    return max(current, (min if up.select_policy == "Min" else max)(allowed))


def least(down: ScaleDown, changes: Sequence[Change], current: int, now: float) -> int:
    """The fewest replicas that the policies allow now; never above `current`."""
    if down.select_policy == "Disabled":
        return current
    allowed = [_down_to(policy, _at_begin(policy, changes, current, now)) for policy in down.policies]
    return min(current, (max if down.select_policy == "Min" else min)(allowed))


def _at_begin(policy: ScalingPolicy, changes: Sequence[Change], current: int, now: float) -> int:
    return current - sum([c.by for c in changes if c.at > now - policy.period_seconds])


def _up_to(policy: ScalingPolicy, begin: int) -> int:
    return begin + policy.value if policy.type == "Pods" else ceil(begin * (100 + policy.value) / 100)


def _down_to(policy: ScalingPolicy, begin: int) -> int:
    if policy.type == "Pods":
        return begin - policy.value
    return floor(begin * max(0, 100 - policy.value) / 100)
