"""Runs, and what is counted of each."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import process_time

from tests.simulation.scale.scalers import HPA, KPA, Ours, Scaler
from tests.simulation.scale.world import Sample, Trace, World

from forebay_core.scale.diagnosis import Cause
from forebay_core.spec.scaling import Behavior, ScaleDown

CALM = 10.0  # seconds that waits have to stay within the target to count as recovered
NOTHING_ADDED = (Cause.POOL, Cause.BUDGET, Cause.CONNECT, Cause.BACKEND)  # causes that no replica may be added for

QUICK = Behavior(scale_down=ScaleDown(stabilization_window_seconds=60))  # the pace of Knative's defaults

SCALERS: dict[str, Callable[[Trace], Scaler]] = {
    "forebay": lambda trace: Ours(trace.targets, trace.replicas),
    "forebay quick": lambda trace: Ours(trace.targets._replace(behavior=QUICK), trace.replicas),
    "HPA": lambda trace: HPA(trace.targets, trace.replicas),
    "KPA": lambda trace: KPA(trace.targets, trace.replicas),
}


@dataclass(frozen=True)
class Score:
    """One run of one trace with one autoscaler."""

    trace: str
    scaler: str
    seed: int
    causes: Counter[tuple[Cause, Cause]]  # (planted, given), from 30 s after a planted change
    wait_p95: float  # seconds, of all requests
    failures: float  # share of all requests
    over_target: float  # share of ticks at which waits are above the target
    recovery: float | None  # seconds; None: not asked for
    replica_seconds: float
    connection_seconds: float
    turns: int  # changes of direction
    added: tuple[int, int]  # replicas, and connections granted, added where they cure nothing
    samples: list[Sample]

    @property
    def right(self) -> float:
        """Share of ticks with the right cause."""
        return sum(n for (a, b), n in self.causes.items() if a is b) / max(1, self.causes.total())


def run(make: Callable[[], Trace], scaler: str, seed: int) -> Score:
    """Run it. Whatever goes wrong names trace and seed."""
    trace = make()
    world = World(trace, SCALERS[scaler](trace), seed)
    try:
        world.run()
    except Exception as error:
        error.add_note(f"trace {trace.name!r}, {scaler}, seed {seed}, second {world.now:.1f}")
        raise
    return score(trace, scaler, seed, world)


def score(trace: Trace, scaler: str, seed: int, world: World) -> Score:
    causes: Counter[tuple[Cause, Cause]] = Counter()
    for sample in world.samples:
        for upstream in sample.upstreams.values():
            if not sample.settling and upstream.given is not None:
                causes[upstream.expected, upstream.given] += 1
    waits = sorted(wait for _, wait in world.books.waits)
    wanted = [sample.wanted for sample in world.samples]
    moves = [b - a for a, b in pairwise(wanted) if a != b]
    return Score(
        trace.name,
        scaler,
        seed,
        causes,
        waits[int(len(waits) * 0.95)],
        world.books.failures / len(waits),
        sum(1 for s in world.samples if any(u.p95 > trace.targets.target_wait for u in s.upstreams.values()))
        / len(world.samples),
        recovery(trace, world),
        world.replica_seconds,
        world.connection_seconds,
        sum(1 for a, b in pairwise(moves) if a * b < 0),
        added(world),
        world.samples,
    )


def recovery(trace: Trace, world: World) -> float | None:
    """Seconds from the step until waits are within the target and stay so."""
    if trace.step_at is None:
        return None
    since = None
    for sample in world.samples:
        if sample.at < trace.step_at + 4:
            continue
        calm = all(u.p95 <= trace.targets.target_wait for u in sample.upstreams.values())
        since = (since or sample.at) if calm else None
        if since is not None and sample.at - since >= CALM:
            return since - trace.step_at
    return float("inf")


def added(world: World) -> tuple[int, int]:
    """Replicas added, and connections granted more, where neither cures anything: at ticks at which, for six seconds
    already, all that waits does so for such a cause. A backend counts from when it is really saturated, and connections
    are counted from the most that was granted in those six seconds: grants that move within it add nothing."""
    replicas = connections = 0
    granted: dict[str, int] = {}
    for n in range(4, len(world.samples)):
        before, after = world.samples[n - 1 : n + 1]
        past = world.samples[n - 4 : n]
        planted = {u.expected for u in after.upstreams.values()} - {Cause.NONE}
        if planted and planted <= set(NOTHING_ADDED) and all(_useless(s) for s in past):
            replicas += max(0, after.wanted - before.wanted)
        for name, upstream in after.upstreams.items():
            if upstream.expected is Cause.BACKEND and all(s.upstreams[name].saturated for s in (*past, after)):
                most = granted.setdefault(name, max(s.upstreams[name].granted for s in past))
                connections += max(0, upstream.granted - most)
                granted[name] = max(most, upstream.granted)
            elif upstream.expected is not Cause.BACKEND:
                granted.pop(name, None)
    return replicas, connections


def _useless(sample: Sample) -> bool:
    waits = [u for u in sample.upstreams.values() if u.expected is not Cause.NONE]
    return bool(waits) and all(
        u.expected in NOTHING_ADDED and (u.saturated or u.expected is not Cause.BACKEND) for u in waits
    )


def timed(make: Callable[[], Trace], scaler: str, seed: int) -> tuple[Score, float]:
    """With the CPU seconds that it took."""
    begin = process_time()
    return run(make, scaler, seed), process_time() - begin
