"""The timer wheel, in virtual time."""

import asyncio
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_proxy.wheel import Wheel

RESOLUTION = 0.1


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer; only the timers are used."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        return self.now

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        handles: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [handle for handle in handles if not handle.cancelled()]

    def advance(self, until: float) -> None:
        """Run every timer due by ``until`` at its very time."""
        while due := [handle.when() for handle in self.timers if handle.when() <= until]:
            self.now = max(self.now, min(due))
            self.call_soon(self.stop)
            self.run_forever()
        self.now = max(self.now, until)


class Deadline:
    __slots__ = ("action", "deadline", "fired", "wheel_due")

    def __init__(self, action: Callable[[float], None] | None = None) -> None:
        self.deadline = inf
        self.wheel_due = inf
        self.fired: list[float] = []
        self.action = action

    def on_deadline(self, now: float) -> None:
        self.fired.append(now)
        if self.action is not None:
            self.action(now)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    assert not loop.errors
    loop.close()


@pytest.fixture
def wheel(loop: VirtualLoop) -> Wheel:
    return Wheel(loop, RESOLUTION)


def test_fires_once_and_never_early(loop: VirtualLoop, wheel: Wheel) -> None:
    entry = Deadline()
    wheel.arm(entry, 1000.55)
    loop.advance(1000.54)
    assert entry.fired == []
    loop.advance(1010)
    assert entry.fired == [pytest.approx(1000.6)]
    assert (entry.deadline, entry.wheel_due) == (inf, inf)


def test_the_loop_timer_exists_only_while_something_waits(loop: VirtualLoop, wheel: Wheel) -> None:
    assert loop.timers == []
    entries = [Deadline() for _ in range(1000)]
    for entry in entries:
        wheel.arm(entry, 1005)
    assert len(loop.timers) == 1
    assert len(wheel) == 1000
    loop.advance(1006)
    assert all(len(entry.fired) == 1 for entry in entries)
    assert loop.timers == []
    assert len(wheel) == 0


def test_a_deadline_that_moves_later_fires_only_there(loop: VirtualLoop, wheel: Wheel) -> None:
    entry = Deadline()
    for second in range(1000, 1060):
        loop.advance(second)
        wheel.arm(entry, second + 5)
        assert len(loop.timers) == 1
    assert entry.fired == []
    loop.advance(1100)
    assert entry.fired == [pytest.approx(1064, abs=RESOLUTION)]


def test_a_deadline_that_moves_earlier_fires_there_and_only_there(loop: VirtualLoop, wheel: Wheel) -> None:
    entry = Deadline()
    wheel.arm(entry, 1075)
    wheel.arm(entry, 1001)
    assert len(wheel) == 1, "it left its old bucket"
    loop.advance(1100)
    assert entry.fired == [pytest.approx(1001, abs=RESOLUTION)]


def test_earlier_then_later_again(loop: VirtualLoop, wheel: Wheel) -> None:
    entry = Deadline()
    for deadline in (1075, 1001, 1075):
        wheel.arm(entry, deadline)
    loop.advance(1100)
    assert entry.fired == [pytest.approx(1075, abs=RESOLUTION)]


def test_without_a_deadline_nothing_fires_and_the_wheel_lets_go(loop: VirtualLoop, wheel: Wheel) -> None:
    entry, ended = Deadline(), Deadline()
    wheel.arm(entry, 1001)
    wheel.arm(ended, 1001)
    wheel.arm(entry, inf)
    wheel.disarm(ended)
    assert len(wheel) == 1, "disarm lets go at once"
    loop.advance(1002)
    assert entry.fired == ended.fired == []
    assert len(wheel) == 0
    assert loop.timers == []


def test_a_deadline_in_the_past_fires_soon_but_not_from_within_arm(loop: VirtualLoop, wheel: Wheel) -> None:
    entry = Deadline()
    wheel.arm(entry, 1.0)
    assert entry.fired == []
    loop.advance(1000 + RESOLUTION)
    assert len(entry.fired) == 1


def test_an_entry_may_arm_itself_and_disarm_others_when_it_fires(loop: VirtualLoop, wheel: Wheel) -> None:
    again = Deadline(lambda now: wheel.arm(again, now + 1))
    victims = [Deadline() for _ in range(3)]

    def kill_the_others(now: float) -> None:
        for entry in (*victims, *killers):
            wheel.disarm(entry)

    killers = [Deadline(kill_the_others) for _ in range(3)]
    for entry in (again, *victims, *killers):
        wheel.arm(entry, 1001)
    loop.advance(1003.5)
    assert len(again.fired) == 3
    assert sum(len(entry.fired) for entry in killers) == 1
    assert len(wheel) == 1


def test_an_entry_that_arms_itself_for_the_past_does_not_hang_the_loop(loop: VirtualLoop, wheel: Wheel) -> None:
    entry = Deadline(lambda now: wheel.arm(entry, now - 5))
    wheel.arm(entry, 1000)
    loop.advance(1001)
    assert 9 <= len(entry.fired) <= 11, "once per resolution"


def test_one_entrys_exception_is_reported_and_loses_no_other(loop: VirtualLoop, wheel: Wheel) -> None:
    def fail(now: float) -> None:
        raise RuntimeError("a mistake")

    entries = [Deadline(fail if index == 5 else None) for index in range(10)]
    for entry in entries:
        wheel.arm(entry, 1001)
    later = Deadline()
    wheel.arm(later, 1002)
    loop.advance(1003)
    assert all(len(entry.fired) == 1 for entry in (*entries, later))
    assert [str(error["exception"]) for error in loop.errors] == ["a mistake"]
    loop.errors.clear()


def test_a_late_loop_catches_up_in_one_go(loop: VirtualLoop, wheel: Wheel) -> None:
    entries = [Deadline() for _ in range(50)]
    for index, entry in enumerate(entries):
        wheel.arm(entry, 1000 + index)
    loop.now = 2000.0  # the process was stopped
    loop.advance(2000.0)
    assert [entry.fired for entry in entries] == [[2000.0]] * 50


def test_a_closed_wheel_fires_nothing_even_closed_from_an_entry(loop: VirtualLoop, wheel: Wheel) -> None:
    entries = [Deadline(lambda now: wheel.close()) for _ in range(3)]
    for entry in entries:
        wheel.arm(entry, 1001)
    loop.advance(1002)
    assert sum(len(entry.fired) for entry in entries) == 1
    wheel.arm(Deadline(), 1003)
    assert loop.timers == []
    assert len(wheel) == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.floats(-1, 20), st.just(inf)), st.floats(0, 3)), max_size=60))
def test_any_sequence_fires_each_deadline_once_in_its_resolution(
    steps: list[tuple[int, float, float]],
) -> None:
    loop = VirtualLoop()
    wheel = Wheel(loop, RESOLUTION)
    entries = [Deadline() for _ in range(5)]
    wanted: list[tuple[float, float] | None] = [None] * 5  # (when armed, deadline)

    def check(index: int) -> None:
        entry, expected = entries[index], wanted[index]
        if entry.fired:
            assert expected is not None
            armed, deadline = expected
            assert len(entry.fired) == 1
            assert deadline <= entry.fired[0] <= max(armed, deadline) + RESOLUTION + 1e-6
            wanted[index] = None
            entry.fired.clear()
        elif expected is not None:
            assert loop.now <= max(expected) + RESOLUTION + 1e-6, "a deadline was lost"

    for index, after, passed in steps:
        deadline = loop.now + after
        wheel.arm(entries[index], deadline)
        wanted[index] = (loop.now, deadline)
        loop.advance(loop.now + passed)
        for each in range(5):
            check(each)
    loop.advance(loop.now + 30)
    for each in range(5):
        check(each)
    assert len(wheel) == 0
    assert not loop.timers
    loop.close()
