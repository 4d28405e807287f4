"""PostgreSQL's md5 authentication, both sides; only where the user turned it on.

PostgreSQL documentation, "Password Authentication" and "Message Flow: AuthenticationMD5Password":
the secret is `md5` + md5(password + user), the answer `md5` + md5(secret's digits + salt), 4 bytes of salt.
"""

import hashlib
import hmac
import re

_SECRET = re.compile(r"md5[0-9a-f]{32}\Z")


def is_md5_secret(text: str) -> bool:
    """Whether a stored secret is an md5 one."""
    return _SECRET.match(text) is not None


def md5_secret(user: str, password: str) -> str:
    """The secret that PostgreSQL stores for a password."""
    return "md5" + _digits((password + user).encode("utf-8", "surrogateescape"))


def md5_answer(secret: str, salt: bytes) -> bytes:
    """The answer to a server's salt of 4 bytes, from a stored secret (see md5_secret)."""
    return b"md5" + _digits(secret[3:].encode() + salt).encode()


def md5_matches(secret: str, salt: bytes, answer: bytes) -> bool:
    """Whether a client's answer is that of the secret. For an unknown user the caller gives a secret of chance."""
    return hmac.compare_digest(md5_answer(secret, salt), answer)


def _digits(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
