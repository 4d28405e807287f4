"""The ledger as JSON, there and back; what is no ledger is refused, with the place."""

import json
from typing import Any

import pytest

from forebay_core.budget.ledger import Entry, Home, Ledger
from forebay_core.budget.record import RecordError, dump, load

LEDGER = Ledger(
    9,
    {("b", "u"): Entry(2, 3, 8, Home("p", "n", "x")), ("a", "u"): Entry(1, 1, 9, Home("q"))},
    {"u": 6},
)


def test_there_and_back() -> None:
    back = load(json.loads(json.dumps(dump(LEDGER))))
    assert back == LEDGER
    assert list(back.entries) == [("b", "u"), ("a", "u")], "oldest first"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("sequence",), -1, "ledger.sequence: -1; expected 0 or more"),
        (("sequence",), True, "ledger.sequence: True; expected int"),
        (("inForce",), None, "ledger.inForce: None; expected dict"),
        (("inForce", "u"), 1.5, "ledger.inForce.u: 1.5; expected int"),
        (("entries",), {}, "ledger.entries: {}; expected list"),
        (("entries", 1), 3, "ledger.entries[1]: 3; expected a mapping"),
        (("entries", 1, "life"), 3, "ledger.entries[1].life: 3; expected str"),
        (("entries", 1, "life"), "b", "ledger.entries[1]: a second entry for life 'b' and upstream 'u'"),
        (("entries", 0, "bound"), "3", "ledger.entries[0].bound: '3'; expected int"),
        (("entries", 0, "home"), {}, "ledger.entries[0].home.pod: None; expected str"),
    ],
)
def test_what_is_no_ledger_is_refused(path: tuple[Any, ...], value: object, message: str) -> None:
    record: Any = json.loads(json.dumps(dump(LEDGER)))
    at = record
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(RecordError) as error:
        load(record)
    assert str(error.value) == message


def test_nothing_is_no_ledger() -> None:
    with pytest.raises(RecordError):
        load(None)
