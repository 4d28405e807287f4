"""Taking in a tick's readings: what is nonsense, late or from another process is dropped and counted; what is missing
stays as it was."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from forebay_core.scale.readings import Delta, Reading, delta, nonsense
from forebay_core.scale.windows import STABLE, Point, point, trimmed


class Life(NamedTuple):
    """A replica's recent past: its last reading, and per upstream the points that rates are made of."""

    reading: Reading
    points: Mapping[str, Sequence[Point]]
    cpu: Sequence[tuple[float, float]]  # (seconds of the clock, seconds of CPU)


class Taken(NamedTuple):
    """The replicas after a tick's readings."""

    lives: Mapping[str, Life]  # those that serve; also the missing, as they were
    fresh: int  # how many have said something usable ...
    known: int  # ... and how many of them twice, so that it is known what they do
    deltas: Mapping[str, Sequence[Delta]]  # by upstream
    dropped: Mapping[str, str]  # by life: nonsense, late or restarted


def take(lives: Mapping[str, Life], readings: Sequence[Reading], replicas: int, now: float) -> Taken:
    """The next state of `lives`. As many of the missing are remembered as make up `replicas`, the latest first."""
    kept: dict[str, Life] = {}
    deltas: dict[str, list[Delta]] = {}
    dropped: dict[str, str] = {}
    for reading in readings:
        life = lives.get(reading.life)
        if nonsense(reading) is not None or reading.at > now:
            dropped[reading.life] = "nonsense"
        elif life is not None and reading.at <= life.reading.at:
            dropped[reading.life] = "late"
        elif not reading.draining:
            found = _next(life, reading) if life is not None and life.reading.process == reading.process else None
            if found is None:
                if life is not None:
                    dropped[reading.life] = "restarted"
                kept[reading.life] = _first(reading)
            else:
                kept[reading.life], counted = found
                for name, each in counted.items():
                    deltas.setdefault(name, []).append(each)
    fresh, known = len(kept), sum([life.cpu[0] != life.cpu[-1] for life in kept.values()])
    draining = {reading.life for reading in readings if reading.draining}
    gone = sorted(
        [life for life in lives.values() if life.reading.life not in kept and life.reading.life not in draining],
        key=lambda life: (-life.reading.at, life.reading.life),
    )
    for life in gone[: max(0, replicas - fresh)]:
        kept[life.reading.life] = life
    return Taken(kept, fresh, known, deltas, dropped)


def _first(reading: Reading) -> Life:
    points = {name: (point(None, upstream, reading.at),) for name, upstream in reading.upstreams.items()}
    return Life(reading, points, ((reading.at, reading.cpu),))


def _next(life: Life, reading: Reading) -> tuple[Life, dict[str, Delta]] | None:
    """None where a counter went backwards."""
    before, seconds = life.reading, reading.at - life.reading.at
    if reading.cpu < before.cpu:
        return None
    points: dict[str, Sequence[Point]] = {}
    deltas = {}
    for name, upstream in reading.upstreams.items():
        old = before.upstreams.get(name)
        if old is None:
            points[name] = (point(None, upstream, reading.at),)
            continue
        counted = delta(upstream, old, seconds)
        if counted is None:
            return None
        deltas[name] = counted
        history = life.points[name]
        points[name] = trimmed((*history, point(history[-1], upstream, reading.at)))
    cpu = (*[sample for sample in life.cpu if sample[0] >= reading.at - STABLE], (reading.at, reading.cpu))
    return Life(reading, points, cpu), deltas


def load_of(lives: Mapping[str, Life], seconds: float) -> float:
    """The replicas' mean use of the CPU that they may use, as a share, over the last `seconds`; 0: none is known."""
    shares = []
    for life in lives.values():
        at, cpu = life.cpu[-1]
        first = next((sample for sample in life.cpu if sample[0] >= at - seconds), life.cpu[-1])
        if first[0] < at:
            shares.append((cpu - first[1]) / (at - first[0]) / life.reading.cores)
    return sum(shares) / len(shares) if shares else 0.0


def lag_of(lives: Mapping[str, Life]) -> float:
    """The replicas' mean loop lag, seconds."""
    return sum([life.reading.loop_lag for life in lives.values()]) / len(lives) if lives else 0.0
