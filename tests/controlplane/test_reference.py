"""docs/reference/conditions.md names every condition, reason and event that the operator has, and no other."""

import ast
import re
from collections.abc import Iterator

from tests.chart.rendered import ROOT

from forebay_operator.causes import CALM, SIGNALS
from forebay_operator.events import TURNS
from forebay_operator.status import CANNOT_START, INVALID

NAMED = {CANNOT_START, INVALID}  # reasons that have a name in the code

SOURCES = sorted((ROOT / "operator" / "forebay_operator").glob("*.py"))
PAGE = (ROOT / "docs" / "reference" / "conditions.md").read_text("utf-8")
CONDITIONS, EVENTS = ([line.split("|") for line in part.splitlines() if line.startswith("|")][2:]
                      for part in PAGE.split("\n## ")[1:])  # fmt: skip
REASON = {"State": 2, "Event": 1}  # which argument it is


def in_code(name: str) -> Iterator[str]:
    """Reasons that stand as text in calls of this name."""
    for source in SOURCES:
        for call in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) == name:
                for argument in call.args[REASON[name] : REASON[name] + 1]:
                    literals = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
                    yield from (str(each.value) for each in literals if isinstance(each, ast.Constant))


def words(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def test_every_reason_of_a_condition_is_told() -> None:
    conditional = {str(SIGNALS[name]) for name in CALM} | {reason for reason, _ in CALM.values()}
    assert {word for row in CONDITIONS for word in words(row[3])} == {*in_code("State"), *conditional, *NAMED}


def test_every_event_is_told() -> None:
    told = {word for row in EVENTS for word in words(row[1])}
    assert set(in_code("Event")) <= told
    assert {*TURNS, "ConnectFailing", *NAMED} <= told
    known = {*in_code("Event"), *in_code("State"), *TURNS, *NAMED} | {reason for reason, _ in CALM.values()}
    assert told - known == set()


def test_every_condition_is_told() -> None:
    told = {row[1].strip() for row in CONDITIONS}
    assert told == {"Ready", "Progressing", "Paused", *TURNS}
