"""The operator's metrics: what is told of a pool, of whom, and when it is told no more."""

import subprocess

import pytest
from tests.controlplane.parts import pool
from tests.support.forebay import Metrics
from tests.support.process import ROOT, need

from forebay_core.exposition import reference
from forebay_operator import metrics
from forebay_operator.metrics import Measures, Sources
from forebay_operator.requests import Request, Requests
from forebay_operator.store import Key, Store

ORDERS = Key("shop", "orders")
LABELS = {"namespace": "shop", "proxypool": "orders"}
STATUS = {
    "replicas": 3,
    "readyReplicas": 2,
    "ledger": {"sequence": 17},
    "upstreams": [{"name": "orders", "granted": 9, "limitedBy": "Ceiling"}],
}


@pytest.fixture
def sources() -> Sources:
    """A leader that has looked at one pool, once in vain."""
    store, measures, requests = Store(), Measures(), Requests()
    upstream = {"name": "orders", "budget": {"maxConnections": 12, "reserved": 2}}
    store.see_pool(pool({"upstreams": [upstream]}, STATUS))
    labels = {"forebay.dev/pool": "orders"}
    metadata = {"name": "orders-forebay", "namespace": "shop", "uid": "d", "labels": labels}
    store.see_deployment({"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 4}})
    measures.leading = True
    measures.failed(ORDERS)
    measures.looked(ORDERS, 0.03, {"orders": 7})
    requests.counts[Request("patch", "forebay.dev", "proxypools/status", 409)] = 5
    return Sources(store, measures, requests)


def scrape(sources: Sources) -> Metrics:
    return Metrics(metrics.render(metrics.registry(sources)).decode())


def test_a_pool_is_told_of(sources: Sources) -> None:
    told = scrape(sources)
    for kind, value in {"limit": 12, "reserved": 2, "granted": 9, "open": 7}.items():
        assert told.value("forebay_budget_connections", kind=kind, upstream="orders", **LABELS) == value
    for kind, value in {"wanted": 4, "current": 3, "ready": 2}.items():
        assert told.value("forebay_replicas", kind=kind, **LABELS) == value
    causes = {s.labels["cause"]: s.value for s in told.samples if s.name == "forebay_limited_by"}
    assert causes == {
        "Pool": 0, "Ceiling": 1, "Budget": 0, "Replica": 0, "Connect": 0, "Backend": 0, "None": 0,
    }  # fmt: skip
    assert told.value("forebay_ledger_sequence", **LABELS) == 17
    assert told.value("forebay_reconcile_errors_total", **LABELS) == 1
    assert told.value("forebay_reconcile_seconds_count") == 1
    assert told.value("forebay_reconcile_seconds_bucket", le="0.05") == 1
    assert told.value("forebay_reconcile_seconds_bucket", le="0.02") == 0
    assert told.value("forebay_leader") == 1
    refused = {"verb": "patch", "group": "forebay.dev", "resource": "proxypools/status", "code": "409"}
    assert told.value("forebay_api_requests_total", **refused) == 5
    assert told.value("forebay_process_resident_memory_bytes") > 1_000_000


def of_pools(told: Metrics) -> list[str]:
    return sorted({sample.name for sample in told.samples if "proxypool" in sample.labels})


def test_a_pool_that_has_gone_leaves_no_samples(sources: Sources) -> None:
    assert of_pools(scrape(sources))
    sources.store.forget(ORDERS)
    sources.measures.forget(ORDERS)
    assert of_pools(scrape(sources)) == []


def test_who_leads_no_more_tells_of_no_pools(sources: Sources) -> None:
    sources.measures.rest()
    told = scrape(sources)
    assert of_pools(told) == []
    assert told.value("forebay_leader") == 0


def test_a_pool_that_is_only_just_there_is_told_of_as_far_as_it_is_known(sources: Sources) -> None:
    sources.store.see_pool(pool())
    told = scrape(sources)
    assert told.value("forebay_budget_connections", kind="granted", **LABELS) == 0
    assert told.value("forebay_replicas", kind="ready", **LABELS) == 0
    assert not {"forebay_ledger_sequence", "forebay_limited_by"} & set(of_pools(told))


def test_all_that_the_table_names_is_exposed_and_nothing_else(sources: Sources) -> None:
    exposed = {s.name for s in scrape(sources).samples if not s.name.startswith("forebay_process_")}
    assert exposed == metrics.NAMES


def test_the_reference_is_fresh() -> None:
    file = ROOT / "docs" / "reference" / "operator-metrics.md"
    assert file.read_text() == reference(metrics.HEAD, metrics.METRICS), (
        f"run: python -m forebay_operator.metrics > {file}"
    )


def test_promtool_is_content(sources: Sources) -> None:
    page = metrics.render(metrics.registry(sources))
    done = subprocess.run([need("promtool"), "check", "metrics"], input=page, capture_output=True)
    assert (done.returncode, done.stderr.decode()) == (0, "")
