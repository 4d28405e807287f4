"""What may happen to a pool in a cluster. The operator watches one namespace, with rights in no other."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from tests.cluster.conftest import SYSTEM, complaints, install
from tests.cluster.kubectl import kubectl
from tests.cluster.place import Place, fixed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

BUDGET = 36
SERVICE = "orders-forebay:8080"
STATUS = """
import sys, urllib.request, urllib.error
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=10)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.headers.get("Retry-After"))
"""


@pytest.fixture(scope="module")
def whole_place(places: Callable[[str], Place], system: None) -> Place:
    place = places("forebay-test-faults")
    install(f"watchNamespace={place.name}")
    return place


@pytest.fixture
def place(whole_place: Place) -> Iterator[Place]:
    """Two ready replicas that together may open 36 connections; afterwards they never had opened more."""
    whole_place.declare(fixed(2, BUDGET + 4, 4))
    settled(whole_place)
    yield whole_place
    counts = whole_place.counts()
    assert counts["peak"] <= BUDGET, counts


@pytest.fixture
def background() -> Iterator[Callable[..., Future[dict[str, Any]]]]:
    """`background(place, clients, seconds)`: load on the pool's Service while the test goes on."""
    with ThreadPoolExecutor() as threads:
        yield lambda place, clients, seconds: threads.submit(place.load, SERVICE, clients, seconds)


def bury(place: Place, uid: str) -> None:
    """A person's word that a pod's process is dead, where nothing else proves it: its share is free again."""
    place.kubectl("annotate", "pp", "orders", "--overwrite", f"forebay.dev/confirm-dead={uid}")
    settled(place)


def settled(place: Place) -> None:
    """Wait until two replicas serve, and nobody else may hold anything."""
    place.ready(2)
    until = time.monotonic() + 60
    while (holders := set(holding(place))) != {pod["metadata"]["uid"] for pod in place.pods().values()}:
        assert time.monotonic() < until, holders
        time.sleep(0.5)


def holding(place: Place) -> dict[str, int]:
    """The most that each pod may yet hold, by UID: what the ledger says."""
    entries = place.get("pp", "orders")["status"]["ledger"]["entries"]
    return {entry["home"]["pod"]: entry["bound"] for entry in entries}


def operators(replicas: int) -> None:
    kubectl("scale", "deployment/forebay", "--namespace", SYSTEM, f"--replicas={replicas}")
    if replicas:
        kubectl("rollout", "status", "deployment/forebay", "--namespace", SYSTEM, "--timeout=60s")
    else:
        gone = ("--for=delete", "pods", "-l", "app.kubernetes.io/name=forebay-operator", "--timeout=60s")
        kubectl("wait", "--namespace", SYSTEM, *gone)


def test_a_rollout_fails_no_request(place: Place, background: Callable[..., Future[dict[str, Any]]]) -> None:
    old = set(place.pods())
    load = background(place, 50, 25)
    place.kubectl("rollout", "restart", "deployment/orders-forebay")
    place.kubectl("rollout", "status", "deployment/orders-forebay", "--timeout=60s")
    place.kubectl("wait", "--for=delete", *(f"pod/{name}" for name in old), "--timeout=60s")
    assert load.result()["failed"] == {}
    assert not old & set(place.pods())


def test_a_changed_document_restarts_nothing(place: Place) -> None:
    before = place.restarts()
    document = fixed(2, BUDGET + 4, 4)
    document["spec"]["upstreams"][0]["pool"]["timeout"] = "4s"
    place.declare(document)
    generation = place.get("pp", "orders")["metadata"]["generation"]
    place.kubectl("wait", f"--for=jsonpath={{.status.observedGeneration}}={generation}", "pp/orders", "--timeout=15s")
    place.kubectl("wait", "--for=condition=Progressing=False", "pp/orders", "--timeout=15s")
    assert place.restarts() == before


def test_a_deployment_scaled_by_hand_is_put_right(place: Place) -> None:
    place.kubectl("scale", "deployment/orders-forebay", "--replicas=4")
    place.kubectl("wait", "--for=jsonpath={.spec.replicas}=2", "deployment/orders-forebay", "--timeout=30s")
    place.ready(2)


def test_without_the_operator_pods_serve_and_new_ones_wait(place: Place) -> None:
    operators(0)
    try:
        assert place.load(SERVICE, 20, 2)["failed"] == {}
        pods = place.pods()
        stays, goes = pods
        place.kubectl("delete", "pod", goes)
        (new,) = set(place.pods()) - {stays}
        place.kubectl("wait", "--for=condition=Initialized", f"pod/{new}", "--timeout=30s")
        assert place.load(SERVICE, 20, 2)["failed"] == {}
        ready = {name: pod["status"]["containerStatuses"][0]["ready"] for name, pod in place.pods().items()}
        assert ready == {stays: True, new: False}
    finally:
        operators(1)
    place.kubectl("wait", "--for=condition=Ready", f"pod/{new}", "--timeout=30s")
    bury(place, pods[goes]["metadata"]["uid"])  # no operator has seen how it ended


def test_without_its_backend_a_pool_says_so(place: Place) -> None:
    place.kubectl("scale", "deployment/orders", "--replicas=0")
    place.kubectl("wait", "--for=delete", "pods", "-l", "app=orders", "--timeout=30s")
    try:
        status, retry_after = place.python(STATUS, f"http://{SERVICE}/").split()
        assert status in ("502", "503")
        assert status == "502" or retry_after.isdigit()
        place.kubectl("wait", "--for=condition=Ready", "pods", "-l", "forebay.dev/pool=orders", "--timeout=0")
    finally:
        place.kubectl("scale", "deployment/orders", "--replicas=1")
        place.kubectl("wait", "--for=condition=Available", "deployment/orders", "--timeout=60s")
    assert place.load(SERVICE, 0, 30)["first"] is not None


def test_a_pod_deleted_by_force_frees_nothing(place: Place, background: Callable[..., Future[dict[str, Any]]]) -> None:
    load = background(place, 50, 10)
    victim, pod = next(iter(place.pods().items()))
    place.kubectl("delete", "pod", victim, "--force", "--grace-period=0")
    load.result()  # its clients are cut off: only the budget has to hold
    place.ready(2)
    uid = pod["metadata"]["uid"]
    bounds = holding(place)
    assert bounds[uid] > 0
    assert sum(bounds.values()) <= BUDGET
    assert uid in [row["pod"] for row in place.get("pp", "orders")["status"]["ledger"]["orphaned"]]
    bury(place, uid)


def test_a_pool_scales_up_and_down_under_load(place: Place, background: Callable[..., Future[dict[str, Any]]]) -> None:
    load = background(place, 50, 40)
    for replicas in (5, 1):
        place.kubectl("scale", "pp", "orders", f"--replicas={replicas}")
        place.ready(replicas)
    assert load.result()["failed"] == {}


def test_a_budget_cut_live_is_kept(place: Place, background: Callable[..., Future[dict[str, Any]]]) -> None:
    load = background(place, 50, 20)
    place.declare(fixed(2, 20, 4))
    place.kubectl("wait", "--for=jsonpath={.status.upstreams[0].budgetInForce}=16", "pp/orders", "--timeout=30s")
    load.result()
    place.python("import urllib.request as u; u.urlopen(u.Request('http://orders:81/reset', method='POST'))")
    assert place.load(SERVICE, 50, 3)["failed"] == {}
    assert place.counts()["peak"] <= 16


def test_a_bad_document_is_refused_and_the_last_one_serves(place: Place) -> None:
    document = fixed(2, BUDGET + 4, 4)
    document["spec"]["upstreams"][0]["budget"]["reserved"] = 40
    with pytest.raises(AssertionError, match="reserved"):
        place.kubectl("apply", "-f", "-", stdin=json.dumps(document))
    assert place.load(SERVICE, 20, 1)["failed"] == {}


def test_rights_in_one_namespace_were_enough(place: Place) -> None:
    assert complaints() == []
