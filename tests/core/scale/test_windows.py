"""Windows: rates, peaks and hold times of the recent past."""

import pytest
from tests.core.scale.cases import counts

from forebay_core.scale.readings import Delta, UpstreamReading
from forebay_core.scale.windows import STABLE, Point, Tick, holds, point, recent, tick, trimmed, usage


def points(*rows: tuple[float, int, float, int]) -> tuple[Point, ...]:
    return tuple(Point(*row) for row in rows)


def test_usage_over_a_window() -> None:
    history = points((0, 0, 0.0, 1), (2, 100, 8.0, 9), (4, 120, 12.0, 2), (6, 140, 16.0, 3))
    found = usage(history, 4.0)
    assert found is not None
    assert found.arrivals == pytest.approx(10.0)
    assert found.leased == pytest.approx(2.0)
    assert found.peak == 9
    last = usage(history, 0.0)
    assert last is not None
    assert last.arrivals == pytest.approx(10.0), "at least the last two points"
    assert usage(history[:1], 4.0) is None


def test_a_history_that_is_shorter_than_the_window_is_taken_whole() -> None:
    found = usage(points((0, 0, 0.0, 1), (2, 100, 8.0, 9)), 60.0)
    assert found is not None
    assert found.arrivals == pytest.approx(50.0)


def test_arrivals_are_waits_that_ended_and_those_who_wait() -> None:
    reading = UpstreamReading(7, 0.1, 3, 2, 15, 15, waits=counts((0.0, 5)))
    first = point(None, reading, 10.0)
    assert first == (10.0, 12, 0.0, 5, 0, 0.0, 0.0)
    assert point(first, reading, 12.0).leased_seconds == pytest.approx(6.0)


def test_completions_are_counted_over_the_replicas_own_seconds() -> None:
    """One that was not read for a tick has completed as many per second as the others."""
    history: tuple[Point, ...] = ()
    for at in (0.0, 2.0, 6.0):
        done = UpstreamReading(0, 0.0, 6, 0, 15, 15, busy=8, busiest=4, holds=counts((0.1, round(10 * at))))
        history = (*history, point(history[-1] if history else None, done, at))
    found = usage(history, 6.0)
    assert found is not None
    assert (found.completions, found.leased, found.busy, found.busiest) == (10.0, 6.0, 8.0, 4.0)


def test_trimmed_keeps_the_point_that_the_window_begins_at() -> None:
    history = points(*[(2.0 * n, n, 0.0, 0) for n in range(100)])
    kept = trimmed(history)
    assert kept[0].at == history[-1].at - STABLE
    assert kept[-1] == history[-1]


def test_a_tick_adds_replicas_up() -> None:
    one = Delta(2.0, counts((0.1, 3)), counts((0.1, 2)), 0.2, 1, 0.01, 4)
    two = Delta(4.0, counts((0.1, 1)), counts((0.5, 2)), 1.0, 2, 0.02, 0)
    found = tick(10.0, [one, two])
    assert found is not None
    assert (found.seconds, sum(found.waits), sum(found.holds), found.connects, found.connect_errors) == (
        4.0,
        4,
        4,
        3,
        4,
    )
    assert found.hold_sum == pytest.approx(1.2)
    assert tick(10.0, []) is None


def test_holds_go_back_as_far_as_it_takes() -> None:
    def at(when: float, seconds: float, many: int) -> Tick:
        return Tick(when, 2.0, holds=counts((seconds, many)), hold_sum=seconds * many)

    ticks = [at(2, 1.0, 30), at(4, 0.1, 10), at(6, 0.1, 30)]
    latest = holds(ticks, 2.0, 6.0, 20)
    assert latest is not None
    assert latest.mean == pytest.approx(0.1)
    further = holds(ticks, 2.0, 6.0, 50)
    assert further is not None
    assert further.mean == pytest.approx((30 * 1.0 + 40 * 0.1) / 70)
    assert holds(ticks, 2.0, 6.0, 100) is None
    assert [t.at for t in recent(ticks, 3.0, 6.0)] == [4, 6]
