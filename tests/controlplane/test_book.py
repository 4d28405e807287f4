"""The ledger as it is kept in the status."""

from typing import Any

import pytest

from forebay_core.ledger import Entry, Ledger
from forebay_operator.book import BLANK, Book, Owner, read, write


def test_what_is_written_is_read() -> None:
    entries = {("a", "orders"): Entry(4, 5, 3), ("a", "stock"): Entry(1, 1, 2), ("b", "orders"): Entry(0, 4, 3)}
    book = Book(Ledger(3, entries), {"a": Owner("p0", "u0", "n0"), "b": Owner("p1", "u1", "n1", ended=True)})
    assert read(write(book)) == book
    assert read(write(BLANK)) == BLANK


@pytest.mark.parametrize(
    "record",
    [None, {}, "x", {"sequence": 1}, {"sequence": 1, "lives": [{}]}, {"sequence": "x", "lives": []}, {"lives": None}],
)
def test_what_can_not_be_read_is_a_lost_ledger(record: Any) -> None:
    assert read(record) is None
