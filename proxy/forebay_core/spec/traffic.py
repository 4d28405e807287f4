"""The downstream side: where clients connect, where their requests go, and the limits of HTTP."""

from typing import Annotated, Literal

from pydantic import Field

from forebay_core.spec.upstream import CASecret, CertSecret
from forebay_core.spec.values import (
    HTTP_ONLY,
    LOCAL_ONLY,
    AnySize,
    BufferSize,
    CidrNetwork,
    FilePath,
    HeaderSize,
    Host,
    HostName,
    Label,
    Model,
    Percent,
    PositiveDuration,
    Seq,
    UrlPath,
    cluster_only,
)


class ListenTLS(Model):
    """TLS towards clients."""

    cert_secret: CertSecret | None = Field(
        None,
        description="The server's certificate. Required.",
        json_schema_extra=cluster_only("certFile and keyFile"),
    )
    cert_file: FilePath | None = Field(
        None,
        description="PEM file of the server's certificate chain. Required.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "certSecret"},
    )
    key_file: FilePath | None = Field(
        None,
        description="PEM file of the server's private key. Required.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "certSecret"},
    )
    client_ca_secret: CASecret | None = Field(
        None,
        alias="clientCASecret",
        description="Authorities; a client must show a certificate of one of them. Absent: clients show none.",
        json_schema_extra=cluster_only("clientCAFile"),
    )
    client_ca_file: FilePath | None = Field(
        None,
        alias="clientCAFile",
        description="PEM file of authorities; a client must show a certificate of one of them. "
        "Absent: clients show none.",
        json_schema_extra=LOCAL_ONLY | {"x-instead": "clientCASecret"},
    )


class Listen(Model):
    """Where clients connect."""

    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        description="TCP port. In local mode 0 takes any free port; in a cluster the port is from 1 to 65535, "
        "but for 9901, the admin port's."
    )
    address: Host = Field("0.0.0.0", description="Address to listen on, in local mode.", json_schema_extra=LOCAL_ONLY)
    tls: ListenTLS | None = Field(None, description="TLS towards clients. Absent: plain.")
    proxy_protocol: bool = Field(
        False,
        description="Whether every connection begins with a PROXY protocol header, from which the "
        "client's address "
        "is taken; a connection without one is closed.",
    )


class Route(Model):
    """Which requests go to which upstream; the first match wins."""

    host: HostName | None = Field(
        None, description="Host of the request, without port, in any case. Absent: every host."
    )
    path_prefix: UrlPath = Field(
        "/",
        description="Beginning of the path, in whole segments: /a matches /a and /a/b. Paths are compared as they "
        "come; where any route has a prefix but /, one with dot segments (. and .., percent-encoded or not) is a 400. "
        "That is no access control: there are backends that take //a, /A or /%61 for /a.",
    )
    upstream: Label = Field(description="Name of the upstream that gets the request.")
    strip_prefix: bool = Field(
        False,
        description="Whether pathPrefix is taken off before the request is passed on, with all slashes that follow but "
        "one.",
    )


class Retries(Model):
    """Second attempts, only where nothing can have been done with the first."""

    attempts: Annotated[int, Field(ge=0, le=10)] = Field(1, description="Retries of a request at most. 0: none.")
    retry_on: Annotated[Seq[Literal["connectFailure", "reusedConnectionReset"]], Field(max_length=2)] = Field(
        ("connectFailure", "reusedConnectionReset"),
        description="What is retried. connectFailure: a request whose connection could not be opened, where the "
        "upstream has more than one endpoint. reusedConnectionReset: an idempotent request on a reused connection "
        "that ended before the first byte of an answer.",
    )
    budget_percent: Percent = Field(
        20, description="Retries may be this percentage of the requests, beyond minPerSecond."
    )
    min_per_second: Annotated[int, Field(ge=0, le=10_000)] = Field(
        3, description="Retries per second and replica that are allowed whatever budgetPercent says."
    )


class Http(Model):
    """Limits and timeouts of HTTP."""

    header_timeout: PositiveDuration = Field(
        10.0,
        description="Time that a client has for a request's head, from its first byte or the connection's start.",
    )
    body_timeout: PositiveDuration = Field(
        10.0,
        description="How long a request's body may stall before it has a connection; then 408. One that has a "
        "connection while others wait, or have waited in vain, has to bring 1 KiB a second, counted over this time; "
        "else 408.",
    )
    response_timeout: PositiveDuration = Field(
        60.0,
        description="How long the upstream may take from the end of the request to the head of its answer.",
    )
    stream_idle_timeout: PositiveDuration = Field(
        300.0, description="How long an answer, an upgraded connection or a tunnel may stand still."
    )
    keep_alive_timeout: PositiveDuration = Field(
        75.0, description="How long a client's connection stays open between requests."
    )
    max_header_bytes: HeaderSize = Field(
        32 << 10, description="Size of a message's head in bytes, of requests (431, a target 414) and answers (502)."
    )
    max_body_bytes: AnySize = Field(0, description="Size of a request's body in bytes; beyond it 413. 0: no limit.")
    request_buffer: BufferSize = Field(
        64 << 10, description="Bytes of a request's body that are taken before a connection is asked for."
    )
    response_buffer: BufferSize = Field(
        64 << 10,
        description="Bytes of an answer that are taken ahead of a slow client, to end the lease early.",
    )
    trusted_proxies: Annotated[Seq[CidrNetwork], Field(max_length=64)] = Field(
        (),
        description="Networks whose X-Forwarded-*, X-Real-IP and Forwarded fields are believed: Forwarded and "
        "X-Forwarded-For are appended to, the others passed on. From all others they are dropped.",
        json_schema_extra=HTTP_ONLY,
    )
    retries: Retries = Field(
        Retries(), description="Second attempts, only where nothing can have been done with the first."
    )
