"""How a session comes to a connection: it asks the pool, waits, brings what it gets to its settings, and is refused.

A batch, the messages that began it, waits meanwhile. Of the client nothing has been sent then: where a connection is
lost, or the server is not there for a moment (a restart, a failover), another one is asked for while there is time.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from forebay_core.lease import Refusal, Refused
from forebay_core.pgwire import backend, frontend
from forebay_core.postgres.settings import differences, set_queries
from forebay_proxy.postgres import refusals
from forebay_proxy.postgres.database import AGAIN_AFTER, may_come_back
from forebay_proxy.postgres.pauses import Asker

if TYPE_CHECKING:
    from forebay_proxy.postgres.client import PgClient
    from forebay_proxy.postgres.database import Database
    from forebay_proxy.postgres.server import PgConnection

Events = Sequence[tuple[bytes, int, int]]
Settings = dict[str, bytes]
# Messages as `scan_client` found them, without a Terminate: data, kinds, ends, names, texts. Without ends: those of a
# lone statement, with what ReadyForQuery answers as their kind (see `Lone`).
Batch = tuple[bytes, bytes, Sequence[int], Sequence[bytes | None], Sequence[bytes]]

SYNCING: Final = b"QFS"  # what ReadyForQuery answers
READY: Final = backend.ready_for_query(b"I")


class Asking(Asker):
    """See the module's docstring. The other part of it is `Session`."""

    __slots__ = (
        "_batch", "_blocked", "_first", "_kept", "_not_set", "_pending", "_skipping", "_terminating", "_timer",
        "client", "connection", "database", "settings", "upstream",
    )  # fmt: skip

    def __init__(self, client: "PgClient", database: "Database", settings: Settings) -> None:
        super().__init__()
        self.client = client
        self.database = database
        self.upstream = database.upstream
        self.kind = database.login
        self.connection: PgConnection | None = None
        self.settings = settings
        self._batch: Batch | None = None  # what waits for a connection, or for one to be made ready
        self._pending = b""  # a byte for each answer that the server owes
        self._first: list[bytes] = []  # what is still to be sent before the batch, one round trip each
        self._not_set: backend.ErrorFields | None = None  # what the server says to that, until it is ready again
        self._blocked = False
        self._kept = b""
        self._skipping = False  # after an error of our own in the middle of messages: to be dropped up to their Sync
        self._terminating = False
        self._timer: asyncio.TimerHandle | None = None  # until a server that was not there is tried again

    def _send(
        self, connection: "PgConnection", data: bytes, skip: int, kinds: bytes, ends: Sequence[int],
        names: Sequence[bytes | None], texts: Sequence[bytes],
    ) -> None:  # fmt: skip
        """Pass messages on."""
        raise NotImplementedError

    def _hold(self, data: bytes) -> None:
        """Keep messages for later."""
        raise NotImplementedError

    def _unblock(self) -> None:
        """Go on with what was kept."""
        raise NotImplementedError

    def _end_if_done(self) -> None:
        """Close, where the client has asked for it and nothing is under way."""
        raise NotImplementedError

    @property
    def waiting(self) -> bool:
        """Whether it asks for a connection, and has none."""
        return self._batch is not None and self.connection is None

    def _ask(self, batch: Batch) -> None:
        """The first message outside of a lease."""
        kinds = batch[1]
        if kinds != b"Q" and not kinds.strip(b"SHdcf"):  # nothing that a server has to do anything for
            self.client.write(READY * kinds.count(b"S"))
            return
        self._batch = batch
        self.deadline = 0.0
        self.acquire()

    def _ask_alone(self, connection: "PgConnection | None") -> None:
        """For a lease's only messages, the batch: see `Lone`."""
        if connection is not None:
            self._blocked = True
            self.ready_at = connection.leased_at
            self.deadline = connection.leased_at + self.upstream.pool.timeout
            self.take(connection, connection.leased_at)
        else:
            self.deadline = 0.0
            self.acquire()

    def follow(self) -> None:
        """The document has changed. A lease ends where it has begun."""
        if not self.database.gone or self.connection is not None:
            return
        if self.waiting:
            self._forget_timer()
            self.database.withdraw(self, monotonic())
            self.acquire()
        else:
            self._moves()

    def _moves(self) -> bool:
        """To what the document has for its client now. False: that is nothing, and it has been told so."""
        database = self.client.proxy.successor(self.database)
        if database is None:
            self._batch = None
            self.client.say("ended", cause=f"there is no database {self.database.name} any more")
            return False
        self.database, self.upstream, self.kind = database, database.upstream, database.login
        return True

    def acquire(self) -> None:
        if self.database.gone and not self._moves():
            return
        database, pool = self.database, self.upstream.pool
        self._blocked = True
        if database.pauses and database.holds(self):
            return
        now = monotonic()
        if database.instead is not None:
            self.kind = database.kind()
        try:
            connection = pool.acquire(self, now)
        except Refused as refused:
            self.refuse(refused.refusal, now)
        else:
            if connection is not None:
                self.take(connection, now)  # there are a batch and a client: it does
        if pool.opens or pool.closes or next(iter(pool.waiters), None) is self:  # the timer is the first one's
            self.upstream.act()

    def take(self, connection: Any, now: float) -> bool:
        """The lease begins. The batch is sent, after what brings the connection to the client's settings, or shows that
        it is still alive."""
        if self.client.transport is None or self._batch is None:
            return False
        server: PgConnection = connection
        self.connection = server
        if self.client.full:
            server.transport.pause_reading()
        if server.settings is not self.settings:
            # The client may know less than this server reports: what it began on may have been an older one.
            changes = differences(server.fresh | self.settings, server.reported)
            if changes:
                queries = set_queries(changes, server.reported)
                if queries is None:  # not from within the pool, which is about to serve the next one
                    self._batch = None
                    asyncio.get_running_loop().call_soon(self.client.say, "not_settable")
                    return True
                self._first = [frontend.query(query) for query in queries]
            server.settings = self.settings
        if not self._first and now - server.idle_since > self.database.ping_after:
            self._first = [frontend.SYNC]
        if self._first:
            self._send_first(server)
        else:
            self._begin(server)
        return True

    def _begin(self, server: "PgConnection") -> None:
        batch, self._batch = self._batch, None
        assert batch is not None
        self._blocked = False
        if not batch[2]:  # it is alone
            self._pending = batch[1]
            server.lone = self.database.lone and not (server.kept or self.client.full)
            server.write(batch[0])
            if self.database.timed:
                self.client.arm(self.database.query_timeout)
        else:
            self._send(server, batch[0], 0, *batch[1:])
        if (self._kept or self.client.paused) and not self._blocked:
            self._unblock()

    def _send_first(self, server: "PgConnection") -> None:
        self._not_set = None
        self.client.arm(self.upstream.connect_timeout)
        server.write(self._first.pop(0))

    def _prepared(self, connection: "PgConnection", data: bytes, ready: bytes, events: Events) -> None:
        """Answers to what is sent before the batch."""
        for kind, start, end in events:
            if kind == b"S":
                connection.report(data, start, end)
            elif kind == b"E":
                error = backend.read_error(data, start, end)
                if error.severity != "ERROR":  # nothing follows but the end
                    connection.last_words = error
                    return
                self._not_set = error
        if not ready:
            return
        if self._not_set is not None:  # only now is the connection good for the next one
            connection.settings = self._batch = None
            self.client.fail(self._not_set.sqlstate, self._not_set.message)
            return
        self.client.arm(None)
        if self._first:
            self._send_first(connection)
        else:
            self._begin(connection)

    def _again_or_not(self, now: float) -> None:
        """A connection was lost before anything of the client's had been sent on it: another one, if there is time."""
        self.client.arm(None)
        if now < self.deadline:
            self.acquire()
        else:
            self.refuse(Refusal("connection_lost", "the server closed connections before they could be used"), now)

    # ------------------------------------------------------------------ refusals

    def refuse(self, refusal: Refusal, now: float) -> None:
        """No connection: the session goes on, what asked for it gets an error (`refusals`)."""
        if may_come_back(self, refusal, now):
            self._timer = asyncio.get_running_loop().call_later(AGAIN_AFTER, self.acquire)
            return
        self.database.refused(refusal)
        said = refusals.said_of(refusal, self.database)
        if said.severity == "FATAL":
            self._batch = None
            self.client.end_with(refusals.error(said))
        else:
            self._fail_batch(refusals.error(said))

    def _fail_batch(self, error: bytes) -> None:
        """What waited gets this error, and is dropped."""
        batch, self._batch = self._batch, None
        assert batch is not None
        self._forget_timer()
        self.client.write(error)
        self._skipping = True
        self._unblock()
        self._drop(batch)
        if self.database.timed:
            self.client.arm(self.database.idle_timeout)
        if self._terminating:
            self._end_if_done()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop(self, batch: Batch) -> None:
        """After an error of our own, as a server does: nothing counts up to a Sync, or the end of a Query."""
        data, kinds, ends, _, _ = batch
        for index, kind in enumerate(kinds):
            if kind in SYNCING:
                self.client.write(READY)
                self._skipping = False
                if index + 1 < len(kinds):  # pipelined behind it
                    self._hold(data[ends[index] :])
                    self._unblock()
                return
