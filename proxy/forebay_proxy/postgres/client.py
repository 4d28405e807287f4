"""One client's connection: its start-up, its login, then its session. An entry of the timer wheel."""

import asyncio
import socket
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from forebay_core.pgwire import ProtocolError, backend
from forebay_core.pgwire.backend import ErrorFields
from forebay_core.postgres.errors import said
from forebay_proxy.ending import keep_end_behind
from forebay_proxy.postgres import refusals
from forebay_proxy.postgres.asking import Settings
from forebay_proxy.postgres.console import Console
from forebay_proxy.postgres.login import ClientLogin
from forebay_proxy.postgres.session import Session
from forebay_proxy.upstream import KEEPALIVE

if TYPE_CHECKING:
    from forebay_proxy.postgres.database import Database
    from forebay_proxy.postgres.proxy import PgProxy

LOGIN_TIMEOUT: Final = 15.0  # seconds; PostgreSQL's authentication_timeout is 60, PgBouncer's client_login_timeout too
REFUSAL_TIMEOUT: Final = 1.0  # seconds for a client that is one too many to ask for what it won't get


class PgClient(asyncio.Protocol):
    """See the module's docstring."""

    __slots__ = (
        "alpn", "console", "deadline", "full", "login", "paused", "peer", "proxy", "session", "since", "transport",
        "wheel_due", "write",
    )  # fmt: skip

    def __init__(self, proxy: "PgProxy", peer: str) -> None:
        """`peer` is the client's address where a balancer has said it, else empty."""
        self.proxy = proxy
        self.peer = peer
        self.transport: Any = None
        self.login: ClientLogin | None = None
        self.session: Session | None = None
        self.console: Console | None = None
        self.paused = False  # nothing is read of it
        self.full = False  # it does not read
        self.deadline = self.wheel_due = inf
        self.since = 0.0
        self.alpn: str | None = None  # the protocol that its TLS handshake has to be for

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        keep_end_behind(transport)
        self.write = self.transport.write
        self.since = monotonic()
        if self.alpn is not None and transport.get_extra_info("ssl_object").selected_alpn_protocol() != self.alpn:
            self.transport.abort()
            return
        peername = self.transport.get_extra_info("peername")
        self.peer = self.peer or (peername[0] if peername else "")
        sock = self.transport.get_extra_info("socket")
        for level, option, value in KEEPALIVE:
            if sock is not None and sock.family != socket.AF_UNIX:
                sock.setsockopt(level, option, value)
        admitted = self.proxy.admit(self)
        self.login = ClientLogin(self, admitted=admitted)
        self.arm(LOGIN_TIMEOUT if admitted else REFUSAL_TIMEOUT)

    def data_received(self, data: bytes) -> None:
        if self.login is not None or self.console is not None:
            try:
                (self.login or self.console).received(data)  # type: ignore[union-attr]
            except ProtocolError as error:
                self.fail(error.sqlstate, error.detail)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self.transport = None
        self.proxy.wheel.disarm(self)
        self.proxy.forget(self)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self.console is not None:
            self.console.go_on()

    def on_deadline(self, now: float) -> None:
        if self.session is not None:
            self.session.on_deadline(now)
        elif self.login is not None:
            self.say("login_timeout", timeout=LOGIN_TIMEOUT)

    # ------------------------------------------------------------------ for login and session

    def new_session(self, database: "Database", settings: Settings) -> Session:
        """For the login."""
        return Session(self, database, settings)

    def begin(self, session: Session | Console) -> None:
        """The login is over."""
        self.login = None
        if isinstance(session, Session):
            self.session = session
            self.transport.set_protocol(session)
        else:
            self.console = session
        self.arm(self.proxy.postgres.client_idle_timeout)

    def arm(self, seconds: float | None) -> None:
        """When `on_deadline` is called; None or 0: not at all."""
        self.proxy.wheel.arm(self, monotonic() + seconds if seconds else inf)

    def pause_reading(self) -> None:
        """Take nothing more from the client for now."""
        if not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.paused and self.transport is not None:
            self.paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    # ------------------------------------------------------------------ ends

    def say(self, kind: str, **facts: object) -> None:
        """Say why, in one of the sentences of `forebay_core.postgres.errors`, and close."""
        self.end_with(refusals.error(said(kind, **facts)))

    def fail(self, sqlstate: str, sentence: str) -> None:
        """Say why, and close."""
        self.end_with(backend.error_response("FATAL", sqlstate, sentence))

    def lost(self, words: ErrorFields | None, cause: str, pins: list[str]) -> None:
        """The server has gone, and with it what the client can't go on without."""
        if words is not None:
            self.fail(words.sqlstate, words.message)
        elif pins:
            self.say("state_lost", state=", ".join(pins), cause=cause)
        elif self.session is not None:
            self.say("server_lost_fatal", upstream=self.session.upstream.name, cause=cause)

    def end_with(self, data: bytes) -> None:
        """Say this, and close when it has gone; a connection to the server is not held until then."""
        if self.transport is not None and not self.transport.is_closing():
            self.write(data)
        self.close()

    def close(self) -> None:
        """Close when what was written has gone."""
        self._leave()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once: what has been written of a message is no use without its rest."""
        self._leave()
        if self.transport is not None:
            self.transport.abort()

    def _leave(self) -> None:
        session, self.session = self.session, None
        login, self.login = self.login, None
        console, self.console = self.console, None
        if login is not None:
            login.close()
        if console is not None:
            self.proxy.forget_key(console.cancel_key)
        if session is not None:
            if self.transport is not None and not self.transport.is_closing():  # else nothing more comes
                self.transport.set_protocol(self)
            session.end(monotonic())
