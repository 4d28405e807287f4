"""The schema of the ProxyPool's status, which the operator writes; `load` doesn't look at it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from forebay_core.spec.values import Duration, Label, Model, Schema, Seq

Count = Annotated[int, Field(ge=0, le=2_147_483_647)]
Opaque = Annotated[dict[str, Any], Schema(x_kubernetes_preserve_unknown_fields=True)]
Text = Annotated[str, Field(max_length=1024)]
Cause = Annotated[str, Field(max_length=32)]

CAUSES = "Pool, Ceiling, Budget, Replica, Connect, Backend or None"


class Condition(Model):
    """A condition as in the Kubernetes API (metav1.Condition)."""

    type: Annotated[str, Field(min_length=1, max_length=316)] = Field(
        description="Ready, Progressing, BudgetExhausted, BackendSaturated, BackendUnavailable or Paused."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        None, description="The generation of the spec that it was found for."
    )
    last_transition_time: Annotated[str, Field(max_length=64), Schema(format="date-time")] = Field(
        description="When status last changed."
    )
    reason: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="Why, as one word.")
    message: Annotated[str, Field(max_length=32768)] = Field(description="Why, in words.")


class UpstreamStatus(Model):
    """One upstream, over all replicas."""

    name: Label = Field(description="Name of the upstream.")
    granted: Count | None = Field(None, description="Connections that the replicas have been told they may open.")
    budget: Count | None = Field(None, description="Connections that may be granted: maxConnections - reserved.")
    budget_in_force: Count | None = Field(
        None,
        description="The budget that holds now: after a cut the old one, until replicas are within the new.",
    )
    waiting: Count | None = Field(None, description="Requests that wait for a connection.")
    wait_p95: Duration | None = Field(None, description="95 of 100 requests waited less for a connection.")
    limited_by: Cause | None = Field(None, description=f"Why requests wait: {CAUSES}.")


class Status(Model):
    """What is, as the operator sees it."""

    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        None, description="The generation of the spec that the operator has acted on."
    )
    replicas: Count | None = Field(None, description="Replicas there are.")
    ready_replicas: Count | None = Field(None, description="Replicas that are ready.")
    selector: Text | None = Field(None, description="Label selector of the replicas, for the scale subresource.")
    conditions: Annotated[
        Seq[Condition],
        Field(max_length=16),
        Schema(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["type"]),
    ] = Field((), description="Ready, Progressing, BudgetExhausted, BackendSaturated, BackendUnavailable and Paused.")
    ledger: Opaque | None = Field(
        None, description="Grants and bounds of every life. The operator's own: not to be edited."
    )
    autoscaler: Opaque | None = Field(
        None, description="What the autoscaler has learnt of every upstream. The operator's own: not to be edited."
    )
    granted: Count | None = Field(None, description="granted of the upstream that waits longest.")
    budget: Count | None = Field(None, description="budget of the upstream that waits longest.")
    waiting: Count | None = Field(None, description="waiting of the upstream that waits longest.")
    wait_p95: Duration | None = Field(None, description="waitP95 of the upstream that waits longest.")
    limited_by: Cause | None = Field(None, description="limitedBy of the upstream that waits longest.")
    upstreams: Annotated[
        Seq[UpstreamStatus],
        Field(max_length=16),
        Schema(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["name"]),
    ] = Field((), description="Every upstream apart.")
