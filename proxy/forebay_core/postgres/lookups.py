"""What queries for users have found: a bounded memory, in which a user that there is none of is an entry like others.

So an unknown user's logins take as long as a known one's, the first as well as those that follow.
"""

from collections import OrderedDict
from typing import Final

from forebay_core.postgres.md5 import is_md5_secret
from forebay_core.postgres.scram import parse_verifier
from forebay_core.postgres.users import User

MOST: Final = 4096  # users that are remembered, the last that were asked for
DOUBTED_AFTER: Final = 1.0  # seconds: wrong passwords make no more than one look-up of a user in this time


def user_of(name: str, rows: list[list[str | None]]) -> User:
    """The user that a query has found, one without a secret where there is none. Raises ValueError.

    A function with OUT parameters has a row of nulls where a table has no row.
    """
    if len(rows) > 1:
        raise ValueError(f"expected at most one row, found {len(rows)}")
    if not rows:
        return User(name)
    if len(rows[0]) != 2:
        raise ValueError(f"expected two columns, a user and its secret, found {len(rows[0])}")
    found, secret = rows[0]
    if found is None or not secret:
        return User(name)
    if found != name:
        raise ValueError("expected the user that was asked for, found another")
    if is_md5_secret(secret):
        return User(name, md5=secret)
    return User(name, verifier=parse_verifier(secret))


class KnownUsers:
    """See the module's docstring. Times are monotonic seconds."""

    def __init__(self, lasts: float) -> None:
        """`lasts`: how long an answer counts, seconds."""
        self._lasts = lasts
        self._known: OrderedDict[str, tuple[User, float]] = OrderedDict()  # and since when

    def get(self, name: str, now: float) -> User | None:
        """None: to be asked for."""
        user, since = self._known.get(name, (None, 0.0))
        if user is None or now - since >= self._lasts:
            return None
        self._known.move_to_end(name)
        return user

    def put(self, user: User, now: float) -> None:
        self._known[user.name] = user, now
        self._known.move_to_end(user.name)
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def doubt(self, name: str, now: float) -> None:
        """A password was wrong by what is known; it may have been changed."""
        if now - self._known.get(name, (None, now))[1] >= DOUBTED_AFTER:
            del self._known[name]
