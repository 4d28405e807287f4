"""The autoscaler's decision: readings in, verdict out. One pure function, `decide`, for the operator, local mode and
the simulator.

A tick: take in what the replicas say (`forebay_core.scale.intake`), condense it per upstream, name the cause
(`diagnosis`), and answer in two dimensions: connections per life, which the ledger makes grants of, and replicas.
"""

from collections.abc import Mapping, Sequence
from math import ceil, inf
from typing import NamedTuple

from forebay_core.scale import demand, relief
from forebay_core.scale.baseline import Baseline
from forebay_core.scale.behavior import Pace, Wish, follow
from forebay_core.scale.diagnosis import Cause
from forebay_core.scale.intake import Life, lag_of, load_of, take
from forebay_core.scale.readings import Reading
from forebay_core.scale.targets import Targets
from forebay_core.scale.upstream import Fleet, UpstreamState, UpstreamVerdict, judge
from forebay_core.scale.windows import PANIC, STABLE

PATIENCE = 15.0  # seconds from a change of replicas until its effect shows in waits
SLACK = 0.9  # of targetCPU that replicas may use after one is removed


class ScalerState(NamedTuple):
    """What the next decision needs to know of the past. `saved` is the part that a new leader needs."""

    replicas: int
    pace: Pace = Pace()
    lives: Mapping[str, Life] = {}
    upstreams: Mapping[str, UpstreamState] = {}
    dropped: Mapping[str, int] = {}  # readings that could not be used, by reason, since the start


class Verdict(NamedTuple):
    """What to do, and why. `cause` and `message` are those of the upstream whose requests wait longest."""

    replicas: int
    cause: Cause
    message: str
    upstreams: Mapping[str, UpstreamVerdict]


def decide(
    state: ScalerState, readings: Sequence[Reading], targets: Targets, now: float
) -> tuple[Verdict, ScalerState]:
    """The verdict at `now` (seconds, the clock of `Reading.at`), and the state for the next one.

    A replica without a reading is as it was: its demand counts on. Where fewer are needed, each without one, or of
    which it is not yet known what it does, is taken to be needed beside those (as an HPA does with missing metrics).
    """
    taken = take(state.lives, readings, state.replicas, now)
    unread = state.replicas - taken.fresh - sum([reason != "restarted" for reason in taken.dropped.values()])
    dropped = dict(state.dropped)
    for reason in (*taken.dropped.values(), *["missing"] * unread):
        dropped[reason] = dropped.get(reason, 0) + 1

    restarted = "restarted" in taken.dropped.values()
    fleet = Fleet(taken.lives, state.replicas, load_of(taken.lives, PANIC), lag_of(taken.lives), restarted)
    upstreams, states = {}, {}
    for name, target in targets.upstreams.items():
        upstreams[name], states[name] = judge(
            state.upstreams.get(name, UpstreamState()), name, target, targets, fleet, taken.deltas.get(name, ()), now
        )

    settled = taken.fresh >= state.replicas and (not state.pace.changes or now - state.pace.changes[-1].at >= PATIENCE)
    wish = _wish(fleet, upstreams, targets, settled)
    if wish < state.replicas:
        wish = min(state.replicas, wish + max(0, state.replicas - taken.known))
    replicas, pace = follow(targets.behavior, state.pace, state.replicas, targets.clamped(wish), now)
    replicas = targets.clamped(replicas)
    worst = max(upstreams.values(), key=lambda v: (v.cause is not Cause.NONE, v.wait_p95, v.waiting))
    return (
        Verdict(replicas, worst.cause, worst.message, upstreams),
        ScalerState(replicas, pace, taken.lives, states, dropped),
    )


def _wish(fleet: Fleet, upstreams: Mapping[str, UpstreamVerdict], targets: Targets, settled: bool) -> int:
    """Replicas, before any limit of speed: the largest that an upstream asks for and more replicas can cure; fewer
    only where none needs what there is. `settled`: the last change shows in the readings."""
    up, one_more = fleet.replicas, fleet.replicas + 1
    for verdict in upstreams.values():
        if verdict.cause is Cause.CEILING:
            up = max(up, verdict.replicas, one_more if settled and verdict.everywhere and not verdict.capped else 0)
        elif verdict.cause is Cause.REPLICA:
            # A loop that is late has more to do than its CPU use can show: what it is late by is to be caught up with.
            busy = _busy(fleet, fleet.cpu + fleet.lag / demand.CATCH_UP, targets.target_cpu)
            up = max(up, verdict.replicas, busy, one_more if settled else 0)
    if up > fleet.replicas:
        return up
    busy = _busy(fleet, load_of(fleet.lives, STABLE), targets.target_cpu * SLACK)
    return min(fleet.replicas, max(busy, *(verdict.keep for verdict in upstreams.values())))


def _busy(fleet: Fleet, load: float, target: float) -> int:
    """Replicas among which a mean `load` of those that there are is no more than `target` each."""
    return max(1, ceil(load * len(fleet.lives) / target - 1e-9))


def saved(state: ScalerState) -> dict[str, object]:
    """What outlives the leader, as JSON: baselines, so that an incident is not learnt as normal, and limits."""
    return {
        name: {
            "baseline": list(upstream.learning.baseline) if upstream.learning.baseline is not None else None,
            "limit": upstream.relief.limit if upstream.relief is not None else None,
        }
        for name, upstream in state.upstreams.items()
    }


def restored(saved: Mapping[str, Mapping[str, object]], replicas: int, now: float) -> ScalerState:
    """The state of a new leader that finds `replicas` in place. What is not as `saved` wrote it is left out: a baseline
    can be learnt again, a wrong one can't be told from a right one."""
    upstreams = {}
    for name, fields in saved.items():
        state = UpstreamState()
        baseline, limit = fields.get("baseline"), fields.get("limit")
        if isinstance(baseline, list) and len(baseline) == 2 and all(_positive(value) for value in baseline):
            state = state._replace(learning=state.learning._replace(baseline=Baseline(*baseline)))
        if isinstance(limit, int) and limit > 0:
            state = state._replace(relief=relief.Relief(limit, limit, 0.0, now, free=True))
        upstreams[name] = state
    return ScalerState(replicas, Pace((Wish(now, replicas),)), upstreams=upstreams)


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value < inf
