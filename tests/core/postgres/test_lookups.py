"""What queries for users have found."""

import pytest

from forebay_core.postgres import lookups
from forebay_core.postgres.lookups import KnownUsers, user_of
from forebay_core.postgres.scram import make_verifier
from forebay_core.postgres.users import User

VERIFIER = make_verifier("secret", b"salt" * 4)
MD5 = "md5" + "0" * 32


@pytest.mark.parametrize(
    ("rows", "user"),
    [
        ([], User("a")),
        ([[None, None]], User("a")),
        ([["a", None]], User("a")),
        ([["a", ""]], User("a")),
        ([["a", MD5]], User("a", md5=MD5)),
        ([["a", str(VERIFIER)]], User("a", verifier=VERIFIER)),
    ],
    ids=["no-row", "nulls", "no-secret", "empty", "md5", "scram"],
)
def test_rows(rows: list[list[str | None]], user: User) -> None:
    assert user_of("a", rows) == user


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([["a", MD5], ["a", MD5]], "at most one row, found 2"),
        ([["a"]], "two columns, a user and its secret, found 1"),
        ([["a", MD5, "x"]], "found 3"),
        ([["b", MD5]], "found another"),
        ([["a", "plain"]], "expected SCRAM-SHA-256"),
    ],
)
def test_rows_that_are_no_user(rows: list[list[str | None]], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        user_of("a", rows)
    assert "plain" not in str(caught.value)


def test_an_answer_lasts() -> None:
    known = KnownUsers(10.0)
    assert known.get("a", 0.0) is None
    known.put(User("a", md5=MD5), 1.0)
    assert known.get("a", 10.9) == User("a", md5=MD5)
    assert known.get("a", 11.0) is None


def test_that_there_is_no_such_user_is_an_answer() -> None:
    known = KnownUsers(10.0)
    known.put(User("a"), 1.0)
    assert known.get("a", 2.0) == User("a")


def test_without_time_nothing_is_remembered() -> None:
    known = KnownUsers(0.0)
    known.put(User("a"), 1.0)
    assert known.get("a", 1.0) is None


def test_a_doubt_asks_anew_but_not_at_once() -> None:
    known = KnownUsers(10.0)
    known.doubt("a", 0.0)
    known.put(User("a"), 1.0)
    known.doubt("a", 1.9)
    assert known.get("a", 1.9) == User("a")
    known.doubt("a", 2.0)
    assert known.get("a", 2.0) is None


def test_the_last_asked_for_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MOST", 3)
    known = KnownUsers(10.0)
    for name in "abc":
        known.put(User(name), 0.0)
    known.get("a", 1.0)
    known.put(User("d"), 1.0)
    assert [name for name in "abcd" if known.get(name, 1.0)] == ["a", "c", "d"]
