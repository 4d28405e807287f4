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
from forebay_core.scale.upstream import UpstreamState, UpstreamVerdict, judge
from forebay_core.scale.windows import PANIC, STABLE

PATIENCE = 15.0  # seconds from a change of replicas until its effect shows in waits
SLACK = 0.9  # of targetCPU that replicas may use after one is removed
SPEED = PANIC  # seconds that CPU use is averaged over, to add replicas


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

    A replica without a reading is as it was: its demand counts on for scaling up, and for scaling down it counts as
    needed, whatever it last said.
    """
    taken = take(state.lives, readings, state.replicas, now)
    missing = max(0, state.replicas - taken.fresh)
    dropped = dict(state.dropped)
    for reason in (*taken.dropped.values(), *["missing"] * missing):
        dropped[reason] = dropped.get(reason, 0) + 1

    cpu, lag = load_of(taken.lives, SPEED), lag_of(taken.lives)
    settled = not missing and (not state.pace.changes or now - state.pace.changes[-1].at >= PATIENCE)
    upstreams, states = {}, {}
    for name, target in targets.upstreams.items():
        upstreams[name], states[name] = judge(
            state.upstreams.get(name, UpstreamState()), name, target, targets, taken, cpu, lag, state.replicas, now
        )

    wish = state.replicas
    if taken.fresh:
        wish = _wish(state.replicas, upstreams, taken.lives, targets, missing, settled, cpu, lag)
    replicas, pace = follow(targets.behavior, state.pace, state.replicas, targets.clamped(wish), now)
    replicas = targets.clamped(replicas)
    worst = max(upstreams.values(), key=lambda v: (v.cause is not Cause.NONE, v.wait_p95, v.waiting))
    return (
        Verdict(replicas, worst.cause, worst.message, upstreams),
        ScalerState(replicas, pace, taken.lives, states, dropped),
    )


def _wish(
    current: int,
    upstreams: Mapping[str, UpstreamVerdict],
    lives: Mapping[str, Life],
    targets: Targets,
    missing: int,
    settled: bool,
    cpu: float,
    lag: float,
) -> int:
    """Replicas, before any limit of speed: the largest that an upstream asks for and more replicas can cure; fewer
    only where none needs what there is."""
    up = current
    for verdict in upstreams.values():
        if verdict.cause is Cause.CEILING:
            up = max(up, verdict.replicas, current + 1 if settled and verdict.everywhere else 0)
        elif verdict.cause is Cause.REPLICA:
            # A loop that is late has more to do than its CPU use can show: what it is late by is to be caught up with.
            busy = ceil((cpu + lag / demand.CATCH_UP) * len(lives) / targets.target_cpu - 1e-9)
            up = max(up, busy, verdict.replicas, current + 1 if settled else 0)
    if up > current:
        return up
    busy = ceil(load_of(lives, STABLE) * len(lives) / (targets.target_cpu * SLACK) - 1e-9)
    down = missing + max(1, busy, *(verdict.keep for verdict in upstreams.values()))
    return min(current, down)


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
            state = state._replace(relief=relief.Relief(limit, limit, 0.0, now))
        upstreams[name] = state
    return ScalerState(replicas, Pace((Wish(now, replicas),)), upstreams=upstreams)


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value < inf
