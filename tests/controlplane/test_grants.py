"""Who joins, who goes, and what everyone may open."""

import pytest
from tests.controlplane.grants_model import settle, walk
from tests.controlplane.parts import pod, report, upstream

from forebay_core.ledger import Entry, Ledger
from forebay_operator.book import BLANK, Book, Owner
from forebay_operator.grants import LEAP, Seen, next_turn, pushes
from forebay_operator.observed import Pod, Report

BUDGETS = {"orders": 12}


def seen(*pairs: tuple[Pod, Report | None], lingered: frozenset[str] = frozenset(), dead: str = "") -> Seen:
    reports = {p.uid: r for p, r in pairs if r is not None}
    return Seen(tuple(p for p, _ in pairs), reports, lingered, frozenset([dead] if dead else []))


def book(sequence: int, **entries: tuple[int, int, int]) -> Book:
    """Lives by name, each of a pod of the same name."""
    ledger = Ledger(sequence, {(life, "orders"): Entry(*entry) for life, entry in entries.items()})
    return Book(ledger, {life: Owner(life, f"{life}-uid", "node1") for life in entries})


def entries(turn_book: Book | None) -> dict[str, tuple[int, int]]:
    assert turn_book is not None
    return {life: (e.grant, e.bound) for (life, _), e in turn_book.ledger.entries.items()}


def test_a_new_pool_has_a_blank_ledger() -> None:
    turn = next_turn(None, BUDGETS, 2, seen())
    assert turn.book == BLANK
    assert turn.changed


def test_newcomers_join_with_the_floor() -> None:
    turn = next_turn(BLANK, BUDGETS, 2, seen((pod("a"), report("a")), (pod("b"), report("b"))))
    assert entries(turn.book) == {"a": (4, 4), "b": (4, 4)}
    assert turn.book is not None
    assert pushes(turn.book, report("a")) == {"orders": 4}
    assert pushes(turn.book, report("a", sequence=1)) is None
    assert pushes(turn.book, report("stranger")) is None


def test_when_all_is_as_wanted_nothing_changes() -> None:
    turn = next_turn(book(1, a=(4, 4, 1)), BUDGETS, 2, seen((pod("a"), report("a", 1, 4))))
    assert not turn.changed


def test_a_newcomer_takes_no_more_than_is_free() -> None:
    before = book(3, a=(4, 4, 1), b=(4, 4, 1), c=(4, 4, 1))
    turn = next_turn(before, BUDGETS, 2, seen((pod("d"), report("d"))))
    assert not turn.changed


@pytest.mark.parametrize("change", [{"terminating": True}, {"departed": True}])
def test_a_pod_that_leaves_does_not_join(change: dict[str, bool]) -> None:
    assert not next_turn(BLANK, BUDGETS, 2, seen((pod("a", **change), report("a")))).changed


def test_who_does_not_answer_keeps_what_it_has() -> None:
    assert not next_turn(book(1, a=(4, 4, 1)), BUDGETS, 2, seen((pod("a"), None))).changed
    assert not next_turn(book(1, a=(4, 4, 1)), BUDGETS, 2, seen()).changed


def test_with_more_replicas_shares_shrink_and_bounds_follow_the_answer() -> None:
    turn = next_turn(book(1, a=(4, 4, 1)), BUDGETS, 5, seen((pod("a"), report("a", 1, 4))))
    assert entries(turn.book) == {"a": (2, 4)}
    turn = next_turn(turn.book, BUDGETS, 5, seen((pod("a"), report("a", 1, 4))))
    assert not turn.changed, "it has not seen the shrink"
    turn = next_turn(turn.book, BUDGETS, 5, seen((pod("a"), report("a", 2, 3))))
    assert entries(turn.book) == {"a": (2, 3)}


def test_a_leaving_life_keeps_its_grant_until_its_drain_begins() -> None:
    leaving = report("a", 1, 0, draining=True)
    before = book(1, a=(4, 4, 1))
    assert not next_turn(before, BUDGETS, 2, seen((pod("a", terminating=True), leaving))).changed


def test_the_bound_of_a_draining_life_follows_what_it_holds_and_then_it_goes() -> None:
    def tick(turn_book: Book | None, held: int) -> Book | None:
        final = report("a", 1, held, draining=True, final=True)
        return next_turn(turn_book, BUDGETS, 2, seen((pod("a", terminating=True), final))).book

    after = tick(book(1, a=(4, 4, 1)), 3)
    after = tick(after, 3)
    assert entries(after) == {"a": (0, 3)}
    assert entries(tick(after, 1)) == {"a": (0, 1)}
    assert entries(tick(after, 0)) == {}


@pytest.mark.parametrize(("held", "goes"), [(0, True), (2, False)])
def test_a_farewell_with_nothing_held_lets_the_entry_go(held: int, goes: bool) -> None:
    ended = pod("a", terminating=True, ended=True, farewell=("a", held))
    after = next_turn(book(1, a=(4, 4, 1)), BUDGETS, 2, seen((ended, None))).book
    assert ("a" not in entries(after)) is goes


def test_the_dead_go_when_the_backend_has_had_time_to_notice() -> None:
    ended = pod("a", terminating=True, ended=True)
    proven = next_turn(book(1, a=(4, 4, 1)), BUDGETS, 2, seen((ended, None)))
    assert proven.book is not None
    assert proven.book.owners["a"].ended
    assert entries(proven.book) == {"a": (0, 4)}, "its share is no one's yet"
    assert not next_turn(proven.book, BUDGETS, 2, seen()).changed, "the object may go meanwhile"
    assert entries(next_turn(proven.book, BUDGETS, 2, seen(lingered=frozenset("a"))).book) == {}


def test_another_life_from_the_same_pod_proves_the_first_one_dead() -> None:
    after = next_turn(book(1, a=(4, 4, 1)), BUDGETS, 2, seen((pod("a"), report("a2")))).book
    assert after is not None
    assert after.owners["a"].ended
    assert not after.owners["a2"].ended


def test_a_persons_word_counts_only_for_who_is_silent() -> None:
    before = book(1, a=(4, 4, 1))
    assert entries(next_turn(before, BUDGETS, 2, seen(dead="a-uid")).book) == {}
    assert not next_turn(before, BUDGETS, 2, seen((pod("a"), report("a", 1, 4)), dead="a-uid")).changed


def test_a_lost_ledger_waits_for_everyone_who_may_hold_connections() -> None:
    turn = next_turn(None, BUDGETS, 2, seen((pod("a"), report("a", 7, 4, 4)), (pod("b"), None)))
    assert turn.book is None
    assert turn.waits_for == ("b",)
    unborn = pod("b", ran=False)
    assert next_turn(None, BUDGETS, 2, seen((pod("a"), report("a", 7, 4, 4)), (unborn, None))).founded


def test_a_lost_ledger_is_founded_anew_with_the_whole_budget_as_bound() -> None:
    turn = next_turn(None, BUDGETS, 2, seen((pod("a"), report("a", 7, 4, 4))))
    assert turn.founded
    assert turn.book is not None
    assert entries(turn.book) == {"a": (4, 12)}
    assert turn.book.ledger.sequence == 7 + LEAP
    assert pushes(turn.book, report("a", 7, 4, 4)) == {"orders": 4}
    answered = report("a", turn.book.ledger.sequence, 3, 4)
    assert entries(next_turn(turn.book, BUDGETS, 2, seen((pod("a"), answered))).book) == {"a": (4, 4)}


def test_a_ledger_that_a_replica_is_ahead_of_is_founded_anew_and_forgets_nobody() -> None:
    before = book(5, a=(4, 4, 1), b=(2, 2, 2))
    turn = next_turn(before, BUDGETS, 2, seen((pod("a"), report("a", 9, 4, 6))))
    assert turn.founded
    assert entries(turn.book) == {"a": (6, 12), "b": (2, 12)}


def test_nothing_is_granted_while_a_replica_does_not_know_of_the_budget() -> None:
    unknowing = report("a", upstreams={"orders": upstream(9, budgeted=False)})
    turn = next_turn(BLANK, BUDGETS, 2, seen((pod("a"), unknowing), (pod("b"), report("b"))))
    assert not turn.changed


def test_what_was_open_before_the_budget_counts_towards_it() -> None:
    turn = next_turn(BLANK, BUDGETS, 2, seen((pod("a"), report("a", held=10)), (pod("b"), report("b"))))
    assert entries(turn.book) == {"a": (4, 10), "b": (2, 2)}


def test_an_upstream_that_is_bounded_no_more_is_forgotten_once_nobody_has_a_grant() -> None:
    turn = next_turn(book(1, a=(4, 4, 1)), {}, 2, seen((pod("a"), report("a", 1, 4))))
    assert entries(turn.book) == {"a": (0, 4)}
    told = report("a", 2, upstreams={})
    assert entries(next_turn(turn.book, {}, 2, seen((pod("a"), told))).book) == {}


@pytest.mark.parametrize("block", range(8))
def test_the_budget_holds_whatever_happens(block: int) -> None:
    """320 walks of 150 moves; then, with all troubles over, everybody gets the floor, the oldest first."""
    for seed in range(block * 40, block * 40 + 40):
        world = walk(seed, 150)
        settle(world)
        share = 6 // (world.maximum + 1)
        serving = [r for r in world.replicas if r.running and not r.terminating]
        assert sum(r.grant for r in serving) == min(6, share * len(serving)), "\n".join(world.moves[-20:])
