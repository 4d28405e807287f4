"""The users file, in the format of PgBouncer's userlist.txt (its documentation, "Authentication file format").

A line is `"user" "secret"`, a double quote in either is written twice, what follows on the line is ignored, a line that
begins with `;` is a comment. A secret is a password, `md5...`, a SCRAM verifier, or empty: a user who can't log in
by password. A bad file is refused whole, with every line that is wrong; secrets are never in a message.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from forebay_core.postgres.md5 import is_md5_secret
from forebay_core.postgres.scram import Verifier, make_verifier, parse_verifier, salt_of

LONGEST_USER = 127  # bytes, as PgBouncer's; PostgreSQL cuts names at 63
LONGEST_SECRET = 65530  # bytes, as PgBouncer's; long ones are tokens of cloud providers

_LINE = re.compile(r'"((?:[^"]|"")*+)"[ \t]+"((?:[^"]|"")*+)"(?:[ \t].*)?\Z')


class UsersError(Exception):
    """A users file is refused; `problems` has a sentence for each bad line."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, repr=False)
class User:
    """A user of the file. `password` is a plain one, `md5` a secret as of md5_secret; a user has at most one of the
    three kinds.
    """

    name: str
    password: str | None = None
    md5: str | None = None
    verifier: Verifier | None = None

    def scram_verifier(self, secret: bytes) -> Verifier | None:
        """What a login by SCRAM is checked with; None where that can't be. A plain password costs a millisecond, so
        this is to be called when users are loaded. `secret` salts them (see scram.salt_of).
        """
        if self.password is not None:
            return make_verifier(self.password, salt_of(self.name, secret))
        return self.verifier


def parse_users(text: str) -> Mapping[str, User]:
    """The users by name. Raises UsersError."""
    users: dict[str, User] = {}
    lines: dict[str, int] = {}
    problems: list[str] = []
    for number, raw in enumerate(re.split("\r?\n", text), 1):
        line = raw.strip(" \t\r\f\v")
        if not line or line.startswith(";"):
            continue
        match = _LINE.match(line)
        if not match:
            problems.append(f'line {number}: expected "user" "secret", each in double quotes')
            continue
        name, secret = (part.replace('""', '"') for part in match.groups())
        try:
            users[name] = _user(name, secret, lines)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
        lines.setdefault(name, number)
    if problems:
        raise UsersError(tuple(problems))
    return users


def _user(name: str, secret: str, lines: Mapping[str, int]) -> User:
    if not name:
        raise ValueError("expected a user name, found an empty one")
    if "\0" in name + secret:
        raise ValueError("expected no zero byte")
    if len(name.encode("utf-8", "surrogateescape")) > LONGEST_USER:
        raise ValueError(f"expected a user name of at most {LONGEST_USER} bytes")
    if len(secret.encode("utf-8", "surrogateescape")) > LONGEST_SECRET:
        raise ValueError(f"expected a secret of at most {LONGEST_SECRET} bytes")
    if name in lines:
        raise ValueError(f"expected each user once, line {lines[name]} has this one")
    if secret.startswith("SCRAM-SHA-256$"):
        return User(name, verifier=parse_verifier(secret))
    if is_md5_secret(secret):
        return User(name, md5=secret)
    return User(name, password=secret or None)
