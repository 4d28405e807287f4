"""The ProxyPool document: the one source of `pool.yaml`'s validation, the custom resource and the reference.

Values are ready to use: durations are seconds (float), sizes bytes (int), networks `ipaddress` objects, lists
tuples; what is absent is None or its default. Objects are immutable. The classes of parts that others name are
importable from here. Rules over several fields are in `rules`, loading is in `load`.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from forebay_core.spec.forward import Forward
from forebay_core.spec.postgres import Postgres
from forebay_core.spec.scaling import Autoscaling
from forebay_core.spec.traffic import Http, Listen, ListenTLS, Route
from forebay_core.spec.upstream import (
    ActiveCheck,
    Budget,
    CASecret,
    CertSecret,
    LoadBalancing,
    Pool,
    Upstream,
    UpstreamTLS,
)
from forebay_core.spec.values import (
    FORWARD_ONLY,
    HTTP_ONLY,
    HTTP_SPEAKING,
    POSTGRES_ONLY,
    REUSING,
    Annotations,
    Duration,
    Model,
    PoolName,
    PositiveDuration,
    Schema,
    Seq,
    Url,
)

__all__ = [
    "API_VERSION",
    "UNBUILT",
    "ActiveCheck",
    "Autoscaling",
    "Budget",
    "CASecret",
    "CertSecret",
    "Forward",
    "Http",
    "ListenTLS",
    "LoadBalancing",
    "Pool",
    "Postgres",
    "ProxyPool",
    "Spec",
    "Strategy",
    "Telemetry",
    "Upstream",
    "UpstreamTLS",
]

API_VERSION = "forebay.dev/v1alpha1"
UNBUILT = ("mysql", "redis", "amqp", "grpc")  # planned protocols, refused as such


class Drain(Model):
    """How a replica leaves. The pod's termination grace is the sum of both and 5 s."""

    delay: Duration = Field(5.0, description="How long a replica serves on after SIGTERM, while endpoints forget it.")
    timeout: Duration = Field(
        30.0, description="How long what is in flight may take to finish after that; then it is cut off."
    )


class Strategy(Model):
    """How a rollout replaces replicas."""

    max_surge: Annotated[int, Field(ge=0, le=1000)] = Field(
        1, description="Replicas that a rollout may add to the wanted number."
    )
    max_unavailable: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="Replicas that a rollout may take away from the wanted number."
    )


class Tracing(Model):
    """OpenTelemetry spans over OTLP/HTTP."""

    endpoint: Url = Field(description="URL that spans are sent to (OTLP over HTTP).")
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="Share of the traces begun here that are kept, from 0 to 1."
    )


class Telemetry(Model):
    """What is written and sent beside the metrics."""

    access_log: Literal["none", "json"] = Field(
        "none",
        description="A line for each request (http, forward), connection (tcp, tunnels) or session (postgres) on "
        "standard output.",
    )
    slow_request: Duration = Field(
        0.0,
        description="Requests, with postgres queries without their constants, that take longer are logged with where "
        "their time went. 0s: none.",
        json_schema_extra=REUSING,
    )
    tracing: Tracing | None = Field(
        None, description="Spans of each request. Absent: none.", json_schema_extra=HTTP_SPEAKING
    )


class ServiceTemplate(Model):
    """The Service that clients use."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field("ClusterIP", description="Type of the Service.")
    annotations: Annotations = Field({}, description="Annotations of the Service.")


def _built(protocol: object) -> object:
    if protocol in UNBUILT:
        raise ValueError(f"{protocol} is not built yet; expected http, forward, tcp or postgres")
    return protocol


class Spec(Model):
    """What is wanted."""

    protocol: Annotated[Literal["http", "forward", "tcp", "postgres"], BeforeValidator(_built)] = Field(
        description="What is spoken with clients and upstreams. forward: HTTP and tunnels (CONNECT) to wherever "
        "requests say. tcp: one client, one connection, nothing is reused."
    )
    listen: Listen = Field(description="Where clients connect.")
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        2,
        description="Pods in a cluster, worker processes in local mode (there at least 1). "
        "With autoscaling set it is only reported.",
    )
    autoscaling: Autoscaling | None = Field(
        None, description="Replicas as the traffic needs. Absent: as many as replicas says."
    )
    upstreams: Annotated[Seq[Upstream], Field(min_length=1, max_length=16)] = Field(
        description="The backends.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    routes: Annotated[Seq[Route], Field(max_length=128)] = Field(
        (),
        description="Which requests go to which upstream; the first match wins, without a match 404. "
        "Empty: all go to the first upstream.",
        json_schema_extra=HTTP_ONLY,
    )
    http: Http = Field(Http(), description="Limits and timeouts of HTTP.", json_schema_extra=HTTP_SPEAKING)
    forward: Forward | None = Field(
        None,
        description="Who may use a forward proxy, and for what. Required with protocol forward.",
        json_schema_extra=FORWARD_ONLY,
    )
    postgres: Postgres | None = Field(
        None,
        description="Pooling, logins, databases and timeouts of PostgreSQL. Required with protocol postgres.",
        json_schema_extra=POSTGRES_ONLY,
    )
    max_client_connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        10_000, description="Client connections per replica."
    )
    paused: bool = Field(
        False,
        description="true: requests are taken and wait, none gets a connection until this is false again.",
    )
    pause_timeout: PositiveDuration = Field(
        120.0, description="The longest that a request waits because of a pause; then it is refused."
    )
    drain: Drain = Field(Drain(), description="How a replica leaves.")
    strategy: Strategy = Field(Strategy(), description="How a rollout replaces replicas.")
    telemetry: Telemetry = Field(Telemetry(), description="What is written and sent beside the metrics.")
    service_template: ServiceTemplate = Field(ServiceTemplate(), description="The Service that clients use.")
    template: Annotated[
        dict[str, Any],
        Schema(type="object", x_kubernetes_preserve_unknown_fields=True, x_expected="a mapping"),
    ] = Field(
        {},
        description="Laid over the pod template of the replicas: objects merge by key; containers, volumes and env by "
        "name, volumeMounts by mountPath; other lists replace. The proxy's container is named proxy.",
    )

    @field_validator("upstreams")
    @classmethod
    def _defaults_of_the_protocol(cls, upstreams: tuple[Upstream, ...], info: ValidationInfo) -> tuple[Upstream, ...]:
        return tuple(upstream.of_protocol(info.data.get("protocol", "")) for upstream in upstreams)

    @property
    def session(self) -> bool:
        """Whether the protocol is one of sessions, whose cancels take connections of their own."""
        return self.protocol == "postgres"

    @property
    def anywhere(self) -> bool:
        """Whether requests say where to go: then no endpoint is listed."""
        return self.forward is not None and not self.forward.parents

    @property
    def watches_roles(self) -> bool:
        """Whether endpoints are asked for their role, which is a check of their health too."""
        return self.postgres is not None and self.postgres.monitor is not None

    @property
    def maximum_replicas(self) -> int:
        """The most replicas there can be, which floors are computed from."""
        return self.autoscaling.max_replicas if self.autoscaling else self.replicas


class Metadata(Model):
    """The object's metadata; what Kubernetes adds to it is not looked at."""

    model_config = ConfigDict(extra="ignore")

    name: PoolName = Field(description="Name of the pool.")
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    generation: int | None = None


class ProxyPool(Model):
    """A pool of connections in front of one or more backends."""

    api_version: Literal["forebay.dev/v1alpha1"] = Field(description="Version of the document.")
    kind: Literal["ProxyPool"] = Field(description="Kind of the document.")
    metadata: Metadata = Field(description="Name and, in a cluster, namespace of the pool.")
    spec: Spec = Field(description="What is wanted.")
