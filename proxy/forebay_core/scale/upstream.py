"""One upstream's part of a decision: condense, diagnose, and say how many connections each life should have."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import NamedTuple

from forebay_core.scale import demand, relief
from forebay_core.scale.baseline import BATCH, Baseline, Learning, learn, slowdown
from forebay_core.scale.diagnosis import Cause, Facts, diagnose
from forebay_core.scale.intake import Life, Taken
from forebay_core.scale.readings import UpstreamReading
from forebay_core.scale.relief import Relief, Trial
from forebay_core.scale.targets import Targets, UpstreamTargets
from forebay_core.scale.windows import PANIC, STABLE, Holds, Tick, histogram, holds, recent, tick, usage

LATEST = 3.0  # seconds of leases that a slowdown is seen in ...
ENOUGH = 20  # ... where so many ended in them
CONNECTING = 30.0  # seconds that failures to connect are counted over
STUCK = 5.0  # times the baseline after which a lease is no long one but stuck
UNKNOWN_STUCK = 30.0  # seconds, where there is no baseline
QUIET_SHARE = 0.5  # of the limit, leased, up to which a tick is quiet


class UpstreamState(NamedTuple):
    """What is remembered of an upstream."""

    ticks: Sequence[Tick] = ()
    learning: Learning = Learning()
    relief: Relief | None = None
    trial: Trial | None = None
    wanted: Mapping[str, int] = {}


class UpstreamVerdict(NamedTuple):
    """Why requests for this upstream wait, and what it wants."""

    cause: Cause
    message: str
    wanted: Mapping[str, int]  # connections per life (with a budget per endpoint: to each endpoint)
    capped: bool  # a grant above `wanted` would do harm: the backend has no use for it
    replicas: int  # that the demand needs, as far as the budget has connections for them
    keep: int  # replicas below which nothing may be removed for this upstream's sake
    everywhere: bool  # every replica is at its ceiling
    waiting: int
    wait_p95: float  # seconds
    baseline: Baseline | None


class Part(NamedTuple):
    """One life's part of an upstream."""

    reading: UpstreamReading
    limit: int
    peak: int  # in use at most, over the panic window
    need: int  # connections wanted, not yet within any limit
    average: float
    steady: float  # average over the stable window only


def judge(
    state: UpstreamState,
    name: str,
    target: UpstreamTargets,
    targets: Targets,
    taken: Taken,
    cpu: float,
    lag: float,
    replicas: int,
    now: float,
) -> tuple[UpstreamVerdict, UpstreamState]:
    """The verdict for one upstream, and what to remember of it."""
    latest = tick(now, taken.deltas.get(name, ()))
    ticks = (*[t for t in state.ticks if t.at > now - STABLE], latest) if latest is not None else state.ticks
    panic = recent(ticks, PANIC, now)
    steady, quick = holds(ticks, STABLE, now, 1), holds(panic, PANIC, now, 1)
    lives = {life: each for life, each in taken.lives.items() if name in each.points}
    readings = [each.reading.upstreams[name] for each in lives.values()]
    waiting = sum([r.waiting for r in readings])
    wait_p95 = _wait(panic, readings, waiting)
    pressed = wait_p95 > targets.target_wait
    parts = {life: _part(each, name, target, steady, quick, pressed) for life, each in lives.items()}
    endpoints = max([r.endpoints for r in readings], default=1) if target.per_endpoint else 1
    budget = target.budget * endpoints if target.budget is not None else None

    rate = sum([sum(t.holds) for t in panic]) / max(sum([t.seconds for t in panic]), 1e-6)
    in_use = sum([part.peak for part in parts.values()])
    learnt = state.learning.baseline is not None
    slow = slowdown(state.learning.baseline, holds(ticks, LATEST, now, ENOUGH))
    trial = state.trial
    if trial is not None:
        trial = relief.judged(trial, in_use, rate, now) if pressed and not learnt else None

    full = [p for p in parts.values() if p.reading.waiting or p.peak >= p.limit] or list(parts.values())
    recently = recent(ticks, CONNECTING, now)
    connects = sum([t.connects for t in recently])
    oldest = max([r.lease_oldest for r in readings], default=0.0)
    facts = Facts(
        target_wait=targets.target_wait,
        target_cpu=targets.target_cpu,
        waiting=waiting,
        wait_p95=wait_p95,
        cpu=cpu,
        loop_lag=lag,
        connects=connects,
        connect_seconds=sum([t.connect_sum for t in recently]) / max(1, connects),
        connect_errors=sum([t.connect_errors for t in recently]),
        unreachable=bool(readings) and not any(r.healthy for r in readings),
        slowdown=slow,
        relieved=state.relief is not None,
        stuck=oldest if quick is None else 0.0,
        patience=_patience(state.learning.baseline),
        trial_failed=trial is not None and trial.failed,
        starved=any(p.limit < target.ceiling for p in full),
        everywhere=bool(parts) and all(p.peak >= target.ceiling for p in parts.values()),
        need=sum([min(p.need, target.ceiling) for p in parts.values()]),
        budget=budget,
        replicas=replicas,
        max_replicas=targets.max_replicas,
    )
    cause, message = diagnose(facts)
    if any(r.paused for r in readings):
        cause, message = Cause.NONE, "paused"

    limit = state.relief
    if cause is Cause.BACKEND:
        limit = relief.begin(in_use, rate, now) if limit is None else relief.step(limit, slow or 1.0, rate, now)
        trial = trial if facts.trial_failed else None
    elif limit is not None and cause not in (Cause.REPLICA, Cause.CONNECT):
        limit = relief.grown(limit)
        limit = None if limit.limit >= facts.need else limit
    if cause in (Cause.POOL, Cause.CEILING) and not learnt and trial is None:
        trial = relief.trial_from(in_use, rate, now)

    wanted = {life: min(part.need, target.ceiling) for life, part in parts.items()}
    cap = limit.limit if limit is not None else trial.limit if trial is not None else None
    if cause is Cause.CONNECT:
        wanted |= {life: state.wanted[life] for life in wanted if life in state.wanted}
    elif cap is not None and sum(wanted.values()) > cap:
        wanted = demand.shared(cap, wanted)
    if target.per_endpoint:
        wanted = {life: ceil(count / endpoints) for life, count in wanted.items()}

    most = ceil(budget / target.ceiling) if budget is not None else targets.max_replicas
    if trial is not None and cause is Cause.CEILING:
        most = min(most, max(replicas, ceil(trial.limit / target.ceiling)))
    asked = min(most, demand.replicas(sum([p.average for p in parts.values()]), target.ceiling))
    keep = min(most, demand.replicas(sum([p.steady for p in parts.values()]), target.ceiling, demand.BETA_KEPT))
    if cause in (Cause.BACKEND, Cause.CONNECT) or pressed:
        keep = max(keep, min(replicas, most) if cause is Cause.BUDGET else replicas)

    quiet = not waiting and cpu <= targets.target_cpu and in_use < QUIET_SHARE * sum([p.limit for p in parts.values()])
    learning = _learnt(state.learning, latest) if quiet and latest is not None else state.learning
    return (
        UpstreamVerdict(
            cause, message, wanted, limit is not None, asked, keep, facts.everywhere, waiting, wait_p95,
            learning.baseline,
        ),
        UpstreamState(ticks, learning, limit, trial, wanted),
    )  # fmt: skip


def _part(
    life: Life, name: str, target: UpstreamTargets, steady: Holds | None, quick: Holds | None, pressed: bool
) -> Part:
    """What one life has, and what it needs: over the stable window, and where requests wait over the panic window too,
    which can only raise it."""
    reading, points = life.reading.upstreams[name], life.points[name]
    limit = reading.limit
    if target.per_endpoint and reading.grant is not None:
        limit = min(reading.ceiling, reading.grant * reading.endpoints)
    long, short = usage(points, STABLE), usage(points, PANIC)
    in_use = reading.leased + reading.opening
    if long is None or short is None:
        return Part(reading, limit, in_use, max(1, in_use), in_use, in_use)
    average = lasting = demand.average(long, steady.mean if steady is not None else None, 0)
    peak = long.peak
    if pressed:
        hold = quick or steady
        last = usage(points, 0.0) or short  # since the last reading: a step is all in it
        burst = short._replace(arrivals=max(short.arrivals, last.arrivals)) if reading.waiting else short
        now = demand.average(burst, hold.mean if hold is not None else None, reading.waiting)
        # Who does not wait leaves to the others what it needed a minute ago.
        average, peak = (max(average, now), peak) if reading.waiting else (now, short.peak)
    need = max(1, demand.connections(average), peak)
    if pressed and reading.waiting and short.peak >= limit:
        need = max(need, limit + max(1, limit // 4))  # the model is wrong where there are still waiters
    return Part(reading, limit, short.peak, need, average, lasting)


def _wait(panic: Sequence[Tick], readings: Sequence[UpstreamReading], waiting: int) -> float:
    """The 95th percentile of waits, seconds. Those who still wait are in it where they alone are over 5 in 100."""
    waits = histogram(t.waits for t in panic)
    p95 = waits.quantile(0.95) or 0.0
    if waiting > 0.05 * (waits.count + waiting):
        p95 = max(p95, max([r.wait_oldest for r in readings]))
    return p95


def _patience(baseline: Baseline | None) -> float:
    return max(PANIC, STUCK * baseline.mean) if baseline is not None else UNKNOWN_STUCK


def _learnt(learning: Learning, latest: Tick) -> Learning:
    """After a quiet tick."""
    counts = tuple(histogram([learning.counts, latest.holds] if learning.counts else [latest.holds]).counts)
    total, seconds, count = learning.sum + latest.hold_sum, learning.seconds + latest.seconds, sum(counts)
    if count < BATCH:
        return Learning(learning.baseline, counts, total, seconds)
    found = Holds(count, histogram([counts]).quantile(0.1) or 0.0, total / count)
    return Learning(learn(learning, found, seconds))
