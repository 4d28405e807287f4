"""The autoscaler's turn: what was seen, in the words of `forebay_core.scale`, and how many replicas there shall be.

Pure.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from forebay_core.scale.readings import Reading
from forebay_core.scale.targets import targets
from forebay_core.scale.verdict import ScalerState, Verdict, decide, restored, saved
from forebay_core.spec.model import Spec


def turn(
    spec: Spec, in_force: Mapping[str, int], state: ScalerState, readings: Iterable[Reading], now: float
) -> tuple[Verdict, ScalerState]:
    """The verdict at `now`. `in_force`: the budgets that hold. Without `autoscaling` it names spec's replicas."""
    return decide(state, list(readings), targets(spec, in_force), now)


def first(spec: Spec, known: object, deployment: Mapping[str, Any] | None, now: float) -> ScalerState:
    """The state of a leader that has just begun. `known`: `status.autoscaler`, whatever it is."""
    fields = known.items() if isinstance(known, Mapping) else ()
    upstreams = {str(name): value for name, value in fields if isinstance(value, Mapping)}
    least = spec.autoscaling.min_replicas if spec.autoscaling is not None else spec.replicas
    there = deployment["spec"].get("replicas", 1) if deployment is not None else least
    return restored(upstreams, there, now)


def record(state: ScalerState) -> dict[str, Any]:
    """`status.autoscaler`, without what is not known yet: null is absent, as everywhere in the API server."""
    fields = {name: value for name, value in saved(state).items() if isinstance(value, Mapping)}
    return {name: {key: v for key, v in value.items() if v is not None} for name, value in fields.items()}
