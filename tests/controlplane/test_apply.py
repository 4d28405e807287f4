"""A plan is carried out in an order that is safe to be stopped in."""

from typing import cast

import aiohttp
import pytest
from tests.controlplane.fakes import FakeApi, FakeReplica, FakeSession
from tests.controlplane.parts import gathered, pool

from forebay_operator.api import Api, Conflict
from forebay_operator.apply import apply
from forebay_operator.budgeting import Push
from forebay_operator.memory import Memory
from forebay_operator.past import Past
from forebay_operator.picture import Apply, Event, Plan
from forebay_operator.store import Key, Store

ORDERS = Key("shop", "orders")
EVENT = Event("Normal", "ScaledUp", "from 1 to 2 replicas")
PUSH = Push("10.0.0.1", "life-a", 9, {"orders": 4}, 30.0)


class Doing:
    """One carrying out, with a replica that can be pushed to."""

    def __init__(self) -> None:
        self.api, self.session, self.memory, self.store = FakeApi(), FakeSession(), Memory(token="secret"), Store()
        self.replica = self.session.replicas["10.0.0.1"] = FakeReplica("a", "10.0.0.1")
        self.raw = self.api.put(pool())
        self.api.put(self.replica.pod())

    async def do(self, plan: Plan) -> None:
        session = cast(aiohttp.ClientSession, self.session)
        await apply(ORDERS, plan, gathered(self.raw), self.store, self.memory, cast(Api, self.api), session)


def deployment() -> Apply:
    metadata = {"name": "orders-forebay", "namespace": "shop", "labels": {"forebay.dev/pool": "orders"}}
    return Apply({"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 2}}, "digest", False, EVENT)


async def test_what_is_pushed_was_written() -> None:
    doing = Doing()
    await doing.do(Plan(Past(), status={"ledger": {}}, sequence=9, pushes=(PUSH,)))
    assert (doing.replica.grant, doing.replica.deadline) == (4, 30.0)
    assert doing.memory.past.highest == 9


async def test_what_can_not_be_written_is_not_pushed_and_deletes_nobody() -> None:
    doing = Doing()
    doing.api.put(pool())  # somebody was faster
    plan = Plan(
        Past(began=5.0),
        apply=(deployment(),),
        status={"ledger": {}},
        sequence=9,
        pushes=(PUSH,),
        delete=(("a", "a-uid"),),
    )
    with pytest.raises(Conflict):
        await doing.do(plan)
    assert doing.replica.grant == 0
    assert ("Pod", "shop", "a") in doing.api.objects
    assert doing.memory.past == Past(began=5.0), "what was seen is remembered; not that it was written"
    assert "create Event" in doing.api.written, "the Deployment was scaled all the same"


async def test_a_pod_is_deleted_by_its_uid() -> None:
    doing = Doing()
    await doing.do(Plan(Past(), delete=(("a", "another-uid"),)))
    assert ("Pod", "shop", "a") in doing.api.objects
    await doing.do(Plan(Past(), delete=(("a", "a-uid"),)))
    assert ("Pod", "shop", "a") not in doing.api.objects
