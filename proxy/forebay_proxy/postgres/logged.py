"""Clients and sessions of which the log tells: a line for each session, and one for each slow query.

They stand in for the others only where the document asks for a log, so that the others don't pay for it. A query is
what a client sends while it is owed nothing, up to the answer of it all; its time counts waiting and connecting,
and not what a transaction idles between two queries.
"""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from forebay_core.lease import Refusal
from forebay_core.pgwire import backend
from forebay_core.postgres.shape import shape
from forebay_proxy.postgres.asking import Events, Settings
from forebay_proxy.postgres.client import PgClient
from forebay_proxy.postgres.console import Console
from forebay_proxy.postgres.session import Session

if TYPE_CHECKING:
    from forebay_proxy.postgres.database import Database
    from forebay_proxy.postgres.proxy import PgProxy
    from forebay_proxy.postgres.server import PgConnection

CLIENT_GONE: Final = "client_gone"  # it went without saying so
KEPT: Final = 1 << 16  # bytes of a query that are kept to tell its shape
QUERY, PARSE, BIND = b"QPB"


class LoggedClient(PgClient):
    """A client's connection."""

    def __init__(self, proxy: "PgProxy", peer: str) -> None:
        super().__init__(proxy, peer)
        self.bytes_in = self.bytes_out = 0
        self.error: str | None = None  # the SQLSTATE that it was closed with
        self.who: tuple[str, str] | None = None  # user and database; None before the start-up packet
        self._logged: LoggedSession | None = None
        self._send: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._send, self.write = self.write, self._counted

    def _counted(self, data: bytes) -> None:
        self.bytes_out += len(data)
        self._send(data)

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        super().data_received(data)

    def new_session(self, database: "Database", settings: Settings) -> Session:
        self._logged = LoggedSession(self, database, settings)
        return self._logged

    def begin(self, session: Session | Console) -> None:
        self._note()
        super().begin(session)

    def end_with(self, data: bytes) -> None:
        self.error = self.error or backend.read_error(data, 0, len(data)).sqlstate
        super().end_with(data)

    def abort(self) -> None:
        self.error = self.error or "08006"
        super().abort()

    def connection_lost(self, exc: Exception | None) -> None:
        logged, log = self._logged, self.proxy.log
        if self.login is not None or (logged is not None and logged is self.session and not logged.leaving):
            self.error = self.error or CLIENT_GONE
        super().connection_lost(exc)
        if log is None or not self.proxy.log_all or self.who is None:
            return
        log.write_members(
            client=self.peer,
            user=self.who[0],
            database=self.who[1],
            upstream=logged.upstream.name if logged is not None else None,
            transactions=logged.transactions if logged is not None else 0,
            queries=logged.queries if logged is not None else 0,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            total_ms=milliseconds(monotonic() - self.since),
            error=self.error,
        )

    def _leave(self) -> None:
        self._note()
        super()._leave()

    def _note(self) -> None:
        """Who it says it is, while the login knows it."""
        if self.login is not None:
            self.who = self.login.who


class LoggedSession(Session):
    """A client's session."""

    def __init__(self, client: LoggedClient, database: "Database", settings: Settings) -> None:
        super().__init__(client, database, settings)
        self._logged = client
        self.transactions = self.queries = 0
        self._began = 0.0  # the query that is under way; 0: none is
        self._text = b""

    def data_received(self, data: bytes) -> None:
        self._logged.bytes_in += len(data)
        self.received(data)

    def received(self, data: bytes) -> None:
        if not self._began:
            self._began = monotonic()
            self._text = (self._kept + data)[:KEPT]
        super().received(data)
        if self.settled and not self._kept:  # nothing for a server
            self._began = 0.0

    def server_said(self, connection: "PgConnection", data: bytes, ready: bytes, events: Events) -> None:
        endpoint, leased = connection.endpoint.name, connection.leased_at
        super().server_said(connection, data, ready, events)
        if ready and self._began and self.settled:
            self.transactions += self.idle
            self._ended(monotonic(), endpoint, leased, None)

    def refuse(self, refusal: Refusal, now: float) -> None:
        super().refuse(refusal, now)
        if self._began and self.settled:
            self._ended(now, None, now, refusal.reason)

    def end(self, now: float) -> None:
        if self._began and not self.settled:
            connection = self.connection
            endpoint, leased = (
                (connection.endpoint.name, connection.leased_at) if connection is not None else (None, now)
            )
            self._ended(now, endpoint, leased, self._logged.error)
        super().end(now)

    @property
    def leaving(self) -> bool:
        """Whether the client has said that it goes."""
        return self._terminating

    def _ended(self, now: float, endpoint: str | None, leased: float, error: str | None) -> None:
        """The query is over. `leased`: when its connection was."""
        self.queries += 1
        began, self._began = self._began, 0.0
        proxy = self.client.proxy
        if now - began < proxy.slow or proxy.log is None:
            return
        proxy.log.write_members(
            client=self.client.peer,
            user=self.database.user,
            database=self.database.name,
            upstream=self.upstream.name,
            endpoint=endpoint,
            query=shape(self._query()),
            wait_ms=milliseconds(max(0.0, leased - began)),
            total_ms=milliseconds(now - began),
            error=error,
            slow=True,
        )

    def _query(self) -> bytes:
        """The text of the first message, or of the statement that it is about."""
        data = self._text
        fields = data[5:].split(b"\0", 2)
        if data[:1] == b"Q":
            return fields[0]
        if data[:1] == b"P" and len(fields) > 1:
            return fields[1]
        statement = self.statements.by_name.get(fields[1]) if data[:1] == b"B" and len(fields) > 1 else None
        return statement.text if statement is not None else b""


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
