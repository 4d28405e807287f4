"""Who has been at a pool's objects."""

import copy
from typing import Any

import pytest
from tests.controlplane.parts import pool, raw_ended, raw_pod

from forebay_operator.store import ENDED, Key, Store

ORDERS = Key("shop", "orders")
SERVICE = ("Service", "orders-forebay")


@pytest.fixture
def store() -> Store:
    store = Store()
    store.see_pool(pool())
    store.wake(ORDERS).clear()
    return store


def service(version: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "orders-forebay", "namespace": "shop", "resourceVersion": str(version),
            "labels": {"forebay.dev/pool": "orders"},
        },
        "spec": {"type": "ClusterIP", **spec},
    }  # fmt: skip


def test_an_edit_wakes_the_pool_and_says_what(store: Store) -> None:
    store.see_object(service())
    assert not store.wake(ORDERS).is_set()
    store.see_object(service(2, type="NodePort"))
    assert store.wake(ORDERS).is_set()
    assert store.disturbed(ORDERS) == {SERVICE}
    assert store.disturbed(ORDERS) == set()


def test_a_removed_label_is_an_edit_too(store: Store) -> None:
    store.see_object(service())
    edited = service(2)
    edited["metadata"]["annotations"] = {"a": "b"}
    store.see_object(edited)
    assert store.disturbed(ORDERS) == {SERVICE}


def test_a_deletion_is_told(store: Store) -> None:
    store.see_object(service())
    store.see_object(service(2), deleted=True)
    assert store.disturbed(ORDERS) == {SERVICE}


def test_status_and_versions_are_nobodys_edit(store: Store) -> None:
    store.see_object(service())
    told = copy.deepcopy(service(2))
    told["status"] = {"loadBalancer": {}}
    told["metadata"]["managedFields"] = [{"manager": "somebody"}]
    store.see_object(told)
    assert store.disturbed(ORDERS) == set()


def test_what_we_wrote_is_no_news(store: Store) -> None:
    store.see_object(service())
    store.wrote(service(2, type="NodePort"))
    store.see_object(service(2, type="NodePort"))
    assert store.disturbed(ORDERS) == set()
    store.see_object(service(3))
    assert store.disturbed(ORDERS) == {SERVICE}


def test_a_pool_that_has_gone_leaves_nothing(store: Store) -> None:
    store.see_object(service())
    store.see_pool(pool(), deleted=True)
    store.forget(ORDERS)
    store.see_object(service(2), deleted=True)
    assert store.disturbed(ORDERS) == set()


def test_a_pool_appears_once_for_each_time_that_it_comes(store: Store) -> None:
    """Nobody takes what has appeared from a process that does not lead: it must not pile up."""
    for _ in range(100):
        store.see_pool(pool())
    assert store.appeared.qsize() == 1
    store.see_pool(pool(), deleted=True)
    store.see_pool(pool())
    assert store.appeared.qsize() == 2


def test_of_pods_that_went_those_that_had_ended_are_kept(store: Store) -> None:
    """What a standby hears for weeks does not grow, nor what is heard of a pool that has gone."""
    store.see_pod(raw_pod("running"), deleted=True)
    for number in range(ENDED + 1):
        store.see_pod(raw_ended(f"p{number}"), deleted=True)
    kept = store.take_ended(ORDERS)
    assert next(iter(kept)) == "p1-uid"
    assert len(kept) == ENDED
    assert store.take_ended(ORDERS) == {}
    store.forget(ORDERS)
    store.see_pod(raw_ended("late"), deleted=True)
    assert store.take_ended(ORDERS) == {}
