"""Users who are looked up at the server (`auth.query`), one after the other, on a connection of a kind of its own.

The connection is one of the pool: it waits for its place like a client's transaction, and is kept as long as there is
somebody to look up. Whoever asks for a user that is being looked up already waits for the same answer.
"""

import asyncio
import logging
from math import inf
from time import monotonic
from typing import Final, Protocol

from forebay_core.lease import QUEUE_FULL, Connection, Refusal, Refused, Waiter
from forebay_core.pgwire import ProtocolError, backend, frontend
from forebay_core.pgwire.fields import encoded, read_message
from forebay_core.postgres.lookups import KnownUsers, user_of
from forebay_core.postgres.users import User
from forebay_core.spec.postgres import UserQuery
from forebay_proxy.connection import BriefOwner
from forebay_proxy.postgres.database import AGAIN_AFTER, may_come_back
from forebay_proxy.postgres.server import Login, PgConnection
from forebay_proxy.upstream import LOGGED_AGAIN, Upstream

MOST_ASKED: Final = 1000  # users that wait to be looked up
LONGEST_NAME: Final = 63  # bytes; a server has no longer ones
LONGEST_ANSWER: Final = 65_536  # bytes
PATIENCE: Final = 5.0  # seconds for an answer

log = logging.getLogger(__name__)


class Applicant(Protocol):
    """A client that logs in."""

    def looked_up(self, user: User) -> None: ...
    def not_looked_up(self, refusal: Refusal) -> None: ...


class Lookups(BriefOwner, Waiter):
    """The look-ups at one upstream, by one query."""

    def __init__(self, query: UserQuery, upstream: Upstream, login: Login) -> None:
        super().__init__()
        self.query = query
        self.upstream = upstream
        self.kind = login
        self._known = KnownUsers(query.cache_time)
        self._parse = frontend.parse(frontend.Statement(b"", encoded(query.statement), frontend.NO_TYPES))
        self._asked: dict[str, list[Applicant]] = {}  # the first one is being looked up
        self._connection: PgConnection | None = None
        self._answer = b""
        self._timer: asyncio.TimerHandle | None = None
        self._lost = False  # the last connection, before it had answered
        self._logged: dict[str, float] = {}  # when a failure was said last, by its reason
        self._unsaid = 0  # failures since the last one that was said

    def ask(self, name: str, applicant: Applicant) -> User | None:
        """The user, one without a secret where there is none; None: the applicant is told later, maybe at once."""
        if len(encoded(name)) > LONGEST_NAME:
            return User(name)
        found = self._known.get(name, monotonic())
        if found is not None:
            return found
        if name in self._asked:
            self._asked[name].append(applicant)
        elif len(self._asked) >= MOST_ASKED:
            applicant.not_looked_up(QUEUE_FULL)
        else:
            self._asked[name] = [applicant]
            if len(self._asked) == 1:
                self._begin()
        return None

    @property
    def waiting(self) -> int:
        """How many wait for a connection to be looked up by."""
        return sum(map(len, self._asked.values())) if self._connection is None else 0

    def forget(self, name: str, applicant: Applicant) -> None:
        """The applicant has gone; the look-up goes on, as its answer may be wanted again."""
        applicants = self._asked.get(name, [])
        if applicant in applicants:
            applicants.remove(applicant)

    def doubt(self, name: str) -> None:
        """A password was wrong by what was found."""
        self._known.doubt(name, monotonic())

    # ------------------------------------------------------------------ the connection

    def _begin(self) -> None:
        self.deadline = 0.0
        self._acquire()

    def _acquire(self) -> None:
        now = monotonic()
        try:
            connection = self.upstream.pool.acquire(self, now)
        except Refused as refused:
            self.refuse(refused.refusal, now)
        else:
            if connection is not None:
                self.take(connection, now)
        self.upstream.act()

    def take(self, connection: Connection, now: float) -> bool:
        assert isinstance(connection, PgConnection)
        self._connection = connection
        self._look_up(connection)
        return True

    def refuse(self, refusal: Refusal, now: float) -> None:
        """There is no connection: who waits won't fare better by waiting on."""
        if may_come_back(self, refusal, now):
            asyncio.get_running_loop().call_later(AGAIN_AFTER, self._acquire)
        else:
            self._fail(refusal)

    def upstream_lost(self, connection: PgConnection, exc: Exception | None, now: float) -> None:
        """It may have been an old connection, which the server has just closed."""
        self._over()
        if self._lost:
            self._lost = False
            self._fail(Refusal("connection_lost", "the server closed the connection"))
        else:
            self._lost = True
            self._begin()

    # ------------------------------------------------------------------ a look-up

    def _look_up(self, connection: PgConnection) -> None:
        name = next(iter(self._asked))
        question = self._parse + frontend.bind(b"", b"", (encoded(name),)) + frontend.execute()
        if not is_utf8(name) and connection.reported.get("client_encoding") == b"UTF8":
            question = b""  # nobody has such a name there, and the server would refuse the question for it
        connection.write(question + frontend.SYNC)
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._give_up)

    def server_said(
        self, connection: PgConnection, data: bytes, ready: bytes, events: list[tuple[bytes, int, int]]
    ) -> None:
        self._answer += data
        if len(self._answer) > LONGEST_ANSWER:
            self._give_up()
        elif ready:
            self._answered(connection, self._answer)

    def _answered(self, connection: PgConnection, answer: bytes) -> None:
        now = monotonic()
        self._over()
        self._lost = False
        name = next(iter(self._asked))
        applicants = self._asked.pop(name)
        if self._asked:
            self._connection = connection
            self._look_up(connection)
        else:
            self.upstream.pool.release(connection, self, now, count=False)
            self.upstream.act()
        try:
            user = user_of(name, rows(answer))
        except (ProtocolError, ValueError) as error:
            self._refuse(applicants, Refusal("lookup", f"the query for users: {error}"))
            return
        self._known.put(user, now)
        for applicant in applicants:
            applicant.looked_up(user)

    def _give_up(self) -> None:
        """The server does not answer, or does not stop."""
        connection = self._connection
        assert connection is not None
        self._over()
        self.upstream.pool.discard(connection, self, monotonic(), "error")
        self.upstream.act()
        self._fail(Refusal("lookup", f"expected an answer of at most {LONGEST_ANSWER} bytes within {PATIENCE:g} s"))

    def _over(self) -> None:
        self._connection, self._answer = None, b""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, refusal: Refusal) -> None:
        """Nobody can be looked up now."""
        asked, self._asked = self._asked, {}
        self._refuse([applicant for applicants in asked.values() for applicant in applicants], refusal)

    def _refuse(self, applicants: list[Applicant], refusal: Refusal) -> None:
        """The cause is said here: clients that are not known yet are not told it. Not each time, as any of them can
        make it fail."""
        now = monotonic()
        if now - self._logged.get(refusal.reason, -inf) >= LOGGED_AGAIN:
            self._logged[refusal.reason] = now
            besides = f" ({self._unsaid} more have failed since the last such line)" if self._unsaid else ""
            log.warning("users can't be looked up at upstream %s: %s%s", self.upstream.name, refusal.detail, besides)
            self._unsaid = 0
        else:
            self._unsaid += 1
        for applicant in applicants:
            applicant.not_looked_up(refusal)


def is_utf8(name: str) -> bool:
    """Whether it came as UTF-8: what does not is escaped (PEP 383)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def rows(answer: bytes) -> list[list[str | None]]:
    """The rows of an answer. Raises ValueError with the server's words where it is an error."""
    found = []
    at = 0
    while (message := read_message(answer, at, LONGEST_ANSWER)) is not None:
        kind, body, end = message
        if kind == b"E":
            error = backend.read_error(answer, at, end)
            raise ValueError(f"{error.message} ({error.sqlstate})")
        if kind == b"D":
            found.append(backend.read_data_row(body))
        at = end
    return found
