"""With what users are checked, by the method that the document asks for: those of its file, and those looked up."""

import secrets
from collections.abc import Mapping
from typing import Self

from forebay_core.postgres import scram
from forebay_core.postgres.md5 import md5_secret
from forebay_core.postgres.users import User


class Auth:
    """The users of the file that is in force. `method` is scram-sha-256, md5, cert or trust."""

    def __init__(self, method: str, users: Mapping[str, User], secret: bytes, before: "Self | None" = None) -> None:
        """`secret` salts verifiers of plain passwords, and those of users that don't exist. Verifiers of users that are
        as they were in `before`, of the same secret, are taken from there: each costs a millisecond."""
        self.method = method
        self.users = users
        self._secret = secret
        self._verifiers: dict[str, scram.Verifier | None] = {}
        if method == "scram-sha-256":
            known = before._verifiers if before is not None else {}
            for name, user in users.items():
                same = name in known and before is not None and before.users[name] == user
                self._verifiers[name] = known[name] if same else user.scram_verifier(secret)

    def verifier_of(self, user: User) -> scram.Verifier:
        """What a SCRAM login is checked with; without a secret one that no password has."""
        return user.verifier or self._verifiers.get(user.name) or scram.mock_verifier(user.name, self._secret)

    def md5_of(self, user: User) -> str:
        """The md5 secret that a login is checked with; without a secret one of chance."""
        return user.md5 or md5_secret(user.name, user.password or secrets.token_hex(16))
