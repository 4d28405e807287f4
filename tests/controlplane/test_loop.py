"""A pool's loop from end to end, with stand-ins for the API server and the pods."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import aiohttp
import pytest
from tests.controlplane.fakes import FakeApi, FakeReplica, FakeSession
from tests.controlplane.parts import SETTINGS, gathered, pool
from tests.support.waiting import until

from forebay_operator import loop
from forebay_operator.api import Api
from forebay_operator.loop import Loops
from forebay_operator.metrics import Measures
from forebay_operator.plan import plan
from forebay_operator.store import Key, Store

HASH = plan(gathered(pool())).document
ORDERS = Key("shop", "orders")


class Cluster:
    """What a test looks at and changes; the store is told of changed objects as by a watch."""

    def __init__(self) -> None:
        self.api, self.session, self.store, self.measures = FakeApi(), FakeSession(), Store(), Measures()
        self.store.namesakes.since = float("-inf")  # it is known that nobody had the pool's name before
        self.tell_pool(pool())

    def loops(self) -> Loops:
        return Loops(
            self.store, cast(Api, self.api), cast(aiohttp.ClientSession, self.session), SETTINGS, self.measures
        )

    def tell_pool(self, raw: dict[str, Any]) -> None:
        self.store.see_pool(self.api.put(raw))

    def start(self, *replicas: FakeReplica) -> None:
        for replica in replicas:
            self.session.replicas[replica.ip] = replica
            self.store.see_pod(self.api.put(replica.pod()))

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.api.objects["ProxyPool", *ORDERS].get("status", {})
        return status

    def ready(self) -> str:
        return next((c["reason"] for c in self.status.get("conditions", []) if c["type"] == "Ready"), "")


@asynccontextmanager
async def running(cluster: Cluster) -> AsyncIterator[None]:
    task = asyncio.create_task(cluster.loops().run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SOON", 0.005)
    monkeypatch.setattr(loop, "TICK", 0.02)
    monkeypatch.setattr(loop, "BACKOFF", (0.02,))


async def test_a_pool_gets_its_objects_and_its_pods_their_grants() -> None:
    cluster = Cluster()
    a, b = FakeReplica("a", "10.0.0.1", HASH), FakeReplica("b", "10.0.0.2", HASH)
    async with running(cluster):
        await until(lambda: ("Deployment", "shop", "orders-forebay") in cluster.api.objects)
        cluster.start(a, b)
        await until(lambda: min(a.grant, b.grant) >= 4)
        secret = cluster.api.objects["Secret", "shop", "orders-forebay-admin"]
        assert a.token == b.token != "Bearer "
        assert secret["data"]["token"]
        cluster.start(a, b)
        await until(lambda: cluster.ready() == "Serving")
    assert cluster.api.ledger().bounds("orders") <= 12
    assert cluster.status["readyReplicas"] == 2
    first_ledger = cluster.api.written.index("patch ProxyPool")
    assert cluster.api.written[0] == "create Secret"
    assert "apply Deployment" in cluster.api.written[:first_ledger]


async def test_nothing_is_pushed_that_could_not_be_written() -> None:
    cluster = Cluster()
    a = FakeReplica("a", "10.0.0.1", HASH)
    async with running(cluster):
        await until(lambda: "ledger" in cluster.status)
        cluster.api.away = True
        failed = cluster.measures.errors[ORDERS]
        cluster.start(a)
        await until(lambda: cluster.measures.errors[ORDERS] >= failed + 2)  # the first may have begun before
        assert a.grant == 0
        cluster.api.away = False
        await until(lambda: a.grant == 11)  # all but the place that is never lent


async def test_a_stale_view_is_refused_and_read_anew() -> None:
    cluster = Cluster()
    a = FakeReplica("a", "10.0.0.1", HASH)
    async with running(cluster):
        await until(lambda: "ledger" in cluster.status)
        raw = copy.deepcopy(cluster.api.objects["ProxyPool", *ORDERS])
        raw["spec"]["upstreams"][0]["budget"]["maxConnections"] = 6
        cluster.api.put(raw)  # and no watch tells of it
        cluster.start(a)
        await until(lambda: a.grant > 0)
    assert a.grant == 5


async def test_a_deployment_scaled_by_hand_is_put_right() -> None:
    cluster = Cluster()
    key = ("Deployment", "shop", "orders-forebay")
    async with running(cluster):
        await until(lambda: key in cluster.api.objects and "ledger" in cluster.status)
        edited = cluster.api.objects[key] | {"spec": cluster.api.objects[key]["spec"] | {"replicas": 9}}
        cluster.store.see_deployment(cluster.api.put(edited))
        await until(lambda: cluster.api.objects[key]["spec"]["replicas"] == 2)
        await until(lambda: any(e.get("reason") == "PutRight" for e in cluster.api.objects.values()))


async def test_a_new_operator_changes_nothing_that_was_right() -> None:
    cluster = Cluster()
    a = FakeReplica("a", "10.0.0.1", HASH)
    async with running(cluster):
        cluster.start(a)
        await until(lambda: a.grant == 11)  # all but the place that is never lent
    before = cluster.api.ledger()
    cluster.api.written.clear()
    async with running(cluster):
        await until(lambda: "apply Deployment" in cluster.api.written)
        await asyncio.sleep(0.05)
    assert cluster.api.ledger() == before
    assert a.sequence == before.sequence


async def test_a_pod_that_comes_while_the_document_is_bad_is_granted_its_share() -> None:
    cluster = Cluster()
    a = FakeReplica("a", "10.0.0.1", HASH)
    async with running(cluster):
        await until(lambda: "ledger" in cluster.status)
        raw = copy.deepcopy(cluster.api.objects["ProxyPool", *ORDERS])
        raw["spec"]["upstreams"][0]["budget"]["reserved"] = 11
        cluster.tell_pool(raw)
        await until(lambda: cluster.ready() == "InvalidDocument")
        cluster.start(a)
        await until(lambda: a.grant == 11)  # all but the place that is never lent
        await until(lambda: cluster.status["replicas"] == 1)
    assert cluster.ready() == "InvalidDocument"


async def test_a_pool_that_is_gone_is_left_alone() -> None:
    cluster = Cluster()
    async with running(cluster):
        await until(lambda: "ledger" in cluster.status)
        gone = cluster.api.objects.pop(("ProxyPool", *ORDERS))
        cluster.store.see_pool(gone, deleted=True)
        await until(lambda: ORDERS not in cluster.store.pools)
        cluster.api.written.clear()
        await asyncio.sleep(0.05)
    assert cluster.api.written == []
