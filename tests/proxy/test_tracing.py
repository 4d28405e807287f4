"""Spans made from recorded times, and the traceparent."""

import http.server
import random
import sys
import threading
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from forebay_proxy.tracing import Trace, Tracer, TracingUnavailable, traces_url

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
REQUEST = b"GET /orders?id=1 HTTP/1.1\r\nhost: shop\r\n"


class Fixed(random.Random):
    """Ratios see `value`; ids are random but seeded."""

    def __init__(self, value: float) -> None:
        super().__init__(1)
        self.value = value

    def random(self) -> float:
        return self.value


def tracer_of(ratio: float = 0.5, value: float = 0.4) -> tuple[Tracer, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracer = Tracer(
        "http://collector",
        ratio,
        "shop",
        Fixed(value),
        processor=SimpleSpanProcessor(exporter),
        monotonic=lambda: 100.0,
        wall=lambda: 1_700_000_000.0,
    )
    return tracer, exporter


def head_with(traceparent: str, name: str = "traceparent") -> bytes:
    return REQUEST + f"{name}: {traceparent}\r\naccept: */*\r\ntracestate: a=b\r\n".encode()


def finish(tracer: Tracer, trace: Trace, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "request": (100.0, 100.05),
        "wait": (100.001, 100.01),
        "connect": (100.01, 100.02),
        "upstream": (100.02, 100.04),
        "method": b"GET",
        "target": b"/orders?id=1",
        "host": b"shop",
        "client": "10.1.2.3",
        "status": 200,
        "upstream_name": "orders",
        "endpoint": "orders:80",
        "attempts": 1,
        "error": None,
    }
    tracer.finish(trace, **fields | changes)


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_a_sampled_parent_is_followed(name: str) -> None:
    tracer, _ = tracer_of(ratio=0.0)
    head, trace = tracer.begin(head_with(f"00-{TRACE}-{PARENT}-01", name))
    assert trace is not None
    assert (f"{trace.trace_id:032x}", f"{trace.parent_id:016x}") == (TRACE, PARENT)
    assert head == head_with(f"00-{TRACE}-{trace.upstream_id:016x}-01")


def test_an_unsampled_parent_passes_unchanged() -> None:
    tracer, _ = tracer_of(ratio=1.0)
    head = head_with(f"00-{TRACE}-{PARENT}-00")
    assert tracer.begin(head) == (head, None)


def test_without_a_parent_the_ratio_decides() -> None:
    assert tracer_of(0.3, 0.3)[0].begin(REQUEST) == (REQUEST, None)
    head, trace = tracer_of(0.3, 0.29)[0].begin(REQUEST)
    assert trace is not None
    assert trace.parent_id == 0
    assert head == REQUEST + b"traceparent: %b\r\n" % trace.traceparent
    assert tracer_of(0.0, 0.0)[0].begin(REQUEST)[1] is None
    assert tracer_of(1.0, 0.999)[0].begin(REQUEST)[1] is not None


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "hello",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01\r\ntraceparent: 00-{TRACE}-{PARENT}-01",
    ],
)
def test_a_bad_parent_begins_a_new_trace_without_its_state(traceparent: str) -> None:
    tracer, _ = tracer_of()
    head, trace = tracer.begin(head_with(traceparent))
    assert trace is not None
    assert trace.parent_id == 0
    assert f"{trace.trace_id:032x}" != TRACE
    assert head == REQUEST + b"accept: */*\r\ntraceparent: %b\r\n" % trace.traceparent


def test_a_later_version_is_understood_and_answered_in_ours() -> None:
    tracer, _ = tracer_of(ratio=0.0)
    head, trace = tracer.begin(head_with(f"01-{TRACE}-{PARENT}-03-more"))
    assert trace is not None
    assert f"traceparent: 00-{TRACE}-".encode() in head
    assert b"more" not in head


def test_spans_tell_where_the_time_went() -> None:
    tracer, exporter = tracer_of()
    _, trace = tracer.begin(head_with(f"00-{TRACE}-{PARENT}-01"))
    assert trace is not None
    finish(tracer, trace)
    spans = by_name(exporter)
    assert set(spans) == {"GET", "wait", "connect", "upstream"}
    request = spans["GET"]
    assert request.parent is not None
    assert (f"{request.parent.span_id:016x}", request.parent.is_remote) == (PARENT, True)
    assert request.context is not None
    for name, start, end in (("GET", 0, 50), ("wait", 1, 10), ("connect", 10, 20), ("upstream", 20, 40)):
        span = spans[name]
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.start_time == pytest.approx(1_700_000_000e9 + start * 1e6, abs=1e4)
        assert span.end_time == pytest.approx(1_700_000_000e9 + end * 1e6, abs=1e4)
        assert span.resource.attributes["service.name"] == "shop"
        if name != "GET":
            assert span.parent is not None
            assert (span.parent.span_id, span.parent.is_remote) == (request.context.span_id, False)
    assert spans["upstream"].context is not None
    assert spans["upstream"].context.span_id == trace.upstream_id
    assert (request.kind, spans["upstream"].kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert request.status.status_code is StatusCode.UNSET
    assert dict(request.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.path": "/orders",
        "url.query": "id=1",
        "server.address": "shop",
        "client.address": "10.1.2.3",
        "forebay.upstream": "orders",
        "forebay.endpoint": "orders:80",
        "forebay.attempts": 1,
    }


def test_a_refused_request_has_only_the_spans_that_it_reached() -> None:
    tracer, exporter = tracer_of()
    _, trace = tracer.begin(REQUEST)
    assert trace is not None
    finish(tracer, trace, connect=None, upstream=None, endpoint=None, status=503, error="timeout")
    spans = by_name(exporter)
    assert set(spans) == {"GET", "wait"}
    assert spans["GET"].parent is None
    assert spans["GET"].status.status_code is StatusCode.ERROR
    assert (spans["GET"].attributes or {})["error.type"] == "timeout"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://collector/otlp/v1/traces", "https://collector/otlp/v1/traces"),
    ],
)
def test_traces_url(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


def test_missing_libraries_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(TracingUnavailable) as error:
        Tracer("http://collector", 1.0, "shop", Fixed(0.0))
    assert "needs the extra forebay[tracing]" in str(error.value)
    assert "\n" not in str(error.value)


def test_spans_reach_a_collector() -> None:
    posted: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        tracer = Tracer(f"http://127.0.0.1:{server.server_port}", 1.0, "shop", Fixed(0.0))
        _, trace = tracer.begin(REQUEST)
        assert trace is not None
        finish(tracer, trace)
        tracer.close()
        server.shutdown()
        thread.join()
    ((path, body),) = posted
    assert path == "/v1/traces"
    assert b"forebay.upstream" in body
    assert trace.trace_id.to_bytes(16, "big") in body
