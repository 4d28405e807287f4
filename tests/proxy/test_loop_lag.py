"""How late the loop is, as told."""

from collections.abc import Callable

import pytest

from forebay_proxy.loop_lag import INTERVAL, LoopLag


class Clock:
    """A loop that runs its timer as late as the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due = 0.0
        self.beat: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, beat: Callable[[], None]) -> None:
        self.due, self.beat = when, beat

    def run(self, late: float, times: int = 1) -> None:
        for _ in range(times):
            self.now = self.due + late
            self.beat()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lag(clock: Clock) -> LoopLag:
    lag = LoopLag(clock)  # type: ignore[arg-type]
    lag.start()
    return lag


def test_a_loop_that_is_always_late(clock: Clock, lag: LoopLag) -> None:
    clock.run(0.02, 100)
    assert lag.seconds == pytest.approx(0.02, abs=0.001)


def test_a_standstill_counts_for_all_beats_that_it_kept_from_running(clock: Clock, lag: LoopLag) -> None:
    """Each of them was late by as much as was left of it: those of the last second by half a second on average."""
    clock.run(0.0, 10)
    clock.run(4.0)
    assert 0.8 < lag.seconds < 1.1
    clock.run(0.0, 50)
    assert lag.seconds < 0.01


def test_a_long_one_costs_no_more_than_a_short_one(clock: Clock, lag: LoopLag) -> None:
    clock.run(1e7)
    assert lag.seconds == pytest.approx(1.0, abs=0.2)


def test_a_hiccup_is_none_of_a_worker_without_a_core(clock: Clock, lag: LoopLag) -> None:
    clock.run(0.0, 10)
    clock.run(2 * INTERVAL)
    assert lag.seconds < 0.05
