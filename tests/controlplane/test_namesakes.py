"""For how long a pool's name had been free."""

from tests.controlplane.parts import pool

from forebay_operator.namesakes import Namesakes

ORDERS = ("shop", "orders")
NEW = pool()
OLD = pool()
OLD["metadata"]["uid"] = "old-uid"


def test_nothing_is_known_of_what_was_before_the_watches_began() -> None:
    names = Namesakes()
    names.see_pool(ORDERS, NEW, 100.0)
    assert names.free(ORDERS, "pool-uid") < 0
    names = Namesakes()
    names.since = 90.0
    names.see_pool(ORDERS, NEW, 100.0)
    assert names.free(ORDERS, "pool-uid") == 10.0
    assert names.free(ORDERS, "old-uid") == 0.0


def test_an_earlier_pool_and_its_pods_had_the_name() -> None:
    names = Namesakes()
    names.since = 0.0
    names.see_pool(ORDERS, OLD, 100.0)
    names.see_pool(ORDERS, OLD, 150.0)
    names.see_pod(ORDERS, 180.0, gone=True)
    names.see_pool(ORDERS, NEW, 200.0)
    assert names.free(ORDERS, "pool-uid") == 20.0
    names.see_pod(ORDERS, 300.0, gone=False)
    assert names.free(ORDERS, "pool-uid") == 20.0, "its own pods come after it"
    names.see_pod(ORDERS, 400.0, gone=True)
    assert names.free(ORDERS, "pool-uid") == 0.0, "what that one left is in nobody's name, where there is no ledger"


def test_a_ledger_that_was_lost_is_not_one_that_never_was() -> None:
    names = Namesakes()
    names.since = 0.0
    names.see_pool(ORDERS, pool(status={"ledger": {}}), 100.0)
    names.see_pool(ORDERS, NEW, 101.0)
    assert names.free(ORDERS, "pool-uid") == 0.0
