"""Readings made by hand: what matters to a test is an argument."""

from collections.abc import Mapping, Sequence
from typing import Any

from forebay_core.histogram import Histogram
from forebay_core.scale.readings import Reading, UpstreamReading
from forebay_core.scale.targets import Targets, UpstreamTargets
from forebay_core.scale.verdict import ScalerState, Verdict, decide

TICK = 2.0  # seconds


def counts(*values: tuple[float, int]) -> tuple[int, ...]:
    """Buckets with so many of each value (seconds, how many)."""
    made = Histogram()
    for seconds, many in values:
        for _ in range(many):
            made.observe(seconds)
    return tuple(made.counts)


def targets(budget: int | None = None, **fields: Any) -> Targets:
    """One upstream `db`, 15 connections per replica."""
    return Targets({"db": UpstreamTargets(15, budget)}, **fields)


class Replica:
    """A replica whose counters go on: each `tick` adds to them."""

    def __init__(self, life: str, ceiling: int = 15, grant: int | None = None) -> None:
        self.life, self.process = life, life
        self.cpu = 0.0
        self.db = UpstreamReading(0, 0.0, 0, 0, min(ceiling, ceiling if grant is None else grant), ceiling, grant=grant)

    def reading(self, at: float, **fields: Any) -> Reading:
        return Reading(self.life, self.process, at, self.cpu, fields.pop("lag", 0.0), {"db": self.db}, **fields)

    def tick(
        self,
        at: float,
        *,
        requests: int = 0,
        wait: float = 0.0,
        hold: float = 0.1,
        cpu: float = 0.1,
        done: int | None = None,
        **fields: Any,
    ) -> Reading:
        """After two seconds in which `requests` ended their wait of `wait` seconds, and as many leases of `hold`."""
        done = requests if done is None else done
        self.cpu += cpu * TICK
        lag = fields.pop("lag", 0.0)
        self.db = self.db._replace(
            waits=added(self.db.waits, counts((wait, requests))),
            holds=added(self.db.holds, counts((hold, done))),
            hold_sum=self.db.hold_sum + hold * done,
            **fields,
        )
        return self.reading(at, lag=lag)


def added(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


class Fleet:
    """Replicas and the state of the autoscaler that looks at them."""

    def __init__(self, replicas: int, aims: Targets, *, grant: int | None = None) -> None:
        self.aims, self.now = aims, 0.0
        self.replicas = [Replica(f"life-{n}", grant=grant) for n in range(replicas)]
        self.state = ScalerState(replicas)
        self.decide([r.reading(0.0) for r in self.replicas])

    def decide(self, readings: Sequence[Reading]) -> Verdict:
        verdict, self.state = decide(self.state, readings, self.aims, self.now)
        return verdict

    def tick(self, *others: Mapping[str, Any], **fields: Any) -> Verdict:
        """All replicas do the same, but the last ones what `others` say."""
        self.now += TICK
        each = [fields] * (len(self.replicas) - len(others)) + [{**fields, **other} for other in others]
        return self.decide([r.tick(self.now, **f) for r, f in zip(self.replicas, each, strict=True)])

    def ticks(self, many: int, *others: Mapping[str, Any], **fields: Any) -> Verdict:
        for _ in range(many):
            verdict = self.tick(*others, **fields)
        return verdict

    def calm(self, many: int = 30) -> Verdict:
        """A quiet minute: the baseline is learnt, 0.1 s."""
        return self.ticks(many, requests=20, leased=1, opening=0, waiting=0)
