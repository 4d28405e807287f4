"""What the clients of one user and one database have in common: whom their connections are logged in as, what the
server says of itself at a login."""

import asyncio
from collections.abc import Iterator, Mapping
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from forebay_core.lease import NO_ENDPOINT, Connection, Refusal, Refused, Waiter
from forebay_core.pool import FRESH
from forebay_core.spec.postgres import Database as DatabaseSpec
from forebay_core.spec.postgres import Postgres
from forebay_proxy.postgres.pauses import Asker, Pause
from forebay_proxy.postgres.texts import Texts
from forebay_proxy.upstream import Upstream

if TYPE_CHECKING:
    from forebay_proxy.postgres.server import Login, PgConnection

AGAIN_AFTER: Final = 0.1  # seconds until a server that was not there is tried again, for those who still have time
GONE: Final = frozenset(  # reasons of refusals that a server's restart or a failover ends, or another's leaving
    {
        *("no_endpoint", "starting_up", "server_full"),
        *("connect_refused", "connect_reset", "connect_failed", "connect_timeout"),
    }
)
PING_AFTER: Final = {"always": 0.0, "auto": FRESH, "never": inf}  # seconds, by pool.prePing


def may_come_back(waiter: Waiter, refusal: Refusal, now: float) -> bool:
    """Whether it is worth while for the waiter to ask again."""
    return refusal.reason in GONE and now + AGAIN_AFTER < waiter.deadline


class Learner(Protocol):
    """A client that logs in, and has to be told what the server reports."""

    def welcomed(self) -> None: ...
    def refused(self, refusal: Refusal) -> None: ...


class Database:
    """See the module's docstring."""

    def __init__(
        self,
        spec: DatabaseSpec,
        user: str,
        fixed: tuple[tuple[str, bytes], ...],
        upstream: Upstream,
        login: "Login",
        postgres: Postgres,
        instead: "Login | None",
        pauses: Mapping[str, Pause],
        texts: Texts,
    ) -> None:
        """`user` and `fixed`, start-up parameters, are as the clients give them; `instead` is for when no endpoint
        plays the role of `login`; `pauses` are of all databases that are paused, by name; `texts`
        are of all databases."""
        self.spec = spec
        self.name = spec.name
        self.user = user
        self.fixed = fixed
        self.upstream = upstream
        self.login = login
        self.transactions = 0
        self.gone = False  # the document has another for these clients, or none: see `Asking.follow`
        self.marks_of = texts.marks
        self.instead = instead
        self.pauses = pauses
        self._lesson: Lesson | None = None
        self.configure(postgres)

    def configure(self, postgres: Postgres) -> None:
        """Take a document. Sessions that have begun keep their mode of pooling."""
        pool = self.upstream.spec.pool
        self.session = postgres.pool_mode == "session"
        self.by_statement = postgres.pool_mode == "statement"
        self.reset = pool.reset_on_return
        self.always_resets = self.reset == "always"
        self.ping_after = PING_AFTER[pool.pre_ping]
        self.query_timeout = postgres.query_timeout
        self.idle_transaction_timeout = postgres.idle_transaction_timeout
        self.idle_timeout = postgres.client_idle_timeout
        self.timed = bool(self.query_timeout or self.idle_transaction_timeout or self.idle_timeout)
        for login in filter(None, (self.login, self.instead)):
            login.most_statements = postgres.max_prepared_statements

    @property
    def lone(self) -> bool:
        """Whether a lease may be, see `Session`."""
        return not (self.timed or self.pauses or self.instead or self.gone)

    def kind(self) -> "Login":
        """What connections are asked for now."""
        if self.instead is not None and not any(
            endpoint.role == self.login.role and endpoint.health.healthy for endpoint in self.upstream.pool.endpoints
        ):
            return self.instead
        return self.login

    def holds(self, asker: Asker) -> bool:
        """Whether this database is paused: then it holds, or has refused, who asks for a connection."""
        pause = self.pauses.get(self.name)
        if pause is None:
            return False
        pause.hold(asker, self.upstream)
        return True

    def withdraw(self, asker: Asker, now: float) -> None:
        """It asks for a connection no more."""
        pause = self.pauses.get(self.name)
        if pause is None or not pause.forget(asker):
            self.upstream.pool.cancel(asker, now)

    def refused(self, refusal: Refusal) -> None:
        """Count it."""
        counts = self.upstream.rejections
        counts[refusal.reason] = counts.get(refusal.reason, 0) + 1

    # ------------------------------------------------------------------ what the server says of itself

    def learn(self, learner: Learner) -> None:
        """Tell the learner when `login.welcome` is there. One connection is asked for, however many wait."""
        if self._lesson is None:
            self._lesson = Lesson(self)
        self._lesson.learners[learner] = None
        self._lesson.begin()

    def lessons(self) -> "Iterator[Lesson]":
        """The one that is waited for, if any is."""
        if self._lesson is not None:
            yield self._lesson

    def forget(self, learner: Learner) -> None:
        """The learner has gone."""
        if self._lesson is not None:
            self._lesson.learners.pop(learner, None)
            if not self._lesson.learners:
                self.withdraw(self._lesson, monotonic())
                self._lesson = None

    def give_up_lesson(self) -> None:
        """It is gone: who waits to hear of it is to hear of what there is in its place."""
        lesson = self._lesson
        if lesson is not None:
            self.withdraw(lesson, monotonic())
            learners = self.end_lesson()
            lesson.learners.clear()
            for learner in learners:
                learner.refused(NO_ENDPOINT)

    def end_lesson(self) -> list[Learner]:
        """It is over: those who are to be told."""
        lesson, self._lesson = self._lesson, None
        return list(lesson.learners) if lesson is not None else []


class Lesson(Asker):
    """Waits for a connection, to see what its server has reported."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.learners: dict[Learner, None] = {}
        self._database = database
        self._begun = False

    def begin(self) -> None:
        """Ask for the connection, once."""
        if self._begun:
            return
        self._begun = True
        self.acquire()

    def acquire(self) -> None:
        database, upstream = self._database, self._database.upstream
        if not self.learners or database.holds(self):
            return
        self.kind = database.kind()
        now = monotonic()
        try:
            connection = upstream.pool.acquire(self, now)
        except Refused as refused:
            self.refuse(refused.refusal, now)
        else:
            if connection is not None:
                self.take(connection, now)
        upstream.act()

    def take(self, connection: Connection, now: float) -> bool:
        """Its login has told what was to be learnt."""
        server: PgConnection = connection  # type: ignore[assignment]
        # What clients may have changed on it is as it was when it was new.
        self._database.login.welcome = server.reported | server.fresh
        learners = self._database.end_lesson()
        self._database.upstream.pool.release(connection, self, now, count=False)
        for learner in learners:
            learner.welcomed()
        return True

    def refuse(self, refusal: Refusal, now: float) -> None:
        """There is no connection to learn from."""
        if may_come_back(self, refusal, now):
            asyncio.get_running_loop().call_later(AGAIN_AFTER, self.acquire)
            return
        for learner in self._database.end_lesson():
            learner.refused(refusal)

    def take_back(self) -> None:
        """It holds a connection for no time."""

    def upstream_lost(self, connection: Connection, exc: Exception | None, now: float) -> None:
        """It holds a connection for no time."""
