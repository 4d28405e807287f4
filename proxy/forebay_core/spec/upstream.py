"""A named backend: where and how it is reached, how many connections it bears, the pool in front of it."""

from typing import Annotated, Literal

from pydantic import Field

from forebay_core.spec.quantities import format_duration
from forebay_core.spec.values import (
    HTTP_ONLY,
    LOCAL_ONLY,
    POSTGRES_ONLY,
    READYING,
    REUSING,
    Connections,
    Duration,
    FilePath,
    HeaderName,
    Host,
    HostName,
    Label,
    Model,
    ObjectName,
    Percent,
    Port,
    PositiveDuration,
    RequestTarget,
    SecretKey,
    Seq,
    ServiceName,
    cluster_only,
)

POSTGRES_IDLE_TIMEOUT = 300.0  # seconds: a login costs more than a connection of HTTP


class CertSecret(Model):
    """A certificate chain and its private key, from a Secret."""

    name: ObjectName = Field(description="Name of the Secret, in the ProxyPool's namespace.")
    key: SecretKey = Field("tls.crt", description="Key of the Secret that holds the certificate chain, PEM.")
    private_key: SecretKey = Field("tls.key", description="Key of the Secret that holds the private key, PEM.")


class CASecret(Model):
    """Certificate authorities, from a Secret."""

    name: ObjectName = Field(description="Name of the Secret, in the ProxyPool's namespace.")
    key: SecretKey = Field("ca.crt", description="Key of the Secret that holds the authorities, PEM.")


class ServiceTarget(Model):
    """A Service of the ProxyPool's namespace."""

    name: ServiceName = Field(description="Name of the Service.")
    port: Port = Field(description="Port of the Service.")


class Endpoint(Model):
    """One server of an upstream."""

    host: Host = Field(description="Host name or IP address. A name is resolved again every 5 s.")
    port: Port = Field(description="TCP port.")
    weight: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="Share of the load in relation to the other endpoints."
    )


class DnsTarget(Model):
    """A name whose addresses are the endpoints."""

    host: Host = Field(description="Host name; every address that it resolves to is an endpoint.")
    port: Port = Field(description="TCP port of every address.")


class UpstreamTLS(Model):
    """TLS towards the upstream."""

    mode: Literal["verify-full", "verify-ca", "require"] = Field(
        "verify-full",
        description="What is verified: verify-full: the chain and the name; verify-ca: the chain; "
        "require: nothing, the connection is only encrypted.",
    )
    ca_secret: CASecret | None = Field(
        None,
        alias="caSecret",
        description="Authorities that the upstream's certificate must come from. Absent: the system's.",
        json_schema_extra=cluster_only("caFile"),
    )
    ca_file: FilePath | None = Field(
        None,
        description="PEM file of the authorities that the upstream's certificate must come from. Absent: the system's.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "caSecret"},
    )
    client_cert_secret: CertSecret | None = Field(
        None,
        description="Certificate that the proxy shows to the upstream. Absent: none.",
        json_schema_extra=cluster_only("clientCertFile and clientKeyFile"),
    )
    client_cert_file: FilePath | None = Field(
        None,
        description="PEM file of the certificate chain that the proxy shows to the upstream. Absent: none.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "clientCertSecret"},
    )
    client_key_file: FilePath | None = Field(
        None,
        description="PEM file of the private key to clientCertFile.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "clientCertSecret"},
    )
    server_name: HostName | None = Field(
        None, description="Name that is asked for (SNI) and verified. Absent: the endpoint's host name."
    )


class ConsistentHash(Model):
    """What a request's endpoint is derived from."""

    header: HeaderName | None = Field(
        None,
        description="Request header whose value is hashed. Absent, or not in the request: the client's address.",
        json_schema_extra=HTTP_ONLY,
    )


class LoadBalancing(Model):
    """How an endpoint is chosen when a connection is opened or taken."""

    policy: Literal["roundRobin", "leastConnections", "consistentHash"] = Field(
        "leastConnections",
        description="How an endpoint is chosen: in turn, by the fewest connections for its weight, "
        "or by a hash that keeps a client on its endpoint.",
    )
    consistent_hash: ConsistentHash | None = Field(
        None, description="What is hashed, for the policy consistentHash. Absent: the client's address."
    )


class Budget(Model):
    """The most connections that all replicas together may have open to the upstream."""

    max_connections: Connections = Field(description="Connections that the backend accepts from everyone.")
    reserved: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0,
        description="Connections of these that are left to others. The budget is maxConnections - reserved.",
    )
    linger: Duration = Field(
        30.0,
        description="How long the backend may hold a connection whose client died without a word; "
        "until then it counts.",
    )
    per: Literal["upstream", "endpoint"] = Field(
        "upstream",
        description="Whether the budget holds for the upstream as a whole, or for each of its endpoints apart.",
        json_schema_extra={"x-defaults": {"postgres": "endpoint"}},
    )


class Pool(Model):
    """The connections that one replica holds to the upstream, and the requests that wait for them."""

    size: Annotated[int, Field(ge=1, le=100_000)] = Field(
        10, description="Connections per replica that stay open when idle; they are opened on demand."
    )
    max_overflow: Annotated[int, Field(ge=0, le=100_000)] = Field(
        5, description="Connections per replica beyond size under load; closed when released."
    )
    min_idle: Annotated[int, Field(ge=0, le=100_000)] = Field(
        0,
        description="Unleased connections per replica that are kept ready ahead of demand.",
        json_schema_extra=READYING,
    )
    timeout: PositiveDuration = Field(
        5.0,
        description="The longest that a request waits for a connection and its opening; then it is refused.",
    )
    max_waiting: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        1000,
        description="Requests per replica that may wait; with so many waiting, the next is refused at once.",
    )
    connect_timeout: PositiveDuration = Field(
        3.0, description="The longest that opening a connection may take, TLS included."
    )
    recycle: PositiveDuration = Field(
        1800.0,
        description="The longest life of a connection. Checked when a lease ends; it never cuts one.",
        json_schema_extra=REUSING,
    )
    recycle_jitter: Percent = Field(
        10,
        description="Percent of recycle by which lives differ, so that connections don't end together.",
        json_schema_extra=REUSING,
    )
    idle_timeout: PositiveDuration = Field(
        55.0,
        description="How long a connection stays open unused, down to minIdle. An upstream's "
        "`Keep-Alive: timeout=N` lowers it to N - 1 seconds.",
        json_schema_extra=REUSING | {"x-defaults": {"postgres": format_duration(POSTGRES_IDLE_TIMEOUT)}},
    )
    max_uses: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        0, description="Leases after which a connection is closed. 0: no limit.", json_schema_extra=REUSING
    )
    pre_ping: Literal["auto", "always", "never"] = Field(
        "auto",
        description="When an idle connection is tested before use. With http and forward the test looks, without "
        "waiting, for an end of file or stray bytes; with postgres it is a round trip (Sync). What fails it is closed.",
        json_schema_extra=REUSING,
    )
    reset_on_return: Literal["auto", "always", "never"] = Field(
        "auto",
        description="When a connection is reset before another client gets it. auto: where a client left something "
        "that can be seen; always, by DISCARD ALL: this covers what happens inside functions too; never: a connection "
        "on which something was left is closed instead, in session mode each.",
        json_schema_extra=POSTGRES_ONLY,
    )


class ActiveCheck(Model):
    """A check that the proxy makes on every endpoint, at an interval."""

    path: RequestTarget = Field(
        "/healthz",
        description="Path of the GET request; a 2xx or 3xx answer is healthy. With tcp a check is a connection; with "
        "postgres a login as monitor, without monitor a start-up packet, as pg_isready sends it.",
        json_schema_extra=HTTP_ONLY,
    )
    interval: PositiveDuration = Field(5.0, description="Time between two checks of an endpoint.")
    timeout: PositiveDuration = Field(2.0, description="Time after which a check without an answer has failed.")
    healthy_threshold: Annotated[int, Field(ge=1, le=100)] = Field(
        2, description="Successful checks in a row that bring an endpoint back."
    )
    unhealthy_threshold: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="Failed checks in a row that take an endpoint out."
    )


class PassiveCheck(Model):
    """Ejection of endpoints that fail ordinary traffic."""

    consecutive_errors: Annotated[int, Field(ge=1, le=1000)] = Field(
        5,
        description="Errors in a row (failed connects, time-outs, resets, malformed answers; not 5xx) that eject an "
        "endpoint.",
    )
    base_ejection_time: PositiveDuration = Field(
        30.0,
        description="How long the first ejection lasts; it grows with each one that follows. While all endpoints are "
        "out, a request tries one each second.",
    )
    max_ejection_percent: Percent = Field(
        50,
        description="Percent of the endpoints that may be ejected at a time; a sole endpoint may be. 0: none is.",
    )


class HealthCheck(Model):
    """How endpoints are found to be broken."""

    active: ActiveCheck | None = Field(None, description="Checks at an interval. Absent: none.")
    passive: PassiveCheck = Field(PassiveCheck(), description="Ejection of endpoints that fail ordinary traffic.")


class Upstream(Model):
    """A named backend: one or more endpoints behind one pool and one budget."""

    name: Label = Field(description="Name of the upstream, in routes, metrics and status.")
    service: ServiceTarget | None = Field(
        None,
        description="A Service of the namespace, by its DNS name: a ClusterIP is one endpoint, a "
        "headless Service "
        "has one per pod. Exactly one of service, endpoints and dns is set; with forward none is.",
        json_schema_extra=cluster_only("endpoints or dns"),
    )
    endpoints: Annotated[Seq[Endpoint], Field(min_length=1, max_length=64)] | None = Field(
        None, description="The servers, by host and port."
    )
    dns: DnsTarget | None = Field(None, description="A name whose addresses are the endpoints.")
    tls: UpstreamTLS | None = Field(None, description="TLS towards the upstream. Absent: plain.")
    load_balancing: LoadBalancing = Field(LoadBalancing(), description="How an endpoint is chosen.")
    budget: Budget | None = Field(
        None,
        description="The most connections that all replicas together may have open. Absent: no bound over replicas.",
    )
    pool: Pool = Field(Pool(), description="The connections of one replica, and the requests that wait for them.")
    health_check: HealthCheck = Field(HealthCheck(), description="How broken endpoints are found.")

    def of_protocol(self, protocol: str) -> "Upstream":
        """The same with the protocol's own defaults where the document says nothing (marked `x-defaults`)."""
        if protocol != "postgres":
            return self
        changes: dict[str, Model] = {}
        if "idle_timeout" not in self.pool.model_fields_set:
            changes["pool"] = self.pool.model_copy(update={"idle_timeout": POSTGRES_IDLE_TIMEOUT})
        if self.budget is not None and "per" not in self.budget.model_fields_set:
            changes["budget"] = self.budget.model_copy(update={"per": "endpoint"})
        return self.model_copy(update=changes)
