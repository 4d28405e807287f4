"""Metrics: what is summed, what is not, that nothing counted is lost with a worker, and what promtool says."""

import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.forebay import Forebay, Metrics, http_pool
from tests.support.origin import Origin
from tests.support.process import ROOT, need
from tests.support.raw import fetch
from tests.support.states import endpoint, histogram, state, supervisor, upstream, worker

from forebay_core.exposition import CONTENT_TYPE, reference
from forebay_proxy import metrics
from forebay_proxy.gathered import Counters


def scrape(source: dict[str, Any]) -> Metrics:
    return Metrics(metrics.render(source).decode())


def busy(**fields: Any) -> dict[str, Any]:
    """An upstream in which everything has happened."""
    return upstream(
        connections={"idle": 1, "leased": 2, "closing": 1},
        waiting=3,
        wait_oldest=0.5,
        lease_oldest=2.0,
        wait={"served": histogram(0.0001, 0.02, 0.03), "timeout": histogram(5.0)},
        connect=histogram(0.001),
        hold=histogram(0.1, 100.0),
        request=histogram(0.2),
        opened=7,
        closed={"idle": 2, "error": 1},
        connect_errors={"connect_refused": 1},
        codes={"200": 5, "503": 1},
        rejections={"timeout": 1},
        retries={"reused_reset": 1},
        pinned={"listen": 1},
        **fields,
    )


FULL = state(
    worker(11, clients=4, cpu=1.5, certificate_expiry=1_800_000_000.0, codes={"404": 2}, rejections={"no_route": 2},
           log_lost={"full": 2}, upstreams={"backend": busy()}),
    worker(12, clients=5, codec="pure", certificate_expiry=1_900_000_000.0, reload_success=False,
           upstreams={"backend": busy(limit=4) | {"wait_oldest": 0.25}}),
    dead={"codes": {"404": 1}, "rejections": {}, "log_lost": {"full": 1}, "upstreams": {"backend": busy()}},
    supervisor=supervisor(
        restarts=1,
        replicas={"wanted": 3, "current": 2, "ready": 1},
        budgets={"backend": {"limit": 20, "reserved": 2, "granted": 17, "open": 8}},
        ledger={"sequence": 42},
        cause="Budget",
    ),
)  # fmt: skip


def test_gauges_are_summed_over_workers_and_ages_are_the_oldest() -> None:
    page = scrape(FULL)
    assert page.value("forebay_upstream_connections", upstream="backend", state="leased") == 4
    assert page.value("forebay_upstream_connections_limit", upstream="backend") == 15 + 4
    assert page.value("forebay_upstream_waiting") == 6
    assert page.value("forebay_upstream_wait_oldest_seconds") == 0.5
    assert page.value("forebay_upstream_lease_oldest_seconds") == 2.0
    assert page.value("forebay_downstream_connections", proxypool="orders") == 9


def test_counters_and_histograms_include_the_dead() -> None:
    page = scrape(FULL)
    assert page.value("forebay_upstream_connections_opened_total") == 21
    assert page.value("forebay_requests_total", upstream="backend", code="200") == 15
    assert page.value("forebay_requests_total", code="404") == 3
    assert page.value("forebay_upstream_hold_seconds_count") == 6
    assert page.value("forebay_upstream_hold_seconds_sum") == pytest.approx(300.3)
    assert page.value("forebay_worker_restarts_total") == 1


def test_local_mode_has_what_the_operator_has_elsewhere() -> None:
    page = scrape(FULL)
    for kind, number in {"limit": 20, "reserved": 2, "granted": 17, "open": 8}.items():
        assert page.value("forebay_budget_connections", upstream="backend", kind=kind) == number
    for kind, number in {"wanted": 3, "current": 2, "ready": 1}.items():
        assert page.value("forebay_replicas", kind=kind) == number
    assert page.value("forebay_ledger_sequence") == 42
    assert page.value("forebay_limited_by", upstream="backend", cause="Budget") == 1
    assert page.value("forebay_limited_by", upstream="backend") == 1  # of all causes one
    alone = scrape(state(worker()))
    assert alone.get("forebay_limited_by", cause="None") == alone.get("forebay_replicas", kind="wanted") == 0


def test_buckets_are_cumulated_and_their_bounds_inclusive() -> None:
    page = scrape(state(worker(upstreams={"backend": busy()})))

    def bucket(le: str) -> float:
        return page.value("forebay_upstream_wait_seconds_bucket", outcome="served", le=le)

    assert [bucket("5e-05"), bucket("0.0002"), bucket("0.02"), bucket("0.05"), bucket("+Inf")] == [0, 1, 2, 3, 3]
    assert page.value("forebay_upstream_hold_seconds_bucket", le="60.0") == 1
    assert page.value("forebay_upstream_hold_seconds_bucket", le="+Inf") == 2


def test_the_worst_counts_for_health_reload_and_certificate() -> None:
    sick = upstream(endpoints={"10.0.0.1:80": endpoint(False), "10.0.0.2:80": endpoint()})
    well = upstream(endpoints={"10.0.0.1:80": endpoint(), "10.0.0.2:80": endpoint()})
    page = scrape(state(worker(1, upstreams={"backend": well}), worker(2, upstreams={"backend": sick})))
    assert page.value("forebay_upstream_endpoint_healthy", endpoint="10.0.0.1:80") == 0
    assert page.value("forebay_upstream_endpoint_healthy", endpoint="10.0.0.2:80") == 1
    assert page.get("forebay_tls_certificate_expiry_seconds") == 0
    page = scrape(FULL)
    assert page.value("forebay_tls_certificate_expiry_seconds") == 1_800_000_000
    assert page.value("forebay_config_last_reload_success") == 0


def test_a_supervisor_that_refused_a_document_shows() -> None:
    page = scrape(state(worker(), supervisor=supervisor(reload_success=False)))
    assert page.value("forebay_config_last_reload_success") == 0


def test_what_is_said_of_a_worker_is_not_summed() -> None:
    page = scrape(FULL)
    assert page.value("forebay_process_cpu_seconds_total", worker="11") == 1.5
    assert page.value("forebay_process_resident_memory_bytes", worker="12") == 40 << 20
    assert page.value("forebay_codec_info", implementation="pure") == 1
    assert page.value("forebay_codec_info", implementation="compiled") == 1
    assert page.value("forebay_access_log_lost_total", reason="full") == 3


def test_tcp_requests_have_an_outcome_and_no_code() -> None:
    page = scrape(state(worker(upstreams={"backend": upstream(codes={"ok": 3, "timeout": 1})})))
    labels = [sample.labels for sample in page.samples if sample.name == "forebay_requests_total"]
    assert labels == [
        {"proxypool": "orders", "upstream": "backend", "outcome": "ok"},
        {"proxypool": "orders", "upstream": "backend", "outcome": "timeout"},
    ]


def test_the_namespace_is_a_label_where_there_is_one() -> None:
    page = scrape(state(worker()) | {"namespace": "shop"})
    assert page.value("forebay_downstream_connections", namespace="shop", proxypool="orders") == 0


def counted(page: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = [f for f in text_string_to_metric_families(page.text) if f.type in ("counter", "histogram")]
    samples = [s for f in families for s in f.samples if "worker" not in s.labels]
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples}


def test_nothing_goes_backwards_when_a_worker_dies() -> None:
    first, second = FULL["workers"]
    dead = Counters()
    before = counted(scrape(state(first, second, dead=dead.as_state())))
    dead.add(first)
    after = counted(scrape(state(second, worker(13), dead=dead.as_state())))
    assert before == {key: after.get(key, 0) for key in before}
    assert len(before) > 50


def test_every_name_is_exposed_and_no_other() -> None:
    text = metrics.render(FULL).decode()
    exposed = {line.partition("{")[0] for line in text.splitlines() if not line.startswith("#")}
    assert exposed == metrics.NAMES


def test_promtool_is_content() -> None:
    promtool = need("promtool")
    done = subprocess.run([promtool, "check", "metrics"], input=metrics.render(FULL), capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_reference_is_fresh() -> None:
    file = ROOT / "docs" / "reference" / "metrics.md"
    assert file.read_text() == reference(metrics.HEAD, metrics.METRICS), (
        "run: python -m forebay_proxy.metrics > docs/reference/metrics.md"
    )


async def test_a_running_pool_fits_the_table(forebay: Callable[..., Awaitable[Forebay]], origin: Origin) -> None:
    pool = await forebay(http_pool(origin.port))
    for _ in range(3):
        await fetch(pool.port, "/")
    answer = await pool.admin("/metrics")
    assert answer.get("Content-Type") == CONTENT_TYPE
    page = Metrics(answer.body.decode())
    assert page.value("forebay_requests_total", code="200", upstream="origin") == 3
    assert page.value("forebay_upstream_wait_seconds_count", outcome="served") == 3
    assert page.value("forebay_upstream_hold_seconds_count") == 3
    assert page.value("forebay_process_cpu_seconds_total") > 0
