"""The retry budget."""

from hypothesis import given
from hypothesis import strategies as st

from forebay_core.retry import WINDOW, RetryBudget


def granted(budget: RetryBudget, now: float, asked: int) -> int:
    return sum(budget.may_retry(now) for _ in range(asked))


def test_with_few_requests_the_floor_holds() -> None:
    budget = RetryBudget(20, 3)
    assert granted(budget, 0.0, 50) == 30


def test_with_many_requests_the_percentage_holds() -> None:
    budget = RetryBudget(20, 0)
    for number in range(1000):
        budget.request(100.0 + number / 200)
    assert granted(budget, 105.0, 500) == 200


def test_no_budget_at_all() -> None:
    budget = RetryBudget(0, 0)
    budget.request(0.0)
    assert granted(budget, 0.0, 5) == 0


def test_requests_and_retries_leave_the_window_after_ten_seconds() -> None:
    budget = RetryBudget(50, 1)
    for _ in range(100):
        budget.request(0.5)
    assert granted(budget, 0.6, 100) == 50
    assert granted(budget, 9.9, 100) == 0, "both still count"
    assert granted(budget, 10.0, 100) == 10, "both have left: the floor"


def test_other_settings_hold_for_what_the_window_has_seen() -> None:
    budget = RetryBudget(20, 0)
    for _ in range(100):
        budget.request(0.5)
    assert granted(budget, 0.6, 50) == 20
    budget.configure(30, 0)
    assert granted(budget, 0.7, 50) == 10
    budget.configure(10, 0)
    assert granted(budget, 0.8, 50) == 0


def test_a_long_silence_is_forgotten_even_where_only_requests_came() -> None:
    budget = RetryBudget(100, 0)
    for second in range(3600):
        budget.request(float(second))
    assert granted(budget, 3599.5, 3600) == WINDOW


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=300), st.integers(0, 100), st.integers(0, 5))
def test_a_retry_is_granted_exactly_within_the_budget(
    events: list[tuple[bool, float]], percent: int, floor: int
) -> None:
    budget = RetryBudget(percent, floor)
    now, requests, retries = 0.0, [], []
    for is_request, passed in events:
        now += passed
        # The window is in whole seconds: the current one and the nine before it.
        inside = sum(int(at) > int(now) - WINDOW for at in requests)
        used = sum(int(at) > int(now) - WINDOW for at in retries)
        if is_request:
            budget.request(now)
            requests.append(now)
        elif budget.may_retry(now):
            retries.append(now)
            assert used + 1 <= max(floor * WINDOW, inside * percent / 100)
        else:
            assert used + 1 > max(floor * WINDOW, inside * percent / 100)
