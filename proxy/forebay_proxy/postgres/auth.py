"""Who may log in, and with what: the users of the document's file, by the method that it asks for."""

import secrets
from collections.abc import Mapping

from forebay_core.postgres import scram
from forebay_core.postgres.md5 import md5_secret
from forebay_core.postgres.users import User


class Auth:
    """The users that are in force. `method` is scram-sha-256, md5, cert or trust."""

    def __init__(self, method: str, users: Mapping[str, User], secret: bytes) -> None:
        """`secret` salts verifiers of plain passwords, and those of users that don't exist."""
        self.method = method
        self.users = users
        self._secret = secret
        self._verifiers = {name: user.scram_verifier(secret) for name, user in users.items()}

    def verifier_of(self, user: str) -> scram.Verifier:
        """What a SCRAM login is checked with; for an unknown user one that no password has."""
        return self._verifiers.get(user) or scram.mock_verifier(user, self._secret)

    def md5_of(self, user: str) -> str:
        """The md5 secret that a login is checked with; for an unknown user one of chance."""
        found = self.users.get(user)
        if found is not None and found.md5 is not None:
            return found.md5
        if found is not None and found.password is not None:
            return md5_secret(user, found.password)
        return md5_secret(user, secrets.token_hex(16))

    def user(self, name: str) -> User:
        """The user as the file has it; one without a secret where it has none."""
        return self.users.get(name) or User(name)
