"""Giving back by a gradient, and trying where nothing is known."""

from forebay_core.scale import relief
from forebay_core.scale.relief import REST, SETTLE, Relief, Trial


def test_it_begins_at_what_is_in_use() -> None:
    assert relief.begin(40, 100.0, 0.0).limit == 40


def test_a_step_waits_until_the_last_one_shows() -> None:
    start = relief.begin(40, 100.0, 0.0)
    assert relief.step(start, 4.0, 40, 100.0, SETTLE - 1) == start
    assert relief.step(start, 4.0, 40, 100.0, SETTLE).limit == 24


def test_it_settles_where_the_backend_is_fast_enough_and_still_busy() -> None:
    knee, found, now = 20.0, relief.begin(60, 100.0, 0.0), 0.0
    for _ in range(50):
        now += SETTLE
        found = relief.step(found, max(1.0, found.limit / knee), found.limit, 100.0, now)  # flat above the knee
    assert knee < found.limit < 1.8 * knee


def test_a_step_that_costs_completions_is_taken_back() -> None:
    """Slow, but not saturated: half the connections, half the completions."""
    start = relief.begin(40, 100.0, 0.0)
    lower = relief.step(start, 4.0, 40, 100.0, SETTLE)
    back = relief.step(lower, 4.0, 24, 60.0, 2 * SETTLE)
    assert back.limit == 40
    assert relief.step(back, 4.0, 40, 100.0, REST) == back, "and not tried again for a while"


def test_a_step_that_was_not_carried_out_has_cost_nothing() -> None:
    """Without a budget there is nobody to carry it out; that fewer complete has another reason."""
    lower = relief.step(relief.begin(40, 100.0, 0.0), 4.0, 40, 100.0, SETTLE)
    assert relief.step(lower, 4.0, 40, 60.0, 2 * SETTLE).limit < 24
    assert relief.step(lower, 4.0, 24, 60.0, 2 * SETTLE).limit == 40


def test_a_large_step_that_costs_all_that_it_could_shows_an_idle_backend() -> None:
    lower = relief.step(relief.begin(40, 100.0, 0.0), 4.0, 40, 100.0, SETTLE)
    assert relief.idle_backend(lower, 24, 62.0, 2 * SETTLE)
    assert not relief.idle_backend(lower, 24, 62.0, 2 * SETTLE - 1), "not yet"
    assert not relief.idle_backend(lower, 24, 75.0, 2 * SETTLE), "some of it was free"
    assert not relief.idle_backend(lower, 40, 62.0, 2 * SETTLE), "not carried out"
    further = relief.step(lower, 4.0, 24, 99.0, 2 * SETTLE)
    assert not relief.idle_backend(further, further.limit, 60.0, 3 * SETTLE), "the first was free: this is the knee"
    assert not relief.idle_backend(lower._replace(rate=10.0), 24, 6.0, 2 * SETTLE), "too few to tell"
    assert not relief.idle_backend(lower._replace(limit=36), 36, 50.0, 2 * SETTLE), "too small to tell"


def test_it_never_goes_above_where_it_began() -> None:
    found = Relief(40, 40, 100.0, 0.0)
    for n in range(1, 20):
        found = relief.step(found, 1.3, found.limit, 100.0, n * SETTLE)
        assert found.limit <= 40


def judged(trial: Trial, in_use: int, rate: float, now: float, *, waiting: int = 9) -> Trial:
    return relief.judged(trial, in_use, in_use, waiting, rate, now)


def test_a_trial_that_gains_leads_to_the_next() -> None:
    first = relief.trial_from(10, 10, 50.0, 0.0)
    assert first.limit == 15
    second = judged(first, 15, 75.0, SETTLE)
    assert (second.failed, second.limit) == (False, 22)


def test_a_trial_binds_from_its_first_step() -> None:
    held_off = relief.held_off(10, 50.0, 0.0)
    assert not held_off.binding, "grants that are there stay, and surplus may move"
    tried = judged(held_off, 10, 50.0, SETTLE)
    assert tried.binding
    assert judged(tried, 15, 51.0, 2 * SETTLE).binding, "failed"


def test_a_trial_without_gain_fails() -> None:
    failed = judged(relief.trial_from(10, 10, 50.0, 0.0), 15, 51.0, SETTLE)
    assert (failed.failed, failed.limit) == (True, 10)
    assert judged(failed, 10, 50.0, SETTLE + 3600) == failed


def test_a_failed_trial_is_forgotten_when_the_same_connections_complete_more() -> None:
    failed = judged(relief.trial_from(10, 10, 50.0, 0.0), 15, 51.0, SETTLE)
    assert judged(failed, 10, 70.0, SETTLE + 2) == failed
    assert not judged(failed, 10, 80.0, SETTLE + 2).failed


def test_a_step_that_was_not_carried_out_shows_nothing() -> None:
    """It goes on as it is, with the completions from before it: a new one would begin from what it has half done."""
    tried = relief.trial_from(10, 10, 50.0, 0.0)
    later = judged(tried, 11, 50.0, SETTLE)
    assert later == tried._replace(begun_at=SETTLE)
    assert judged(later, 15, 50.0, 2 * SETTLE).failed


def test_a_step_is_judged_when_it_has_been_carried_out_for_a_while() -> None:
    """Not by what completed before the connections came."""
    tried = relief.trial_from(10, 10, 50.0, 0.0)
    late = judged(judged(tried, 11, 50.0, SETTLE - 1), 15, 60.0, SETTLE + 1)
    assert (late.failed, late.limit) == (False, 15)
    assert judged(late, 15, 75.0, 2 * SETTLE - 1).limit == 22


def test_what_is_not_in_use_on_average_shows_nothing() -> None:
    """All are in use for moments, as most of the time what comes is served with less: completions can't rise."""
    tried = relief.trial_from(10, 8.0, 50.0, 0.0)
    for second in range(1, 60):
        tried = relief.judged(tried, 15, 9.0, 3, 50.0, float(second))
    assert not tried.failed


def test_a_step_that_fails_goes_back_to_the_most_that_was_in_use() -> None:
    """Not to the average, which may be below what the backend bears, and which nothing could grow from."""
    tried = relief.trial_from(14, 8.0, 50.0, 0.0)
    failed = relief.judged(tried, 21, 18.0, 9, 50.0, SETTLE)
    assert (failed.failed, failed.limit) == (True, 14)


def test_a_tick_without_waiters_begins_a_step_anew_without_raising_it() -> None:
    """What was in use when it began may be long ago, and what is tried must not grow for a crowd now and then."""
    tried = relief.trial_from(20, 20, 50.0, 0.0)
    later = judged(tried, 22, 55.0, SETTLE, waiting=0)
    assert later == tried._replace(before=22, rate=55.0, most=22, begun_at=SETTLE)
    assert judged(later, 29, 56.0, 2 * SETTLE) == later._replace(limit=22, failed=True, begun_at=2 * SETTLE)


def test_a_step_after_which_nobody_waits_has_not_failed() -> None:
    assert not judged(relief.trial_from(10, 10, 50.0, 0.0), 15, 50.0, SETTLE, waiting=0).failed
