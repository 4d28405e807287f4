"""Defaults, and the values that the program works with."""

import ipaddress

import pydantic
import pytest
from tests.core.spec.cases import changed, good

from forebay_core.spec.load import parse
from forebay_core.spec.model import Pool


def test_the_defaults_are_those_of_the_design() -> None:
    spec = parse(changed(good(), {"spec.autoscaling": {}}), form="cluster").spec
    upstream = spec.upstreams[0]
    pool = upstream.pool
    assert (pool.size, pool.max_overflow, pool.min_idle, pool.max_waiting, pool.max_uses) == (
        10,
        5,
        0,
        1000,
        0,
    )
    assert (pool.timeout, pool.connect_timeout, pool.recycle, pool.idle_timeout) == (5.0, 3.0, 1800.0, 55.0)
    assert (pool.recycle_jitter, pool.pre_ping) == (10, "auto")
    assert upstream.budget is None
    assert upstream.tls is None
    assert upstream.load_balancing.policy == "leastConnections"
    assert upstream.health_check.active is None
    passive = upstream.health_check.passive
    assert (passive.consecutive_errors, passive.base_ejection_time, passive.max_ejection_percent) == (
        5,
        30.0,
        50,
    )
    http = spec.http
    assert (http.header_timeout, http.body_timeout, http.response_timeout) == (10.0, 10.0, 60.0)
    assert (http.stream_idle_timeout, http.keep_alive_timeout) == (300.0, 75.0)
    assert (http.max_header_bytes, http.max_body_bytes) == (32768, 0)
    assert (http.request_buffer, http.response_buffer, http.trusted_proxies) == (65536, 65536, ())
    retries = http.retries
    assert (retries.attempts, retries.budget_percent, retries.min_per_second) == (1, 20, 3)
    assert retries.retry_on == ("connectFailure", "reusedConnectionReset")
    scaling = spec.autoscaling
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_wait, scaling.target_cpu) == (
        1,
        8,
        0.02,
        70,
    )
    assert scaling.behavior.scale_down.stabilization_window_seconds == 300
    assert (spec.replicas, spec.maximum_replicas, spec.max_client_connections) == (2, 8, 10_000)
    assert (spec.paused, spec.pause_timeout) == (False, 120.0)
    assert (spec.drain.delay, spec.drain.timeout) == (5.0, 30.0)
    assert (spec.strategy.max_surge, spec.strategy.max_unavailable) == (1, 0)
    assert (spec.telemetry.access_log, spec.telemetry.slow_request, spec.telemetry.tracing) == (
        "none",
        0.0,
        None,
    )
    assert (spec.service_template.type, spec.template, spec.routes) == ("ClusterIP", {}, ())


def test_values_are_ready_to_use() -> None:
    document = changed(
        good(),
        {
            "spec.http.trustedProxies": ["10.0.0.0/8", "::1"],
            "spec.http.maxBodyBytes": "10Mi",
            "spec.upstreams[0].budget": {"maxConnections": 100, "reserved": 10, "linger": "1m30s"},
        },
    )
    spec = parse(document, form="cluster").spec
    assert spec.http.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert spec.http.max_body_bytes == 10 << 20
    budget = spec.upstreams[0].budget
    assert budget is not None
    assert (budget.max_connections, budget.reserved, budget.linger) == (100, 10, 90.0)


def test_without_autoscaling_the_maximum_of_replicas_is_replicas() -> None:
    assert parse(changed(good(), {"spec.replicas": 3}), form="cluster").spec.maximum_replicas == 3


def test_the_model_is_immutable() -> None:
    pool = Pool()
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        pool.size = 3  # type: ignore[misc]
