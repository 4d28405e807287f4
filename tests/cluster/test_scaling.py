"""Autoscaling, and what only an operator of the whole cluster can prove."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from tests.cluster.conftest import complaints, install
from tests.cluster.place import Place, fixed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SERVICE = "orders-forebay:8080"
CALM = {"stabilizationWindowSeconds": 10}
POST = "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], method='POST'), timeout=5)"


@pytest.fixture(scope="module")
def whole_place(places: Callable[[str], Place], system: None) -> Place:
    place = places("forebay-test-scaling")
    install()
    return place


@pytest.fixture
def place(whole_place: Place) -> Iterator[Place]:
    """No pool; the backend never sees more than the budget of the pool that a test declares."""
    yield whole_place
    whole_place.kubectl("delete", "pp", "orders", "--ignore-not-found", "--timeout=60s")
    whole_place.kubectl("wait", "--for=delete", "pods", "-l", "forebay.dev/pool=orders", "--timeout=60s")
    whole_place.python(POST, "http://orders:81/reset")


@pytest.fixture
def load(place: Place) -> Iterator[Callable[[int, float], Future[dict[str, Any]]]]:
    """`load(clients, seconds)`, while the test goes on."""
    with ThreadPoolExecutor() as threads:
        yield lambda clients, seconds: threads.submit(place.load, SERVICE, clients, seconds)


def scaled(connections: int, least: int, most: int) -> dict[str, Any]:
    """A pool of 5 connections per replica, which scales down within a test's patience."""
    document = fixed(1, connections, 0)
    del document["spec"]["replicas"]
    document["spec"]["autoscaling"] = {
        "minReplicas": least, "maxReplicas": most, "targetWait": "20ms", "behavior": {"scaleDown": CALM},
    }  # fmt: skip
    document["spec"]["upstreams"][0]["pool"] = {"size": 5, "maxOverflow": 0, "timeout": "10s"}
    return document


def reasons(place: Place) -> set[str]:
    """Of all events of the pool."""
    events = place.get("events", "--field-selector=involvedObject.kind=ProxyPool")["items"]
    return {event["reason"] for event in events}


def until(place: Place, condition: str) -> None:
    place.kubectl("wait", f"--for=condition={condition}", "pp/orders", "--timeout=60s")


def test_a_load_step_brings_connections_then_replicas_and_calm_takes_them_away(
    place: Place, load: Callable[[int, float], Future[dict[str, Any]]]
) -> None:
    place.declare(scaled(60, 1, 2))
    place.ready(1)
    running = load(40, 45)
    assert place.peak_alone(45) == 5, "one replica opens all that it may before there is another"
    place.ready(2)
    assert running.result()["failed"] == {}
    place.ready(1)
    assert {"ScaledUp", "ScaledDown"} <= reasons(place)
    assert place.counts()["peak"] <= 10, "two replicas of five"


def test_an_exhausted_budget_is_said_and_brings_no_replica(
    place: Place, load: Callable[[int, float], Future[dict[str, Any]]]
) -> None:
    place.declare(scaled(4, 1, 3))
    place.ready(1)
    running = load(40, 40)
    until(place, "BudgetExhausted")
    status = place.get("pp", "orders")["status"]
    assert status["limitedBy"] == "Budget"
    assert status["replicas"] == 1
    assert running.result()["failed"] == {}
    until(place, "BudgetExhausted=False")
    assert place.counts()["peak"] <= 4


def test_a_slowed_backend_is_said_and_brings_nothing(
    place: Place, load: Callable[[int, float], Future[dict[str, Any]]]
) -> None:
    place.declare(scaled(60, 1, 3))
    place.ready(1)
    assert load(2, 20).result()["failed"] == {}  # from which it learns how long a lease lasts
    place.python(POST, "http://orders:81/slow")
    try:
        load(2, 8).result()  # nobody waits yet
        running = load(20, 40)
        until(place, "BackendSaturated")
        assert place.get("pp", "orders")["status"]["replicas"] == 1
        running.result()
    finally:
        place.python(POST, "http://orders:81/fast")


def test_a_pod_deleted_by_force_is_free_once_its_kubelet_has_been_at_work_since(place: Place) -> None:
    place.declare(fixed(2, 40, 4))
    place.ready(2)
    victim, pod = next(iter(place.pods().items()))
    place.kubectl("delete", "pod", victim, "--force", "--grace-period=0")
    place.ready(2)
    uid, deadline = pod["metadata"]["uid"], time.monotonic() + 90
    while uid in json.dumps(place.get("pp", "orders")["status"]["ledger"]):
        assert time.monotonic() < deadline
        time.sleep(1)


def test_the_operator_had_every_right_that_it_needed(place: Place) -> None:
    assert complaints() == []
