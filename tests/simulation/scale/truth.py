"""What is really going on, seen from above: of every pod, whether it can be read or not, and of the plan."""

from collections import deque
from collections.abc import Sequence

from tests.simulation.scale.pods import Pod

from forebay_core.histogram import Histogram, HistogramSnapshot
from forebay_core.scale.diagnosis import LATE, Cause
from forebay_core.scale.windows import PANIC

CPU_MEMORY = PANIC


class Truth:
    """`waits` and `busy` after each `look`; the same definitions as the autoscaler's, from complete data."""

    def __init__(self, upstreams: Sequence[str]) -> None:
        self._seen: dict[tuple[str, str], Sequence[int]] = {}
        self._ticks: dict[str, deque[tuple[float, Sequence[int]]]] = {name: deque() for name in upstreams}
        self._cpu: dict[str, deque[tuple[float, float]]] = {}
        self.waits: dict[str, float] = {}
        self.busy = self.lag = 0.0

    def look(self, now: float, pods: Sequence[Pod]) -> None:
        for name, ticks in self._ticks.items():
            total = [0] * len(Histogram().counts)
            waiting, oldest = 0, 0.0
            for pod in pods:
                pool = pod.links[name].pool
                counts = [sum(column) for column in zip(*[h.counts for h in pool.wait.values()], strict=True)]
                before = self._seen.get((pod.name, name), [0] * len(counts))
                total = [t + c - b for t, c, b in zip(total, counts, before, strict=True)]
                self._seen[pod.name, name] = counts
                waiting += len(pool.waiters)
                oldest = max(oldest, pool.statistics(now).wait_oldest)
            ticks.append((now, total))
            while ticks[0][0] <= now - PANIC:
                ticks.popleft()
            merged = tuple(sum(column) for column in zip(*[counts for _, counts in ticks], strict=True))
            p95 = Histogram(start=HistogramSnapshot(merged, 0.0)).quantile(0.95) or 0.0
            self.waits[name] = max(p95, oldest) if waiting > 0.05 * (sum(merged) + waiting) else p95
        self.busy = self._busy(now, pods)
        self.lag = sum(pod.lag for pod in pods) / max(1, len(pods))

    def _busy(self, now: float, pods: Sequence[Pod]) -> float:
        shares = []
        for pod in pods:
            history = self._cpu.setdefault(pod.name, deque())
            history.append((now, pod.used(now)))
            while history[0][0] < now - CPU_MEMORY:
                history.popleft()
            (first, cpu), (last, used) = history[0], history[-1]
            if last > first:
                shares.append((used - cpu) / (last - first))
        return sum(shares) / len(shares) if shares else 0.0

    def expected(self, planted: Cause | None, upstream: str, target_wait: float, target_cpu: float) -> Cause:
        """The planted cause, where it shows: it may have been cured by now, or do no harm yet."""
        shows = {
            None: False,
            Cause.CONNECT: True,
            Cause.REPLICA: self.busy > target_cpu or self.lag > LATE,
        }.get(planted, self.waits[upstream] > target_wait)
        return planted if shows and planted is not None else Cause.NONE
