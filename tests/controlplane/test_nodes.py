"""What nodes prove."""

from typing import cast

from tests.controlplane.fakes import FakeApi
from tests.controlplane.parts import BOOT

from forebay_core.budget.proofs import Node
from forebay_operator.api import Api
from forebay_operator.nodes import Kubelets

LEASE = ("Lease", "kube-node-lease", "node1")


async def test_a_kubelet_was_heard_when_we_looked_before_its_lease_changed() -> None:
    """Its own clock may say what it likes."""
    fake, kubelets = FakeApi(), Kubelets()
    api = cast(Api, fake)
    assert await kubelets.look("node1", api, 100.0) == Node(BOOT, 0.0), "it may have ended long ago"
    assert await kubelets.look("node1", api, 110.0) == Node(BOOT, 0.0)
    fake.objects[LEASE]["spec"]["renewTime"] = "2"
    assert await kubelets.look("node1", api, 120.0) == Node(BOOT, 110.0)
    assert await kubelets.look("node1", api, 130.0) == Node(BOOT, 110.0)


async def test_a_node_that_has_gone_and_one_without_a_lease() -> None:
    fake, kubelets = FakeApi(), Kubelets()
    api = cast(Api, fake)
    assert await kubelets.look("node2", api, 100.0) is None
    del fake.objects[LEASE]
    assert await kubelets.look("node1", api, 100.0) == Node(BOOT, 0.0)
    assert await kubelets.look("node1", api, 200.0) == Node(BOOT, 0.0)


async def test_a_node_is_not_looked_at_all_the_time() -> None:
    kubelets = Kubelets()
    assert kubelets.due("node1", 100.0)
    await kubelets.look("node1", cast(Api, FakeApi()), 100.0)
    assert not kubelets.due("node1", 104.0)
    assert kubelets.due("node1", 105.0)
