"""A client's session after its login, and the leases that it takes, one transaction at a time.

Messages are passed on as they come. A lease begins with the first message outside of one, and ends when everything that
was asked has been answered and the server is idle (ReadyForQuery `I`), unless something pins the connection: session
mode, or state of the session that can't follow the client (`forebay_core.postgres.marks`).

`_pending` has a byte for each message that ReadyForQuery answers: Q (Query), F (FunctionCall), S (Sync). What comes
before its Sync is `_unsynced`: the server is in the middle of it, even where it owes no answer.
"""

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from forebay_core.pgwire import ProtocolError, backend, frontend, scan_client
from forebay_core.pool import Connection, Refusal, Refused, Waiter
from forebay_core.postgres.marks import NONE, Marks
from forebay_core.postgres.settings import FOLLOWED, differences, is_followed, set_queries
from forebay_core.postgres.statements import ClientStatements, Pipeline, TooManyStatements
from forebay_proxy.postgres import extended, refusals
from forebay_proxy.postgres.rinse import rinse

if TYPE_CHECKING:
    from forebay_proxy.postgres.client import PgClient
    from forebay_proxy.postgres.proxy import Database
    from forebay_proxy.postgres.server import PgConnection

Events = Sequence[tuple[bytes, int, int]]
Settings = dict[str, bytes]

MAX_HELD: Final = 1 << 16  # bytes of a Query, Parse or Bind that are waited for; longer ones are streamed
SYNCING: Final = b"QFS"  # what ReadyForQuery answers
ENDS_ALL: Final = (b"DEALLOCATE ALL", b"DISCARD ALL")
NOT_ANSWERED: Final = bytes(set(range(256)) - set(SYNCING))
ANSWERED: Final = {b"Q": b"Q", b"PBDES": b"S", b"BES": b"S", b"BDES": b"S", b"PBES": b"S"}  # the usual ones
IDLE: Final = b"I"[0]
TERMINATE: Final = b"X"[0]
READY: Final = backend.ready_for_query(b"I")


class Batch(NamedTuple):
    """Messages as `scan_client` found them, without a Terminate."""

    data: bytes
    kinds: bytes
    ends: Sequence[int]
    names: Sequence[bytes | None]
    texts: Sequence[bytes]


class Session(Waiter):
    """See the module's docstring. `client` has the transport and the deadlines."""

    __slots__ = (
        "_batch", "_copying", "_holding", "_kept", "_pending", "_pipeline", "_setting", "_skip", "_skipping",
        "_terminating", "_unsynced", "cancelling", "client", "connection", "database", "key", "pins", "settings",
        "statements", "status", "unnamed", "upstream", "used",
    )  # fmt: skip

    def __init__(self, client: "PgClient", database: "Database", settings: Settings) -> None:
        super().__init__()
        self.client = client
        self.database = database
        self.upstream = database.upstream
        self.kind = database.login
        self.connection: PgConnection | None = None
        self.settings = settings
        self.status = IDLE
        self.pins: set[str] = set()
        self.cancelling = 0  # cancel requests under way: the connection is not handed on before they have ended
        self._batch: Batch | None = None  # what waits for a connection
        self._kept = b""
        self._skip = 0
        self._pending = b""
        self._unsynced = False
        self._pipeline: Pipeline | None = None  # while statements have to be seen to
        self._holding = False  # bytes of the client wait for the next ReadyForQuery
        self.statements = ClientStatements()
        self.unnamed = b""  # the last unnamed Parse that was passed on unread
        self.used = b""  # the server's name of the statement that was bound last
        self._copying = False
        self._setting: list[bytes] = []  # Queries that are still to be sent before the batch
        self._skipping = False  # a lease was refused in the middle of messages: to be dropped up to their Sync
        self._terminating = False

    # ------------------------------------------------------------------ the client's side

    def received(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._kept:
            data = self._kept + data
            self._kept = b""
        skip = self._skip
        try:
            end, self._skip, kinds, ends, names, texts = scan_client(data, skip, MAX_HELD)
        except ProtocolError as error:
            self.client.fail(error.sqlstate, error.detail)
            return
        if end < len(data):
            self._kept = data[end:]
            data = data[:end]
            if not end:
                return
        if kinds[-1:] == b"X":
            self._terminating = True
            kinds, ends = kinds[:-1], ends[:-1]
            data = data[: ends[-1]] if ends else data[:skip]
            if not data:
                self._end_if_done()
                return
        connection = self.connection
        if self._batch is not None:  # it came with what asked for the connection
            self.client.pause_reading()
            self._kept = data + self._kept
        elif self._skipping:
            self._drop(Batch(data, kinds, ends, names, texts))
        elif connection is not None:
            self._send(connection, data, skip, kinds, ends, names, texts)
        else:
            self._ask(Batch(data, kinds, ends, names, texts))

    def _ask(self, batch: Batch) -> None:
        """The first message outside of a lease."""
        pool = self.upstream.pool
        self.deadline = 0.0
        now = monotonic()
        try:
            connection = pool.acquire(self, now)
        except Refused as refused:
            self._batch = batch
            self.refuse(refused.refusal, now)
        else:
            if connection is None:
                self._batch = batch
                self.client.pause_reading()
            else:
                self._lease(connection, batch)
        if pool.opens or pool.closes or pool.waiters:
            self.upstream.act()

    def _send(
        self,
        connection: "PgConnection",
        data: bytes,
        skip: int,
        kinds: bytes,
        ends: Sequence[int],
        names: Sequence[bytes | None],
        texts: Sequence[bytes],
    ) -> None:
        if names or self._pipeline is not None:
            sent = None
            if self._pipeline is None:
                if self._pending or self._unsynced:
                    self._hold(data)
                    return
                sent = extended.usual(self, connection, data, kinds, ends, names) if not self._skip else None
            if sent is None:
                self._follow(connection, data, skip, kinds, ends, names, texts)
                return
            data = sent
        for text in texts:
            found = self.database.marks_of(text)
            if found is not NONE:
                self._mark(found, connection)
        if kinds:
            answered = ANSWERED.get(kinds)
            if answered is None:
                answered = kinds.translate(None, NOT_ANSWERED)
            if answered:
                if self._copying:
                    answered = self._after_copy(kinds)
                self._pending += answered
            self._unsynced = kinds[-1] not in SYNCING
        connection.write(data)

    def _follow(
        self,
        connection: "PgConnection",
        data: bytes,
        skip: int,
        kinds: bytes,
        ends: Sequence[int],
        names: Sequence[bytes | None],
        texts: Sequence[bytes],
    ) -> None:
        """Messages whose statements have to be seen to."""
        if self._pipeline is None:
            self._pipeline = extended.begin(self, connection)
        try:
            sent, dealt = extended.translate(
                self, self._pipeline, data, min(skip, len(data)), kinds, ends, names, clipped=bool(self._skip)
            )
        except TooManyStatements as error:
            self.client.fail("54000", str(error))
            return
        for text in texts:
            found = self.database.marks_of(text)
            if found is not NONE:
                self._mark(found, connection)
        connection.write(sent)
        if dealt < len(data):
            self._hold(data[dealt:])

    def _hold(self, data: bytes) -> None:
        """Not before what is under way has been answered."""
        self.client.pause_reading()
        self._kept = data + self._kept
        self._holding = True

    def _after_copy(self, kinds: bytes) -> bytes:
        """Syncs and what else comes before the end of a COPY is not answered (PostgreSQL docs 55.2.7)."""
        end = max(kinds.find(b"c"), kinds.find(b"f"))
        return kinds[end:].translate(None, NOT_ANSWERED) if end >= 0 else b""

    def _mark(self, found: Marks, connection: "PgConnection") -> None:
        """What a text says of the session's state."""
        for reason in found.clears:
            if reason == "set:":
                self.pins = {pin for pin in self.pins if not pin.startswith("set:")}
            self.pins.discard(reason)
        for reason in found.reasons:
            if not (reason.startswith("set:") and is_followed(reason[4:], connection.reported)):
                self.pins.add(reason)

    # ------------------------------------------------------------------ the pool

    def take(self, connection: Connection, now: float) -> bool:
        """The pool hands over a connection, after a wait."""
        batch = self._batch
        if self.client.transport is None or batch is None:
            return False
        self._lease(connection, batch)
        self.client.read_on()
        return True

    def _lease(self, connection: Any, batch: Batch) -> None:
        """The lease begins: the batch is sent, after the SETs that bring the connection to the client's settings."""
        server: PgConnection = connection
        self.connection = server
        if server.settings is not self.settings:
            changes = differences(self.settings, server.reported)
            if changes:
                self._batch = batch
                self._bring(server, changes)
                return
            server.settings = self.settings
        self._batch = None
        self._send(server, batch.data, 0, *batch[1:])

    def _bring(self, server: "PgConnection", changes: Mapping[str, bytes]) -> None:
        queries = set_queries(changes, server.reported)
        if queries is None:
            self._batch = None
            self.client.fail("22023", "a parameter's value can't be set on this server safely")
            return
        self._setting = list(queries)
        self._set_next(server)

    def _set_next(self, server: "PgConnection") -> None:
        server.write(frontend.query(self._setting.pop(0)))
        self._pending = b"Q"

    def refuse(self, refusal: Refusal, now: float) -> None:
        """No connection: the session goes on, what asked for it gets an error (design section 6)."""
        batch, self._batch = self._batch, None
        assert batch is not None
        self.database.refused(refusal)
        self.client.write(refusals.error(refusal, self.upstream))
        self._skipping = True
        self._drop(batch)
        self.client.read_on()

    def _drop(self, batch: Batch) -> None:
        """After an error of our own, as a server does: nothing counts up to a Sync, or the end of a Query."""
        answered = batch.kinds.translate(None, NOT_ANSWERED)
        if answered:
            self.client.write(READY)
            self._skipping = False
            rest = batch.kinds.index(answered[0]) + 1
            if rest < len(batch.kinds):  # pipelined behind it
                self._kept = batch.data[batch.ends[rest - 1] :] + self._kept
                self.client.read_on()
        self._end_if_done()

    # ------------------------------------------------------------------ the server's side

    def server_said(self, connection: "PgConnection", data: bytes, ready: bytes, events: Events) -> None:
        """Whole messages (or parts of large ones) of the leased connection."""
        if self._batch is not None:
            self._set(connection, data, ready, events)
            return
        if events:
            data = self._heed(connection, data, events)
        self.client.write(data)
        if ready:
            self.status = ready[-1]
            if self._pipeline is None:
                self._pending = self._pending[len(ready) :]
            elif self._pipeline.idle:
                self._pipeline = None
                connection.wanted = extended.LEAN
            if self.status == IDLE and self.idle and not self.pins:
                self._finish(connection)
            if self._holding:
                self._holding = False
                self.client.read_on()

    def _set(self, connection: "PgConnection", data: bytes, ready: bytes, events: Events) -> None:
        """Answers to our own SETs."""
        for kind, start, end in events:
            if kind == b"S":
                connection.report(data, start, end)
            elif kind == b"E":
                error = backend.read_error(data, start, end)
                batch, self._batch = self._batch, None
                assert batch is not None
                self.client.fail(error.sqlstate, error.message)
                return
        if ready:
            if self._setting:
                self._set_next(connection)
            else:
                self._pending = b""
                connection.settings = self.settings
                batch, self._batch = self._batch, None
                assert batch is not None
                self._send(connection, batch.data, 0, *batch[1:])
                self.client.read_on()

    def _heed(self, connection: "PgConnection", data: bytes, events: Events) -> bytes:
        """What the server says of the session; returns what the client gets of it."""
        for kind, start, end in events:
            if kind == b"S":
                name, value = connection.report(data, start, end)
                if name in FOLLOWED:
                    self.settings = connection.settings = self.client.proxy.interned(self.settings | {name: value})
            elif kind == b"C":
                if data[start + 5 : end - 1] in ENDS_ALL and self._pipeline is None:
                    self.statements.clear()
                    connection.statements.clear()
            elif kind in (b"G", b"W"):
                self._copying = True
                if self._pending[:1] != b"Q":
                    self._pending = b""  # a Sync that was sent with it is not answered (PostgreSQL docs 55.2.7)
            elif kind == b"E":
                self._copying = False
                if self.used and self._pipeline is None:
                    connection.statements.doubt(self.used, backend.read_error(data, start, end).sqlstate.encode())
        if self._pipeline is not None:
            return extended.answered(self._pipeline, data, events)
        return data

    def _finish(self, connection: "PgConnection") -> None:
        """The end of a transaction."""
        if self.cancelling:
            return  # it ends when the cancel has: it must not hit the next one's query
        self.connection = None
        database, upstream = self.database, self.upstream
        database.transactions += 1
        pool = upstream.pool
        if database.reset_always:
            rinse(connection, self, b"DISCARD ALL")
        else:
            pool.release(connection, self, monotonic())
        if pool.opens or pool.closes:
            upstream.act()
        if self._terminating:
            self._end_if_done()

    def upstream_lost(self, connection: "PgConnection", exc: Exception | None, now: float) -> None:
        """The server has gone in the middle of a lease: an error, and where it can be the session goes on."""
        self.connection = self._pipeline = None
        in_transaction = bool(self._pending or self._unsynced or self.status != IDLE)
        batch, self._batch = self._batch, None
        self._pending, self._unsynced, self._copying, self.status = b"", False, False, IDLE
        if self.pins or self._skip or not connection.in_step:
            self.client.fail("08006", "the server closed the connection, and state of the session went with it")
        elif in_transaction or batch is not None:
            self.client.write(refusals.lost())
            self.client.write(READY)

    def cancelled(self) -> None:
        """The client asks to cancel what it asked for."""
        connection = self.connection
        if connection is not None:
            self.cancelling += 1
            self.client.proxy.cancel(connection, self)
        elif self._batch is not None:
            self.upstream.pool.cancel(self, monotonic())
            self.refuse(refusals.CANCELLED, monotonic())

    def cancel_over(self) -> None:
        """The request's connection is closed."""
        self.cancelling -= 1
        connection = self.connection
        if connection is not None and not self.cancelling and self.idle and not self.pins:
            self._finish(connection)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and no transaction is open."""
        return self.settled and self.status == IDLE

    @property
    def settled(self) -> bool:
        """Whether the server owes no answer, and waits for none of the client's messages."""
        return not self._pending and not self._unsynced and self._pipeline is None and self._batch is None

    @property
    def has_more(self) -> bool:
        """Whether there are bytes of the client that may be whole messages."""
        return bool(self._kept)

    def upstream_full(self) -> None:
        """The server does not read."""
        self.client.pause_reading()

    def upstream_drained(self) -> None:
        self.client.read_on()

    # ------------------------------------------------------------------ the end

    def _end_if_done(self) -> None:
        if self._terminating and (self.connection is None or not self._pending):
            self.client.close()

    def end(self, now: float) -> None:
        """The client has gone. A transaction that it leaves is rolled back before anybody gets the connection."""
        connection, self.connection = self.connection, None
        pool = self.upstream.pool
        if connection is None:
            pool.cancel(self, now)
        elif not connection.in_step or self._skip or self._copying or not self.settled:
            pool.discard(connection, self, now, "error")  # in the middle of something
            self.client.proxy.cancel(connection, None)
        else:
            rinse(connection, self, b"ROLLBACK" if self.status != IDLE else b"", self.pins)
        self.upstream.act()
