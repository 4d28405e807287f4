"""A bucket lets no more through than its rate, and no less."""

from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay_core.forward.rate import TokenBucket


def test_a_seconds_worth_at_once_then_in_turn() -> None:
    bucket = TokenBucket(4)
    times = [bucket.reserve(100.0, inf) for _ in range(7)]
    assert times == pytest.approx([100.0] * 4 + [100.25, 100.5, 100.75])


def test_slow_rates_have_one_token() -> None:
    bucket = TokenBucket(0.5)
    assert [bucket.reserve(100.0, inf) for _ in range(3)] == pytest.approx([100.0, 102.0, 104.0])


def test_who_can_not_wait_takes_nothing() -> None:
    bucket = TokenBucket(1)
    assert bucket.reserve(100.0, 100.0) == 100.0
    assert bucket.reserve(100.0, 100.9) is None
    assert bucket.reserve(100.0, 101.0) == 101.0


def test_it_fills_again() -> None:
    bucket = TokenBucket(2)
    for _ in range(2):
        bucket.reserve(100.0, inf)
    assert not bucket.idle(100.9)
    assert bucket.idle(101.0)
    assert [bucket.reserve(101.0, inf) for _ in range(3)] == pytest.approx([101.0, 101.0, 101.5])


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_is_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match="expected above 0"):
        TokenBucket(rate)


@example(0.99999, [(1.0, 0.0), (3.0, 0.0), (3.0, 0.0), (3.0, 0.0), (3.0, 0.0)])  # an ulp above `now` is not `now`
@given(
    st.floats(0.1, 1000),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 5)), min_size=1, max_size=60),
)
def test_no_window_has_more_than_its_share(rate: float, steps: list[tuple[float, float]]) -> None:
    """In any span at most a burst and the rate times the span go; and who comes to a full bucket goes at once."""
    bucket, now, gone = TokenBucket(rate), 50.0, []
    for pause, patience in steps:
        now += pause
        full = bucket.idle(now)
        at = bucket.reserve(now, now + patience)
        assert at is None or now <= at <= now + patience
        assert not full or at == now
        if at is not None:
            gone.append(at)
    assert gone == sorted(gone)
    for first in range(len(gone)):
        for last in range(first, len(gone)):
            allowed = max(1.0, rate) + rate * (gone[last] - gone[first])
            assert last - first + 1 <= allowed + 1e-6
