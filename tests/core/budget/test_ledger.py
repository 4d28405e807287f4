"""The ledger's changes, one rule a test. The traces and the model are in tests/simulation/budget."""

from forebay_core.budget.ledger import UNKNOWN, Answer, Change, Entry, Home, Ledger, Terms, applied, changes

U = "u"
HOME = Home("p", "n", "b")
TERMS = {U: Terms(6, 2)}


def ledger(sequence: int = 9, **entries: tuple[int, int, int]) -> Ledger:
    return Ledger(sequence, {(life, U): Entry(*numbers, HOME) for life, numbers in entries.items()}, {U: 6})


def made(
    before: Ledger,
    *,
    wanted: dict[str, int] | None = None,
    answers: tuple[Answer, ...] = (),
    left: dict[str, int] | None = None,
    terms: dict[str, Terms] = TERMS,
    homes: dict[str, Home] | None = None,
) -> list[Change]:
    return list(
        changes(
            before,
            terms,
            {(life, U): grant for life, grant in (wanted or {}).items()},
            homes or {},
            {answer.life: answer for answer in answers},
            {(life, U): count for life, count in (left or {}).items()},
        )
    )


def brief(changed: list[Change]) -> list[tuple[str, str, tuple[int, int, int] | None]]:
    return [(c.kind, c.life, None if c.after is None else c.after[:3]) for c in changed]


def answer(life: str, sequence: int, held: int, draining: bool = False) -> Answer:
    return Answer(life, "p", sequence, {U: held}, draining)


def test_a_shrink_lowers_the_grant_and_leaves_the_bound() -> None:
    assert brief(made(ledger(a=(4, 4, 5)), wanted={"a": 2})) == [("shrink", "a", (2, 4, 10))]


def test_the_bound_follows_what_is_held_but_not_below_the_grant() -> None:
    before = ledger(a=(2, 4, 8))
    assert made(before, answers=(answer("a", 7, 0),)) == [], "has not seen the change"
    assert brief(made(before, answers=(answer("a", 8, 3),))) == [("lower", "a", (2, 3, 8))]
    assert brief(made(before, answers=(answer("a", 9, 0),))) == [("lower", "a", (2, 2, 8))]


def test_an_answer_that_does_not_name_the_upstream_says_nothing_of_it() -> None:
    before = ledger(a=(2, 4, 8))
    assert made(before, answers=(Answer("a", "p", 9, {}),)) == []
    assert made(before, answers=(Answer("a", "p", 9, {}, draining=True),)) == []


def test_no_grant_rises_unless_all_bounds_then_fit() -> None:
    cut = {U: Terms(3, 1)}
    assert made(ledger(a=(1, 3, 8), b=(1, 1, 8)), wanted={"a": 2}, terms=cut) == []
    unknown = ledger(a=(1, UNKNOWN, 8), b=(1, 1, 8))
    assert made(unknown, wanted={"a": 3, "b": 3}) == []


def test_a_grant_rises_within_its_bound_and_then_from_what_is_free() -> None:
    assert brief(made(ledger(a=(1, 3, 8), b=(1, 1, 8)), wanted={"a": 5})) == [("grow", "a", (4, 4, 10))]


def test_a_newcomer_comes_before_growth_and_the_last_place_is_kept_for_the_next() -> None:
    before = ledger(a=(2, 2, 8), b=(2, 2, 8))
    changed = made(before, wanted={"a": 5, "b": 5, "c": 1}, homes={"c": Home("q")})
    assert brief(changed) == [("join", "c", (1, 1, 10))]
    assert changed[0].after is not None
    assert changed[0].after.home == Home("q")
    assert made(before, wanted={"a": 3}, terms={U: Terms(5, 2)}) == []


def test_floors_take_the_last_place() -> None:
    assert brief(made(ledger(a=(4, 4, 8), b=(1, 1, 8)), wanted={"b": 3})) == [("grow", "b", (2, 2, 10))]


def test_a_session_protocols_last_place_is_two() -> None:
    terms = {U: Terms(8, 2, least=2)}
    assert brief(made(ledger(a=(2, 2, 8)), wanted={"a": 8}, terms=terms)) == [("grow", "a", (6, 6, 10))]


def test_a_draining_lifes_bound_follows_it_down_and_then_its_entry_goes() -> None:
    before = ledger(a=(4, 4, 8))
    assert brief(made(before, answers=(answer("a", 2, 3, True),))) == [
        ("lower", "a", (4, 3, 8)),
        ("shrink", "a", (0, 3, 10)),
    ]
    assert brief(made(before, answers=(answer("a", 2, 0, True),))) == [("forget", "a", None)]
    assert made(ledger(a=(0, 2, 8)), wanted={"a": 3}, answers=(answer("a", 9, 2, True),)) == []


def test_a_dead_life_keeps_what_it_left_and_nothing_else() -> None:
    before = ledger(a=(4, 4, 8))
    assert brief(made(before, left={"a": 4}, wanted={"a": 6})) == [("shrink", "a", (0, 4, 10))]
    assert brief(made(before, left={"a": 0})) == [("forget", "a", None)]


def test_a_life_without_a_wish_keeps_its_grant() -> None:
    assert made(ledger(a=(4, 4, 8))) == []


def test_an_entry_of_an_upstream_without_a_budget_goes() -> None:
    assert brief(made(ledger(a=(4, 4, 8)), terms={})) == [("forget", "a", None)]


def test_what_is_held_above_the_bound_is_believed() -> None:
    assert brief(made(ledger(a=(2, 2, 8)), answers=(answer("a", 9, 5),))) == [("lower", "a", (2, 5, 8))]


def test_every_prefix_of_the_changes_of_a_write_keeps_the_sum() -> None:
    before = ledger(a=(2, 3, 8), b=(1, 1, 8), c=(1, 1, 8))
    changed = made(
        before,
        wanted={"a": 1, "b": 3, "d": 1},
        answers=(answer("a", 9, 2), answer("c", 9, 0, True)),
        homes={"d": HOME},
    )
    assert [change.kind for change in changed] == ["lower", "forget", "shrink", "join", "grow"]
    for length in range(len(changed) + 1):
        assert applied(before, changed[:length], TERMS, 10).bounds(U) <= 6


def test_in_force_is_the_old_budget_until_the_bounds_fit() -> None:
    before = ledger(a=(4, 4, 8), b=(2, 2, 8))
    cut = {U: Terms(3, 1)}
    first = applied(before, made(before, wanted={"a": 1, "b": 1}, terms=cut), cut, 10)
    assert first.in_force == {U: 6}
    answers = (answer("a", 10, 2), answer("b", 10, 0))
    second = applied(first, made(first, answers=answers, terms=cut), cut, 11)
    assert second.in_force == {U: 3}


def test_a_push_is_for_one_life_with_the_ledgers_sequence() -> None:
    entries = {("a", U): Entry(2, 2, 8, HOME), ("a", "v"): Entry(3, 3, 4, HOME), ("b", U): Entry(1, 1, 1, HOME)}
    before = Ledger(9, entries)
    assert before.push("a") == ("a", 9, {U: 2, "v": 3})
    assert before.unanswered("a", None)
    assert before.unanswered("a", answer("a", 7, 0))
    assert not before.unanswered("a", answer("a", 8, 0))
    assert not before.unanswered("a", answer("a", 0, 0, True))
