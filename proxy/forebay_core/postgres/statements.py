"""Prepared statements while server connections change hands: what to send for a client's Parse, Bind, Describe, Close.

Theory of operation. A client's statement is its text, its parameter types and what it was analysed under. On a server
it goes by a name made of their hash, so that clients share it; a server connection holds at most `limit` of them,
least recently used first out. The unnamed statement is the client's too: on a connection that it was not parsed on in
this lease, it is parsed again, and another client's is closed before it could be bound.

A server answers in order and, after an error, skips everything up to the next Sync (PostgreSQL documentation,
"Extended Query"). So nothing counts before its answer has come: what a message will change is bound to the place of
its answer in its batch (the messages up to a Sync, or a Query), and dropped with the rest of a failed batch. What is
answered in the server's stead has a place between answers too. A decision may rest on changes that are pending in its
own batch (it is only reached if they happened), never on those of an earlier one: then the caller holds the client's
messages back until that batch is over (`Step.hold`). The Sync has been sent, so this ends.

Limits: after DEALLOCATE ALL within a batch, the rest of that batch may get 26000; a statement is analysed anew with
the client's settings of now, where its own connection would have kept those of its Parse.
"""

import hashlib
from collections import OrderedDict, deque
from typing import Literal, NamedTuple

PREFIX = b"forebay_"
MOST_PER_CLIENT = 10_000  # named statements; drivers keep 5 to 256, one that never closes any must not fill memory
MOST_TEXT = 16 << 20  # bytes of their texts: 10,000 of 1.6 KiB, and 64 of the longest that are kept (256 KiB)
_STALE = frozenset({b"0A000", b"26000"})  # "cached plan must not change result type"; not there after all
_PARSED, _CLOSED = b"1", b"3"
ENDS_ALL = frozenset({b"DEALLOCATE ALL", b"DISCARD ALL"})  # CommandComplete's tags


class TooManyStatements(Exception):
    """A client has more named statements than MOST_PER_CLIENT, or longer ones than MOST_TEXT in all."""


class OutOfStep(Exception):
    """The server's answers are not those to what it was sent: its connection must be closed."""


class Statement(NamedTuple):
    """A statement by what it is. `name` is that on servers, 40 bytes: PostgreSQL cuts names at 63."""

    name: bytes
    text: bytes
    types: bytes  # as in Parse: a count and the types' numbers
    ends_all: bool = False  # DEALLOCATE ALL or DISCARD ALL


def statement(text: bytes, types: bytes, context: bytes, ends_all: bool = False) -> Statement:
    """`context` is what analysing depends on, as of `settings.analysed_under`; `ends_all` as `marks` tells."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (text, types, context):
        digest.update(len(part).to_bytes(8, "big") + part)
    return Statement(PREFIX + digest.hexdigest().encode(), text, types, ends_all)


# A client's unnamed statement that was too long to be kept: it is on its server connection only.
LONG = Statement(b"", b"", b"\0\0")


class Send(NamedTuple):
    """A message of ours: Parse of `statement` as `name`, or Close of `name` where there is none."""

    name: bytes
    statement: Statement | None = None


class Step(NamedTuple):
    """What becomes of a client's message: first send `before`, whose answers the client doesn't see; then forward the
    message with its statement's name replaced by `name`, or, where that is None, not at all. `hold`: nothing yet; ask
    again after the next `ready`, `error` or `copy_in`.
    """

    before: tuple[Send, ...] = ()
    name: bytes | None = None
    hold: bool = False


class Answer(NamedTuple):
    """What becomes of a server's message: whether the client gets it, and the types of empty messages (ParseComplete,
    CloseComplete) that it gets after it.
    """

    deliver: bool = True
    then: tuple[bytes, ...] = ()


_HOLD, _DROP, _DELIVER = Step(hold=True), Step(), Answer()


class ClientStatements:
    """What a client has prepared, by its names; the unnamed one's is empty."""

    __slots__ = ("by_name", "held")

    def __init__(self) -> None:
        self.by_name: dict[bytes, Statement] = {}
        self.held = 0  # bytes of the texts of those with a name

    def put(self, name: bytes, made: Statement) -> None:
        self.drop(name)
        self.by_name[name] = made
        self.held += len(made.text) if name else 0

    def drop(self, name: bytes) -> bool:
        """False: there was none of this name."""
        gone = self.by_name.pop(name, None)
        if gone is not None and name:
            self.held -= len(gone.text)
        return gone is not None

    def deallocate(self, name: bytes) -> bool:
        """SQL's DEALLOCATE of one of these, alone in a Query, while nothing else is under way: if True, the caller
        answers it (CommandComplete `DEALLOCATE`, ReadyForQuery). PostgreSQL has one space for SQL's names and ours.
        """
        return bool(name) and self.drop(name)

    def clear(self) -> None:
        """DEALLOCATE ALL: all but the unnamed one."""
        unnamed = self.by_name.get(b"")
        self.by_name = {b"": unnamed} if unnamed else {}
        self.held = 0


class ServerStatements:
    """What a server connection holds, by our names, least recently used first. `limit` is at least 1."""

    __slots__ = ("limit", "present", "stale")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.present: OrderedDict[bytes, None] = OrderedDict()
        self.stale: set[bytes] = set()  # may be there and must be closed before they are parsed again

    def doubt(self, name: bytes, sqlstate: bytes) -> None:
        """An error came after a Bind of `name`: if it may be of the statement itself, it is made anew the next time."""
        if sqlstate in _STALE and self.present.pop(name, True) is None:
            self.stale.add(name)

    def doubt_all(self) -> None:
        """What they were analysed under holds no more: each is made anew the next time."""
        self.stale.update(self.present)
        self.present.clear()

    def clear(self) -> None:
        """After DEALLOCATE ALL or DISCARD ALL."""
        self.present.clear()
        self.stale.clear()


class _Change(NamedTuple):
    """`at` is client or server; the statement is there, or (None) gone."""

    at: Literal["client", "server"]
    name: bytes
    statement: Statement | None


class _Plan(NamedTuple):
    """What happens with the answer at `place` (with a fake: before it), counted in the batch. `told` is what a fake
    tells the client.
    """

    place: int
    kind: Literal["apply", "swallow", "unnamed", "fake"]
    changes: tuple[_Change, ...]
    told: bytes = b""


class _Batch:
    """The messages up to a Sync or Query. `done` of `sent` are answered; `plans` are bound to places, in order;
    `copy_ends` are the ends of COPYs, in it or behind its Query, of which the server has not said yet that they began.
    """

    __slots__ = ("copy_ends", "done", "end", "ends_all", "failed", "plans", "sent", "used")

    def __init__(self) -> None:
        self.sent = self.done = self.copy_ends = 0
        self.end: Literal["", "sync", "query"] = ""
        self.failed = self.ends_all = False
        self.plans: deque[_Plan] = deque()
        self.used: list[bytes] = []


class Pipeline:
    """One lease: a client's messages on a server connection. Whoever sends a message of the client calls the method
    named after it, then takes `due()`; whoever gets one of the server that ends an answer calls `reply`, `error`
    or `ready`.
    """

    __slots__ = ("_batches", "_client", "_parsing", "_pending", "_server", "_unnamed_is_ours", "copying", "stray")

    def __init__(self, client: ClientStatements, server: ServerStatements, *, unnamed_there: bool = False) -> None:
        """`unnamed_there`: the client's unnamed statement is on the server already."""
        self._client, self._server = client, server
        self._unnamed_is_ours = unnamed_there  # on the server
        self._batches: deque[_Batch] = deque()
        self._pending: dict[tuple[str, bytes], tuple[_Batch, Statement | None]] = {}
        self._parsing = 0  # bytes of the texts of the client's statements with a name that are pending
        self.copying = False  # the server takes a COPY
        self.stray = False  # a Sync within it: is answered after all where the COPY fails before the server reads it

    def __repr__(self) -> str:
        return f"<Pipeline of {len(self._batches)} batches, {len(self._pending)} changes pending>"

    @property
    def idle(self) -> bool:
        """Nothing is under way, so the lease may end (where the last status was I)."""
        return not self._batches

    @property
    def under_way(self) -> tuple[int, bool]:
        """How many ReadyForQuery the server owes, and whether messages wait for their Sync."""
        ended = sum(1 for batch in self._batches if batch.end)
        return ended, ended < len(self._batches)

    # What the client sends.

    def parse(self, name: bytes, made: Statement) -> Step:
        """Parse of `made` as `name`. Raises TooManyStatements."""
        batch = self._open()
        if batch.failed:
            return _DROP
        if self._held(("client", name), ("server", made.name if name else b"")):
            return _HOLD
        if not name:
            self._plan("unnamed", (_Change("client", b"", made), _Change("server", b"", made)))
            return Step(name=b"")
        mine = self._of_client(name)
        if mine is not None:  # the server says so: 42P05, there is one of this name
            if self._held(("server", mine.name)):
                return _HOLD
            before = self._ensure(mine)
            batch.sent += 1
            return Step(before, mine.name)
        if len(self._client.by_name) >= MOST_PER_CLIENT:
            raise TooManyStatements(f"expected at most {MOST_PER_CLIENT} prepared statements of a client")
        if self._client.held + self._parsing + len(made.text) > MOST_TEXT:
            raise TooManyStatements(f"expected at most {MOST_TEXT} bytes of text in a client's prepared statements")
        self._parsing += len(made.text)
        mine_now = _Change("client", name, made)
        if self._on_server(made.name):
            self._ensure(made)  # used just now
            self._fake(_PARSED, mine_now)
            return _DROP
        before = self._make_room(made)
        self._plan("apply", (mine_now, _Change("server", made.name, made)))
        return Step(before, made.name)

    def parse_long(self) -> Step:
        """Parse of the unnamed statement, too long to be kept (LONG)."""
        batch = self._open()
        if not batch.failed:
            if self._held(("client", b""), ("server", b"")):
                return _HOLD
            self._plan("unnamed", (_Change("client", b"", LONG), _Change("server", b"", LONG)))
        return Step(name=b"")

    def bind(self, name: bytes) -> Step:
        """Bind of, or Describe of, the statement `name`."""
        batch = self._open()
        if batch.failed:
            return _DROP
        if self._held(("client", name), ("server", b"")):
            return _HOLD
        mine = self._of_client(name)
        before: tuple[Send, ...] = ()
        if mine is None:  # the server says so: 26000
            if not name:
                before = (self._ours(Send(b""), None),)
        elif not name:
            if not self._on_server(b""):
                before = (self._ours(Send(b"", mine), mine),)
            batch.ends_all |= mine.ends_all
        else:
            if self._held(("server", mine.name)):
                return _HOLD
            before = self._ensure(mine)
            batch.used.append(mine.name)
            batch.ends_all |= mine.ends_all
        batch.sent += 1
        return Step(before, _unknown(name) if mine is None else mine.name if name else b"")

    def close(self, name: bytes) -> Step:
        """Close of the statement `name`. Its name on the server stays, for others."""
        batch = self._open()
        if batch.failed:
            return _DROP
        if self._held(("client", name), ("server", b"")):
            return _HOLD
        gone = _Change("client", name, None)
        if not name:
            self._plan("apply", (gone, _Change("server", b"", None)))
            return Step(name=b"")
        if self._of_client(name) is None:  # no error, and it may be one of SQL's PREPARE
            batch.sent += 1
            return Step(name=_unknown(name))
        self._fake(_CLOSED, gone)
        return _DROP

    def other(self) -> None:
        """Execute; Describe or Close of a portal."""
        self._open().sent += 1

    def sync(self) -> None:
        """Sync. One that the server reads while it takes a COPY is not answered."""
        if self.copying:
            self.stray = True
        else:
            self._open().end = "sync"

    def query(self, ends_all: bool = False) -> None:
        """Query: it ends the unnamed statement, and the batch unless that has failed. `ends_all`: it has DEALLOCATE ALL
        or DISCARD ALL in it.
        """
        batch = self._open()
        if not batch.failed:
            batch.end, batch.ends_all = "query", batch.ends_all or ends_all
            self._pending["client", b""] = self._pending["server", b""] = (batch, None)

    def copy_end(self) -> None:
        """CopyDone or CopyFail."""
        if self._batches and not self.copying:
            last = self._batches[-1]
            (last if last.end == "query" else self._open()).copy_ends += 1
        self.copying = False

    def due(self) -> tuple[bytes, ...]:
        """The types of empty messages that the client gets now."""
        found: list[bytes] = []
        if self._batches:
            head = self._batches[0]
            while head.plans and head.plans[0][:2] == (head.done, "fake"):
                plan = head.plans.popleft()
                self._apply(plan.changes)
                found.append(plan.told)
        return tuple(found)

    # What the server answers.

    def reply(self) -> Answer:
        """A message that ends an answer within a batch: ParseComplete, BindComplete, CloseComplete, RowDescription or
        NoData (to Describe), CommandComplete, EmptyQueryResponse, PortalSuspended.
        """
        if not self._batches:
            raise OutOfStep("the server answered what it was not asked")
        head = self._batches[0]
        if head.failed or head.done == head.sent:
            if head.failed or head.end != "query":
                raise OutOfStep("the server answered more than it was asked")
            return _DELIVER
        place, deliver = head.done, True
        head.done += 1
        if not head.plans:
            return _DELIVER
        while head.plans and head.plans[0].place == place:
            plan = head.plans.popleft()
            self._apply(plan.changes)
            deliver = deliver and plan.kind != "swallow"
        return Answer(deliver, self.due())

    def error(self, sqlstate: bytes) -> None:
        """ErrorResponse. The server skips what follows up to a Sync; Queries too, if it was not of one."""
        if not self._batches:
            return  # of the connection itself, which ends
        head = self._batches[0]
        self.copying = False
        if head.failed or head.done == head.sent:
            return
        if head.plans and head.plans[0][:2] == (head.done, "unnamed"):
            self._client.by_name.pop(b"", None)  # the old one goes first
            self._unnamed_is_ours = False
        if sqlstate in _STALE:
            for name in head.used:
                self._server.present.pop(name, None)
                self._server.stale.add(name)
        head.failed = True
        while head.end == "query":
            self._join()

    def copy_in(self) -> None:
        """CopyInResponse. The Syncs sent since, up to CopyDone or CopyFail, are not answered."""
        if not self._batches:
            return
        self.stray = False
        ends = head = self._batches[0]
        if head.end == "query" and head.done == head.sent:  # the Query's own COPY
            while not ends.copy_ends and len(self._batches) > 1:
                ends = self._batches[1]
                if ends.copy_ends or ends.sent or ends.end != "sync":
                    break
                del self._batches[1]
                self.stray = True
        else:
            syncs = 0
            while not head.copy_ends and head.end:
                self._join()
                syncs += 1
            self.stray = syncs > 1  # the first is the one of the Execute, which the server reads before any of the COPY
        self.copying = not ends.copy_ends
        if not self.copying:
            ends.copy_ends -= 1
            if ends is not head and not (ends.copy_ends or ends.sent or ends.end):  # there was nothing else in it
                self._batches.remove(ends)

    def complete(self, tag: bytes) -> None:
        """CommandComplete, before its `reply`: some commands end every prepared statement."""
        self.stray = False
        if tag in ENDS_ALL:
            self._client.clear()
            self._server.clear()

    def ready(self) -> tuple[bytes, ...]:
        """ReadyForQuery: a batch is over. Gives what `due` would."""
        if not self._batches:
            raise OutOfStep("the server is ready for what it was not sent")
        head = self._batches.popleft()
        if not head.end or (head.done != head.sent and not head.failed):
            raise OutOfStep("the server is ready before it answered everything")
        for plan in head.plans:  # which will not be
            self._parsing -= sum(map(_parsed, plan.changes))
        if head.end == "query" and not head.failed:
            self._client.by_name.pop(b"", None)
            self._unnamed_is_ours = False
        if self._pending:
            self._pending = {key: value for key, value in self._pending.items() if value[0] is not head}
        return self.due()

    # What is decided on.

    def _open(self) -> _Batch:
        if not self._batches or self._batches[-1].end:
            self._batches.append(_Batch())
        return self._batches[-1]

    def _join(self) -> None:
        """Takes the end off the first batch: the one behind it, or one to come, is its rest."""
        head = self._batches.popleft()
        following = self._batches.popleft() if self._batches else _Batch()
        for key, (batch, value) in self._pending.items():
            if batch is following:
                self._pending[key] = (head, value)
        head.plans.extend(plan._replace(place=plan.place + head.sent) for plan in following.plans)
        head.sent += following.sent
        head.used += following.used
        head.ends_all |= following.ends_all
        head.end = following.end
        head.copy_ends += following.copy_ends
        self._batches.appendleft(head)

    def _held(self, *keys: tuple[str, bytes]) -> bool:
        if len(self._batches) == 1:
            return False
        current = self._batches[-1]
        if any(batch.ends_all for batch in self._batches if batch is not current):
            return True
        return any(key in self._pending and self._pending[key][0] is not current for key in keys)

    def _of_client(self, name: bytes) -> Statement | None:
        if ("client", name) in self._pending:
            return self._pending["client", name][1]
        return self._client.by_name.get(name)

    def _on_server(self, name: bytes) -> bool:
        if ("server", name) in self._pending:
            return self._pending["server", name][1] is not None
        return name in self._server.present if name else self._unnamed_is_ours

    def _ensure(self, wanted: Statement) -> tuple[Send, ...]:
        """What makes `wanted` present on the server."""
        if self._on_server(wanted.name):
            if wanted.name in self._server.present:
                self._server.present.move_to_end(wanted.name)
            return ()
        before = self._make_room(wanted)
        return (*before, self._ours(Send(wanted.name, wanted), wanted))

    def _make_room(self, wanted: Statement) -> tuple[Send, ...]:
        """Closes what may be left of `wanted`; where there are `limit`, what is stale, then what was used long ago."""
        closes = [wanted.name] if wanted.name in self._server.stale else []
        stale = [n for n in self._server.stale if n != wanted.name and ("server", n) not in self._pending]
        changing = (name for at, name in self._pending if at == "server" and name)
        there = [name for name in dict.fromkeys((*self._server.present, *changing)) if self._on_server(name)]
        closes += (stale + there)[: max(0, len(stale) + len(there) + 1 - self._server.limit)]
        return tuple(self._ours(Send(name), None) for name in closes)

    def _ours(self, send: Send, then: Statement | None) -> Send:
        """A message of ours, whose answer is kept from the client."""
        self._plan("swallow", (_Change("server", send.name, then),))
        return send

    def _plan(self, kind: Literal["apply", "swallow", "unnamed"], changes: tuple[_Change, ...]) -> None:
        """What happens with the answer to the message that is sent next."""
        batch = self._batches[-1]
        batch.plans.append(_Plan(batch.sent, kind, changes))
        batch.sent += 1
        for change in changes:
            self._pending[change.at, change.name] = (batch, change.statement)

    def _fake(self, told: bytes, change: _Change) -> None:
        """What the client is told once all before it is answered."""
        batch = self._batches[-1]
        batch.plans.append(_Plan(batch.sent, "fake", (change,), told))
        self._pending[change.at, change.name] = (batch, change.statement)

    def _apply(self, changes: tuple[_Change, ...]) -> None:
        for change in changes:
            at, name, then = change
            self._parsing -= _parsed(change)
            if at == "server" and not name:
                self._unnamed_is_ours = then is not None
            elif at == "server":
                self._server.present.pop(name, None)
                self._server.stale.discard(name)
                if then is not None:
                    self._server.present[name] = None
            elif then is not None:
                self._client.put(name, then)
            else:
                self._client.drop(name)


def _parsed(change: _Change) -> int:
    """Bytes of text that it gives the client."""
    return len(change.statement.text) if change.at == "client" and change.name and change.statement is not None else 0


def _unknown(name: bytes) -> bytes:
    """A name that the client has no statement of: as it stands, for SQL's PREPARE, but never one of ours."""
    return b"?" + name if name.startswith(PREFIX) else name
