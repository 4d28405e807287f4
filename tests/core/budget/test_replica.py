"""The replica's side: which grants it takes, and what it may open."""

from forebay_core.budget.ledger import Answer, Push
from forebay_core.budget.replica import Memory, answer, begin, drain, limit, take, takes

GRANTED = Memory("a", 7, False, {"u": 4}, {"u": 3})


def test_a_new_life_may_open_nothing() -> None:
    assert begin(None, "new") == Memory("new")
    assert limit(begin(None, "new"), "u", 0) == 0


def test_a_restarted_process_goes_on_and_counts_what_was_left() -> None:
    assert begin(GRANTED, "new") is GRANTED
    assert limit(GRANTED, "u", 3) == 1
    assert limit(GRANTED, "u", 9) == 0


def test_a_push_is_taken_by_its_life_if_it_is_newer() -> None:
    assert take(GRANTED, Push("a", 8, {"u": 2})) == Memory("a", 8, False, {"u": 2}, {"u": 3})
    for push in (Push("a", 7, {"u": 9}), Push("a", 6, {"u": 9}), Push("b", 8, {"u": 9})):
        assert take(GRANTED, push) is GRANTED


def test_an_upstream_that_a_push_does_not_name_keeps_its_grant() -> None:
    assert take(GRANTED, Push("a", 8, {"v": 2})).grants == {"u": 4, "v": 2}


def test_draining_is_final() -> None:
    draining = drain(GRANTED)
    assert limit(draining, "u", 0) == 0
    assert not takes(draining, "a", 8)
    assert take(draining, Push("a", 8, {"u": 9})) is draining
    assert begin(draining, "new") == Memory("new", held={"u": 3})


def test_every_answer_tells_life_pod_sequence_and_what_is_held() -> None:
    assert answer(drain(GRANTED), "p", ("u",)) == Answer("a", "p", 7, {"u": 3}, True)
