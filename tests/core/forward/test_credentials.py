"""Users, their hashes, and what is remembered of their logins."""

from base64 import b64encode

import pytest

from forebay_core.forward.credentials import (
    REMEMBERED,
    UNREADABLE,
    Credentials,
    CredentialsError,
    Login,
    parse_htpasswd,
)
from forebay_core.forward.shacrypt import LONGEST_PASSWORD, SLICE, parse_hash

# By glibc's crypt; the first four are also the specification's own.
VECTORS = (
    ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
    ("$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA", "Hello world!"),
    ("$5$rounds=1000$$jAQ1NZgJkatmWyAsK0NxDcSXTB41aRCrTggwkNbBkXA", ""),
    (
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        "Hello world!",
    ),
    (
        "$6$rounds=1400$anotherlongsalts$"
        "o8MyYfAmJRznCp4L3ciEyl90/IiIIcZOlAZJXoVtMVOcTRGrUdPiM0Dv1bGad0NhOC6cVGcYSNmT1KbVXE8mP1",
        "caf\u00e9 " + "x" * 100,
    ),
    (
        "$6$rounds=1000$roundstoolow$"
        "FbGJa2cN7X1oOy/vdHJmVcHMYxGfw.yEPe9H9LlAjrQiAheUMPHJfBWBz1tsMg/YuC4ZZUe7GViu2bGZz2X961",
        "",
    ),
)
ANN = VECTORS[2][0]  # whose password is empty
BOB = VECTORS[0][0]


def basic(user: str, password: str) -> bytes:
    return b"Basic " + b64encode(f"{user}:{password}".encode())


def credentials() -> Credentials:
    return Credentials(parse_htpasswd(f"ann:{ANN}\nbob:{BOB}\n"), b"0123456789abcdef")


@pytest.mark.parametrize(("hashed", "password"), VECTORS)
def test_a_hash_is_its_passwords(hashed: str, password: str) -> None:
    found = parse_hash(hashed)
    assert found.matches(password.encode())
    assert not found.matches(password.encode() + b"x")
    pauses: list[bool] = []
    assert found.matches(password.encode(), lambda: pauses.append(True))
    assert found.rounds <= len(pauses) * SLICE < found.rounds + SLICE
    assert not found._replace(salt=b"other").matches(password.encode())
    assert not found._replace(rounds=found.rounds + 1).matches(password.encode())


def test_a_password_has_a_length() -> None:
    """An empty one is in the file: what is cut must not become it."""
    assert parse_hash(ANN).matches(b"")
    assert not parse_hash(ANN).matches(b"x" * (LONGEST_PASSWORD + 1))


@pytest.mark.parametrize(
    ("hashed", "says"),
    [
        ("$2y$10$abcdefghijklmnopqrstuuJ9nIEYvkbk4kQ8mCbyY2hV2ZPpmTvKy", "begins with [$]5[$] or [$]6[$]"),
        ("$apr1$x$y", "begins with"),
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "plain passwords are not taken"),
        ("secret", "begins with"),
        ("", "begins with"),
        (BOB + "x", "begins with"),
        (BOB.replace("$5$", "$6$"), "begins with"),
        (BOB.replace("$5$", "$5$rounds=999$"), "1000 to 100000 rounds, found 999"),
        (BOB.replace("$5$", "$5$rounds=100001$"), "1000 to 100000 rounds, found 100001"),
        (BOB.replace("$5$", "$5$rounds=+5000$"), "begins with"),
    ],
)
def test_a_hash_that_is_not_taken(hashed: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        parse_hash(hashed)
    assert not hashed or hashed not in str(raised.value)


def test_a_file_of_users() -> None:
    users = parse_htpasswd(f"# users\r\n\r\nann:{ANN}\r\n\n b\u00f6b:{BOB}\n")
    assert list(users) == ["ann", "b\u00f6b"]


def test_a_bad_file_is_refused_with_every_line() -> None:
    with pytest.raises(CredentialsError) as raised:
        parse_htpasswd(f"ann\n:{ANN}\nbob:secret\neve:{ANN}\neve:{ANN}\n{'a' * 129}:{ANN}\n")
    assert [problem.split(":")[0] for problem in raised.value.problems] == [f"line {n}" for n in (1, 2, 3, 5, 6)]
    assert "each user once, line 4" in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "\n", "# nobody\n"])
def test_a_file_without_users_is_refused(text: str) -> None:
    with pytest.raises(CredentialsError, match="at least one line"):
        parse_htpasswd(text)


@pytest.mark.parametrize(
    ("user", "password", "ok"),
    [
        ("bob", "Hello world!", True),
        ("bob", "hello world!", False),
        ("bob", "", False),
        ("ann", "", True),
        ("ann", "Hello world!", False),
        ("Bob", "Hello world!", False),
        ("eve", "Hello world!", False),
        ("eve", "", False),
    ],
)
def test_a_login(user: str, password: str, ok: bool) -> None:
    users = credentials()
    value = basic(user, password)
    assert users.known(value) is None
    login = users.verify(value)
    assert login == Login(user, ok)
    assert users.known(value) is None, "verify changes nothing"
    users.remember(value, login)
    assert users.known(value) == login
    assert users.known(value + b" ") is UNREADABLE


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Bearer Ym9iOkhlbGxvIHdvcmxkIQ==",
        b"Basic Ym9iOkhlbGxvIHdvcmxkIQ",  # without its padding
        b"Basic Ym9iOkhlbGxvIHdvcmxkIQ== x",
        b"Basic Ym9i",  # no colon
        b"Basic /zo=",  # not UTF-8
        b"Basic " + b64encode(b"bob:a\x00"),
        b"Basic " + b64encode(b"a" * 129 + b":a"),
    ],
)
def test_what_is_no_login_is_known_at_once(value: bytes) -> None:
    assert credentials().known(value) is UNREADABLE
    assert credentials().verify(value) is UNREADABLE


def test_guesses_push_out_no_login() -> None:
    users = credentials()
    right = basic("bob", "Hello world!")
    users.remember(right, Login("bob", True))
    for number in range(REMEMBERED + 10):
        users.remember(basic("bob", f"{number}"), Login("bob", False))
    assert users.known(right) == Login("bob", True)
    assert users.known(basic("bob", "0")) is None
    assert users.known(basic("bob", "10")) == Login("bob", False)
    assert repr(users) == f"<Credentials of 2 users: 1 logins right, {REMEMBERED} wrong>"
