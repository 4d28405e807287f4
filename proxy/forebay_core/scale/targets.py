"""What the autoscaler aims at: the part of the document that it reads, in the units that it counts in."""

from collections.abc import Mapping
from typing import NamedTuple

from forebay_core.spec.model import Spec
from forebay_core.spec.scaling import Autoscaling, Behavior


class UpstreamTargets(NamedTuple):
    """One upstream's limits, in connections."""

    ceiling: int  # size + maxOverflow, per replica
    budget: int | None = None  # in force, over all replicas; None: none is set
    per_endpoint: bool = False  # grants and budget hold for each endpoint apart
    anywhere: bool = False  # requests say where to go: that one place is slow or gone says nothing of the others


class Targets(NamedTuple):
    """What to keep to. `target_wait` in seconds, `target_cpu` as a share."""

    upstreams: Mapping[str, UpstreamTargets]
    min_replicas: int = 1
    max_replicas: int = 8
    target_wait: float = 0.02
    target_cpu: float = 0.7
    behavior: Behavior = Behavior()

    def clamped(self, replicas: int) -> int:
        """Within what the document allows."""
        return min(max(replicas, self.min_replicas), self.max_replicas)


def targets(spec: Spec, in_force: Mapping[str, int]) -> Targets:
    """Of a document. `in_force` are the budgets that hold now, which may still be those before a cut.

    Without `autoscaling` the number of replicas is fixed; causes and connections are found all the same.
    """
    scaling = spec.autoscaling or Autoscaling()
    return Targets(
        {
            upstream.name: UpstreamTargets(
                upstream.pool.size + upstream.pool.max_overflow,
                in_force[upstream.name] if upstream.budget is not None else None,
                upstream.budget is not None and upstream.budget.per == "endpoint",
                spec.anywhere,
            )
            for upstream in spec.upstreams
        },
        scaling.min_replicas if spec.autoscaling else spec.replicas,
        scaling.max_replicas if spec.autoscaling else spec.replicas,
        scaling.target_wait,
        scaling.target_cpu / 100,
        scaling.behavior,
    )
