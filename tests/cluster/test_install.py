"""From `helm install` to `helm uninstall`: what a user of the chart sees. The tests are one run, in this order."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.chart.rendered import ROOT
from tests.cluster.conftest import SYSTEM, complaints, install, uninstall
from tests.cluster.kubectl import get, kubectl, run
from tests.cluster.metrics_api import external_metrics
from tests.cluster.place import EXAMPLE, Place, fixed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

INSTALL = ROOT / "manifests" / "install.yaml"
COLUMNS = ["NAME", "READY", "REPLICAS", "GRANTED", "BUDGET", "WAITING", "WAITP95", "LIMITEDBY", "AGE"]
CRD = "crd/proxypools.forebay.dev"


class Installed:
    """The release, the example, and how long it took from nothing to the first answer, in seconds."""

    def __init__(self, shop: Place, scaled: Place) -> None:
        self.shop = shop
        self.scaled = scaled
        began = time.monotonic()
        self.notes = install()
        shop.kubectl("apply", "-f", str(EXAMPLE))
        self.first = shop.load("orders-forebay:8080", 0, 60)
        self.took = time.monotonic() - began


@pytest.fixture(scope="module")
def installed(places: Callable[[str], Place], system: None) -> Installed:
    return Installed(places("forebay-test"), places("forebay-test-scale"))


@pytest.fixture(scope="module")
def shop(installed: Installed) -> Place:
    """Where the example is: pool `orders`."""
    return installed.shop


@pytest.fixture(scope="module")
def scaled(installed: Installed) -> Place:
    """Where the pool `orders` has a fixed number of replicas, and 36 connections for all of them."""
    installed.scaled.declare(fixed(2, 40, 4))
    installed.scaled.ready(2)
    return installed.scaled


def test_traffic_flows_within_a_minute(installed: Installed) -> None:
    assert installed.first["first"] is not None, installed.first
    assert installed.took < 60


def test_the_notes_declare_a_pool_that_is_taken(installed: Installed) -> None:
    document = installed.notes.partition("<<EOF\n")[2].partition("\nEOF")[0]
    assert "dry run" in kubectl("create", "--namespace", SYSTEM, "--dry-run=server", "-f", "-", stdin=document)


def test_the_manifest_without_helm_is_taken(installed: Installed) -> None:
    options = ("--server-side", "--force-conflicts", "--dry-run=server")
    taken = kubectl("apply", *options, "-f", str(INSTALL))
    assert "deployment.apps/forebay serverside-applied (server dry run)" in taken


def test_wait_for_ready(shop: Place) -> None:
    shop.kubectl("wait", "--for=condition=Ready", "pp/orders", "--timeout=60s")


def test_get_shows_columns(shop: Place) -> None:
    shop.kubectl("wait", "--for=jsonpath={.status.readyReplicas}=2", "pp/orders", "--timeout=60s")
    header, row = shop.kubectl("get", "pp").splitlines()
    assert header.split() == COLUMNS
    assert row.split()[:3] == ["orders", "True", "2"]
    granted, budget = map(int, row.split()[3:5])
    assert budget == 90
    assert 0 < granted <= budget


def test_explain_tells_the_meaning(installed: Installed) -> None:
    told = kubectl("explain", "proxypool.spec.upstreams.budget.maxConnections")
    assert "<integer>" in told
    assert "DESCRIPTION" in told


def test_describe_tells_why(shop: Place) -> None:
    told = shop.kubectl("describe", "pp", "orders")
    assert "Max Connections" in told
    assert "Observed Generation" in told
    for condition in shop.get("pp", "orders")["status"]["conditions"]:
        assert condition["reason"] in told


def test_what_is_applied_belongs_to_the_pool(shop: Place) -> None:
    uid = shop.get("pp", "orders")["metadata"]["uid"]
    for kind, name in (
        ("deployment", "orders-forebay"),
        ("service", "orders-forebay"),
        ("service", "orders-forebay-peers"),
        ("configmap", "orders-forebay"),
        ("secret", "orders-forebay-admin"),
        ("serviceaccount", "orders-forebay"),
        ("poddisruptionbudget", "orders-forebay"),
        ("networkpolicy", "orders-forebay"),
    ):
        owners = shop.get(kind, name)["metadata"]["ownerReferences"]
        assert [owner["uid"] for owner in owners] == [uid], (kind, name)


def test_the_budget_holds_under_load(scaled: Place) -> None:
    outcome = scaled.load("orders-forebay:8080", 200, 5)
    counts = scaled.counts()
    assert outcome["failed"] == {}
    assert outcome["answered"] > 200
    assert counts["peak"] <= 36, counts
    assert counts["refused"] == 0


def test_scale(scaled: Place) -> None:
    for replicas in (3, 1, 2):
        scaled.kubectl("scale", "pp", "orders", f"--replicas={replicas}")
        scaled.ready(replicas)
        assert len(scaled.pods()) == replicas
        assert scaled.load("orders-forebay:8080", 50, 2)["failed"] == {}
    assert scaled.counts()["peak"] <= 36


def test_an_hpa_scales_the_pool(scaled: Place, tmp_path: Path) -> None:
    metric = {"metric": {"name": "depth"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "orders"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "forebay.dev/v1alpha1", "kind": "ProxyPool", "name": "orders"},
            "minReplicas": 1,
            "maxReplicas": 5,
            "metrics": [{"type": "External", "external": metric}],
        },
    }
    with external_metrics(scaled, tmp_path, 30):
        scaled.kubectl("apply", "-f", "-", stdin=json.dumps(hpa))
        scaled.kubectl("wait", "--for=condition=AbleToScale", "hpa/orders", "--timeout=60s")
        scaled.kubectl("wait", "--for=jsonpath={.spec.replicas}=3", "pp/orders", "--timeout=90s", seconds=120)
        scaled.ready(3)
        scaled.kubectl("wait", "--for=jsonpath={.status.currentReplicas}=3", "hpa/orders", "--timeout=60s")
        scaled.kubectl("delete", "hpa", "orders")


def test_the_operator_had_every_right_that_it_needed(installed: Installed) -> None:
    assert complaints() == []


def test_an_upgrade_leaves_pools_alone(shop: Place) -> None:
    definition, pool = get(CRD)["metadata"]["uid"], shop.get("pp", "orders")["metadata"]["uid"]
    restarts = shop.restarts()
    install("podAnnotations.upgraded=yes")
    shop.kubectl("wait", "--for=condition=Ready", "pp/orders", "--timeout=60s")
    assert get(CRD)["metadata"]["uid"] == definition
    assert shop.get("pp", "orders")["metadata"]["uid"] == pool
    assert shop.restarts() == restarts
    assert shop.load("orders-forebay:8080", 10, 1)["failed"] == {}


def test_an_uninstall_leaves_definition_and_pools_alone(shop: Place, scaled: Place) -> None:
    restarts = shop.restarts()
    uninstall()
    assert run("kubectl", "get", "deployment", "forebay", "--namespace", SYSTEM).returncode != 0
    assert get(CRD)["metadata"]["name"] == "proxypools.forebay.dev"
    assert shop.restarts() == restarts
    for place in (shop, scaled):
        assert place.get("pp", "orders")["spec"]
        assert place.load("orders-forebay:8080", 10, 1)["failed"] == {}
