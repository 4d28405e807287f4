"""With what users are checked."""

import pytest

from forebay_core.postgres.md5 import md5_secret
from forebay_core.postgres.scram import make_verifier
from forebay_core.postgres.users import User
from forebay_proxy.postgres.auth import Auth

SECRET = b"of chance"
VERIFIER = make_verifier("b", b"salt" * 4)
USERS = {
    "plain": User("plain", password="a"),
    "scram": User("scram", verifier=VERIFIER),
    "md5": User("md5", md5=md5_secret("md5", "c")),
    "none": User("none"),
}


@pytest.fixture
def auth() -> Auth:
    return Auth("scram-sha-256", USERS, SECRET)


def test_verifiers(auth: Auth) -> None:
    """Who has none gets one that no password has: always the same, with the salt of a plain password's."""
    assert auth.verifier_of(USERS["scram"]) == VERIFIER
    plain = auth.verifier_of(USERS["plain"])
    assert plain == make_verifier("a", plain.salt)
    for name in ("md5", "none", "nobody"):
        mock = auth.verifier_of(USERS.get(name, User(name)))
        assert mock == Auth("scram-sha-256", {}, SECRET).verifier_of(User(name))
        assert (mock.iterations, len(mock.salt)) == (plain.iterations, len(plain.salt))


def test_one_who_was_looked_up(auth: Auth) -> None:
    assert auth.verifier_of(User("other", verifier=VERIFIER)) == VERIFIER
    assert auth.md5_of(User("other", md5="md5" + "0" * 32)) == "md5" + "0" * 32


def test_md5_secrets(auth: Auth) -> None:
    assert auth.md5_of(USERS["plain"]) == md5_secret("plain", "a")
    assert auth.md5_of(USERS["md5"]) == md5_secret("md5", "c")
    assert auth.md5_of(USERS["none"]) != auth.md5_of(USERS["none"])


def test_a_change_costs_only_what_has_changed(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        User, "scram_verifier", lambda user, secret: made.append(user.name) or make_verifier("x", b"salt" * 4)
    )
    changed = USERS | {"plain": User("plain", password="b"), "new": User("new", password="c")}
    after = Auth("scram-sha-256", changed, SECRET, auth)
    assert sorted(made) == ["new", "plain"]
    assert after.verifier_of(USERS["scram"]) == VERIFIER


def test_other_methods_make_no_verifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(User, "scram_verifier")
    before = Auth("md5", USERS, SECRET)
    monkeypatch.undo()
    assert Auth("scram-sha-256", USERS, SECRET, before).verifier_of(USERS["scram"]) == VERIFIER
