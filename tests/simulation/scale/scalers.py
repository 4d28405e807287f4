"""Three autoscalers on one interface: ours, an HPA on waiting clients, and Knative's KPA formula."""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Protocol

from forebay_core.scale.behavior import Pace, Wish, follow
from forebay_core.scale.readings import Reading
from forebay_core.scale.targets import Targets
from forebay_core.scale.verdict import ScalerState, Verdict, decide, restored, saved
from forebay_core.scale.windows import PANIC, STABLE
from forebay_core.spec.scaling import Behavior, ScaleDown, ScaleUp, ScalingPolicy


class Scaler(Protocol):
    """`tick` every two seconds with what could be read; answers how many replicas there should be."""

    name: str
    verdict: Verdict | None  # of the last tick, for one that diagnoses

    def tick(self, readings: Sequence[Reading], now: float) -> int: ...

    def replace_leader(self, now: float) -> None: ...


class Ours:
    """`forebay_core.scale.verdict.decide`; a new leader starts from what is kept in status."""

    name = "forebay"

    def __init__(self, targets: Targets, replicas: int) -> None:
        self.targets = targets
        self.state = ScalerState(replicas, Pace((Wish(0.0, replicas),)))
        self.verdict: Verdict | None = None

    def tick(self, readings: Sequence[Reading], now: float) -> int:
        self.verdict, self.state = decide(self.state, readings, self.targets, now)
        return self.verdict.replicas

    def replace_leader(self, now: float) -> None:
        status = json.loads(json.dumps(saved(self.state)))
        self.state = restored(status, self.state.replicas, now)


class HPA:
    """Kubernetes' horizontal pod autoscaler on waiting clients per replica, as KEDA or an adapter would feed it.

    Every 15 s, replicas = ceil(current * metric / target) unless within 10 % of the target (documentation: "Algorithm
    details"), with the defaults of autoscaling/v2 for `behavior`.
    """

    name = "HPA"
    PERIOD = 15.0  # seconds
    TARGET = 1.0  # waiting clients per replica
    TOLERANCE = 0.1
    BEHAVIOR = Behavior(
        scale_up=ScaleUp(
            policies=(
                ScalingPolicy(type="Pods", value=4, period_seconds=15),
                ScalingPolicy(type="Percent", value=100, period_seconds=15),
            )
        ),
        scale_down=ScaleDown(stabilization_window_seconds=300),
    )

    def __init__(self, targets: Targets, replicas: int) -> None:
        self.targets, self.replicas = targets, replicas
        self.pace = Pace((Wish(0.0, replicas),))
        self.due = 0.0
        self.verdict: Verdict | None = None

    def tick(self, readings: Sequence[Reading], now: float) -> int:
        if now < self.due or not readings:
            return self.replicas
        self.due = now + self.PERIOD
        waiting = max(sum(r.upstreams[name].waiting for r in readings) for name in self.targets.upstreams)
        ratio = waiting / len(readings) / self.TARGET
        wish = self.replicas if abs(ratio - 1) <= self.TOLERANCE else ceil(len(readings) * ratio)
        self.replicas, self.pace = follow(self.BEHAVIOR, self.pace, self.replicas, self.targets.clamped(wish), now)
        return self.replicas

    def replace_leader(self, now: float) -> None:
        self.pace = Pace((Wish(now, self.replicas),))


@dataclass
class KPA:
    """Knative Serving's pod autoscaler (pkg/autoscaler/scaling, "How the autoscaler works"), its default settings.

    Concurrency is what is leased and what waits; its target is 70 % of what a replica bears. Averaged over 60 s
    and 6 s; where the latter asks for twice the replicas that are ready it panics: for 60 s it goes up only.
    """

    targets: Targets
    replicas: int
    name: str = "KPA"
    verdict: Verdict | None = None
    samples: deque[tuple[float, float]] = field(default_factory=deque)
    panic_until: float = -1.0

    UTILIZATION = 0.7
    PANIC_THRESHOLD = 2.0
    UP_RATE = 1000.0
    DOWN_RATE = 2.0

    def tick(self, readings: Sequence[Reading], now: float) -> int:
        if not readings:
            return self.replicas
        # With several upstreams the busiest counts, in shares of a replica.
        load = max(
            sum(r.upstreams[name].leased + r.upstreams[name].waiting for r in readings) / target.ceiling
            for name, target in self.targets.upstreams.items()
        )
        self.samples.append((now, load))
        while self.samples[0][0] <= now - STABLE:
            self.samples.popleft()
        ready = len(readings)
        stable, panic = (self._wanted(now, window) for window in (STABLE, PANIC))
        highest, lowest = ceil(self.UP_RATE * ready), floor(ready / self.DOWN_RATE)
        stable, panic = (min(max(each, lowest), highest) for each in (stable, panic))
        if panic / ready >= self.PANIC_THRESHOLD:
            self.panic_until = now + STABLE
        if now < self.panic_until:
            self.replicas = max(self.replicas, panic, stable)
        else:
            self.replicas = stable
        self.replicas = self.targets.clamped(self.replicas)
        return self.replicas

    def _wanted(self, now: float, window: float) -> int:
        loads = [load for at, load in self.samples if at > now - window]
        return ceil(sum(loads) / len(loads) / self.UTILIZATION)

    def replace_leader(self, now: float) -> None:
        self.samples.clear()
