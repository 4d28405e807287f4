"""The budget ledger: examples of each rule, and a world that tries to open one connection too many.

The world keeps its own books: what each life has really open. Pushes and answers are lost, repeated and reordered,
lives crash and go on, the writer loses what it knew of answers, budgets are cut. (An exhaustive model is a later part.)
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay_core import ledger as module
from forebay_core.ledger import EMPTY, Answer, Entry, Ledger, floor, step

NOBODY: frozenset[str] = frozenset()


def entry(ledger: Ledger, life: str, upstream: str = "db") -> Entry:
    return ledger.entries[life, upstream]


def stepped(
    ledger: Ledger,
    budget: int,
    wanted: dict[str, int],
    answers: dict[str, Answer] | None = None,
    gone: Iterable[str] = (),
) -> Ledger:
    """One step over a single upstream; it has to change something."""
    wishes = {life: {"db": wish} for life, wish in wanted.items()}
    after = step(ledger, {"db": budget}, wishes, answers or {}, frozenset(gone))
    assert after is not None
    assert after.sequence == ledger.sequence + 1
    return after


# ---------------------------------------------------------------------- examples


@pytest.mark.parametrize(
    ("budget", "replicas", "share"), [(12, 3, 3), (100, 8, 11), (10, 1, 5), (3, 3, 0), (4, 3, 1), (0, 1, 0)]
)
def test_the_floor_leaves_room_for_one_more(budget: int, replicas: int, share: int) -> None:
    assert floor(budget, replicas) == share
    assert share * (replicas + 1) <= budget


def test_a_life_that_joins_is_told_what_it_is_bound_to() -> None:
    ledger = stepped(EMPTY, 10, {"a": 4})
    assert ledger == Ledger(1, {("a", "db"): Entry(4, 4, 1)})
    assert ledger.grants("a") == {"db": 4}
    assert ledger.bounds("db") == 4
    assert ledger.unanswered("a", None)
    assert not ledger.unanswered("a", Answer(1, {"db": 0}))
    assert not ledger.unanswered("b", None)


def test_nothing_to_change_writes_nothing() -> None:
    ledger = stepped(EMPTY, 10, {"a": 4})
    assert step(ledger, {"db": 10}, {"a": {"db": 4}}, {"a": Answer(1, {"db": 2})}, NOBODY) is None


def test_who_comes_last_gets_what_is_left() -> None:
    ledger = stepped(EMPTY, 10, {"a": 4, "b": 4, "c": 4})
    assert [entry(ledger, life).grant for life in "abc"] == [4, 4, 2]
    assert ledger.bounds("db") == 10
    assert step(ledger, {"db": 10}, {life: {"db": 4} for life in "abc"}, {}, NOBODY) is None


def test_a_shrink_lowers_the_grant_and_leaves_the_bound() -> None:
    before = stepped(EMPTY, 10, {"a": 8})
    shrunk = stepped(before, 10, {"a": 3})
    assert entry(shrunk, "a") == Entry(3, 8, 2)
    # What it had answered before it saw the shrink proves nothing.
    old = {"a": Answer(1, {"db": 0})}
    assert step(shrunk, {"db": 10}, {"a": {"db": 3}}, old, NOBODY) is None
    # It has seen it, and still holds six: leases end in their own time.
    seen = stepped(shrunk, 10, {"a": 3}, {"a": Answer(2, {"db": 6})})
    assert entry(seen, "a") == Entry(3, 6, 2)
    done = stepped(seen, 10, {"a": 3}, {"a": Answer(2, {"db": 1})})
    assert entry(done, "a") == Entry(3, 3, 2)


def test_what_is_given_back_goes_to_another_only_when_it_is_free() -> None:
    ledger = stepped(stepped(EMPTY, 10, {"a": 10}), 10, {"a": 4, "b": 6})
    assert ("b", "db") not in ledger.entries
    ledger = stepped(ledger, 10, {"a": 4, "b": 6}, {"a": Answer(2, {"db": 9})})
    assert entry(ledger, "b") == Entry(1, 1, 3)
    ledger = stepped(ledger, 10, {"a": 4, "b": 6}, {"a": Answer(2, {"db": 4})})
    assert entry(ledger, "b") == Entry(6, 6, 4)


def test_a_shrink_that_is_taken_back_costs_nothing_new() -> None:
    ledger = stepped(stepped(EMPTY, 10, {"a": 8}), 10, {"a": 3})
    again = stepped(ledger, 8, {"a": 8})  # its bound is still eight: no more than that is raised
    assert entry(again, "a") == Entry(8, 8, 3)


def test_a_cut_of_the_budget_raises_nobody() -> None:
    ledger = stepped(EMPTY, 12, {"a": 6, "b": 6})
    cut = stepped(ledger, 4, {"a": 2, "b": 2, "c": 2})
    assert [entry(cut, life) for life in "ab"] == [Entry(2, 6, 2), Entry(2, 6, 2)]
    assert ("c", "db") not in cut.entries


def test_silence_is_no_death() -> None:
    ledger = stepped(EMPTY, 10, {"a": 6})
    orphaned = stepped(ledger, 10, {"b": 6})  # nobody wishes anything for a, and it never answers
    assert entry(orphaned, "a") == Entry(0, 6, 2)
    assert entry(orphaned, "b").grant == 4
    gone = stepped(orphaned, 10, {"b": 6}, gone=["a"])
    assert ("a", "db") not in gone.entries
    assert entry(gone, "b").grant == 6


def test_the_gone_are_granted_nothing_even_if_somebody_wishes_it() -> None:
    assert step(EMPTY, {"db": 10}, {"a": {"db": 4}}, {}, frozenset(["a"])) is None


def test_upstreams_are_counted_apart() -> None:
    wanted = {"a": {"db": 3, "web": 8}, "b": {"db": 3, "web": 8}}
    ledger = step(EMPTY, {"db": 4, "web": 10}, wanted, {}, NOBODY)
    assert ledger is not None
    assert (ledger.bounds("db"), ledger.bounds("web")) == (4, 10)
    assert ledger.grants("a") == {"db": 3, "web": 8}
    assert ledger.grants("b") == {"db": 1, "web": 2}


def test_an_upstream_without_a_budget_any_more_gives_back() -> None:
    ledger = stepped(EMPTY, 10, {"a": 6})
    after = step(ledger, {}, {"a": {}}, {}, NOBODY)
    assert after is not None
    assert entry(after, "a") == Entry(0, 6, 2)


# ---------------------------------------------------------------------- the world


@dataclass
class Life:
    """What is really there: a process, or what a dead one has left."""

    seen: int = 0
    grants: dict[str, int] = field(default_factory=lambda: {"db": 0, "web": 0})
    open: dict[str, int] = field(default_factory=lambda: {"db": 0, "web": 0})  # of the living
    left: dict[str, int] = field(default_factory=lambda: {"db": 0, "web": 0})  # of the dead before it
    dead: bool = False

    def held(self, upstream: str) -> int:
        return self.open[upstream] + self.left[upstream]


class World:
    """`do_...(n)` are its moves; `check` is called after each."""

    def __init__(self) -> None:
        self.ledger = EMPTY
        self.budgets = {"db": 7, "web": 3}
        self.lives: dict[str, Life] = {}
        self.wanted: dict[str, dict[str, int]] = {}
        self.answers: dict[str, Answer] = {}
        self.pushes: list[tuple[str, int, dict[str, int]]] = []
        self.replies: list[tuple[str, Answer]] = []
        self.highest = dict(self.budgets)  # the most that the bounds may be: grows never, but by a larger budget

    def _life(self, n: int) -> str | None:
        return sorted(self.lives)[n % len(self.lives)] if self.lives else None

    def do_join(self, n: int) -> None:
        if len(self.lives) < 4:
            name = f"life-{len(self.lives)}-{self.ledger.sequence}-{n}"
            self.lives[name] = Life()
            self.wanted[name] = {"db": 1 + n % 4, "web": n % 3}

    def do_wish(self, n: int) -> None:
        if (name := self._life(n)) and name in self.wanted:
            self.wanted[name] = {"db": n % 6, "web": n % 4}

    def do_write(self, _: int) -> None:
        gone = [name for name, life in self.lives.items() if life.dead and not any(life.left.values())]
        written = step(self.ledger, self.budgets, self.wanted, self.answers, frozenset(gone))
        for name in gone:
            del self.lives[name]
        if written is not None:
            self.ledger = written

    def do_push(self, n: int) -> None:
        if name := self._life(n):
            self.pushes.append((name, self.ledger.sequence, self.ledger.grants(name)))

    def do_deliver(self, n: int) -> None:
        """Any push that is under way, in any order; it may come again."""
        if not self.pushes:
            return
        name, sequence, grants = self.pushes[n % len(self.pushes)] if n % 3 else self.pushes.pop(n % len(self.pushes))
        life = self.lives.get(name)
        if life is None or life.dead:
            return
        if sequence > life.seen:
            life.seen = sequence
            life.grants |= grants
        self.replies.append((name, Answer(life.seen, {up: life.held(up) for up in self.budgets})))

    def do_answer(self, n: int) -> None:
        """Any reply that is under way, in any order; it may come again."""
        if self.replies:
            name, answer = self.replies[n % len(self.replies)] if n % 3 else self.replies.pop(n % len(self.replies))
            self.answers[name] = answer

    def do_lose(self, n: int) -> None:
        for messages in (self.pushes, self.replies):
            if messages:
                messages.pop(n % len(messages))  # type: ignore[attr-defined]

    def do_open(self, n: int) -> None:
        for name, life in self.lives.items():
            for upstream in self.budgets:
                if not life.dead and life.held(upstream) < life.grants[upstream] and (n + len(name)) % 4:
                    life.open[upstream] += 1

    def do_close(self, n: int) -> None:
        if name := self._life(n):
            for held in (self.lives[name].open, self.lives[name].left):
                for upstream in held:
                    held[upstream] = max(0, held[upstream] - 1)

    def do_crash(self, n: int) -> None:
        """kill -9: its successor goes on with its memory, and what it had open stays so for a while."""
        if (name := self._life(n)) and not self.lives[name].dead:
            life = self.lives[name]
            for upstream, count in life.open.items():
                life.left[upstream] += count
                life.open[upstream] = 0

    def do_die(self, n: int) -> None:
        """For good."""
        self.do_crash(n)
        if name := self._life(n):
            self.lives[name].dead = True
            self.wanted.pop(name, None)

    def do_forget(self, _: int) -> None:
        """The writer is another one: it knows the ledger, and no answers."""
        self.answers.clear()

    def do_budget(self, n: int) -> None:
        self.budgets = {"db": 2 + n % 9, "web": 1 + n % 4}

    def check(self) -> None:
        for upstream, budget in self.budgets.items():
            bounds = self.ledger.bounds(upstream)
            self.highest[upstream] = max(budget, min(self.highest[upstream], bounds))
            assert bounds <= self.highest[upstream], f"{upstream}: bounds of {bounds} in a budget of {budget}"
            for name, life in self.lives.items():
                found = self.ledger.entries.get((name, upstream), Entry(0, 0, 0))
                assert life.held(upstream) <= found.bound, f"{name} holds more than its bound: {life}, {found}"
                assert found.grant <= found.bound


MOVES = tuple(name for name in vars(World) if name.startswith("do_"))
# What makes progress comes more often.
WEIGHTED = (*MOVES, *("do_write", "do_push", "do_deliver", "do_answer", "do_open") * 2)


def run(script: Iterable[tuple[str, int]]) -> World:
    world = World()
    for move, n in script:
        getattr(world, move)(n)
        world.check()
    return world


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(WEIGHTED), st.integers(0, 59)), max_size=80))
def test_what_lives_never_opens_more_than_the_budget(script: list[tuple[str, int]]) -> None:
    run(script)


def run_all(scripts: Iterable[list[tuple[str, int]]]) -> list[World]:
    return [run(script) for script in scripts]


def random_scripts(count: int) -> Iterable[list[tuple[str, int]]]:
    rng = random.Random(1)
    for _ in range(count):
        yield [(rng.choice(WEIGHTED), rng.randrange(60)) for _ in range(120)]


def test_many_long_scripts_and_they_get_somewhere() -> None:
    """The world is worth its name only if lives get grants, open, shrink and go in it."""
    worlds = run_all(random_scripts(150))
    assert sum(life.held("db") for world in worlds for life in world.lives.values()) > 150
    assert sum(world.ledger.sequence for world in worlds) > 500


def _any_answer(entry: Entry, answer: Answer | None, upstream: str) -> Entry:
    """Mistake: an answer from before the grant's last change counts."""
    return entry if answer is None else replace(entry, bound=max(entry.grant, answer.held.get(upstream, 0)))


def _grant_only(entry: Entry, answer: Answer | None, upstream: str) -> Entry:
    """Mistake: once it has seen the shrink, it is taken to hold no more than that."""
    seen = answer is not None and answer.sequence >= entry.since
    return replace(entry, bound=entry.grant) if seen else entry


def _held_only(entry: Entry, answer: Answer | None, upstream: str) -> Entry:
    """Mistake: what it does not hold now is free, though it may open it."""
    seen = answer is not None and answer.sequence >= entry.since
    return replace(entry, bound=min(entry.bound, answer.held.get(upstream, 0))) if answer and seen else entry


@pytest.mark.parametrize("mistake", [_any_answer, _grant_only, _held_only])
def test_the_world_finds_mistakes(monkeypatch: pytest.MonkeyPatch, mistake: Callable[..., Entry]) -> None:
    monkeypatch.setattr(module, "_acknowledged", mistake)
    with pytest.raises(AssertionError, match="bound"):
        run_all(random_scripts(500))
