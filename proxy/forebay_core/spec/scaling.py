"""How many replicas: the autoscaler's targets, and its behavior as in the Kubernetes API autoscaling/v2."""

from typing import Annotated, Literal

from pydantic import Field

from forebay_core.spec.values import Model, PositiveDuration, Seq

SelectPolicy = Literal["Max", "Min", "Disabled"]


class ScalingPolicy(Model):
    """One bound on the change of replicas within a period."""

    type: Literal["Pods", "Percent"] = Field(description="Whether value is a number of replicas or a percentage.")
    value: Annotated[int, Field(ge=1, le=10_000)] = Field(description="The change allowed, in replicas or percent.")
    period_seconds: Annotated[int, Field(ge=1, le=1800)] = Field(description="Seconds that the change is counted over.")


Window = Annotated[
    int,
    Field(
        ge=0,
        le=3600,
        description="Seconds that are looked back over: the most cautious verdict in them is taken.",
    ),
]
Select = Annotated[
    SelectPolicy,
    Field(description="Which policy counts: the one that allows most, least, or no change at all."),
]
Policies = Annotated[
    Seq[ScalingPolicy], Field(min_length=1, max_length=16, description="Bounds on the change of replicas.")
]


class ScaleUp(Model):
    """How fast replicas are added. Ten times as many at once by default, as Knative's: what is wished for has been
    diagnosed to help, and is within the budget and `maxReplicas`."""

    stabilization_window_seconds: Window = 0
    select_policy: Select = "Max"
    policies: Policies = (ScalingPolicy(type="Percent", value=900, period_seconds=15),)


class ScaleDown(Model):
    """How fast replicas are removed; the defaults are those of autoscaling/v2."""

    stabilization_window_seconds: Window = 300
    select_policy: Select = "Max"
    policies: Policies = (ScalingPolicy(type="Percent", value=100, period_seconds=15),)


class Behavior(Model):
    """How fast the number of replicas follows the verdict."""

    scale_up: ScaleUp = Field(ScaleUp(), description="How fast replicas are added.")
    scale_down: ScaleDown = Field(ScaleDown(), description="How fast replicas are removed.")


class Autoscaling(Model):
    """Replicas as the traffic needs."""

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="Replicas at least.")
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(8, description="Replicas at most.")
    target_wait: PositiveDuration = Field(
        0.02, description="Wait for a connection that 95 of 100 requests should stay below."
    )
    target_cpu: Annotated[int, Field(ge=1, le=100)] = Field(
        70,
        alias="targetCPU",
        description="CPU use to stay below, in percent of what a replica may use (its CPU limit, else one core).",
    )
    behavior: Behavior = Field(Behavior(), description="How fast the number of replicas follows the verdict.")
