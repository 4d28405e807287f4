"""One upstream's part of a decision: look at the fleet, name the cause, say how many connections each life should have.

Pure. `judge` is the way through; the numbers come from the modules that it calls, each with its source.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import NamedTuple

from forebay_core.scale import demand, relief
from forebay_core.scale.baseline import BATCH, Baseline, Learning, learn, slowdown
from forebay_core.scale.diagnosis import Cause, Facts, diagnose
from forebay_core.scale.intake import Life
from forebay_core.scale.readings import Delta, UpstreamReading
from forebay_core.scale.relief import Relief, Trial
from forebay_core.scale.targets import Targets, UpstreamTargets
from forebay_core.scale.windows import PANIC, STABLE, Holds, Tick, Usage, histogram, holds, recent, tick, usage

LATEST = 3.0  # seconds of leases that a slowdown is seen in ...
ENOUGH = 20  # ... where so many ended in them
CONNECTING = 30.0  # seconds that failures to connect are counted over ...
OPENING = 10.0  # ... and that the time to open is averaged over
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
    wanted: Mapping[str, int]  # places per life (with a budget per endpoint: at each endpoint)
    besides: Mapping[str, int]  # of these, those that serve nobody
    capped: bool  # a grant above `wanted` would do harm: the backend has no use for it, or that is being tried
    replicas: int  # that the demand needs, as far as the budget has connections for them
    keep: int  # replicas below which nothing may be removed for this upstream's sake
    everywhere: bool  # every replica is at its ceiling
    waiting: int
    wait_p95: float  # seconds
    baseline: Baseline | None


class Fleet(NamedTuple):
    """The replicas as a whole: what does not depend on the upstream."""

    lives: Mapping[str, Life]
    replicas: int  # that there should be
    cpu: float  # mean share of what they may use
    lag: float  # seconds, mean
    restarted: bool  # one has begun anew since the last tick


class Part(NamedTuple):
    """One life's part of an upstream."""

    reading: UpstreamReading
    limit: int
    peak: int  # in use at most, over the panic window
    need: int  # connections wanted, within its ceiling
    average: float
    steady: float  # average over the stable window only
    spread: float  # endpoints that a limit of each is multiplied by; 1: the limit is of all
    did: Usage  # over the panic window

    @property
    def at_each(self) -> int:
        """The need, as grants and budget count it."""
        return ceil(self.need / self.spread - 1e-9)


class View(NamedTuple):
    """One upstream over all replicas."""

    parts: Mapping[str, Part]
    ticks: Sequence[Tick]
    budget: int | None  # over all replicas and endpoints
    waiting: int
    wait_p95: float
    pressed: bool  # requests wait longer than they should
    in_use: int  # at most, over the panic window
    leased: float  # on average, over the same
    arrivals: float  # requests per second, over the panic window
    rate: float  # completions per second, over the same
    need: int


def judge(
    state: UpstreamState,
    name: str,
    target: UpstreamTargets,
    targets: Targets,
    fleet: Fleet,
    deltas: Sequence[Delta],
    now: float,
) -> tuple[UpstreamVerdict, UpstreamState]:
    """The verdict for one upstream at `now`, and what to remember of it."""
    latest = tick(now, deltas)
    ticks = state.ticks if latest is None else (*[t for t in state.ticks if t.at > now - STABLE], latest)
    view = _view(ticks, name, target, targets, fleet, now)
    learnt = state.learning.baseline is not None
    trial = None
    # What completes while replicas die and come again says nothing of the backend.
    disturbed = fleet.restarted or any(part.reading.left for part in view.parts.values())
    if state.trial is not None and view.pressed and not learnt and not disturbed:
        trial = relief.judged(state.trial, view.in_use, view.leased, view.waiting, view.rate, now)
    slow = slowdown(state.learning.baseline, holds(ticks, _lately(state.relief, now), now, ENOUGH))
    facts = _facts(state, view, slow, trial, target, targets, fleet, now)
    cause, message = diagnose(facts)
    unknown = any(len(fleet.lives[life].points[name]) < 2 for life in view.parts)  # what one completes
    limit, learning, trial = _limited(state, view, facts, cause, trial, unknown, now)
    wanted = _wanted(state, view, cause, limit, trial)
    asked, keep = _replicas(view, cause, trial, target, targets, fleet)
    quiet = not view.waiting and fleet.cpu <= targets.target_cpu
    quiet = quiet and view.in_use < QUIET_SHARE * sum([p.limit for p in view.parts.values()])
    learning = _learnt(learning, latest) if quiet and latest is not None else learning
    capped = limit is not None or (trial is not None and trial.binding)
    besides = {life: part.reading.besides for life, part in view.parts.items() if part.reading.besides}
    places = {life: count + besides.get(life, 0) for life, count in wanted.items()}
    verdict = UpstreamVerdict(
        cause,
        message,
        places,
        besides,
        capped,
        asked,
        keep,
        facts.everywhere,
        view.waiting,
        view.wait_p95,
        learning.baseline,
    )
    return verdict, UpstreamState(ticks, learning, limit, trial, wanted)


def _view(
    ticks: Sequence[Tick], name: str, target: UpstreamTargets, targets: Targets, fleet: Fleet, now: float
) -> View:
    lives = {life: each for life, each in fleet.lives.items() if name in each.points}
    readings = [each.reading.upstreams[name] for each in lives.values()]
    waiting = sum([r.waiting for r in readings if not r.paused])
    panic = recent(ticks, PANIC, now)
    wait_p95 = _wait(panic, readings, waiting)
    pressed = wait_p95 > targets.target_wait
    steady, quick = holds(ticks, STABLE, now, 1), holds(panic, PANIC, now, 1)
    parts = {life: _part(each, name, target, steady, quick, pressed) for life, each in lives.items()}
    need = sum([p.need for p in parts.values()])
    budget = target.budget
    if budget is not None and parts:
        budget = round(budget * need / sum([p.need / p.spread for p in parts.values()]))
    return View(
        parts,
        ticks,
        budget,
        waiting,
        wait_p95,
        pressed,
        sum([p.peak for p in parts.values()]),
        sum([p.did.leased for p in parts.values()]),
        sum([p.did.arrivals for p in parts.values()]),
        sum([p.did.completions for p in parts.values()]),
        need,
    )


def _spread(reading: UpstreamReading, usage: Usage | None) -> float:
    """How many endpoints as busy as the busiest do the work. A primary has all that is written, whatever stands beside
    it: what it lacks is not to be found at the others."""
    endpoints = max(1, reading.endpoints)  # 0: no address is known yet
    return min(endpoints, max(1.0, usage.busy / usage.busiest)) if usage is not None and usage.busiest else endpoints


def _part(
    life: Life, name: str, target: UpstreamTargets, steady: Holds | None, quick: Holds | None, pressed: bool
) -> Part:
    """What one life has, and what it needs: the larger of stable and panic window, so that who has just become busy is
    not cut back as soon as nobody waits; and what it takes to serve those who do."""
    reading, points = life.reading.upstreams[name], life.points[name]
    long, short = usage(points, STABLE), usage(points, PANIC)
    spread = _spread(reading, long) if target.per_endpoint else 1
    limit = reading.limit
    if target.per_endpoint and reading.grant is not None:
        limit = min(reading.ceiling, round(reading.grant * spread))
    if long is None or short is None:
        in_use = reading.leased + reading.opening
        return Part(reading, limit, in_use, max(1, in_use), in_use, in_use, spread, Usage(0.0, in_use, in_use))
    did = short
    hold = quick or steady
    seconds = hold.mean if hold is not None else None
    lasting = demand.average(long, steady.mean if steady is not None else None, 0)
    average, peak = max(lasting, demand.average(short, seconds, 0)), long.peak
    if pressed and not reading.paused:
        if reading.waiting:
            last = usage(points, 0.0) or short  # since the last reading: a step is all in it
            short = short._replace(arrivals=max(short.arrivals, last.arrivals))
        now = demand.average(short, seconds, reading.waiting, limit)
        # Who does not wait leaves to the others what it needed a minute ago.
        average, peak = (max(average, now), peak) if reading.waiting else (now, short.peak)
    need = max(1, demand.connections(average), peak)
    if pressed and reading.waiting and not reading.paused and short.peak >= limit:
        need = max(need, limit + max(1, limit // 4))  # the model is wrong where there are still waiters
    return Part(reading, limit, short.peak, min(need, target.ceiling), average, lasting, spread, did)


def _facts(
    state: UpstreamState,
    view: View,
    slow: float | None,
    trial: Trial | None,
    target: UpstreamTargets,
    targets: Targets,
    fleet: Fleet,
    now: float,
) -> Facts:
    parts = view.parts.values()
    serving = [p for p in parts if not p.reading.paused]
    full = [p for p in serving if p.reading.waiting or p.peak >= p.limit] or parts
    recently = recent(view.ticks, CONNECTING, now)
    opened = recent(recently, OPENING, now)
    ended = any(any(t.holds) for t in recent(view.ticks, PANIC, now))
    baseline = state.learning.baseline
    return Facts(
        target_wait=targets.target_wait,
        target_cpu=targets.target_cpu,
        paused=bool(parts) and not serving,
        anywhere=target.anywhere,
        wait_p95=view.wait_p95,
        cpu=fleet.cpu,
        loop_lag=fleet.lag,
        connects=sum([t.connects for t in recently]),
        connect_seconds=sum([t.connect_sum for t in opened]) / max(3, sum([t.connects for t in opened])),
        connect_errors=sum([t.connect_errors for t in recently]),
        unreachable=bool(parts) and not any(p.reading.healthy for p in parts),
        slowdown=slow,
        relieved=state.relief is not None,
        stuck=0.0 if ended else max([p.reading.lease_oldest for p in parts], default=0.0),
        patience=UNKNOWN_STUCK if baseline is None else max(PANIC, STUCK * baseline.mean),
        trial_failed=trial is not None and trial.failed,
        starved=any(p.limit < target.ceiling for p in full),
        everywhere=bool(serving) and all(p.peak >= target.ceiling for p in serving),
        need=sum([p.at_each + p.reading.besides for p in parts]),
        budget=target.budget,
        replicas=fleet.replicas,
        max_replicas=targets.max_replicas,
    )


def _limited(
    state: UpstreamState, view: View, facts: Facts, cause: Cause, trial: Trial | None, unknown: bool, now: float
) -> tuple[Relief | None, Learning, Trial | None]:
    """What limits leases from now on, what is known of the backend's baseline, and what is being tried. `unknown`: what
    one of the lives completes."""
    learnt, slow = state.learning.baseline is not None, facts.slowdown
    limit, learning = state.relief, state.learning
    if cause is Cause.BACKEND:
        trial = trial if facts.trial_failed else None
        if limit is None:
            in_use = trial.limit if trial is not None else view.in_use
            limit = relief.begin(in_use, view.rate, now)
        elif unknown:
            pass
        elif learnt and view.waiting and relief.idle_backend(limit, view.leased, view.rate, now):
            # Leases are longer, and not for too many at a time: the work is another, or the backend. Try upwards.
            limit, learning = None, Learning()
            trial = relief.held_off(view.in_use, view.rate, now)
        else:
            limit = relief.step(limit, slow or 1.0, view.leased, view.rate, now)
    elif limit is not None and cause not in (Cause.REPLICA, Cause.CONNECT) and not (learnt and slow is None):
        limit = relief.grown(limit)
        limit = None if limit.limit >= view.need else limit
    if cause in (Cause.POOL, Cause.CEILING) and not learnt and trial is None and not facts.anywhere:
        trial = relief.held_off(view.in_use, view.rate, now)
    return limit, learning, trial


def _wanted(
    state: UpstreamState, view: View, cause: Cause, limit: Relief | None, trial: Trial | None
) -> dict[str, int]:
    """Connections to lease, per life."""
    cap = limit.limit if limit is not None else trial.limit if trial is not None else None
    if cause is Cause.CONNECT:  # nothing that is seen now says what is needed
        return {life: state.wanted.get(life, part.at_each) for life, part in view.parts.items()}
    if cap is not None and view.need > cap:
        shares = demand.shared(cap, {life: part.need for life, part in view.parts.items()})
        view = view._replace(parts={life: part._replace(need=shares[life]) for life, part in view.parts.items()})
    return {life: part.at_each for life, part in view.parts.items()}


def _replicas(
    view: View, cause: Cause, trial: Trial | None, target: UpstreamTargets, targets: Targets, fleet: Fleet
) -> tuple[int, int]:
    """Replicas that the demand needs, and those that may not be taken away. More than the budget has connections for
    are of no use to it; nor are any where nobody asks for a backend that can't be reached."""
    most = targets.max_replicas if view.budget is None else ceil(view.budget / target.ceiling)
    average = sum([p.average for p in view.parts.values()])
    steady = sum([p.steady for p in view.parts.values()])
    asked = min(most, demand.replicas(average, target.ceiling))
    if trial is not None:
        asked = min(asked, max(fleet.replicas, ceil(trial.limit / target.ceiling)))
    keep = min(most, demand.replicas(steady, target.ceiling, demand.BETA_KEPT))
    if cause is Cause.BUDGET:
        keep = max(keep, min(fleet.replicas, most))
    elif cause is not Cause.NONE and (cause is not Cause.CONNECT or view.arrivals):
        keep = max(keep, fleet.replicas)
    return asked, keep


def _lately(limit: Relief | None, now: float) -> float:
    """Seconds of leases in which a backend's slowdown is seen. To be called recovered takes longer than to be called
    slow: else the two alternate near the threshold. But it does not reach back to before it was called slow."""
    if limit is None:
        return LATEST
    return min(relief.SETTLE, max(LATEST, now - limit.stepped_at)) if limit.stepped_at <= now else relief.SETTLE


def _wait(panic: Sequence[Tick], readings: Sequence[UpstreamReading], waiting: int) -> float:
    """The 95th percentile of waits, seconds. Those who still wait are in it where they alone are over 5 in 100."""
    waits = histogram([t.waits for t in panic])
    p95 = waits.quantile(0.95) or 0.0
    if waiting > 0.05 * (waits.count + waiting):
        p95 = max(p95, max([r.wait_oldest for r in readings if not r.paused]))
    return p95


def _learnt(learning: Learning, latest: Tick) -> Learning:
    """After a quiet tick."""
    counts = tuple(histogram([learning.counts, latest.holds] if learning.counts else [latest.holds]).counts)
    total, seconds, count = learning.sum + latest.hold_sum, learning.seconds + latest.seconds, sum(counts)
    if count < BATCH:
        return Learning(learning.baseline, counts, total, seconds)
    found = Holds(histogram([counts]).quantile(0.1) or 0.0, total / count)
    return Learning(learn(learning, found, seconds))
