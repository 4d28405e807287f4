"""The operator as a process, at a stand-in for an API server, with stand-ins for the pods."""

import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.apiserver import ApiServer
from tests.support.forebay import PYTHONPATH, Metrics
from tests.support.process import ROOT, Child
from tests.support.raw import fetch
from tests.support.standins import StandIns
from tests.support.states import upstream, worker
from tests.support.waiting import until

NAMESPACE = "shop"
POOL = {
    "apiVersion": "forebay.dev/v1alpha1",
    "kind": "ProxyPool",
    "metadata": {"name": "orders", "namespace": NAMESPACE},
    "spec": {
        "protocol": "http",
        "listen": {"port": 8080},
        "replicas": 2,
        "upstreams": [
            {"name": "orders", "service": {"name": "orders", "port": 80},
             "budget": {"maxConnections": 12, "linger": "1s"}},
        ],
    },
}  # fmt: skip


class Operator:
    """One process, and its page."""

    def __init__(self, child: Child, port: int) -> None:
        self.child, self.port = child, port

    @classmethod
    async def start(cls, kubeconfig: Path, name: str) -> "Operator":
        env = {
            "PYTHONPATH": PYTHONPATH, "KUBECONFIG": str(kubeconfig), "FOREBAY_PROXY_IMAGE": "forebay-proxy:test",
            "FOREBAY_HEALTH_PORT": "0", "FOREBAY_METRICS_PORT": "0", "FOREBAY_NAMESPACE": NAMESPACE, "POD_NAME": name,
        }  # fmt: skip
        child = await Child.start([sys.executable, "-m", "forebay_operator"], env=env, cwd=ROOT)
        return cls(child, int((await child.line(r"metrics on .*?0\.0\.0\.0:(\d+)"))[1]))

    async def metrics(self) -> Metrics:
        return Metrics((await fetch(self.port, "/metrics")).body.decode())


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as api, StandIns(api, worker(upstreams={"orders": upstream()})):
        api.put(POOL)
        yield api


@pytest.fixture
async def operators(api: ApiServer, tmp_path: Path) -> AsyncIterator[Callable[[str], Any]]:
    started: list[Operator] = []
    kubeconfig = api.kubeconfig(tmp_path / "kubeconfig")

    async def start(name: str) -> Operator:
        started.append(await Operator.start(kubeconfig, name))
        return started[-1]

    yield start
    for operator in started:
        await operator.child.end()


def status(api: ApiServer) -> dict[str, Any]:
    raw = api.get("ProxyPool", NAMESPACE, "orders")
    assert raw is not None
    found: dict[str, Any] = raw.get("status", {})
    return found


def granted(api: ApiServer) -> bool:
    return status(api).get("granted", 0) > 0 and status(api).get("readyReplicas") == 2


def holder(api: ApiServer) -> str:
    lease = api.get("Lease", "forebay-system", "forebay-operator")
    return str(lease.get("spec", {}).get("holderIdentity", "")) if lease is not None else ""


async def test_what_somebody_deletes_or_edits_is_put_right_in_seconds(api: ApiServer, operators: Any) -> None:
    await operators("a")
    await until(lambda: granted(api), 60)
    for kind, name in (
        ("Service", "orders-forebay"),
        ("Service", "orders-forebay-peers"),
        ("ConfigMap", "orders-forebay"),
        ("ServiceAccount", "orders-forebay"),
        ("PodDisruptionBudget", "orders-forebay"),
        ("NetworkPolicy", "orders-forebay"),
    ):
        api.delete(kind, NAMESPACE, name)
        await until(lambda kind=kind, name=name: api.get(kind, NAMESPACE, name), 20)
    edited = {"kind": "Service", "metadata": {"namespace": NAMESPACE, "name": "orders-forebay"}}
    api.put(edited | {"spec": {"type": "LoadBalancer"}})
    await until(lambda: (api.get("Service", NAMESPACE, "orders-forebay") or {})["spec"]["type"] == "ClusterIP", 20)


async def test_the_page_tells_of_the_pool_and_of_the_rights_that_were_used(api: ApiServer, operators: Any) -> None:
    operator = await operators("a")
    await until(lambda: granted(api), 60)
    told = await operator.metrics()
    labels = {"namespace": NAMESPACE, "proxypool": "orders"}
    assert told.value("forebay_leader") == 1
    assert told.value("forebay_budget_connections", kind="limit", **labels) == 12
    assert told.value("forebay_budget_connections", kind="granted", **labels) > 0
    assert told.value("forebay_replicas", kind="ready", **labels) == 2
    assert told.value("forebay_api_requests_total", verb="watch", resource="networkpolicies", code="200") == 1
    assert told.value("forebay_api_requests_total", verb="create", resource="deployments", code="201") == 1
    assert (await fetch(operator.port, "/livez")).status == 200
    api.delete("ProxyPool", NAMESPACE, "orders")
    await until(
        operator.metrics, 30, 0.05, wanted=lambda told: not any("proxypool" in sample.labels for sample in told.samples)
    )


@pytest.mark.slow
async def test_a_paused_leader_that_wakes_is_harmless(api: ApiServer, operators: Any) -> None:
    first = await operators("a")
    await until(lambda: granted(api), 60)
    await operators("b")
    first.child.send(signal.SIGSTOP)
    await until(lambda: holder(api) == "b", 60)
    sequence = status(api)["ledger"]["sequence"]
    first.child.send(signal.SIGCONT)
    await first.child.line("a leads no more")
    await until(first.metrics, 30, 0.05, wanted=lambda told: not told.value("forebay_leader"))
    assert holder(api) == "b"
    await first.child.end()
    assert holder(api) == "b", "who ends releases only its own Lease"
    assert status(api)["ledger"]["sequence"] == sequence


async def test_the_lease_is_released_on_exit(api: ApiServer, operators: Any) -> None:
    first = await operators("a")
    await until(lambda: holder(api) == "a", 60)
    assert await first.child.end() == 0
    assert holder(api) == ""
