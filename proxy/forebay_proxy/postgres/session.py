"""A client's session after its login, and the leases that it takes, one transaction at a time.

Messages are passed on as they come. A lease begins with the first message outside of one, and ends when everything that
was asked has been answered and the server is idle (ReadyForQuery `I`), unless something pins the connection: session
mode, or state of the session that can't follow the client (`forebay_core.postgres.marks`).

`_pending` has a byte for each message that ReadyForQuery answers: Q (Query), F (FunctionCall), S (Sync), and E for a
COPY of the extended protocol whose Sync is still to come. Where messages come without their Sync, or statements have to
be seen to (`extended`), a `Pipeline` keeps the books instead, until nothing is under way.

While `_blocked` nothing of the client is looked at: it waits for a connection, or for answers.

All this is for what is looked at. Most leases are not: see `lone`.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from forebay_core.pgwire import ProtocolError, backend, scan_client
from forebay_core.postgres.marks import NONE
from forebay_core.postgres.settings import FOLLOWED
from forebay_core.postgres.statements import ENDS_ALL, ClientStatements, OutOfStep, Pipeline, TooManyStatements
from forebay_proxy.postgres import extended, refusals
from forebay_proxy.postgres.asking import READY, SYNCING, Events, Settings
from forebay_proxy.postgres.lone import Lone
from forebay_proxy.postgres.pins import Pins
from forebay_proxy.postgres.rinse import rinse

if TYPE_CHECKING:
    from forebay_proxy.postgres.client import PgClient
    from forebay_proxy.postgres.database import Database
    from forebay_proxy.postgres.server import PgConnection


MAX_HELD: Final = 1 << 18  # bytes of a Query, Parse or Bind that are waited for; longer ones are streamed
NOT_ANSWERED: Final = bytes(set(range(256)) - set(SYNCING))
COPY_ENDS: Final = b"cf"
DISCARD_ALL: Final = b"DISCARD ALL"
RESETS: Final = frozenset({b"RESET", DISCARD_ALL})  # CommandComplete's tags
RESET: Final = "RESET"  # no setting has this name
CARRIED_OUT: Final = frozenset({b"Q", b"PBDES", b"PBES"})  # one text, once
ANSWERED: Final = {b"Q": b"Q", b"PBDES": b"S", b"BES": b"S", b"BDES": b"S", b"PBES": b"S"}  # the usual ones
IDLE: Final = b"I"[0]
EXECUTE: Final = b"E"[0]
CALL: Final = b"F"[0]
FAILED: Final = b"E"[0]
BROKEN: Final = "08P01"  # the server has ended it for what the client had sent


class Session(Lone, asyncio.Protocol):
    """See the module's docstring. `client` has the deadlines, and is the protocol before and after."""

    __slots__ = (
        "_began_with", "_by_statement", "_changed", "_copying", "_full", "_pipeline", "_skip", "_stray", "_whole",
        "cancel_key", "cancelling", "lexing", "pins", "statements", "status", "used",
    )  # fmt: skip

    def __init__(self, client: "PgClient", database: "Database", settings: Settings) -> None:
        super().__init__(client, database, settings)
        self.cancel_key = (0, b"")  # by which the client can cancel
        self.lexing = extended.lexing(settings)
        self.statements = ClientStatements()
        self.status = IDLE
        self._whole = database.session  # one lease, for as long as the client stays
        self._by_statement = database.by_statement
        self.pins = Pins(("session",) if self._whole else ())
        self.used = b""  # the server's name of the statement that was bound last
        self.cancelling = 0  # cancel requests under way: the connection is not handed on before they have ended
        self._began_with = settings
        self._changed: set[str] = set()  # settings that the server has reported since it was last ready, and RESET
        self._full = False  # the server does not read
        self._skip = 0
        self._pipeline: Pipeline | None = None
        self._copying = False  # the server takes a COPY
        self._stray = False  # a Sync within it: is answered after all where the COPY fails before the server reads it

    # ------------------------------------------------------------------ the client's side

    def connection_lost(self, exc: Exception | None) -> None:
        self.client.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read: neither do we, from the server."""
        self.client.full = True
        self.attend()
        if self.connection is not None:
            self.connection.transport.pause_reading()

    def resume_writing(self) -> None:
        self.client.full = False
        if self.connection is not None:
            self.connection.transport.resume_reading()

    def received(self, data: bytes) -> None:
        self.attend()
        if self._blocked:
            self._kept += data
            if len(self._kept) > MAX_HELD:
                self.client.pause_reading()
            return
        if self._kept:
            data = self._kept + data
            self._kept = b""
        skip = self._skip
        try:
            end, self._skip, kinds, ends, names, texts = scan_client(data, skip, MAX_HELD)
        except ProtocolError as error:
            self.client.say("protocol", cause=error.detail)
            return
        if end < len(data):
            self._kept = data[end:]
            if not end:
                return
            data = data[:end]
        if kinds[-1:] == b"X":
            self._terminating = True
            self._kept = b""
            kinds, ends, names = kinds[:-1], ends[:-1], names[:-1]
            data = data[: ends[-1] if ends else min(skip, len(data))]
        connection = self.connection
        if data and not (kinds == b"Q" and data[5] in b"dD" and self._deallocates(texts[0])):
            if connection is not None:
                self._send(connection, data, skip, kinds, ends, names, texts)
            else:
                if skip:  # of a message that was dropped
                    data, ends = data[skip:], [end - skip for end in ends]
                if self._skipping:
                    self._drop((data, kinds, ends, names, texts))
                elif kinds:
                    self._ask((data, kinds, ends, names, texts))
        if self._terminating:
            self._end_if_done()

    def _send(
        self, connection: "PgConnection", data: bytes, skip: int, kinds: bytes, ends: Sequence[int],
        names: Sequence[bytes | None], texts: Sequence[bytes],
    ) -> None:  # fmt: skip
        if skip:
            self.pins.streamed(data[:skip])
        if kinds and self._pending and self.pins.clears:  # which of both succeeds can't be told
            self.pins.failed()
        if kinds == b"Q" and "long" in self.pins:  # the unnamed statement is no more
            self.pins.discard("long")
            self.statements.by_name.pop(b"", None)
        followed = (names or self._pipeline is not None or EXECUTE in kinds) and not self._whole
        if (
            (self._copying or (kinds not in ANSWERED and not followed))
            and not self._whole
            and self._part_at_copy_end(connection, data, skip, kinds, ends, texts)
        ):
            return
        if followed:
            sent = None
            if self._pipeline is None:
                if self._pending:  # not before that has been answered
                    if skip:
                        connection.write(data[:skip])
                    self._hold(data[skip:])
                    return
                if not skip and not self._skip:
                    sent = extended.usual(self, connection, data, kinds, ends, names)
            if sent is None:
                self._follow(connection, data, skip, kinds, ends, names, texts)
                return
            data = sent
        behind = self._pending or kinds[:1] not in (b"Q", b"P")
        for text in texts:
            found = self.database.marks_of(text, extended.read_behind(text, self.lexing) if behind else self.lexing)
            behind = True
            if found is not NONE:
                alone = not self._pending
                clearing = alone and kinds in CARRIED_OUT and self.status == IDLE
                self.pins.mark(found, connection, lone=alone and kinds == b"Q", clearing=clearing)
        if self._skip and kinds:
            self.pins.clip(kinds, texts)
        if kinds:
            answered = ANSWERED.get(kinds)
            if answered is not None and not self._copying:
                self._pending += answered
            else:
                self._count(kinds)
                for place, kind in enumerate(kinds):
                    if kind == CALL:
                        self.pins.called(connection, data, ends[place - 1] if place else min(skip, len(data)))
        connection.write(data)
        if self.database.timed:
            self.client.arm(self.database.query_timeout)

    def _part_at_copy_end(
        self, connection: "PgConnection", data: bytes, skip: int, kinds: bytes, ends: Sequence[int],
        texts: Sequence[bytes],
    ) -> bool:  # fmt: skip
        """The end of a COPY waits until the server has said whether it takes one, and what is behind it is looked at
        when it has been sent: so it can be told what will be answered. True: the messages have been seen to."""
        taking = self._copying
        place = next((place for place, kind in enumerate(kinds) if kind in COPY_ENDS), len(kinds))
        if taking and kinds[:place].strip(b"dHS"):  # the server would end the connection
            self.client.say("protocol", cause="a message that is none of a COPY before its end")
            return True
        if taking or not (place or self._pending):
            place += 1
        if place >= len(kinds):
            return False
        self._skip = 0  # of the last message, which is looked at again
        stop = ends[place - 1] if place else min(skip, len(data))
        if place:
            queries = texts[: kinds[:place].count(b"Q")]
            self._send(connection, data[:stop], skip, kinds[:place], ends[:place], (), queries)
        elif skip:
            connection.write(data[:skip])
        self._hold(data[stop:])
        if taking or not self._pending:
            self._unblock()
        return True

    def _count(self, kinds: bytes) -> None:
        """What the server owes an answer to. Syncs before the end of a COPY are not answered (PostgreSQL docs
        55.2.7)."""
        if self._copying:
            self._stray |= b"S" in kinds
            self._copying = kinds[-1] not in COPY_ENDS
        else:
            self._pending += kinds.translate(None, NOT_ANSWERED)

    def _follow(
        self, connection: "PgConnection", data: bytes, skip: int, kinds: bytes, ends: Sequence[int],
        names: Sequence[bytes | None], texts: Sequence[bytes],
    ) -> None:  # fmt: skip
        """Messages whose statements have to be seen to."""
        if self._pipeline is None:
            self._pipeline = extended.begin(self, connection)
        skip = min(skip, len(data))
        try:
            sent, dealt = extended.translate(
                self, connection, self._pipeline, data, skip, kinds, ends, names, texts, clipped=bool(self._skip)
            )
        except TooManyStatements as error:
            self.client.fail("54000", str(error))
            return
        except ProtocolError as error:  # also where a message is too long with its name on servers
            self.client.say("protocol", cause=error.detail)
            return
        if sent:
            connection.write(sent)
            if self.database.timed:
                self.client.arm(self.database.query_timeout)
        if dealt < len(data):
            self._hold(data[dealt:])
        elif self._skip and kinds:
            self.pins.clip(kinds, texts)

    def _hold(self, data: bytes) -> None:
        """Whole messages, or the beginning of one, that are looked at again when something has been answered."""
        self._kept = data + self._kept
        self._skip = 0
        self._blocked = True

    def _deallocates(self, text: bytes) -> bool:
        """A statement of the protocol may be deallocated by SQL: on servers it has another name, so we do that."""
        if not self.settled or self.status == FAILED:
            return False
        name = self.database.marks_of(text, self.lexing).deallocates
        if name is None or not self.statements.deallocate(name):
            return False
        self.client.write(backend.command_complete("DEALLOCATE") + backend.ready_for_query(bytes((self.status,))))
        return True

    # ------------------------------------------------------------------ the server's side

    def server_said(self, connection: "PgConnection", data: bytes, ready: bytes, events: Events) -> None:
        """Whole messages (or parts of large ones) of the leased connection."""
        if self._batch is not None:
            self._prepared(connection, data, ready, events)
            return
        if events:
            try:
                data = self._heed(connection, data, len(ready), events)
            except OutOfStep as error:  # it can't be told what the client has been answered
                self.client.say("server_lost_fatal", upstream=self.upstream.name, cause=str(error))
                return
        if not ready:
            self.client.write(data)
            if self._terminating:
                self._end_if_done()
            return
        self.status = ready[-1]
        if self._pipeline is None:
            if len(ready) == len(self._pending):
                self._pending = b""
            elif not self._answered(len(ready)) and not self._whole:
                self.upstream.pool.retire(connection, "error")
                self.client.say(
                    "server_lost_fatal", upstream=self.upstream.name, cause="it is ready for what it was not asked"
                )
                return
        elif self._pipeline.idle:
            self._pipeline = None
            connection.wanted = extended.LEAN
        cleared = self.pins.clears
        if cleared and self.status == IDLE:
            self.pins.succeeded(connection)
        elif cleared:  # or a later end of the transaction would be taken for its success
            self.pins.failed()
        if cleared or self._changed:
            data = self._restored(connection, data, cleared)
        if self._by_statement and self.status != IDLE:
            self.client.say("statement_mode")
            return
        self.client.write(data)
        if self.idle and not self.pins:
            self.finish(connection)
        if self.database.timed and self.settled:
            waits = self.database.idle_timeout if self.status == IDLE else self.database.idle_transaction_timeout
            self.client.arm(waits)
        if self._blocked and self._batch is None:
            self._unblock()
        if self._terminating:
            self._end_if_done()
        elif self.database.gone:
            self.follow()

    def _answered(self, ready: int) -> bool:
        """So many are. False: more than were owed."""
        pending = self._pending.replace(b"ES", b"S")
        self._pending = pending[ready:]
        return ready <= len(pending)

    def _heed(self, connection: "PgConnection", data: bytes, ready: int, events: Events) -> bytes:
        """What the server says of the session; returns what the client gets of it."""
        pipeline = self._pipeline
        progress = False  # a message that is held may go on now
        for index, (kind, start, end) in enumerate(events):
            if kind == b"S":
                name, value = connection.report(data, start, end)
                if name in FOLLOWED:
                    self.settings = connection.settings = self.client.proxy.interned(self.settings | {name: value})
                    self.lexing = extended.lexing(self.settings)
                    self._changed.add(name)
            elif kind == b"C":
                tag = data[start + 5 : end - 1]
                self._stray = False
                if tag in RESETS:
                    self._changed.add(RESET)
                if tag == DISCARD_ALL:
                    self._changed.update(self._began_with)
                if pipeline is None and tag in ENDS_ALL:
                    self.statements.clear()
                    connection.statements.clear()
            elif kind in (b"G", b"W"):
                progress = True
                if pipeline is None:
                    self._copy_begins(connection, ready)
            elif kind == b"E":
                progress = True
                error = backend.read_error(data, start, end)
                if error.severity != "ERROR":  # nothing follows but the end
                    connection.last_words = error
                    data, events = data[:start], events[:index]
                    break
                self._copying = False
                if self._stray or (pipeline is not None and pipeline.stray):  # one ReadyForQuery too many may follow
                    self.upstream.pool.retire(connection, "error")
                self.pins.failed()
                if self.used and pipeline is None:
                    connection.statements.doubt(self.used, error.sqlstate.encode())
        if pipeline is not None:
            data = extended.answered(pipeline, data, events)
        if progress and self._blocked:
            self._unblock()
        return data

    def _restored(self, connection: "PgConnection", data: bytes, cleared: frozenset[str]) -> bytes:
        """A server resets a setting to what its connection began with. The client's began with what it gave at
        start-up: that is its again from the next lease on, and it is told so before the server is ready. `cleared`:
        what was reset by name, of which the server says nothing where that changes nothing."""
        changed, self._changed = self._changed, set()
        reset = changed & self._began_with.keys() if RESET in changed else set()
        reset |= {name for name in self._began_with if "set:" in cleared or f"set:{name.lower()}" in cleared}
        if not (reset and self.idle and not self.pins and data[-len(READY) : -1] == READY[:-1]):
            return data
        values = {
            name: self._began_with[name]
            for name in reset
            if self.settings[name] == connection.fresh.get(name) != self._began_with[name]
        }
        if not values:
            return data
        self.settings = self.client.proxy.interned(self.settings | values)
        self.lexing = extended.lexing(self.settings)
        connection.settings = None
        told = b"".join(backend.parameter_status(name, value) for name, value in values.items())
        return data[: -len(READY)] + told + data[-len(READY) :]

    def _copy_begins(self, connection: "PgConnection", ready: int) -> None:
        """CopyInResponse to the first of what is pending behind the `ready` that have been answered before it: the
        Syncs that were sent behind it are not answered."""
        answered, pending = self._pending[:ready], self._pending[ready:]
        if pending[:1] == b"S" and not self._whole:  # its Sync is still to come
            self._pending = b""
            self._pipeline = extended.begin(self, connection)
            self._pipeline.other()
            self._pipeline.copy_in()
            return
        self._copying = True
        self._stray = b"S" in pending[1:]
        self._pending = answered + (b"E" if pending[:1] == b"S" else b"") + pending.replace(b"S", b"")

    def finish(self, connection: "PgConnection") -> None:
        """The end of a transaction."""
        if self.cancelling:
            return  # it ends when the cancel has: it must not hit the next one's query
        self.connection = None
        if self.client.full:
            connection.transport.resume_reading()
        full, self._full = self._full, False
        database, upstream = self.database, self.upstream
        database.transactions += 1
        pool = upstream.pool
        if connection.kept or connection.skip or self._skip or full:  # more than it was asked for; or it has not been
            pool.retire(connection, "error")  # given all of a COPY that failed. Neither is for the next one
        self._stray = False
        if database.always_resets and connection.retire is None:
            rinse(connection, self, b"", reset="always")
            upstream.act()
        elif pool.release(connection, self, monotonic()):
            upstream.act()
        self._rests = database.lone and not (
            self._kept or self._skip or self._skipping or self.pins or self.client.full or self._terminating
        )
        if full and not self._blocked:
            self.client.resume_reading()
        if self._terminating:
            self._end_if_done()

    def upstream_lost(self, connection: "PgConnection", exc: Exception | None, now: float) -> None:
        """The server has gone. The session goes on where one request, outside of a transaction, was under way."""
        self.connection = None
        self._full = False
        words = connection.last_words
        if self._batch is not None:  # of the client nothing had been sent yet
            self._first.clear()
            self._again_or_not(now)
            return
        owed, unsynced = len(self._pending), False
        if self._pipeline is not None:
            owed, unsynced = self._pipeline.under_way
        partly = connection.partly
        self._pipeline = None
        self._pending, self._copying = b"", False
        cause = words.message if words is not None else "the server closed it"
        if partly or self._skip:  # whatever is said would be taken for the rest of a message
            self.client.abort()
        elif self.pins or self.status != IDLE or owed + unsynced > 1 or (words and words.sqlstate == BROKEN):
            self.client.lost(words, cause, sorted(self.pins))
        elif owed or unsynced:
            self.client.write(refusals.lost(self.upstream.name, words, cause))
            if owed:
                self.client.write(READY)
            self._skipping = not owed
            if self.database.timed:
                self.client.arm(self.database.idle_timeout)
            self._unblock()
        self.follow()

    # ------------------------------------------------------------------ cancel requests

    def cancelled(self) -> None:
        """The client asks to cancel what it asked for."""
        if self._came:
            self.data_received(b"")  # which is asked for now
        connection = self.connection
        if connection is not None and self._batch is None:
            if self.cancelling < 2:  # one that is under way, and one for what was asked since
                self.cancelling += 1
                self.attend()
                self._blocked = True  # what the client asks next must not be hit (the server may signal twice)
                self.client.proxy.cancel(connection, self)
        elif connection is None and self._batch is not None:
            self.database.withdraw(self, monotonic())
            self._fail_batch(refusals.error(refusals.CANCELLED))

    def cancel_over(self) -> None:
        """The request's connection is closed."""
        self.cancelling -= 1
        connection = self.connection
        if self.cancelling:
            return
        if connection is not None and self.idle and not self.pins:
            self.finish(connection)
        self._unblock()
        self.follow()

    # ------------------------------------------------------------------ what is under way

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and no transaction is open."""
        return self.status == IDLE and self.settled

    @property
    def settled(self) -> bool:
        """Whether the server owes no answer, and waits for none of the client's messages."""
        return not self._pending and self._pipeline is None and self._batch is None

    # ------------------------------------------------------------------ reading on, and not

    def _unblock(self) -> None:
        """What was kept goes on, but not from within what is being dealt with, nor while a cancel is under way."""
        if self.cancelling:
            return
        self._blocked = False
        if self._kept:
            asyncio.get_running_loop().call_soon(self._again)
        elif not self._full:
            self.client.resume_reading()

    def _again(self) -> None:
        if self._blocked or self.client.session is not self:
            return
        if self._kept:
            self.received(b"")
        if not self._blocked and not self._full:
            self.client.resume_reading()

    def upstream_full(self) -> None:
        """The server does not read."""
        self._full = True
        self.attend()
        self.client.pause_reading()

    def upstream_drained(self) -> None:
        self._full = False
        if not self._blocked:
            self.client.resume_reading()

    # ------------------------------------------------------------------ the end

    def on_deadline(self, now: float) -> None:
        """What `client.arm` was told has passed."""
        database, upstream, connection = self.database, self.upstream, self.connection
        if self._batch is not None:
            if connection is not None:  # it does not answer
                self.connection = None
                self._first.clear()
                upstream.pool.discard(connection, self, now, "error")
                self._again_or_not(now)
                upstream.act()
            return
        if connection is None or (self.settled and self.status == IDLE):
            kind, timeout = "client_idle", database.idle_timeout
        elif self.settled:
            kind, timeout = "idle_transaction", database.idle_transaction_timeout
        else:
            kind, timeout = "query_timeout", database.query_timeout
        if timeout:  # else the document has none any more
            self.client.say(kind, timeout=timeout)

    def take_back(self) -> None:
        """The connection's place in the budget is another's now, and the time to end by itself is over."""
        self.client.say("ended", cause="its connection's place in the budget went to another replica")

    def _end_if_done(self) -> None:
        """Close, unless something of what the client has sent is still to be carried out or answered."""
        pipeline = self._pipeline
        under_way = self._pending or (pipeline is not None and pipeline.under_way[0])
        copying = self._copying or (pipeline is not None and pipeline.copying)  # no answer comes before its end
        if self._batch is None and not self._kept and (copying or not under_way):
            self.client.close()

    def end(self, now: float) -> None:
        """The client has gone. A transaction that it leaves is rolled back before anybody gets the connection."""
        self.client.proxy.forget_key(self.cancel_key)
        connection, self.connection = self.connection, None
        pool = self.upstream.pool
        if connection is None:
            self.database.withdraw(self, now)
        elif self.settled and not self._skip and not self.cancelling:
            if self.client.full:
                connection.transport.resume_reading()
            rinse(connection, self, b"ROLLBACK" if self.status != IDLE else b"", self.pins, self.database.reset)
        else:  # in the middle of something
            pool.discard(connection, self, now, "error")
            self.client.proxy.cancel(connection, None)
        self._batch = None
        self._rests, self._came = False, b""
        self._forget_timer()
        self.upstream.act()
