"""CPU time of what the operator decides each tick, for a thousand pools of ten replicas: `python -m bench.decide`.

Three parts, each as in a real tick: the replicas' `/state` documents become readings (`parse`), the autoscaler gives
its verdict (`scale`), the ledger takes its step (`budget`). Demand moves from replica to replica, so that grants do
too. What the network and the Kubernetes API cost is not in it. It is one process's CPU time, not the clock's.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import process_time
from typing import Any, NamedTuple

from forebay_core.budget import replica
from forebay_core.budget.decide import Seen, decide
from forebay_core.budget.ledger import Ledger
from forebay_core.budget.proofs import Cluster, Node, Pod
from forebay_core.budget.shares import terms
from forebay_core.histogram import Histogram
from forebay_core.scale import verdict
from forebay_core.scale.grants import grants_wanted
from forebay_core.scale.readings import reading
from forebay_core.scale.targets import Targets, UpstreamTargets

POOLS, REPLICAS = 1000, 10
ALLOWED = 1.0  # seconds of CPU for all pools, scale and budget together
TICK = 2.0  # seconds
FULL = 40  # ticks until every window is full
BUDGET, CEILING = 120, 15  # connections: fewer than all replicas could use


class Costs(NamedTuple):
    """Seconds of CPU, of one pool's tick."""

    parse: float
    scale: float
    budget: float

    @property
    def decision(self) -> float:
        """What the budget of a second is for."""
        return self.scale + self.budget


@dataclass
class Worker:
    """A replica that counts on; `state` is the part of its `/state` document that readings are made of, and more."""

    life: str
    memory: replica.Memory
    wait: Histogram = field(default_factory=Histogram)
    hold: Histogram = field(default_factory=Histogram)
    cpu: float = 0.0

    def state(self, now: float, *, busy: bool) -> str:
        """After two seconds of 50 requests per second, or of 10."""
        grant = self.memory.grants.get("db", 0)
        for _ in range(100 if busy else 20):
            self.wait.observe(0.05 if busy else 0.0)
            self.hold.observe(0.2)
        self.cpu += 0.2
        empty = [list(Histogram().counts), 0.0]
        leased = grant if busy else min(2, grant)
        upstream: dict[str, Any] = {
            "connections": {"idle": grant - leased, "leased": leased, "opening": 0, "draining": 0, "closing": 0},
            "limit": grant, "left": 0, "spare": 0, "grant": grant, "budget": BUDGET, "ceiling": CEILING, "held": grant,
            "waiting": 3 if busy else 0, "wait_oldest": 0.05 if busy else 0.0, "lease_oldest": 0.3, "paused": False,
            "wait": {"served": [list(self.wait.counts), self.wait.sum], "timeout": empty, "refused": empty},
            "connect": [list(Histogram().counts), 0.1], "hold": [list(self.hold.counts), self.hold.sum],
            "request": [list(self.hold.counts), self.hold.sum], "opened": 20,
            "closed": {"idle": 4, "recycle": 2, "shrink": 1, "error": 0}, "connect_errors": {}, "retries": {},
            "codes": {"200": self.hold.count}, "rejections": {"queue_full": 0, "timeout": 0},
            "endpoints": {"10.0.0.1:80": {"healthy": True, "reason": None, "ejections": 0, "busy": 2, "open": 9}},
        }  # fmt: skip
        return json.dumps({
            "pid": 1, "name": "orders", "namespace": "shop", "document": "0" * 64, "ready": True, "draining": False,
            "life": self.life, "sequence": self.memory.sequence, "clients": 40, "codes": {"200": self.hold.count},
            "rejections": {}, "loop_lag": 0.001, "cpu": self.cpu, "rss": 40_000_000, "started": 1000.0, "time": now,
            "upstreams": {"db": upstream},
        })  # fmt: skip


class Operated:
    """One pool and its operator's memory."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.targets = Targets({"db": UpstreamTargets(CEILING, BUDGET)}, 1, REPLICAS)
        self.terms = {"db": terms(BUDGET, REPLICAS, ceiling=CEILING)}
        self.workers = [Worker(f"life-{n}", replica.Memory(f"life-{n}")) for n in range(REPLICAS)]
        self.state = verdict.ScalerState(REPLICAS)
        self.ledger: Ledger | None = None
        self.dead_since: Mapping[str, float] = {}
        self.writes = 0

    def tick(self, busy: int) -> Costs:
        """One tick in which the replica `busy` is crowded."""
        self.now += TICK
        now = self.now
        served = [worker.state(now, busy=n == busy) for n, worker in enumerate(self.workers)]
        answers = {w.life: replica.answer(w.memory, f"pod-{w.life}", self.terms) for w in self.workers}
        pods = {f"pod-{w.life}": Pod(f"node-{w.life}") for w in self.workers}
        nodes = {pod.node: Node("boot", now) for pod in pods.values()}

        begin = process_time()
        readings = [reading(json.loads(text), now) for text in served]
        parsed = process_time()
        judged, self.state = verdict.decide(self.state, readings, self.targets, now)
        scaled = process_time()
        wanted = grants_wanted(judged)
        decision = decide(
            Seen(
                self.ledger, self.terms, Cluster(pods, nodes), answers, now, wanted.demand, wanted.capped,
                dead_since=self.dead_since, highest=self.ledger.sequence if self.ledger is not None else 0,
                began=now - 3600,
            )
        )  # fmt: skip
        end = process_time()

        self.dead_since = {life: self.dead_since.get(life, now) for life in decision.dead}
        if decision.ledger is not None:
            self.writes += 1
            self.ledger = decision.ledger
            lives = self.ledger.lives()
            for worker in self.workers:
                if worker.life in lives:
                    taken = replica.take(worker.memory, self.ledger.push(worker.life))
                    worker.memory = replica.Memory(taken.life, taken.sequence, False, taken.grants, taken.grants)
        return Costs(parsed - begin, scaled - parsed, end - scaled)


def measure(ticks: int = 50, rounds: int = 5) -> tuple[Costs, float]:
    """The least that a tick of one pool takes, of so many rounds of so many ticks each: what else the machine does is
    not counted. And the share of ticks in which the ledger was written."""
    pool = Operated()
    for n in range(FULL):
        pool.tick(n // 10 % REPLICAS)
    pool.writes = 0
    means = []
    for n in range(rounds):
        costs = [pool.tick((n + tick // 10) % REPLICAS) for tick in range(ticks)]
        means.append(Costs(*(sum(part) / ticks for part in zip(*costs, strict=True))))
    return min(means, key=lambda costs: costs.decision), pool.writes / (ticks * rounds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.decide", description="What a decision costs.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of 50 ticks; the least counts")
    costs, written = measure(rounds=parser.parse_args().rounds)
    print(
        f"{POOLS} pools of {REPLICAS} replicas, seconds of CPU per tick; a ledger is written in {written:.0%} of them"
    )
    for name, value in (*costs._asdict().items(), ("scale + budget", costs.decision)):
        print(f"  {name:15}{value * POOLS:6.2f}")
    good = costs.decision * POOLS < ALLOWED
    print(f"{'ok  ' if good else 'OVER'} scale + budget, at most {ALLOWED:g}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
