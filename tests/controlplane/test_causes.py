"""What is said of why requests wait: of which upstreams, and when it is written anew."""

from typing import Any

from forebay_core.scale.diagnosis import Cause
from forebay_core.scale.upstream import UpstreamVerdict
from forebay_core.scale.verdict import Verdict
from forebay_operator.causes import Signals, after, state
from forebay_operator.status import State

NAME = "BackendSaturated"
OTHER = UpstreamVerdict(Cause.NONE, "fine", {}, {}, False, 1, 1, False, 0, 0.0, None)


def verdict(second: float, *slow: str) -> Verdict:
    """Of the upstreams a and b, with words that are others every second."""
    saturated = OTHER._replace(cause=Cause.BACKEND, message=f"leases last {second:.1f} times longer: nothing is added")
    return Verdict(1, Cause.NONE, "", {name: saturated if name in slow else OTHER for name in ("a", "b")})


class Told:
    """A condition over time, as it stands written."""

    def __init__(self) -> None:
        self.signals: Signals = {}
        self.condition: dict[str, Any] | None = None
        self.writes = 0

    def look(self, second: float, *slow: str, written: bool = True) -> str:
        stands = [self.condition] if self.condition is not None else []
        now = verdict(second, *slow)
        self.signals = after(now, self.signals, stands, second)
        said = state(NAME, now, self.signals[NAME], self.condition)
        if written and said != self._said():
            self.writes += 1
            self.condition = {
                "type": NAME, "status": str(said.holds), "reason": said.reason, "message": said.message,
            }  # fmt: skip
        return said.message

    def _said(self) -> State | None:
        c = self.condition
        return State(NAME, c["status"] == "True", c["reason"], c["message"]) if c is not None else None


def saturated(told: Told, *slow: str) -> Told:
    for second in range(0, 12, 2):
        told.look(second, *slow)
    return told


def test_the_words_stand_while_the_same_upstreams_are_named() -> None:
    told = saturated(Told(), "a")
    writes = told.writes
    assert {told.look(second, "a") for second in range(12, 100, 2)} == {
        "a: leases last 10.0 times longer: nothing is added"
    }
    assert told.writes == writes


def test_another_upstream_is_named_once_it_lasts_and_the_one_that_is_well_no_more() -> None:
    told = saturated(Told(), "a")
    writes = told.writes
    words = {second: told.look(second, "b") for second in range(12, 100, 2)}
    assert list(dict.fromkeys(words.values())) == [
        "a: leases last 10.0 times longer: nothing is added",
        "a: it was so a moment ago; b: leases last 22.0 times longer: nothing is added",
        "b: leases last 42.0 times longer: nothing is added",
    ]
    assert told.writes == writes + 2
    assert told.condition is not None
    assert told.condition["status"] == "True"


def test_upstreams_that_come_and_go_are_not_written_at_each_look() -> None:
    told = saturated(Told(), "a")
    writes = told.writes
    for second in range(12, 300, 2):
        told.look(second, *("a", "b") if second % 8 < 4 else ("a",))
    assert told.writes == writes


def test_words_that_could_not_be_written_are_said_again() -> None:
    told = saturated(Told(), "a")
    for second in range(12, 44, 2):
        told.look(second, "b", written=second < 22)
    assert told.look(44, "b") == "b: leases last 44.0 times longer: nothing is added"


def test_a_new_leader_goes_on_from_what_stands() -> None:
    told = saturated(Told(), "a")
    words = told.look(12, "a")
    told.signals = {}
    assert {told.look(second) for second in range(14, 44, 2)} == {words}, "it knows no cause yet"
    told.signals = {}
    assert {told.look(second, "a") for second in range(44, 100, 2)} == {words}
