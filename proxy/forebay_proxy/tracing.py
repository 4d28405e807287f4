"""OpenTelemetry spans of requests. Where tracing is not set there is no Tracer, and nothing to pay.

The hot path only decides (``begin``) and keeps its usual monotonic timestamps; the spans are made from them
once the request is over (``finish``), under ids chosen at the start: a span object of the SDK that lives through
a request costs about as much as the proxy itself. A request that is not sampled costs one search for its
traceparent, and a random number where it has none.

Spans: the request (server), and under it wait, connect and upstream (client); the last is the parent of what
the upstream reports. Headers are those of W3C Trace Context; attributes those of OpenTelemetry's conventions for
HTTP, and ``forebay.*``.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from forebay_proxy.files import FileError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

# Section 3.2 of the recommendation. Version ff is forbidden; those after 00 may go on behind another dash.
TRACEPARENT = re.compile(
    rb"(?!ff|00.{53}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
FIELD = b"\r\ntraceparent:"
BOTH_FIELDS = re.compile(rb"^trace(?:parent|state):.*\r\n", re.IGNORECASE | re.MULTILINE)

EXPORT_TIMEOUT = 3.0  # seconds; bounds what an unreachable collector costs an exit, too

Period = tuple[float, float]  # from and to, in monotonic seconds


class TracingUnavailable(FileError):
    """Tracing is set, but its libraries are not installed; the message is one line."""


def tracing_libraries() -> SimpleNamespace:
    """What a Tracer needs of the extra. Raises TracingUnavailable where it is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter
        from opentelemetry.sdk import resources, trace
        from opentelemetry.sdk.trace import export
    except ImportError as error:
        raise TracingUnavailable(
            f"spec.telemetry.tracing needs the extra forebay[tracing], and {error.name} is not installed"
        ) from None
    return SimpleNamespace(
        OTLPSpanExporter=trace_exporter.OTLPSpanExporter,
        Resource=resources.Resource,
        ReadableSpan=trace.ReadableSpan,
        BatchSpanProcessor=export.BatchSpanProcessor,
    )


class Trace:
    """A sampled request: the ids of its trace, of its parent span (0: none), and of two spans of its own."""

    __slots__ = ("parent_id", "request_id", "trace_id", "upstream_id")

    def __init__(self, trace_id: int, parent_id: int, request_id: int, upstream_id: int) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.request_id = request_id
        self.upstream_id = upstream_id

    @property
    def traceparent(self) -> bytes:
        """What the upstream is sent: the upstream span is its parent, and it is sampled."""
        return b"00-%032x-%016x-01" % (self.trace_id, self.upstream_id)


def trace_named(trace: Trace | None, traceparent: bytes) -> str | None:
    """The id of a request's trace: of ours, else of the one that its traceparent names."""
    if trace is not None:
        return f"{trace.trace_id:032x}"
    parent = TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return parent[1].decode("ascii") if parent is not None else None


class Tracer:
    """Samples requests and exports their spans. Built after a fork, as the exporter has a thread."""

    def __init__(
        self,
        endpoint: str,
        sample_ratio: float,
        service: str,
        rng: random.Random,
        *,
        processor: SpanProcessor | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``endpoint`` is an OTLP/HTTP URL (without a path, the standard /v1/traces), ``service`` the
        resource's service.name; ``processor`` replaces the exporter. Raises TracingUnavailable.
        """
        sdk = tracing_libraries()
        if processor is None:
            exporter = sdk.OTLPSpanExporter(traces_url(endpoint), timeout=EXPORT_TIMEOUT)
            processor = sdk.BatchSpanProcessor(exporter)
        self._ratio = sample_ratio
        self._rng = rng
        self._processor = processor
        self._span = sdk.ReadableSpan
        self._resource = sdk.Resource.create({"service.name": service})
        self._monotonic = monotonic
        self._wall = wall

    def begin(self, head: bytes) -> tuple[bytes, Trace | None]:
        """Decide on a request by its head (the lines up to, and without, the blank one). Returns the head to
        send upstream and, if it is sampled, the Trace to give to ``finish``.

        A valid traceparent decides; without one the ratio does. What is not sampled passes unchanged.
        """
        lower = head.lower()
        at = lower.find(FIELD)
        if at >= 0 and lower.find(FIELD, at + 2) < 0:
            end = head.index(b"\r\n", at + 2)
            parent = TRACEPARENT.fullmatch(head[at + len(FIELD) : end].strip(b" \t"))
        else:  # none, or several, which is as good as none
            end, parent = at, None
        if parent is not None:
            if not int(parent[3], 16) & 1:
                return head, None
            trace = Trace(int(parent[1], 16), int(parent[2], 16), self._id(64), self._id(64))
            return b"%b\r\ntraceparent: %b%b" % (head[:at], trace.traceparent, head[end:]), trace
        if self._rng.random() >= self._ratio:
            return head, None
        trace = Trace(self._id(128), 0, self._id(64), self._id(64))
        # A tracestate belongs to the traceparent that came with it: of a new trace it says nothing.
        return BOTH_FIELDS.sub(b"", head) + b"traceparent: %b\r\n" % trace.traceparent, trace

    def finish(
        self,
        trace: Trace,
        *,
        request: Period,
        wait: Period | None,
        connect: Period | None,
        upstream: Period | None,
        method: bytes,
        target: bytes,
        host: bytes,
        client: str,
        status: int,
        upstream_name: str | None,
        endpoint: str | None,
        attempts: int,
        error: str | None,
    ) -> None:
        """Hand over the spans of a finished request; a period is None where it did not get that far,
        ``status`` 0 where nothing was answered.
        """
        from opentelemetry.trace import SpanKind

        path, _, query = target.decode("latin-1").partition("?")
        name, own = method.decode("latin-1"), trace.request_id
        http = {
            "http.request.method": name,
            "http.response.status_code": status or None,
            "error.type": error or (str(status) if status >= 500 else None),
        }
        ours = {"forebay.upstream": upstream_name, "forebay.endpoint": endpoint, "forebay.attempts": attempts}
        failed = error is not None or status >= 500
        described = {
            "url.path": path,
            "url.query": query or None,
            "server.address": host.decode("latin-1"),
            "client.address": client,
        }
        self._emit(trace, name, own, trace.parent_id, SpanKind.SERVER, request, http | described | ours, failed)
        for part, period in (("wait", wait), ("connect", connect)):
            if period is not None:
                self._emit(trace, part, self._id(64), own, SpanKind.INTERNAL, period, ours, False)
        if upstream is not None:
            self._emit(trace, "upstream", trace.upstream_id, own, SpanKind.CLIENT, upstream, http | ours, failed)

    def close(self) -> None:
        """Send what is left; blocks for some seconds where the collector does not answer."""
        self._processor.shutdown()

    def _emit(
        self,
        trace: Trace,
        name: str,
        span_id: int,
        parent_id: int,
        kind: Any,
        period: Period,
        attributes: dict[str, Any],
        failed: bool,
    ) -> None:
        from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

        sampled = TraceFlags(TraceFlags.SAMPLED)
        offset = self._wall() - self._monotonic()
        remote = parent_id == trace.parent_id
        self._processor.on_end(
            self._span(
                name,
                context=SpanContext(trace.trace_id, span_id, is_remote=False, trace_flags=sampled),
                parent=SpanContext(trace.trace_id, parent_id, is_remote=remote, trace_flags=sampled)
                if parent_id
                else None,
                resource=self._resource,
                attributes={key: value for key, value in attributes.items() if value is not None},
                kind=kind,
                status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
                start_time=int((period[0] + offset) * 1e9),
                end_time=int((period[1] + offset) * 1e9),
            )
        )

    def _id(self, bits: int) -> int:
        return self._rng.getrandbits(bits) or 1  # 0 is not a valid id


def check_tracing(endpoint: str) -> None:
    """Raises TracingUnavailable where a Tracer to there can't be made."""
    tracing_libraries()
    try:
        traces_url(endpoint)
    except ValueError as error:
        raise TracingUnavailable(f"spec.telemetry.tracing.endpoint is {endpoint}: {error}") from None


def traces_url(endpoint: str) -> str:
    """The URL to post to: a collector's address without a path gets the standard one. Raises ValueError."""
    return endpoint.rstrip("/") + "/v1/traces" if urlsplit(endpoint).path in ("", "/") else endpoint
