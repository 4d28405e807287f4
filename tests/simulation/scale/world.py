"""The simulated world: virtual time, clients, pods that start slowly and break, backends, the ledger, one autoscaler.

Deterministic: all that happens follows from the trace and the seed. Nothing here knows what a cause is but `Truth`,
which sees what the autoscaler can't.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Any

from tests.simulation.scale.backends import Backend
from tests.simulation.scale.controller import Controller
from tests.simulation.scale.pods import Books, Pod, PoolSettings
from tests.simulation.scale.scalers import Scaler
from tests.simulation.scale.truth import Truth

from forebay_core.scale.diagnosis import Cause
from forebay_core.scale.grants import Wanted, grants_wanted
from forebay_core.scale.targets import Targets

TICK = 2.0  # seconds between decisions
WARM_UP = 20.0  # seconds that the first replicas are there before the trace begins
START = (6.0, 12.0)  # seconds from a pod's creation until it can be asked for its readiness
ELECTION = 12.0  # seconds from a leader's end until the next one acts
GRACE = 30.0  # seconds after a planted change until the cause has to be right


@dataclass
class Flow:
    """The requests for one upstream: `rate(now)` per second, each `cost` CPU seconds in the replica."""

    upstream: str
    rate: Callable[[float], float]
    cost: float = 0.0002


@dataclass(frozen=True)
class Plan:
    """What the trace plants: from `begin`, requests for `upstream` wait (if they do) because of `cause`."""

    begin: float
    end: float
    cause: Cause
    upstream: str = "db"


@dataclass
class Trace:
    """A script: what clients ask for, what breaks when, and which cause is planted when."""

    name: str
    seconds: float
    flows: Sequence[Flow]
    backends: Callable[[], dict[str, Backend]]
    targets: Targets
    replicas: int = 1
    events: Sequence[tuple[float, Callable[["World"], None]]] = ()
    plans: Sequence[Plan] = ()
    step_at: float | None = None  # when time to recover is counted from


@dataclass(frozen=True)
class UpstreamSample:
    """One upstream at one tick, as it really was, and what the autoscaler said of it."""

    open: int
    waiting: int
    granted: int
    p95: float  # seconds of wait, of the last six seconds
    saturated: bool
    expected: Cause
    given: Cause | None
    message: str


@dataclass(frozen=True)
class Sample:
    """One tick."""

    at: float
    rate: float
    replicas: int
    wanted: int
    settling: bool  # within the grace after a planted change
    upstreams: Mapping[str, UpstreamSample]


class World:
    """Runs one trace with one autoscaler."""

    def __init__(self, trace: Trace, scaler: Scaler, seed: int) -> None:
        self.trace, self.scaler = trace, scaler
        self.random = Random(f"{trace.name}/{seed}")
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], Any]] = []
        self._number = 0
        self.books = Books()
        self.backends = trace.backends()
        self.settings = PoolSettings()
        self.pods: list[Pod] = []
        self.ended: list[str] = []
        self.wanted_replicas = trace.replicas
        self.samples: list[Sample] = []
        self.replica_seconds = self.connection_seconds = 0.0
        self.leader_away = False
        self.pushes_lost = False
        self._born = 0
        self.truth = Truth(list(self.backends))
        for _ in range(trace.replicas):
            self.create(ready_at=-WARM_UP)
        self.controller = Controller(trace.targets, -WARM_UP)
        for n in range(int(WARM_UP / TICK)):  # the first grants are made before the first client comes
            self.grant(n * TICK - WARM_UP)
        self.route()

    # ------------------------------------------------------------------ time

    def at(self, when: float, act: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heappush(self._heap, (max(when, self.now), self._number, act, arguments))

    def run(self) -> None:
        for flow in self.trace.flows:
            self.at(0.0, self.arrival, flow)
        for when, event in self.trace.events:
            self.at(when, self.event, event)
        self.at(0.0, self.tick)
        self.at(0.0, self.half_second)
        heap = self._heap
        while heap and heap[0][0] <= self.trace.seconds:
            self.now, _, act, arguments = heappop(heap)
            act(self.now, *arguments)

    def event(self, now: float, event: Callable[["World"], None]) -> None:
        event(self)

    # ------------------------------------------------------------------ clients and pods

    def arrival(self, now: float, flow: Flow) -> None:
        rate = flow.rate(now)
        if rate <= 0:
            self.at(now + 0.5, self.arrival, flow)
            return
        self.at(now + self.random.expovariate(rate), self.arrival, flow)
        serving = self.serving
        if not serving:
            self.books.failed(now, 5.0)
            return
        pod = serving[0] if len(serving) == 1 else self.random.choices(serving, self.weights)[0]
        pod.arrive(now, flow.upstream, self.backends[flow.upstream].size(self.random), flow.cost)

    def create(self, ready_at: float | None = None) -> None:
        self._born += 1
        bounded = [name for name, target in self.trace.targets.upstreams.items() if target.budget is not None]
        ready_at = self.now + self.random.uniform(*START) if ready_at is None else ready_at
        self.pods.append(
            Pod(f"pod-{self._born}", ready_at, self.backends, self.settings, bounded, self.books, self.random,
                self.at, self.now)
        )  # fmt: skip
        self.route()

    def crash(self, index: int = 0) -> None:
        """Kill a pod; its replacement comes as all pods do."""
        pod = [p for p in self.pods if not p.draining][index]
        self.end(pod)
        self.route()

    def end(self, pod: Pod) -> None:
        pod.die(self.now)
        self.pods.remove(pod)
        self.ended.append(pod.name)

    def half_second(self, now: float) -> None:
        self.at(now + 0.5, self.half_second)
        for pod in list(self.pods):
            if not pod.hung:
                pod.tick(now)
            if pod.draining and pod.gone(now):
                self.end(pod)
        self.route()
        self.check()
        self.replica_seconds += 0.5 * len(self.pods)
        self.connection_seconds += 0.5 * sum(backend.open for backend in self.backends.values())

    def route(self) -> None:
        """What the Service sends to: ready, and not leaving."""
        self.serving = [p for p in self.pods if self.ready(p)]
        self.weights = [p.weight for p in self.serving]

    def ready(self, pod: Pod) -> bool:
        granted = all(link.pool.grant is None or link.pool.grant > 0 for link in pod.links.values())
        return not pod.draining and not pod.hung and pod.ready_at <= self.now and granted

    # ------------------------------------------------------------------ control

    def tick(self, now: float) -> None:
        self.at(now + TICK, self.tick)
        up = [p for p in self.pods if not p.draining and p.ready_at <= now]
        readings = [p.reading(now) for p in up if p.reachable(now)]
        if not self.leader_away:
            self.wanted_replicas = self.scaler.tick(readings, now)
            if not self.pushes_lost:
                self.grant(now)
        self.carry_out(now)
        self.record(now, up)

    def grant(self, now: float) -> None:
        """The ledger's turn. The peers wish for equal shares: they don't say what each replica needs."""
        upstreams = self.trace.targets.upstreams
        verdict = self.scaler.verdict
        if verdict is not None:
            wanted = grants_wanted(verdict)
        else:
            wanted = Wanted({(p.name, u): t.ceiling for p in self.pods for u, t in upstreams.items()}, frozenset())
        self.controller.tick(now, self.pods, self.ended, wanted)

    def check(self) -> None:
        """The one thing that must always hold."""
        for name, target in self.trace.targets.upstreams.items():
            held = sum(pod.links[name].pool.held for pod in self.pods)
            assert target.budget is None or held <= target.budget, f"{held} held of {target.budget} to {name}"

    def replace_leader(self) -> None:
        """The leader is gone; the next one knows what stands in the resource's status."""
        self.leader_away = True
        self.at(self.now + ELECTION, self.lead)

    def lead(self, now: float) -> None:
        self.leader_away = False
        self.scaler.replace_leader(now)
        self.controller.replace_leader(now)

    def carry_out(self, now: float) -> None:
        """As a Deployment does."""
        alive = [p for p in self.pods if not p.draining]
        for _ in range(self.wanted_replicas - len(alive)):
            self.create()
        surplus = max(0, len(alive) - self.wanted_replicas)
        for pod in sorted(alive, key=lambda p: (p.ready_at <= now, -p.born))[:surplus]:  # the newest first
            pod.drain(now)
        self.route()

    # ------------------------------------------------------------------ books

    def record(self, now: float, up: Sequence[Pod]) -> None:
        targets, verdict = self.trace.targets, self.scaler.verdict
        self.truth.look(now, up)
        planted = dict.fromkeys(self.backends) | {
            plan.upstream: plan.cause for plan in self.trace.plans if plan.begin <= now < plan.end
        }
        pods = {name: [pod.links[name].pool for pod in self.pods] for name in self.backends}
        judged = verdict.upstreams if verdict is not None else {}
        self.samples.append(
            Sample(
                at=now,
                rate=sum(flow.rate(now) for flow in self.trace.flows),
                replicas=len(self.pods),
                wanted=self.wanted_replicas,
                settling=any(0 <= now - change < GRACE for p in self.trace.plans for change in (p.begin, p.end)),
                upstreams={
                    name: UpstreamSample(
                        open=backend.open,
                        waiting=sum(len(pool.waiters) for pool in pods[name]),
                        granted=sum(pool.grant or 0 for pool in pods[name]),
                        p95=self.truth.waits[name],
                        saturated=backend.saturated,
                        expected=self.truth.expected(planted[name], name, targets.target_wait, targets.target_cpu),
                        given=judged[name].cause if name in judged else None,
                        message=judged[name].message if name in judged else "",
                    )
                    for name, backend in self.backends.items()
                },
            )
        )
