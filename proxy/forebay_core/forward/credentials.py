"""Who is asking: Basic credentials (RFC 7617) against a file of users and hashes, as htpasswd's.

A hash takes milliseconds, on purpose, and a request must not. So there are two steps: `known` answers at once what has
been checked before, and `verify` does the work, for a thread; the caller gives its answer to `remember`. What is
remembered is a keyed digest of the header's value, so neither a look-up's time nor a memory dump says a password.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from forebay_core.forward.shacrypt import ShaCrypt, parse_hash

CHALLENGE: Final = b'Basic realm="forebay", charset="UTF-8"'
LONGEST_USER: Final = 128  # characters
REMEMBERED: Final = 4096  # logins that were right, and as many that were wrong

_BASIC = re.compile(rb"(?i:basic) +([A-Za-z0-9+/]+={0,2})")


class CredentialsError(Exception):
    """A file of users is refused; `problems` has a sentence for each bad line, none of which shows a hash."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Login(NamedTuple):
    """Who asks, and whether it is them. `user` is what the client says, "" where that can't be read."""

    user: str
    ok: bool


UNREADABLE: Final = Login("", False)


def parse_htpasswd(text: str) -> Mapping[str, ShaCrypt]:
    """Users by name, from lines of `user:hash`; empty lines and those that begin with # are left out. Raises
    CredentialsError.
    """
    users: dict[str, ShaCrypt] = {}
    lines: dict[str, int] = {}
    problems: list[str] = []
    for number, raw in enumerate(re.split("\r?\n", text), 1):
        line = raw.strip(" \t")
        if not line or line.startswith("#"):
            continue
        user, colon, hashed = line.partition(":")
        try:
            if not colon or not user or len(user) > LONGEST_USER or not user.isprintable():
                raise ValueError(f"expected user:hash, with a user of 1 to {LONGEST_USER} characters")
            if user in lines:
                raise ValueError(f"expected each user once, line {lines[user]} has this one")
            users[user] = parse_hash(hashed)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
        lines.setdefault(user, number)
    if not users and not problems:  # an empty file would let nobody in, and is surely a mistake
        problems.append("expected at least one line of user:hash")
    if problems:
        raise CredentialsError(tuple(problems))
    return users


class Credentials:
    """The users of one file, and what is remembered of their logins; a changed file makes a new one."""

    def __init__(self, users: Mapping[str, ShaCrypt], secret: bytes) -> None:
        """`users` are one or more; `secret` is 16 to 64 random bytes of this process."""
        self._users = users
        # What the password of a user who doesn't exist is checked against: an answer's time would tell who does.
        self._nobody = max(users.values(), key=lambda hashed: hashed.rounds)
        self._secret = secret
        self._right: dict[bytes, Login] = {}
        self._wrong: dict[bytes, Login] = {}  # apart, so that guesses push out no login

    def known(self, value: bytes) -> Login | None:
        """What a value of Proxy-Authorization is known to be; None: it is to be verified."""
        key = self._key(value)
        login = self._right.get(key) or self._wrong.get(key)
        if login is None and _parsed(value) is None:
            return UNREADABLE
        return login

    def verify(self, value: bytes, pause: Callable[[], None] = lambda: None) -> Login:
        """As `known`, from the beginning: milliseconds of CPU, `pause` is called in between. Changes nothing, so a
        thread may call it."""
        parsed = _parsed(value)
        if parsed is None:
            return UNREADABLE
        user, password = parsed
        hashed = self._users.get(user)
        matches = (hashed or self._nobody).matches(password, pause)
        return Login(user, matches and hashed is not None)

    def remember(self, value: bytes, login: Login) -> None:
        """What `verify` has answered for this value."""
        memory = self._right if login.ok else self._wrong
        if len(memory) >= REMEMBERED:
            del memory[next(iter(memory))]
        memory[self._key(value)] = login

    def _key(self, value: bytes) -> bytes:
        return blake2b(value, digest_size=16, key=self._secret).digest()

    def __repr__(self) -> str:
        return f"<Credentials of {len(self._users)} users: {len(self._right)} logins right, {len(self._wrong)} wrong>"


def _parsed(value: bytes) -> tuple[str, bytes] | None:
    """User and password; None where it isn't a value of Basic credentials (RFC 7617 section 2)."""
    match = _BASIC.fullmatch(value)
    if match is None:
        return None
    try:
        user, colon, password = b64decode(match[1], validate=True).decode().partition(":")
    except (Base64Error, UnicodeDecodeError):
        return None
    if not colon or len(user) > LONGEST_USER or not (user + password).isprintable():
        return None
    return user, password.encode()
