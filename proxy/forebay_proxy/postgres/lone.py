"""A session's usual lease, which is passed on unread.

The usual lease is `lone`: one chunk of one Query, or of one unnamed statement up to its Sync, with nothing in it that
says anything of the session. It ends with the first answer that has nothing to be heeded in it and ends in `I`.
Whatever else comes of either side makes it a lease like the others (`attend`). `_rests` says that the next one may be
lone: nothing is under way, kept or pinned. `_alone` says it of one that waits for a connection.

What it needs of the session is `received`, for bytes that are to be looked at; what the session owes it is `_rests`,
set when nothing is under way, and `attend`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from forebay_core.pgwire import lone
from forebay_core.postgres.marks import plain
from forebay_proxy.postgres.asking import Asking, Settings
from forebay_proxy.postgres.rinse import rinse

if TYPE_CHECKING:
    from forebay_proxy.postgres.client import PgClient
    from forebay_proxy.postgres.database import Database
    from forebay_proxy.postgres.server import PgConnection


class Lone(Asking):
    """See the module's docstring. The other part of it is `Session`."""

    __slots__ = ("_alone", "_came", "_rests", "_turn", "unnamed")

    def __init__(self, client: "PgClient", database: "Database", settings: Settings) -> None:
        super().__init__(client, database, settings)
        self.unnamed = b""  # the last unnamed Parse that was passed on unread
        self._rests = False
        self._alone = False
        self._turn = client.proxy.turn
        self._came = b""  # for the end of the turn

    def received(self, data: bytes) -> None:
        """Bytes of the client, whatever they are."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """Bytes of the client. What may be lone may wait for the end of the turn."""
        if self._rests and not self._came:
            self._came = data
            turn = self._turn
            if turn.requests or turn.begin(self):
                turn.requests.append(self)
            return
        came, self._came = self._came, b""
        self.received(came + data)

    @staticmethod
    def deal(parties: "Iterator[Lone]", now: float) -> None:
        """With the statements of a turn."""
        for session in parties:
            data = session._came
            session._came = b""
            first = lone(data, plain) if session._rests else 0
            if not first:
                if data:
                    session.received(data)
                continue
            session._rests = False
            if first == 1:
                owed = b"Q"
            else:
                owed = b"S"
                session.unnamed = data[:first]
            pool = session.upstream.pool
            lent: Any = pool.lend(session, now)
            if lent is not None and lent.settings is session.settings:
                session._pending = owed
                session.connection = lent
                lent.lone = True
                write = lent.write  # what is no method is called faster so (Python 3.11)
                write(data)
                continue
            session._batch = data, owed, (), (), ()
            if lent is None and pool.line_up(session, now):
                session._blocked = session._alone = True
                if len(pool.waiters) == 1:  # the timer is the first one's
                    session.upstream.act()
            else:
                session._ask_alone(lent)

    def broke(self) -> None:
        self.client.abort()

    def attend(self) -> None:
        """Something is to be heeded: whatever comes next, of either side, is looked at."""
        self._rests = self._alone = False
        if self.connection is not None:
            self.connection.lone = False

    def take(self, connection: Any, now: float) -> bool:
        """A lone statement that has waited goes to a connection that is free this very moment; for all others see
        `Asking`."""
        if (
            not self._alone
            or connection.idle_since != now
            or connection.settings is not self.settings
            or connection.kept
        ):
            return super().take(connection, now)
        batch: Any = self._batch
        self._batch = None
        self._alone = self._blocked = False
        self._pending = batch[1]
        self.connection = connection
        connection.lone = True
        write = connection.write
        write(batch[0])
        return True

    def answered_alone(self, connection: "PgConnection", answer: bytes, now: float) -> None:
        """The end of a lone statement's lease: the whole answer, of which nothing has to be heeded."""
        self.connection = None
        self._pending = b""
        self._rests = True  # before the client is written to: it may be full then
        write = self.client.write
        write(answer)
        database, upstream = self.database, self.upstream
        database.transactions += 1
        if database.always_resets:
            rinse(connection, self, b"", reset="always")
        elif upstream.pool.release(connection, self, now):
            upstream.act()
