"""Local mode's ledger, without a process: who is in it, what the dead have left, and what is pressing."""

from typing import Any

import pytest
from tests.support.forebay import http_pool

from forebay_core.budget.ledger import Answer
from forebay_core.budget.rebuild import unnamed
from forebay_core.scale.grants import Wanted
from forebay_core.spec.load import parse
from forebay_core.spec.model import Spec
from forebay_proxy.budgeting import Budgeting
from forebay_proxy.journal import Record
from forebay_proxy.scaling import NOTHING

PORT = 9  # nobody listens there, so the kernel has nothing to show
RECORDS = [Record(number, 0, "127.0.0.1", PORT, 50_000 + number) for number in range(3)]


def spec(maximum: int = 2, budget: int | None = 12, **more: Any) -> Spec:
    bounded = {"budget": {"maxConnections": budget, "linger": "30s"}} if budget is not None else {}
    return parse(http_pool(PORT, spec={"replicas": maximum, **more}, pool={"size": 12}, **bounded), form="local").spec


class World:
    """Workers that do as they are told at once; `held` is what they keep open."""

    def __init__(self, document: Spec) -> None:
        self.spec = document
        self.budgeting = Budgeting(document)
        self.held: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self.hanging: set[str] = set()
        self.memories: dict[str, str] = {}  # where a life is not called like its memory
        self.wanted: Wanted = NOTHING

    def starts(self, name: str) -> None:
        self.budgeting.begins(name)
        self.held[name] = self.seen[name] = 0

    def settle(self, rounds: int = 10) -> None:
        for _ in range(rounds):
            known = self.budgeting.ledger.lives()
            for name in self.held.keys() - self.hanging:
                if name in known:
                    self.seen[name] = self.budgeting.ledger.sequence
            answers = {
                name: Answer(
                    name,
                    self.memories.get(name, name),
                    self.seen[name],
                    {"origin": held} if self.budgeting.ledger.in_force else {},
                )
                for name, held in self.held.items()
                if name not in self.hanging
            }
            if not self.budgeting.decide(self.spec, answers, self.wanted):
                return
        raise AssertionError(f"not settled after {rounds} rounds: {self.budgeting.ledger}")

    def grants(self) -> dict[str, int]:
        return {life: entry.grant for (life, _), entry in self.budgeting.ledger.entries.items()}

    def bounds(self) -> dict[str, int]:
        return {life: entry.bound for (life, _), entry in self.budgeting.ledger.entries.items()}


@pytest.fixture
def world() -> World:
    made = World(spec())
    for name in ("a", "b"):
        made.starts(name)
    made.settle()
    return made


def test_all_but_the_last_place_is_shared_out(world: World) -> None:
    assert sum(world.grants().values()) == 11
    assert min(world.grants().values()) >= 4  # the floor, 12 // 3


def test_surplus_goes_to_whom_the_autoscaler_says(world: World) -> None:
    world.wanted = Wanted({("a", "origin"): 1, ("b", "origin"): 10}, frozenset())
    world.settle()
    assert world.grants()["b"] == 10
    assert world.grants()["a"] >= 1


def test_a_life_whose_memory_is_lost_holds_its_places_until_linger_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has cleaned up: its process was killed, and what begins in its place knows nothing of it."""
    now = 1000.0
    monkeypatch.setattr("forebay_proxy.budgeting.monotonic", lambda: now)
    bound = world.bounds()["a"]
    del world.held["a"]
    world.held["new"] = world.seen["new"] = 0
    world.memories["new"] = "a"
    world.settle()
    now += 29
    world.settle()
    assert world.bounds()["a"] == bound
    now += 2
    world.settle()
    assert "a" not in world.bounds()
    assert sum(world.grants().values()) == 11


def test_who_hangs_keeps_its_bound_and_nobody_gets_its_places(world: World) -> None:
    before = world.bounds()
    world.hanging.add("a")
    world.wanted = Wanted({("a", "origin"): 1, ("b", "origin"): 12}, frozenset())
    world.settle()
    assert world.bounds()["a"] == before["a"]
    assert sum(world.bounds().values()) <= 12


def test_a_worker_that_is_restarted_keeps_what_it_has(world: World) -> None:
    before = world.bounds()
    del world.held["a"]  # killed, and not yet there again
    world.budgeting.begins("a")
    world.settle()
    assert world.bounds() == before


def test_what_the_dead_have_left_counts_and_then_goes(world: World) -> None:
    del world.held["a"]
    world.budgeting.ended("a", "a", {"origin": (3, RECORDS)}, world.spec)
    world.settle()
    assert world.bounds()["a"] == 3
    assert sum(world.bounds().values()) <= 12
    assert world.budgeting.holding == {"a"}
    world.budgeting.gone("origin", RECORDS)  # all closed, says the upstream
    world.wanted = Wanted({("b", "origin"): 12}, frozenset())
    world.settle()
    assert "a" not in world.bounds()
    assert world.budgeting.pods.keys() == {"b"}
    assert world.grants() == {"b": 11}


def test_who_has_left_nothing_goes_at_once(world: World) -> None:
    del world.held["a"]
    world.budgeting.ended("a", "a", {}, world.spec)
    world.wanted = Wanted({("b", "origin"): 12}, frozenset())
    world.settle()
    assert world.grants() == {"b": 11}


def test_a_worker_that_never_told_its_life_leaves_no_trace(world: World) -> None:
    world.budgeting.begins("c")
    world.budgeting.ended("c", "", {}, world.spec)
    world.settle()
    assert world.budgeting.pods.keys() == {"a", "b"}


def test_what_has_gone_is_taken_from_who_left_it(world: World) -> None:
    for name, records in (("a", RECORDS[:1]), ("b", RECORDS[1:])):
        del world.held[name]
        world.budgeting.ended(name, name, {"origin": (3, records)}, world.spec)
    world.budgeting.gone("elsewhere", RECORDS)
    world.settle()
    assert world.bounds() == {"a": 3, "b": 3}
    assert set(world.budgeting.records("origin")) == set(RECORDS)
    world.budgeting.gone("origin", RECORDS[1:])
    world.settle()
    assert world.bounds() == {"a": 3, "b": 1}
    assert world.budgeting.records("origin") == RECORDS[:1]


def test_it_begins_with_what_an_earlier_run_has_left() -> None:
    world = World(spec())
    world.budgeting.inherit(world.spec, {"old": {"origin": (3, RECORDS), "gone": (2, [])}})
    assert world.bounds() == {unnamed("old"): 3}
    world.starts("a")
    world.wanted = Wanted({("a", "origin"): 12}, frozenset())
    world.settle()
    assert sum(world.bounds().values()) == 11
    world.budgeting.gone("origin", RECORDS)
    world.settle()
    assert world.grants() == {"a": 11}


def test_a_budget_that_is_added_counts_who_has_not_answered() -> None:
    world = World(spec(budget=None))
    for name in ("a", "b"):
        world.starts(name)
    world.settle()
    assert world.grants() == {}
    world.spec = spec()
    world.hanging.add("b")
    world.held["a"] = 5
    world.settle()
    assert world.grants()["a"] <= 5  # nothing rises while it is not known what the other holds
    world.hanging.clear()
    world.settle()
    assert world.grants().keys() == {"a", "b"}
    assert sum(world.bounds().values()) <= 12


def test_a_cut_is_pressing_and_surplus_is_not(world: World) -> None:
    world.held = {"a": 6, "b": 5}
    world.wanted = Wanted({("a", "origin"): 12, ("b", "origin"): 4}, frozenset())
    world.settle()
    assert world.budgeting.deadline(world.spec, "b") is None
    world.spec = spec(budget=4)
    world.settle()
    assert world.budgeting.ledger.in_force == {"origin": 12}  # until all fits
    assert world.budgeting.deadline(world.spec, "a") == world.spec.drain.timeout
    world.held = {"a": 1, "b": 1}
    world.settle()
    assert world.budgeting.ledger.in_force == {"origin": 4}
    assert world.budgeting.deadline(world.spec, "a") is None


def test_as_it_is_shown(world: World) -> None:
    world.budgeting.ended("c", "", {"origin": (2, [])}, world.spec)
    shown = world.budgeting.as_state(world.spec, [{"upstreams": {"origin": {"held": 4}}}, {"upstreams": {}}])
    assert shown == {"origin": {"limit": 12, "reserved": 0, "granted": 11, "open": 6}}
