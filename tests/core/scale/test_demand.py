"""Little's law, square-root staffing and max-min sharing."""

from math import sqrt

import pytest

from forebay_core.scale.demand import BETA, CATCH_UP, average, connections, replicas, shared
from forebay_core.scale.windows import Usage


def test_little() -> None:
    assert average(Usage(arrivals=50.0, leased=4.0, peak=9), 0.2, waiting=0) == pytest.approx(10.0)


def test_what_is_leased_counts_where_it_is_more() -> None:
    assert average(Usage(arrivals=1.0, leased=7.0, peak=9), 0.2, waiting=0) == pytest.approx(7.0), "tunnels"
    assert average(Usage(arrivals=1.0, leased=7.0, peak=9), None, waiting=5) == pytest.approx(7.0)


def test_those_who_wait_are_to_be_served_before_they_give_up() -> None:
    usage = Usage(arrivals=50.0, leased=10.0, peak=9)
    assert average(usage, 0.2, waiting=100) == pytest.approx(10.0 + 100 * 0.2 / CATCH_UP)
    assert CATCH_UP < 5.0, "pool.timeout"


def test_a_queue_grows_until_more_can_serve() -> None:
    usage = Usage(arrivals=50.0, leased=6.0, peak=6)
    assert average(usage, 0.2, waiting=0, limit=6) == pytest.approx(10.0 + 4.0), "10 arrive in the time of 6"
    assert average(usage, 0.2, waiting=0, limit=12) == pytest.approx(10.0)


@pytest.mark.parametrize(("mean", "wanted"), [(0.0, 0), (1.0, 3), (4.0, 7), (9.0, 14), (100.0, 115)])
def test_headroom_grows_with_the_root(mean: float, wanted: int) -> None:
    assert connections(mean) == wanted


@pytest.mark.parametrize("mean", [0.0, 0.5, 3.0, 9.0, 10.5, 40.0, 66.0, 500.0])
@pytest.mark.parametrize("ceiling", [1, 4, 15, 100])
def test_replicas_are_the_fewest_that_suffice(mean: float, ceiling: int) -> None:
    found = replicas(mean, ceiling)

    def enough(n: int) -> bool:
        return n * ceiling >= mean + BETA * sqrt(mean * n) - 1e-6

    assert enough(found)
    assert found == 1 or not enough(found - 1)


def test_shared_is_max_min_fair() -> None:
    assert shared(20, {"a": 3, "b": 30, "c": 10}) == {"a": 3, "b": 9, "c": 8}
    assert shared(100, {"a": 3, "b": 30}) == {"a": 3, "b": 30}
    assert shared(1, {"a": 3, "b": 30}) == {"a": 1, "b": 1}, "nobody is left with nothing"
