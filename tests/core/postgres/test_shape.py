"""The shape of a statement's text."""

import pytest

from forebay_core.postgres.shape import LONGEST, MOST_READ, shape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", ""),
        (b"SELECT 1", "select ?"),
        (
            b"SELECT a.b, count(*)\nFROM \"T\" t WHERE x='s''ecret' AND y>=$1",
            'select a.b, count(*) from "T" t where x = ? and y >= $1',
        ),
        (b"select $$secret$$::text, E'sec\\'ret', a[1]", "select ?::text, ?, a[?]"),
        (b"insert into t (a,b) values (1.5,'x'),(-2,'y');", "insert into t(a, b) values(?.?, ?),(- ?, ?);"),
        (b"/* secret */ select 1 -- secret", "select ?"),
        (b"alter role a password 'secret'", "alter role a password ?"),
        (b"select 'secret", ""),
        (b"select /* secret", ""),
        (b"select \xff", "select \ufffd"),
    ],
)
def test_constants_are_left_out(text: bytes, expected: str) -> None:
    assert shape(text) == expected


def test_it_is_bounded() -> None:
    assert len(shape(b"select a" + b", a" * 10_000)) == LONGEST
    assert shape(b"select " + b"1" * MOST_READ) == ""
