"""The traces of the scoreboard: what clients ask for, what breaks, and which cause is planted when.

A replica bears 15 connections (the default pool: size 10, maxOverflow 5). A request takes the backend 0.2 s, so that a
replica at its ceiling serves 75 per second.
"""

from collections.abc import Callable
from math import cos, pi

from tests.simulation.scale.backends import Backend
from tests.simulation.scale.world import Flow, Plan, Trace, World

from forebay_core.scale.diagnosis import Cause
from forebay_core.scale.targets import Targets, UpstreamTargets

CEILING = 15
Rate = Callable[[float], float]


def steps(*changes: tuple[float, float]) -> Rate:
    """A rate that changes at the given times: (seconds, per second), the first at 0."""

    def rate(now: float) -> float:
        return next(value for at, value in reversed(changes) if now >= at)

    return rate


def ramp(begin: float, end: float, low: float, high: float) -> Rate:
    return lambda now: low + (high - low) * min(1.0, max(0.0, (now - begin) / (end - begin)))


def wave(period: float, low: float, high: float) -> Rate:
    """A day in `period` seconds, from its quietest hour."""
    return lambda now: low + (high - low) * (1 - cos(2 * pi * now / period)) / 2


def spikes(every: float, length: float, low: float, high: float, until: float) -> Rate:
    return lambda now: high if now < until and now % every >= every - length else low


def db(**settings: float) -> Callable[[], dict[str, Backend]]:
    return lambda: {"db": Backend(**settings)}  # type: ignore[arg-type]


def targets(budget: int | None = None, *, lowest: int = 1, highest: int = 8) -> Targets:
    return Targets({"db": UpstreamTargets(CEILING, budget)}, lowest, highest)


def change(**settings: float) -> Callable[[World], None]:
    """The backend becomes another."""

    def event(world: World) -> None:
        for name, value in settings.items():
            setattr(world.backends["db"], name, value)

    return event


def new_leader(world: World) -> None:
    world.replace_leader()


def weight(index: int, weight: float) -> Callable[[World], None]:
    """One pod gets so many times more than the others: long-lived clients that all found it."""

    def event(world: World) -> None:
        for pod in world.pods:
            pod.weight = 1.0
        world.pods[index % len(world.pods)].weight = weight
        world.route()

    return event


def crash(world: World) -> None:
    world.crash()


def silent(index: int, silent: bool) -> Callable[[World], None]:
    """Cut off: it serves on, but nobody can read it."""

    def event(world: World) -> None:
        if index < len(world.pods):
            world.pods[index].silent = silent

    return event


def stop(index: int, seconds: float) -> Callable[[World], None]:
    """A pod hangs for a while."""

    def event(world: World) -> None:
        world.pods[index].stop(world.now, seconds)

    return event


def frozen(frozen: bool) -> Callable[[World], None]:
    """Grants don't move: pushes are lost."""

    def event(world: World) -> None:
        world.pushes_lost = frozen

    return event


def step() -> Trace:
    """Ten times the clients from one second to the next."""
    return Trace(
        "step x10", 780, [Flow("db", steps((0, 20), (120, 200), (660, 20)))], db(), targets(), 1,
        plans=[Plan(120, 660, Cause.CEILING)], step_at=120,
    )  # fmt: skip


def overload() -> Trace:
    """More clients than maxReplicas can serve, for three minutes."""
    return Trace(
        "beyond maxReplicas", 500, [Flow("db", steps((0, 40), (120, 500), (300, 40)))], db(), targets(highest=5), 2,
        plans=[Plan(120, 300, Cause.CEILING)],
    )  # fmt: skip


def ramp_up() -> Trace:
    """Steadily more over five minutes, then steadily less."""
    return Trace(
        "ramp", 900,
        [Flow("db", lambda now: ramp(60, 360, 15, 300)(now) - ramp(480, 780, 0, 285)(now))], db(), targets(), 1,
        plans=[Plan(60, 780, Cause.CEILING)],
    )  # fmt: skip


def daily() -> Trace:
    """A day in half an hour."""
    return Trace(
        "daily wave", 1800, [Flow("db", wave(1800, 15, 200))], db(), targets(), 1,
        plans=[Plan(60, 1800, Cause.CEILING)],
    )  # fmt: skip


def spike_train() -> Trace:
    """Ten seconds of eight times the load, every two minutes."""
    return Trace(
        "spike train", 900, [Flow("db", spikes(120, 10, 20, 160, 800))], db(), targets(), 1,
        plans=[Plan(60, 840, Cause.CEILING)],
    )  # fmt: skip


def slow_queries() -> Trace:
    """A third of the queries takes eight times as long: other work, not a slower backend. More connections help, and
    maxReplicas keeps them away."""
    return Trace(
        "slow queries", 700, [Flow("db", steps((0, 60)))], db(knee=200), targets(highest=3), 2,
        events=[(150, change(slow_share=0.33, slow_factor=8)), (450, change(slow_share=0.0))],
        plans=[Plan(150, 450, Cause.CEILING)],
    )  # fmt: skip


def knee() -> Trace:
    """More clients than the backend can serve at all: its knee is at 40 at a time."""
    return Trace(
        "past the knee", 900, [Flow("db", steps((0, 60), (150, 330), (570, 60)))], db(knee=40), targets(110), 2,
        plans=[Plan(150, 570, Cause.BACKEND)],
    )  # fmt: skip


def cpu() -> Trace:
    """Requests that cost the replica ten milliseconds of CPU each; in the end more than maxReplicas can take."""
    return Trace(
        "CPU-heavy", 700, [Flow("db", steps((0, 20), (120, 200), (300, 640), (440, 20)), cost=0.01)],
        db(service=0.05), targets(), 1, plans=[Plan(120, 440, Cause.REPLICA)],
    )  # fmt: skip


def hot_pod() -> Trace:
    """Four replicas, and clients that keep to one of them: to another one every 40 seconds."""
    return Trace(
        "one hot pod", 500, [Flow("db", steps((0, 80)))], db(), targets(40, lowest=4), 4,
        events=[(100 + 40 * n, weight(n, 3.0)) for n in range(8)] + [(420, weight(0, 1.0))],
        plans=[Plan(100, 420, Cause.POOL)],
    )  # fmt: skip


def stuck_grants() -> Trace:
    """One hot pod while grants can't be moved: there is surplus, and it does not reach the pod that needs it."""
    return Trace(
        "grants stuck", 400, [Flow("db", steps((0, 80)))], db(), targets(40, lowest=4), 4,
        events=[(90, frozen(True)), (100, weight(0, 4.0)), (280, frozen(False)), (300, weight(0, 1.0))],
        plans=[Plan(100, 300, Cause.POOL)],
    )  # fmt: skip


def budget() -> Trace:
    """More clients than the budget has connections for; the backend itself has no trouble."""
    return Trace(
        "budget", 700, [Flow("db", steps((0, 60), (120, 260), (420, 60)))], db(), targets(40), 2,
        plans=[Plan(120, 420, Cause.BUDGET)],
    )  # fmt: skip


def connect() -> Trace:
    """The backend refuses half of the attempts to connect, then takes a second for each."""
    return Trace(
        "connect", 600, [Flow("db", steps((0, 75)))], db(), targets(), 2,
        events=[(120, change(refuse_share=0.5)), (240, change(refuse_share=0.0)),
                (360, change(connect=1.0)), (480, change(connect=0.002))],
        plans=[Plan(120, 240, Cause.CONNECT), Plan(360, 480, Cause.CONNECT)],
    )  # fmt: skip


def incident() -> Trace:
    """A database that is slow for forty minutes: half the speed, and it saturates at 12 at a time. The leader is
    replaced in the middle."""
    return Trace(
        "slow for 40 min", 3300, [Flow("db", steps((0, 75)))], db(knee=60), targets(60), 3,
        events=[(300, change(service=0.4, knee=20)), (1500, new_leader), (2700, change(service=0.2, knee=60))],
        plans=[Plan(300, 2700, Cause.BACKEND)],
    )  # fmt: skip


def mixture_knee_then_step() -> Trace:
    """The backend saturates, and while it does the clients double; later it recovers, and they are too many for the
    replicas only."""
    return Trace(
        "saturated, then a step",
        900,
        [Flow("db", steps((0, 50), (240, 140), (700, 30)))], db(knee=80), targets(110), 2,
        events=[(120, change(knee=10)), (420, change(knee=80))],
        plans=[Plan(120, 420, Cause.BACKEND), Plan(420, 700, Cause.CEILING)],
    )  # fmt: skip


def mixture_no_baseline() -> Trace:
    """The first that is ever seen of the backend is that it is saturated: what is normal is not known."""
    return Trace(
        "no baseline", 500, [Flow("db", steps((0, 70), (360, 20)))], db(knee=8), targets(60), 2,
        plans=[Plan(0, 360, Cause.BACKEND)],
    )  # fmt: skip


def mixture_two_upstreams() -> Trace:
    """Two upstreams in the same replicas: one saturates, the other gets ten times the clients."""
    return Trace(
        "two upstreams", 700,
        [Flow("db", steps((0, 60))), Flow("api", steps((0, 15), (240, 150), (480, 15)))],
        lambda: {"db": Backend(knee=40), "api": Backend()},
        Targets({"db": UpstreamTargets(CEILING, 60), "api": UpstreamTargets(CEILING)}, 1, 8), 2,
        events=[(150, change(knee=6)), (540, change(knee=40))],
        plans=[Plan(150, 540, Cause.BACKEND), Plan(240, 480, Cause.CEILING, "api")],
    )  # fmt: skip


def mixture_faults() -> Trace:
    """A ramp during which pods crash, hang for twenty seconds, or serve on but can't be read."""
    return Trace(
        "ramp with faults", 700, [Flow("db", ramp(60, 300, 30, 200))], db(), targets(100), 2,
        events=[(150, crash), (200, silent(0, True)), (230, stop(1, 20)), (260, crash), (330, silent(0, False)),
                (400, crash)],
        plans=[Plan(60, 700, Cause.CEILING)],
    )  # fmt: skip


TRACES = (
    step, overload, ramp_up, daily, spike_train, slow_queries, knee, cpu, hot_pod, stuck_grants, budget, connect,
    incident, mixture_knee_then_step, mixture_no_baseline, mixture_two_upstreams, mixture_faults,
)  # fmt: skip
