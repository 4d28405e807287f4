"""Local mode's autoscaler: `forebay_core.scale` over the workers, each with a core of its own."""

from collections.abc import Iterable, Mapping
from typing import Any

from forebay_core.budget.terms import terms
from forebay_core.scale.grants import Wanted, grants_wanted
from forebay_core.scale.readings import reading
from forebay_core.scale.targets import Targets, targets
from forebay_core.scale.verdict import ScalerState, Verdict, decide
from forebay_core.spec.model import Spec

TICK = 2.0  # seconds between two verdicts; the windows of `forebay_core.scale` are made for it
CORES = 1.0  # that a worker may use: it is one thread
NOTHING = Wanted({}, frozenset())


class Scaling:
    """How many workers there should be, and what each could use."""

    def __init__(self, spec: Spec) -> None:
        begin = spec.autoscaling.min_replicas if spec.autoscaling is not None else spec.replicas
        self._state = ScalerState(begin)
        self.verdict: Verdict | None = None
        self._due = 0.0

    @property
    def replicas(self) -> int:
        return self._state.replicas

    @property
    def wanted(self) -> Wanted:
        return grants_wanted(self.verdict) if self.verdict is not None else NOTHING

    def follow(self, spec: Spec) -> None:
        """A changed document: within its bounds at once."""
        self._state = self._state._replace(replicas=_targets(spec, {}).clamped(self.replicas))

    def tick(
        self, spec: Spec, in_force: Mapping[str, int], states: Iterable[tuple[Mapping[str, Any], float]], now: float
    ) -> bool:
        """A verdict on what the workers said (`states` with the time of each), when it is due. Whether it was."""
        if now < self._due:
            return False
        self._due = now + TICK
        self.verdict, self._state = decide(
            self._state, [reading(state, at, CORES) for state, at in states], _targets(spec, in_force), now
        )
        return True

    def as_state(self) -> dict[str, Any]:
        """For `/state`."""
        verdict = self.verdict
        if verdict is None:
            return {"replicas": self.replicas, "cause": None, "message": "", "upstreams": {}}
        return {
            "replicas": verdict.replicas,
            "cause": verdict.cause,
            "message": verdict.message,
            "upstreams": {
                name: {
                    "cause": each.cause,
                    "message": each.message,
                    "wanted": dict(each.wanted),
                    "capped": each.capped,
                    "waiting": each.waiting,
                    "wait_p95": each.wait_p95,
                    "baseline": each.baseline.mean if each.baseline is not None else None,  # seconds of a lease
                }
                for name, each in verdict.upstreams.items()
            },
            "dropped_readings": dict(self._state.dropped),
        }


def _targets(spec: Spec, in_force: Mapping[str, int]) -> Targets:
    """`in_force` does not know a budget yet that has just been given."""
    return targets(spec, {name: term.budget for name, term in terms(spec).items()} | dict(in_force))
