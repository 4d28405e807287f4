"""The simulator by itself, and the autoscaler's promises on short runs; all traces are run by `make sim`."""

from collections.abc import Callable
from functools import cache
from random import Random

import pytest
from tests.simulation.scale import traces
from tests.simulation.scale.backends import Backend
from tests.simulation.scale.score import SCALERS, Score, run
from tests.simulation.scale.world import Flow, Trace, World

from forebay_core.scale.diagnosis import Cause

QUICK = (
    traces.overload, traces.slow_queries, traces.hot_pod, traces.stuck_grants, traces.budget, traces.connect,
    traces.spike_train, traces.mixture_knee_then_step, traces.mixture_no_baseline, traces.mixture_two_upstreams,
    traces.mixture_faults,
)  # fmt: skip
LONG = tuple(set(traces.TRACES) - set(QUICK))


played = cache(run)  # a run is asked about more than once


def check(score: Score) -> None:
    where = f"trace {score.trace!r}, seed {score.seed}"
    assert score.right >= 0.95, f"{where}: {score.right:.1%} of ticks right: {dict(score.causes)}"
    assert score.added[0] == 0, f"{where}: {score.added[0]} replicas were added where they cure nothing"


@pytest.mark.parametrize("trace", QUICK, ids=lambda t: t.__name__)
def test_the_cause_is_right_and_nothing_is_added_in_vain(trace: Callable[[], Trace]) -> None:
    check(played(trace, "forebay", 1))


@pytest.mark.slow
@pytest.mark.parametrize("trace", LONG, ids=lambda t: t.__name__)
def test_the_same_on_the_long_traces(trace: Callable[[], Trace]) -> None:
    check(played(trace, "forebay", 1))


@pytest.mark.slow
def test_recovery_from_the_step_is_as_fast_as_knatives() -> None:
    seeds = (1, 2)
    ours, theirs = (sum(run(traces.step, name, s).recovery or 0.0 for s in seeds) for name in ("forebay", "KPA"))
    assert ours <= theirs, f"seeds {seeds}: {ours} s, {theirs} s"


@pytest.mark.parametrize(
    ("trace", "cause"),
    [
        (traces.mixture_knee_then_step, Cause.BACKEND),
        (traces.budget, Cause.BUDGET),
        (traces.stuck_grants, Cause.POOL),
        (traces.connect, Cause.CONNECT),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_planted_cause_shows_for_long_enough_to_judge(trace: Callable[[], Trace], cause: Cause) -> None:
    assert sum(n for (planted, _), n in played(trace, "forebay", 1).causes.items() if planted is cause) > 30


def test_a_saturated_backend_is_given_no_more_connections() -> None:
    for trace in (traces.knee, traces.mixture_knee_then_step, traces.mixture_two_upstreams):
        score = played(trace, "forebay", 1)
        assert score.added[1] == 0, f"trace {score.trace!r}, seed 1: {score.added[1]} connections more"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_cold_start_under_load_is_no_saturated_backend(seed: int) -> None:
    """What is tried where there is no baseline comes late, and in the end all that come are served."""
    trace = Trace("cold", 240, [Flow("db", traces.steps((0, 200)))], traces.db(), traces.targets(120), 1)
    world = World(trace, SCALERS["forebay"](trace), seed)
    world.run()
    assert not [sample.at for sample in world.samples if sample.upstreams["db"].given == Cause.BACKEND]
    assert world.samples[-1].upstreams["db"].open > 200 * 0.2, "what the demand needs"
    assert world.samples[-1].upstreams["db"].p95 < 0.02


@pytest.mark.parametrize("seed", [1, 2])
def test_other_work_that_lasts_longer_is_no_saturation_for_long(seed: int) -> None:
    """The upstream is another database now, where all takes four times as long: giving back costs completions, so the
    baseline is wrong, and more connections are tried."""
    moved = (200.0, traces.change(service=0.2))
    flow = Flow("db", traces.steps((0, 100)))
    trace = Trace("moved", 400, [flow], traces.db(service=0.05), traces.targets(60, lowest=1), 1, events=[moved])
    world = World(trace, SCALERS["forebay"](trace), seed)
    world.run()
    last = world.samples[-1].upstreams["db"]
    assert (last.given, last.waiting) == (Cause.NONE, 0), last.message


@pytest.mark.parametrize("seed", [2, 3])
def test_a_backend_that_becomes_slow_gets_no_crowd_of_replicas(seed: int) -> None:
    """One may be added in the seconds in which no slow lease has ended yet; no more once the first have."""
    onset = (200.0, traces.change(knee=3.0))
    flow = Flow("db", traces.steps((0, 10), (100, 100)))
    trace = Trace("onset", 260, [flow], traces.db(service=0.1), traces.targets(lowest=2), 2, events=[onset])
    world = World(trace, SCALERS["forebay"](trace), seed)
    world.run()
    assert max(sample.wanted for sample in world.samples) <= 3


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_surplus_moves_within_ten_seconds(seed: int) -> None:
    """Every 40 s other clients crowd another pod: ten seconds later it may open what they need, and a little more."""
    trace = traces.hot_pod()
    moves = [100.0 + 40 * n for n in range(8)]
    limits = {}

    def look(world: World) -> None:
        limits[world.now] = max(world.pods, key=lambda pod: pod.weight).links["db"].pool.limit

    trace.events = [*trace.events, *[(at + 10, look) for at in moves]]
    assert run(lambda: trace, "forebay", seed).trace == "one hot pod"
    needed = 10  # of 40 requests/s that take 0.2 s: 8 on average
    assert all(limit >= needed for limit in limits.values()), f"seed {seed}: {limits}"
    assert len(limits) == len(moves)


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (run(traces.spike_train, "forebay", 4) for _ in range(2))
    assert first == second
    assert run(traces.spike_train, "forebay", 5) != first


def test_what_goes_wrong_names_trace_and_seed() -> None:
    def broken() -> Trace:
        def fail(world: World) -> None:
            raise RuntimeError("planted")

        trace = traces.spike_train()
        trace.events = [(12.0, fail)]
        return trace

    with pytest.raises(RuntimeError) as error:
        run(broken, "forebay", 7)
    assert error.value.__notes__ == ["trace 'spike train', forebay, seed 7, second 12.0"]


def test_engines_and_backends_agree_in_the_end() -> None:
    """What the backends count as open is what the pools hold, after crashes, drains and scaling."""
    trace = traces.mixture_faults()
    world = World(trace, SCALERS["forebay"](trace), 3)
    world.run()
    for name, backend in world.backends.items():
        for pod in world.pods:
            pod.links[name].pool.check()
        held = sum(pod.links[name].pool.total - pod.links[name].pool.opening for pod in world.pods)
        assert backend.open == held
        target = trace.targets.upstreams[name]
        assert target.budget is not None
        assert backend.peak_open <= target.budget


def test_a_backend_is_fast_until_its_knee_then_slower_then_refuses() -> None:
    backend = Backend(knee=4, max_open=2, thrash=0.0)
    assert [backend.begin(1.0) for _ in range(8)] == [1.0, 1.0, 1.0, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert [backend.connected(Random(1)) for _ in range(3)] == [True, True, False]
