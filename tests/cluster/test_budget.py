"""One pool through everything that may happen to it, under load, in one run: what its clients see, and the budget as a
high-water mark that its backend keeps. With FOREBAY_RECORD=FILE the run is written there, for chart.py."""

import asyncio
import itertools
import json
import os
import time
from collections.abc import Iterator
from operator import not_
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.cluster.chaos import HEARING
from tests.cluster.conftest import SYSTEM, complaints, install
from tests.cluster.kubectl import get, kubectl, run
from tests.cluster.operators import chaotic, done_to_them, operators
from tests.cluster.parts import without
from tests.cluster.place import Place, fixed
from tests.cluster.witness import Record, Traffic
from tests.support.dashboard import EVERY, panels_without_data, series
from tests.support.prometheus import Prometheus, targets
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

BUDGET = 36
CLIENTS = 60
SERVICE = "orders-forebay:8080"
MEMORY = "/run/forebay/memory"
OURS = ("deployment", "configmap", "service", "serviceaccount", "poddisruptionbudget", "networkpolicy")
# No TLS, no other endpoint, no PostgreSQL.
ELSEWHERE = {"forebay_tls_certificate_expiry_seconds", "forebay_retries_total", "forebay_upstream_pinned"}
STATUS = """
import sys, urllib.request, urllib.error
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=10)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.headers.get("Retry-After"))
"""


def document(replicas: int, connections: int = BUDGET + 4) -> dict[str, Any]:
    """A pool that would take more than its budget, of which 4 are reserved, if it could."""
    made = fixed(replicas, connections, 4)
    made["spec"]["template"] = {"spec": {"shareProcessNamespace": True}}  # else nobody can kill a container's first
    made["spec"]["upstreams"][0]["pool"] = {"size": 20, "maxOverflow": 20, "timeout": "5s"}
    return made


class Run(NamedTuple):
    place: Place
    traffic: Traffic
    record: Record


@pytest.fixture(scope="module")
def whole_run(places: Any, system: None) -> Iterator[Run]:
    place = places("forebay-test-budget")
    install()
    place.declare(document(2))
    place.ready(2)
    place.tell_backend("slow")  # much is held with little work: the machine is not to be what is tested
    place.load(SERVICE, 4, 20)  # from which it learns how long a lease lasts
    traffic = Traffic(place, f"http://{SERVICE}/", CLIENTS)
    traffic.flows()
    with Record(place).going_on() as record:
        yield Run(place, traffic, record)


@pytest.fixture
def pool(whole_run: Run, request: pytest.FixtureRequest) -> Iterator[Run]:
    """Two replicas that serve; they do so again afterwards, and never had too much open."""
    place, traffic, record = whole_run
    traffic.since()
    record.mark(request.node.name.removeprefix("test_").replace("_", " ").replace("[", ": ").rstrip("]"))
    yield whole_run
    place.declare(document(2))
    place.settled(2, 120)
    traffic.flows()
    counts = place.counts()
    assert counts["peak"] <= BUDGET, counts
    assert counts["refused"] == 0, counts


def only_cut(failed: dict[str, int]) -> bool:
    """Whether all that failed were connections that ended, or the answer that says when to come again."""
    return not any((what.isdigit() and what != "503") or what == "TimeoutError" for what in failed)


def test_a_rollout_fails_no_request(pool: Run) -> None:
    old = set(pool.place.pods())
    pool.place.kubectl("rollout", "restart", "deployment/orders-forebay")
    pool.place.kubectl("rollout", "status", "deployment/orders-forebay", "--timeout=90s", seconds=100)
    pool.place.kubectl("wait", "--for=delete", *(f"pod/{name}" for name in old), "--timeout=60s")
    answered, failed = pool.traffic.since()
    assert failed == {}
    assert answered > 0
    assert not old & set(pool.place.pods())


def test_scaling_from_one_to_six_and_back_fails_no_request(pool: Run) -> None:
    for replicas in (1, 6, 1):
        pool.place.kubectl("scale", "pp", "orders", f"--replicas={replicas}")
        pool.place.settled(replicas)
    assert pool.traffic.since()[1] == {}


def test_evictions_wait_for_each_other_and_fail_no_request(pool: Run) -> None:
    old, put_off = list(pool.place.pods()), 0
    for name in old:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{pool.place.name}/pods/{name}/eviction"
        until = time.monotonic() + 60
        while (done := run("kubectl", "create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))).returncode != 0:
            assert "disruption budget" in done.stderr
            assert time.monotonic() < until
            put_off += 1
            time.sleep(0.5)
    pool.place.settled(2)
    assert put_off, "the second eviction has to wait until the first pod has been replaced"
    assert pool.traffic.since()[1] == {}
    assert not set(old) & set(pool.place.pods())


def test_a_proxy_that_is_killed_goes_on_with_its_grant(pool: Run) -> None:
    before, lives = pool.place.restarts(), [entry["life"] for entry in pool.place.entries()]
    for name in before:
        pool.place.kill(name)
        restarted(pool.place, name, before[name])
    pool.place.settled(2)
    assert [entry["life"] for entry in pool.place.entries()] == lives
    failed = pool.traffic.since()[1]
    assert only_cut(failed), failed


def restarted(place: Place, name: str, before: int) -> None:
    """Wait until a pod has been started again in place, and is ready."""
    until = time.monotonic() + 60
    while place.restarts()[name] == before:
        assert time.monotonic() < until
        time.sleep(0.5)
    place.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


def test_a_memory_that_is_lost_is_a_new_life(pool: Run) -> None:
    lives = {entry["home"]["pod"]: entry["life"] for entry in pool.place.entries()}
    name, pod = next(iter(pool.place.pods().items()))
    before = pool.place.restarts()[name]
    pool.place.kubectl("exec", name, "--", "rm", MEMORY)
    pool.place.kill(name)
    restarted(pool.place, name, before)
    pool.place.settled(2)
    now = {entry["home"]["pod"]: entry["life"] for entry in pool.place.entries()}
    changed = {uid for uid in lives if now[uid] != lives[uid]}
    assert changed == {pod["metadata"]["uid"]}


def test_a_status_that_is_lost_is_settled_by_the_replicas(pool: Run) -> None:
    ledger = pool.place.get("pp", "orders")["status"]["ledger"]
    pool.place.kubectl("patch", "pp", "orders", "--subresource=status", "--type=merge", "-p", '{"status": null}')
    pool.place.settled(2)
    now = pool.place.get("pp", "orders")["status"]["ledger"]
    assert now["sequence"] > ledger["sequence"]
    assert {entry["life"] for entry in now["entries"]} == {entry["life"] for entry in ledger["entries"]}
    assert pool.traffic.since()[1] == {}


def test_a_deployment_scaled_by_hand_is_put_right(pool: Run) -> None:
    pool.place.kubectl("scale", "deployment/orders-forebay", "--replicas=6")
    pool.place.kubectl("wait", "--for=jsonpath={.spec.replicas}=2", "deployment/orders-forebay", "--timeout=30s")
    pool.place.settled(2)
    assert pool.traffic.since()[1] == {}


def test_a_budget_that_is_cut_live_is_kept(pool: Run) -> None:
    assert pool.place.counts()["peak"] <= BUDGET
    pool.place.declare(document(2, 20))
    pool.place.kubectl("wait", "--for=jsonpath={.status.upstreams[0].budgetInForce}=16", "pp/orders", "--timeout=30s")
    pool.place.tell_backend("reset")
    time.sleep(5)
    counts = pool.place.counts()
    assert counts["answered"] > 100
    assert counts["peak"] <= 16


def test_a_pod_deleted_by_force_counts_while_its_process_lives_on(pool: Run) -> None:
    name, pod = next(iter(pool.place.pods().items()))
    uid, node = pod["metadata"]["uid"], pod["spec"]["nodeName"]
    with without("kubelet"):
        pool.place.kubectl("delete", "pod", name, "--force", "--grace-period=0")
        kubectl("wait", f"node/{node}", "--for=condition=Ready=Unknown", "--timeout=90s", seconds=100)
        bounds = pool.place.bounds()
        assert bounds[uid] > 0
        assert sum(bounds.values()) <= BUDGET
        assert uid in [row["pod"] for row in pool.place.get("pp", "orders")["status"]["ledger"]["orphaned"]]
    kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=60s")


@pytest.mark.parametrize(
    ("modes", "deeds"),
    [((1, "kill"), 6), ((2, "kill", "pause", "usurp", "skew"), 12)],
    ids=["one", "two at once"],
)
def test_operators_that_end_or_pause_at_every_write(pool: Run, modes: tuple[Any, ...], deeds: int) -> None:
    with chaotic(*modes):
        until, sizes = time.monotonic() + 150, itertools.cycle((4, 1, 3))
        while len(done := done_to_them()) < deeds:
            pool.place.kubectl("scale", "pp", "orders", f"--replicas={next(sizes)}")
            time.sleep(3)
            assert time.monotonic() < until, done
    assert not any("exited" in deed for deed in done), done
    assert {deed.split()[0] for deed in done} == {"kill", "pause"}.intersection(modes)
    assert {deed.split()[-1] for deed in done} == {"apply", "patch_status", "_push"}
    pool.place.declare(document(2))
    pool.place.settled(2)


def test_watches_that_go_silent_are_noticed(pool: Run) -> None:
    with chaotic(1, "deaf"):
        operators(1)
        time.sleep(HEARING)
        pool.place.kubectl("scale", "pp", "orders", "--replicas=3")
        wait = ("--for=jsonpath={.spec.replicas}=3", "deployment/orders-forebay", "--timeout=120s")
        pool.place.kubectl("wait", *wait, seconds=130)
        pool.place.settled(3)


def test_a_minute_without_api_server_and_etcd(pool: Run) -> None:
    before = pool.place.restarts()
    victim = next(iter(before))
    pool.place.kill(victim, after=20)
    with without("controllers", "apiserver", "etcd"):
        time.sleep(60)
    pool.place.kubectl("scale", "pp", "orders", "--replicas=3")
    wait = ("--for=jsonpath={.spec.replicas}=3", "deployment/orders-forebay", "--timeout=30s")
    pool.place.kubectl("wait", *wait)
    restarted(pool.place, victim, before[victim])
    answered, failed = pool.traffic.since()
    assert answered > 60
    assert only_cut(failed), failed
    # A kubelet looks for new pods again after up to a minute: what client-go waits after failures, 30 s and as much
    # again at random. So does kube-proxy for endpoints, by itself.
    pool.place.settled(3, 120)
    pool.place.routed()


def test_without_an_operator_grants_stay_and_nobody_new_is_let_in(pool: Run) -> None:
    place = pool.place
    stays, goes = place.pods()
    operators(0)
    try:
        entries, restarts = place.entries(), place.restarts()
        versions = {kind: of_ours(place, kind) for kind in OURS}
        place.kill(stays)
        restarted(place, stays, restarts[stays])
        place.kubectl("delete", "pod", goes)
        (new,) = set(place.pods()) - {stays}
        place.kubectl("wait", "--for=delete", f"pod/{goes}", "--timeout=60s")
        failed = pool.traffic.since()[1]
        assert only_cut(failed), failed
        time.sleep(30)
        answered, failed = pool.traffic.since()
        assert answered > 60
        assert failed == {}
        ready = {name: pod["status"]["containerStatuses"][0]["ready"] for name, pod in place.pods().items()}
        assert ready == {stays: True, new: False}
        assert place.entries() == entries
    finally:
        operators(1)
    place.kubectl("wait", "--for=condition=Ready", f"pod/{new}", "--timeout=15s")
    assert {kind: of_ours(place, kind) for kind in OURS} == versions
    assert place.restarts() == {stays: restarts[stays] + 1, new: 0}
    assert entries[0]["life"] in [entry["life"] for entry in place.entries()]


def of_ours(place: Place, kind: str) -> dict[str, Any]:
    """Of each object of a kind that the operator has made, what changes when somebody writes it, its status aside."""
    found = [
        item["metadata"] for item in get("--namespace", place.name, kind, "-l", "forebay.dev/pool=orders")["items"]
    ]
    return {each["name"]: each.get("generation", each["resourceVersion"]) for each in found}


def test_a_pool_created_anew_waits_for_those_of_its_name_that_drain(pool: Run) -> None:
    old = {entry["life"] for entry in pool.place.entries()}
    pool.place.kubectl("delete", "pp", "orders")
    pool.place.declare(document(2))
    pool.place.settled(2, 120)
    assert not old & {entry["life"] for entry in pool.place.entries()}


def test_without_its_backend_a_pool_says_so_and_stays(pool: Run) -> None:
    place = pool.place
    assert place.counts()["peak"] <= BUDGET
    if "FOREBAY_RECORD" in os.environ:
        pool.record.write(Path(os.environ["FOREBAY_RECORD"]))
    restarts = place.restarts()
    place.kubectl("scale", "deployment/orders", "--replicas=0")
    place.kubectl("wait", "--for=delete", "pods", "-l", "app=orders", "--timeout=30s")
    try:
        place.kubectl("wait", "--for=condition=BackendUnavailable", "pp/orders", "--timeout=60s")
        told = {c["type"]: c for c in place.get("pp", "orders")["status"]["conditions"]}["BackendUnavailable"]
        assert "orders" in told["message"]
        status, retry_after = place.python(STATUS, f"http://{SERVICE}/").split()
        assert status == "503"
        assert int(retry_after) > 0
        place.kubectl("wait", "--for=condition=Ready", "pods", "-l", "forebay.dev/pool=orders", "--timeout=0")
    finally:
        place.kubectl("scale", "deployment/orders", "--replicas=1")
        place.kubectl("wait", "--for=condition=Available", "deployment/orders", "--timeout=60s")
        place.tell_backend("slow")
    pool.traffic.flows()
    place.kubectl("wait", "--for=condition=BackendUnavailable=False", "pp/orders", "--timeout=60s")
    assert place.restarts() == restarts


async def test_every_panel_of_the_dashboard_has_data(pool: Run, tmp_path: Path) -> None:
    found = [*targets(get("pods", "--namespace", SYSTEM)), *targets(pool.place.get("pods"))]
    async with Prometheus(tmp_path, found) as prometheus:
        url = prometheus.url
        await until(lambda: asyncio.to_thread(series, url, "rate(forebay_requests_total[1m])"), 60, 1)
        # So that there are failures to show, and connections to open.
        await asyncio.to_thread(pool.place.kubectl, "delete", "pods", "-l", "app=orders")
        await until(lambda: asyncio.to_thread(panels_without_data, url, EVERY - ELSEWHERE), 90, 1, wanted=not_)


def test_the_operator_had_every_right_that_it_needed(pool: Run) -> None:
    assert complaints() == []
