"""The server's side of PostgreSQL: logs in, reads answers off a leased connection, hands them to the lease's owner."""

import asyncio
import socket
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from forebay_core.balance import Endpoint
from forebay_core.lease import LEASED, OPENING, Kind, Refusal
from forebay_core.pgwire import ProtocolError, answered, backend, frontend, scan_server, startup
from forebay_core.pgwire.backend import ErrorFields
from forebay_core.pgwire.fields import read_message
from forebay_core.postgres.scram import Keys
from forebay_core.postgres.settings import initial
from forebay_core.postgres.statements import ServerStatements
from forebay_core.postgres.users import User
from forebay_proxy.connection import FULL, LoginError, LoginRefusal, UpstreamConnection
from forebay_proxy.postgres.extended import LEAN

if TYPE_CHECKING:
    from forebay_proxy.upstream import Upstream

LOGIN_LIMIT: Final = 30_000  # bytes of one message while logging in
MAX_HELD: Final = 1 << 16  # bytes of an error or a notice that are waited for

STARTING_UP: Final = "57P03"  # the server is there, and can't take anybody yet
TOO_MANY: Final = "53300"  # too_many_connections


class Login(Kind):
    """Whom a connection is logged in as: the user and the database at the server, and how the user proves itself."""

    __slots__ = ("answer", "chosen", "database", "fixed", "keys", "known", "most_statements", "name", "user", "welcome")

    def __init__(
        self, user: str, database: str, role: str | None, answer: "Answering",
        fixed: tuple[tuple[str, bytes], ...] = (), name: str | None = None,
    ) -> None:  # fmt: skip
        """`fixed`: parameters that can be given at start-up only, or that no server reports. `name`: the database as
        the clients know it whom these connections are for; None: they are for ourselves."""
        super().__init__(role)
        self.name = name
        self.most_statements = 200  # that a connection keeps
        self.welcome: dict[str, bytes] | None = None  # what a server reported at the last login; None: none yet
        self.user = user
        self.database = database
        self.answer = answer
        self.fixed = fixed
        self.chosen: frozenset[str] = frozenset()  # SQLSTATEs by which a server refuses what a client has chosen
        self.keys: Keys | None = None  # what a client of this login has shown in its SCRAM exchange
        self.known: User | None = None  # whom that client is known as

    def __repr__(self) -> str:
        return f"<Login {self.user}@{self.database}>"


def serves(kind: Kind | None, database: str) -> bool:
    """Whether connections of this kind are for the clients of a database, by its name there."""
    return isinstance(kind, Login) and kind.name == database


class Conversation(Protocol):
    """One login's part in an authentication."""

    let_in: bool  # the server has said that it is over
    refused: str  # the reason of a LoginError where the server does not let us in

    def reply(self, code: int, data: bytes) -> bytes | None:
        """What to send for an Authentication message; None: nothing. Raises LoginError."""


class Answering(Protocol):
    """Makes conversations; one is begun for each connection."""

    def __call__(self, transport: Any) -> Conversation: ...


class PgOwner(Protocol):
    """Who leases a connection: a client, or what cleans up after one."""

    def server_said(
        self, connection: "PgConnection", data: bytes, ready: bytes, events: list[tuple[bytes, int, int]]
    ) -> None: ...

    def upstream_lost(self, connection: "PgConnection", exc: Exception | None, now: float) -> None: ...
    def take_back(self) -> None: ...
    def upstream_full(self) -> None: ...
    def upstream_drained(self) -> None: ...


class PgConnection(UpstreamConnection):
    """One connection to a PostgreSQL server, logged in as `kind` says."""

    __slots__ = (
        "_came", "_conversation", "_login", "_turn", "cancel_key", "fresh", "kept", "last_words", "lone", "reported",
        "settings", "since", "skip", "statements", "wanted", "write",
    )  # fmt: skip

    kind: Login
    owner: Any  # PgOwner

    def __init__(self, endpoint: Endpoint, upstream: "Upstream") -> None:
        super().__init__(endpoint, upstream)
        self._turn = upstream.turn
        self._came = b""  # for the end of the turn
        self.kept = b""  # the beginning of a message
        self.skip = 0  # bytes that are yet to come of one that has been passed on
        self._login: asyncio.Future[None] | None = None
        self._conversation: Conversation | None = None
        self.cancel_key: startup.CancelRequest | None = None
        self.reported: dict[str, bytes] = {}  # its parameters, as the server reports them
        self.fresh: dict[str, bytes] = {}  # of them what follows a client, as its login has told it
        self.settings: dict[str, bytes] | None = None  # of the client that it was last brought to
        self.statements = ServerStatements(1)
        self.last_words: ErrorFields | None = None  # what the server said before it closed the connection
        self.since = 0.0  # when it was opened: monotonic seconds
        self.wanted = LEAN
        self.lone = False  # all that is owed is the answer to a lone statement, see `Session`

    # ------------------------------------------------------------------ opening

    async def ask_for_tls(self, sock: socket.socket) -> None:
        """Before the TLS handshake (PostgreSQL docs 55.2.10). Raises LoginError where the server has no TLS,
        ConnectionError."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, startup.SSL_REQUEST)
        said = await loop.sock_recv(sock, 1)  # one byte: nothing may be buffered when the handshake starts
        if not said:
            raise ConnectionResetError(0, "the server closed the connection")
        if said != b"S":
            raise LoginError("08001", "the server has no TLS")

    async def log_in(self) -> None:
        """From the connection made to ReadyForQuery (PostgreSQL docs 55.2.1). Raises LoginError, ConnectionError."""
        self._login = asyncio.get_running_loop().create_future()
        self._conversation = self.kind.answer(self.transport)
        parameters = {"user": self.kind.user, "database": self.kind.database}
        parameters |= {name: value.decode("utf-8", "surrogateescape") for name, value in self.kind.fixed}
        self.transport.write(startup.write_startup(0, parameters))
        try:
            await self._login
        finally:
            self._login = self._conversation = None
        if self.kept:
            self.received(b"")
        if self.retire is not None or self.kept or self.skip:
            raise LoginError("08P01", "the server said more than a login has")
        self.statements = ServerStatements(self.kind.most_statements)
        self.kind.welcome = dict(self.reported)
        self.fresh = initial({}, self.reported)
        self.since = monotonic()
        self.endpoint.health.succeeded(self.since)

    def chosen(self, refusal: Refusal) -> bool:
        return isinstance(refusal, LoginRefusal) and refusal.reason == "login" and refusal.code in self.kind.chosen

    def _log_in_further(self, login: "asyncio.Future[None]", data: bytes) -> None:
        at = 0
        try:
            while (found := read_message(data, at, LOGIN_LIMIT)) is not None and not login.done():
                kind, body, end = found
                self._hear(login, kind, body, data, at, end)
                at = end
            self.kept = data[at:]
        except ProtocolError as error:
            raise LoginError("08P01", f"the server: {error.detail}") from None

    def _hear(self, login: "asyncio.Future[None]", kind: bytes, body: bytes, data: bytes, at: int, end: int) -> None:
        assert self._conversation is not None
        if kind == b"R":
            reply = self._conversation.reply(*backend.read_authentication(body))
            if reply is not None:
                self.transport.write(reply)
        elif kind == b"S":
            self.report(data, at, end)
        elif kind == b"K":
            self.cancel_key = startup.CancelRequest(*backend.read_backend_key_data(body))
            self.upstream.identify(self, *self.cancel_key)
        elif kind == b"E":
            error = backend.read_error(data, at, end)
            refused = self._conversation.refused
            if error.sqlstate == STARTING_UP:
                refused = "starting_up"
            elif error.sqlstate == TOO_MANY and refused == "login":
                refused = FULL
            raise LoginError(error.sqlstate, error.message, refused)
        elif kind == b"Z" and self._conversation.let_in:
            login.set_result(None)
        elif kind not in (b"N", b"v"):
            raise LoginError("08P01", f"the server sent {kind!r} while we logged in")

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write = self.transport.write

    def data_received(self, data: bytes) -> None:
        """Bytes of the server. What may be a lone answer may wait for the end of the turn."""
        if self.lone and not self._came:
            self._came = data
            turn = self._turn
            if turn.answers or turn.begin(self):
                turn.answers.append(self)
            return
        self.lone = False  # or what comes next in this turn would be taken for the beginning of an answer
        came, self._came = self._came, b""
        self.received(came + data)

    def eof_received(self) -> bool:
        """It ends: the transport tells so in the loop's next turn, and statements of this one must not be sent into it.
        An answer that has been read before is still passed on."""
        if self.state != OPENING:
            self.upstream.pool.retire(self, "upstream")
        return super().eof_received()

    @staticmethod
    def deal(parties: "Iterator[PgConnection]", now: float) -> None:
        """With the answers of a turn."""
        for connection in parties:
            data = connection._came
            connection._came = b""
            if connection.lone:
                connection.lone = False
                owner = connection.owner
                if owner is not None and answered(data, connection.wanted):
                    owner.answered_alone(connection, data, now)
                    continue
            if data:
                connection.received(data)

    def broke(self) -> None:
        self.transport.abort()

    def received(self, data: bytes) -> None:
        """Bytes of the server, whatever they are."""
        if self.kept:
            data = self.kept + data
            self.kept = b""
        if self._login is not None:
            try:
                self._log_in_further(self._login, data)
            except LoginError as error:
                if not self._login.done():
                    self._login.set_exception(error)
            return
        skip = self.skip
        try:
            end, self.skip, ready, events = scan_server(data, skip, MAX_HELD, self.wanted)
            if end < len(data):
                self.kept = data[end:]
                data = data[:end]
            if self.state == LEASED:
                self.owner.server_said(self, data, ready, events)
            else:
                self.settings = None  # whoever leases it next looks twice
                if skip or self.skip or self._said_more(data):
                    super().data_received(data)
        except ProtocolError:
            self.upstream.pool.retire(self, "error")
            self.transport.abort()

    def _said_more(self, data: bytes) -> bool:
        """While idle a server may say that a parameter has changed, or send a notice; anything else is the end."""
        at = 0
        while at < len(data):
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
            if data[at] == b"S"[0]:
                self.report(data, at, end)
            elif data[at] == b"E"[0]:
                self.last_words = backend.read_error(data, at, end)
                return True
            elif data[at] != b"N"[0]:
                return True
            at = end
        return False

    def stale(self) -> bool:
        return bool(self.kept) or super().stale()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._login is not None and not self._login.done():
            self._login.set_exception(exc or ConnectionResetError(0, "the server closed the connection"))
        super().connection_lost(exc)

    def shut(self, linger: float) -> None:
        """Terminate, then as every connection: the server's end is waited for. In the middle of a login a server would
        take it for an answer, and complain in its log."""
        if self.since and not self.transport.is_closing():
            self.transport.write(frontend.TERMINATE)
        super().shut(linger)

    def report(self, data: bytes, start: int, end: int) -> tuple[str, bytes]:
        """Take a ParameterStatus: its name and value. That a standby is none any more is for all clients."""
        name, value = backend.read_parameter_status(data[start + 5 : end])
        self.reported[name] = raw = value.encode("utf-8", "surrogateescape")
        welcome = self.kind.welcome
        if name == "in_hot_standby" and self.since and welcome is not None:
            self.kind.welcome = welcome | {name: raw}
        return name, raw

    @property
    def partly(self) -> bool:
        """Whether the lease's owner has a part of a message whose rest is still to come."""
        return self.skip > 0
