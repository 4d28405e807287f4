"""What is looked at, in which order, and what is looked at afresh because something rests on it."""

from typing import Any, cast

import aiohttp
import pytest
from tests.controlplane.fakes import FakeApi, FakeReplica, FakeSession
from tests.controlplane.parts import BOOT, SETTINGS, ledger, pool, raw_ended, raw_pod

from forebay_core.budget.proofs import Node
from forebay_core.budget.record import dump
from forebay_operator.api import Api, Conflict, NotFound, Refused
from forebay_operator.gather import Gone, clock, gather
from forebay_operator.memory import Memory
from forebay_operator.past import Past
from forebay_operator.picture import Gathered
from forebay_operator.settings import Settings
from forebay_operator.store import Key, Store
from forebay_operator.troubles import CREATING, Lasting, Trouble

ORDERS = Key("shop", "orders")


class World:
    """An API server that notes what it is asked, pods, and what an operator knows of them."""

    def __init__(self, *lives: str, sequence: int = 5) -> None:
        self.api, self.session, self.store, self.memory = Asked(), FakeSession(), Store(), Memory(stale=False)
        made = ledger(sequence, **dict.fromkeys(lives, (4, 4, sequence)))
        self.store.see_pool(self.api.put(pool(status={"ledger": dump(made)})))
        self.memory.token = "secret"

    def pod(self, name: str, *, answers: bool = True, sequence: int = 5) -> None:
        """One that runs, with a life of the same name."""
        replica = FakeReplica(name, f"10.0.0.{len(self.session.replicas) + 1}")
        replica.life, replica.sequence = name, sequence
        self.store.see_pod(self.api.put(replica.pod()))
        if answers:
            self.session.replicas[replica.ip] = replica

    async def look(self, settings: Settings = SETTINGS) -> Gathered:
        self.api.asked.clear()
        session = cast(aiohttp.ClientSession, self.session)
        seen = await gather(ORDERS, self.store, self.memory, cast(Api, self.api), session, settings)
        self.memory.past = seen.past
        return seen


class Asked(FakeApi):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.forbidden = ""

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        self.asked.append(f"get {kind}")
        if kind == self.forbidden:
            raise Refused(403, "nodes is forbidden")
        return await super().get(kind, namespace, name)

    async def list(self, kind: str, namespace: str, labels: str = "", fields: str = "") -> "list[dict[str, Any]]":
        self.asked.append(f"list {kind}")
        if kind == self.forbidden:
            raise Refused(403, "events is forbidden")
        return await super().list(kind, namespace, labels, fields)


async def test_when_all_answer_the_api_server_is_asked_nothing() -> None:
    world = World("a")
    world.pod("a")
    seen = await world.look()
    assert world.api.asked == []
    assert set(seen.look.reports) == {"a-uid"}
    assert seen.look.unseen == {"node1"}


async def test_a_newcomers_node_is_looked_at_for_its_boot() -> None:
    world = World()
    world.pod("a")
    seen = await world.look()
    assert world.api.asked == ["get Node", "get Lease"]
    assert seen.look.nodes == {"node1": Node(BOOT, 0.0)}
    assert seen.look.unseen == frozenset()


async def test_in_one_namespace_there_are_no_nodes_to_see_and_none_that_prove() -> None:
    world = World("gone")
    world.pod("a")
    seen = await world.look(Settings("proxy", "Never", "shop", "forebay-system", "operator-0"))
    assert "get Node" not in world.api.asked
    assert (seen.look.nodes, seen.look.unseen) == ({}, {"node1"})


async def test_a_pod_that_no_watch_shows_is_looked_for_before_it_is_called_missing() -> None:
    world = World("a", "b")
    world.pod("a")
    world.pod("b")
    world.store._pods[ORDERS].pop("b-uid")  # the watch is behind
    seen = await world.look()
    assert "list Pod" in world.api.asked
    assert seen.past.missing == {}
    assert "b-uid" in seen.look.pods

    world.api.objects.pop(("Pod", "shop", "b"))
    world.store._pods[ORDERS].pop("b-uid", None)
    seen = await world.look()
    assert set(seen.past.missing) == {"b-uid"}
    await world.look()
    assert "list Pod" not in world.api.asked, "what has gone is gone"


async def test_a_pod_that_had_ended_is_remembered_without_its_object() -> None:
    world = World("a")
    terminated = {"name": "proxy", "restartCount": 0, "state": {"terminated": {"exitCode": 137}}, "lastState": {}}
    world.store.see_pod(raw_pod("a", phase="Failed", containerStatuses=[terminated]), deleted=True)
    seen = await world.look()
    assert set(seen.past.ended) == {"a-uid"}
    assert seen.past.missing == {}
    assert (await world.look()).past.ended == seen.past.ended


async def test_a_ledger_that_a_replica_is_ahead_of_is_read_anew_and_all_are_asked_again() -> None:
    world = World("a")
    world.pod("a", sequence=7)
    newer = pool(status={"ledger": dump(ledger(7, a=(6, 6, 7)))})
    world.api.put(newer)  # and no watch tells of it
    seen = await world.look()
    assert world.api.asked[:2] == ["get ProxyPool", "list Pod"]
    assert seen.look.ledger is not None
    assert seen.look.ledger.sequence == 7


async def test_answers_are_never_older_than_the_ledger() -> None:
    world = World("a")
    world.pod("a")
    replica, state = world.session.replicas["10.0.0.1"], world.session.replicas["10.0.0.1"].state

    def answered_while_the_watch_tells() -> dict[str, Any]:
        newer = pool(status={"ledger": dump(ledger(6, a=(6, 6, 6)))})
        world.store.see_pool(world.api.put(newer))
        return state()

    replica.state = answered_while_the_watch_tells  # type: ignore[method-assign]
    seen = await world.look()
    assert seen.look.ledger is not None
    assert seen.look.ledger.sequence == 5
    assert seen.raw["metadata"]["resourceVersion"] != world.store.pools[ORDERS]["metadata"]["resourceVersion"]


async def test_a_ledger_that_we_are_ahead_of_is_read_anew() -> None:
    world = World("a")
    world.memory.uid = "pool-uid"
    world.memory.past = Past(highest=6)
    await world.look()
    assert world.api.asked[0] == "get ProxyPool"


async def test_a_pool_without_a_budget_is_not_read_anew_each_time_for_want_of_a_ledger() -> None:
    world = World()
    unbounded = pool({"upstreams": [{"name": "orders", "service": {"name": "orders", "port": 80}}]})
    world.store.see_pool(world.api.put(unbounded))
    await world.look()
    assert world.api.asked == []


async def test_a_pool_that_has_gone() -> None:
    world = World()
    world.memory.stale = True
    world.api.objects.pop(("ProxyPool", *ORDERS))
    with pytest.raises(Gone):
        await world.look()


async def test_a_pool_that_is_made_anew_while_it_is_asked_for_has_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the API server answers is what was there; the watch has told of both by then."""
    world = World()
    world.memory.stale = True
    old = world.api.objects.pop(("ProxyPool", *ORDERS))
    new = pool()
    new["metadata"]["uid"] = "another"

    async def late(kind: str, namespace: str, name: str) -> Any:
        monkeypatch.undo()
        world.store.see_pool(old, deleted=True)
        world.store.see_pool(world.api.put(new))
        raise NotFound(404, "not found")

    monkeypatch.setattr(world.api, "get", late)
    with pytest.raises(Conflict):
        await world.look()
    assert (await world.look()).raw["metadata"]["uid"] == "another"


async def test_a_pool_that_is_made_anew_has_no_good_document_of_the_one_before() -> None:
    world = World()
    assert (await world.look()).blueprint is not None
    new = pool({"listen": {"port": 9901}})
    new["metadata"]["uid"] = "another"
    world.store.see_pool(world.api.put(new))
    seen = await world.look()
    assert seen.blueprint is None
    assert "9901" in seen.invalid


async def test_an_answer_counts_for_the_pod_that_it_names() -> None:
    """An address may have passed to another pod."""
    world = World("a")
    world.pod("a", answers=False)
    other = FakeReplica("other", "10.0.0.1")
    world.session.replicas["10.0.0.1"] = other
    seen = await world.look()
    assert set(seen.look.reports) == {"other-uid"}


async def test_nodes_that_may_not_be_seen_prove_nothing_and_stop_nothing() -> None:
    world = World()
    world.pod("a")
    world.api.forbidden = "Node"
    seen = await world.look()
    assert (seen.look.nodes, seen.look.unseen) == ({}, {"node1"})


async def test_pods_that_went_are_not_kept_where_there_is_no_ledger() -> None:
    world = World()
    world.store.see_pool(world.api.put(pool()))
    world.store.see_pod(raw_ended("a"), deleted=True)
    await world.look()
    assert world.store.take_ended(ORDERS) == {}


def starting(world: World, name: str, since: float) -> None:
    """A pod whose container has been in the making since then; its events name a Secret."""
    waiting = {"name": "proxy", "restartCount": 0, "state": {"waiting": {"reason": CREATING}}}
    world.store.see_pod(world.api.put({"kind": "Pod", **raw_pod(name, podIP="", containerStatuses=[waiting])}))
    told = {"reason": "FailedMount", "message": 'secret "web" not found', "type": "Warning"}
    world.api.put({"kind": "Event", "metadata": {"name": name, "namespace": "shop"}, **told,
                   "involvedObject": {"uid": f"{name}-uid"}})  # fmt: skip
    world.memory.uid = "pool-uid"
    world.memory.past = Past(highest=5, troubles={f"{name}-uid": Lasting(Trouble(CREATING, ""), since)})


async def test_the_events_of_a_pod_are_asked_for_only_when_it_has_been_starting_for_long() -> None:
    world = World()
    starting(world, "a", clock())
    assert (await world.look()).mishaps == {}
    assert "list Event" not in world.api.asked
    starting(world, "b", clock() - 10.0)
    assert (await world.look()).mishaps == {"b-uid": Trouble("FailedMount", 'secret "web" not found')}
    await world.look()
    assert "list Event" not in world.api.asked, "not at every look"


async def test_events_that_may_not_be_seen_stop_nothing() -> None:
    world = World()
    starting(world, "a", clock() - 10.0)
    world.api.forbidden = "Event"
    assert (await world.look()).mishaps == {}
    assert "list Event" in world.api.asked
