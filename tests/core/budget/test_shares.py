"""Shares: floors, max-min fairness, and grants that do not move for nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_core.budget.ledger import UNKNOWN, Entry, Home, Ledger, Terms
from forebay_core.budget.shares import fill, floor, pressing, shares, terms, wishes

HOME = Home("p")


def test_a_floor_leaves_room_for_one_more_replica() -> None:
    assert floor(90, 8) == 10
    assert terms(6, 2) == Terms(6, 2)


@pytest.mark.parametrize(("budget", "replicas", "session"), [(8, 8, False), (17, 8, True)])
def test_a_budget_without_a_floor_is_refused_with_the_arithmetic(budget: int, replicas: int, session: bool) -> None:
    with pytest.raises(ValueError) as error:
        terms(budget, replicas, session=session)
    assert f"{budget} // ({replicas} + 1)" in str(error.value)
    assert f"expected at least {2 if session else 1}, so at least {18 if session else 9}" in str(error.value)


def test_enough_for_everybody_goes_out_evenly_less_the_last_place() -> None:
    assert shares(Terms(10, 3), ["a", "b"], {"a": 1, "b": 1}, {}, 0) == {"a": 5, "b": 4}


def test_surplus_moves_to_demand_and_leaves_nobody_with_demand_below_the_floor() -> None:
    term = Terms(20, 5)
    assert shares(term, ["a", "b", "c"], {"a": 30, "b": 0, "c": 30}, {}, 0) == {"a": 9, "b": 1, "c": 9}
    assert shares(term, ["a", "b", "c"], {"a": 30, "b": 5, "c": 2}, {}, 0) == {"a": 12, "b": 5, "c": 2}


def test_what_others_may_hold_is_not_shared() -> None:
    assert sum(shares(Terms(20, 5), ["a", "b"], {"a": 30, "b": 30}, {}, 8).values()) == 11


def test_what_serves_nobody_is_nobodys_share() -> None:
    """Of the ten that a has, six are of the dead: of what is left it gets as much as the others."""
    term, demand = Terms(20, 5), {"a": 30, "b": 30, "c": 30}
    assert shares(term, ["a", "b", "c"], demand, {}, 0, besides={"a": 6}) == {"a": 11, "b": 4, "c": 4}
    assert sum(shares(term, ["a", "b", "c"], demand, {}, 0, besides={"a": 12, "b": 12}).values()) == 19


def test_more_lives_than_places_are_served_oldest_first() -> None:
    assert shares(Terms(2, 1), ["a", "b", "c"], {}, {}, 0) == {"a": 1, "b": 1, "c": 0}
    assert shares(Terms(5, 2, least=2), ["a", "b", "c"], {}, {}, 0) == {"a": 2, "b": 2, "c": 0}


def test_nobody_gets_more_than_it_can_use() -> None:
    assert shares(Terms(100, 10, ceiling=15), ["a", "b"], {"a": 40, "b": 1}, {}, 0) == {"a": 15, "b": 15}


def test_grants_that_are_enough_stay() -> None:
    now = {"a": 7, "b": 4}
    assert shares(Terms(12, 3), ["a", "b"], {"a": 5, "b": 4}, now, 0) == now
    assert shares(Terms(12, 3), ["a", "b"], {"a": 5, "b": 5}, now, 0) != now


def test_a_capped_upstream_gets_what_it_can_bear_and_nobody_keeps_more() -> None:
    term = Terms(12, 3, ceiling=10)
    assert shares(term, "ab", {"a": 2, "b": 4}, {"a": 5, "b": 5}, 0, capped=True) == {"a": 2, "b": 4}
    assert shares(term, "ab", {"a": 2, "b": 4}, {"a": 5, "b": 5}, 0) == {"a": 5, "b": 5}


def test_a_missing_reading_is_unchanged_demand() -> None:
    assert shares(Terms(12, 3), ["a", "b"], {"b": 30}, {"a": 5, "b": 6}, 0) == {"a": 5, "b": 6}


def test_nothing_is_shared_while_a_bound_is_unknown() -> None:
    entries = {("a", "u"): Entry(3, 3, 1, HOME), ("b", "u"): Entry(0, UNKNOWN, 1, HOME)}
    assert wishes(Ledger(1, entries), "u", Terms(6, 2), ["a"], {}) == {}
    assert wishes(Ledger(1, {("a", "u"): entries["a", "u"]}), "u", Terms(6, 2), ["a"], {}) == {("a", "u"): 3}


def test_a_shrink_presses_for_a_floor_or_a_cut_only() -> None:
    ledger = Ledger(1, {("a", "u"): Entry(3, 4, 1, HOME), ("b", "u"): Entry(1, 1, 1, HOME)})
    term = {"u": Terms(6, 2)}
    assert pressing(ledger, term, {("a", "u"): 3, ("b", "u"): 2}) == {"u"}, "b is below its floor"
    assert pressing(ledger, term, {("a", "u"): 4, ("b", "u"): 1}) == frozenset(), "a waits for surplus only"
    assert pressing(ledger, {"u": Terms(4, 1)}, {}) == {"u"}, "a cut"


@given(st.integers(0, 60), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=8))
def test_filling_is_max_min_fair(pot: int, limits: list[tuple[int, int]]) -> None:
    low = {str(n): a for n, (a, _) in enumerate(limits)}
    high = {str(n): a + b for n, (a, b) in enumerate(limits)}
    if sum(low.values()) > pot:
        pot += sum(low.values())
    given_out = fill(pot, low, high)
    assert sum(given_out.values()) == min(pot, sum(high.values()))
    for life, grant in given_out.items():
        assert low[life] <= grant <= high[life]
        if grant < high[life]:  # who wants more could get it only from somebody who has no more than it has
            assert all(grant >= other - 1 for name, other in given_out.items() if other > low[name])


@given(
    st.integers(4, 60),
    st.integers(1, 6),
    st.lists(st.integers(0, 40), min_size=1, max_size=7),
    st.integers(0, 10),
)
def test_shares_fit_and_leave_a_place_for_a_newcomer(budget: int, most: int, demand: list[int], taken: int) -> None:
    term = Terms(budget, max(1, floor(budget, most)))
    lives = [str(n) for n in range(len(demand))]
    needs = dict(zip(lives, demand, strict=True))
    grants = shares(term, lives, needs, {}, taken)
    room = max(0, budget - taken)
    assert sum(grants.values()) <= room
    assert all(grant >= 1 for grant in list(grants.values())[:room])
    floors = sum(min(term.floor, max(1, need)) for need in needs.values())
    if floors < room:
        assert sum(grants.values()) < room
    if floors <= room:
        assert all(grants[life] >= min(term.floor, max(1, needs[life])) for life in lives)
