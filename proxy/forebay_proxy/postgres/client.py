"""One client's connection: its start-up, its login, then its session. An entry of the timer wheel."""

import asyncio
import socket
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from forebay_core.pgwire import ProtocolError, backend
from forebay_proxy.postgres.login import ClientLogin
from forebay_proxy.postgres.session import Session
from forebay_proxy.upstream import KEEPALIVE

if TYPE_CHECKING:
    from forebay_proxy.postgres.proxy import PgProxy

LOGIN_TIMEOUT: Final = 15.0  # seconds; PostgreSQL's authentication_timeout is 60, PgBouncer's client_login_timeout too


class PgClient(asyncio.Protocol):
    """See the module's docstring."""

    __slots__ = ("deadline", "login", "paused", "peer", "proxy", "session", "transport", "wheel_due", "write")

    def __init__(self, proxy: "PgProxy", peer: str) -> None:
        """`peer` is the client's address where a balancer has said it, else empty."""
        self.proxy = proxy
        self.peer = peer
        self.transport: Any = None
        self.login: ClientLogin | None = None
        self.session: Session | None = None
        self.paused = False
        self.deadline = self.wheel_due = inf

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.write = self.transport.write
        peername = self.transport.get_extra_info("peername")
        self.peer = self.peer or (peername[0] if peername else "")
        sock = self.transport.get_extra_info("socket")
        for level, option, value in KEEPALIVE:
            if sock is not None and sock.family != socket.AF_UNIX:
                sock.setsockopt(level, option, value)
        if not self.proxy.admit(self):
            self.fail("53300", "too many clients are connected to this proxy (maxClientConnections)")
            return
        self.login = ClientLogin(self)
        self.proxy.wheel.arm(self, monotonic() + LOGIN_TIMEOUT)

    def data_received(self, data: bytes) -> None:
        if self.session is not None:
            self.session.received(data)
        elif self.login is not None:
            try:
                self.login.received(data)
            except ProtocolError as error:
                self.fail(error.sqlstate, error.detail)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.proxy.wheel.disarm(self)
        self.proxy.forget(self)
        session, self.session = self.session, None
        if self.login is not None:
            self.login.close()
        if session is not None:
            session.end(monotonic())

    def pause_writing(self) -> None:
        """The client does not read: neither do we, from the server."""
        if self.session is not None and self.session.connection is not None:
            self.session.connection.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.session is not None and self.session.connection is not None:
            self.session.connection.transport.resume_reading()

    def on_deadline(self, now: float) -> None:
        if self.session is None:
            self.fail("08P01", f"the login took more than {LOGIN_TIMEOUT:.0f} s")

    # ------------------------------------------------------------------ for login and session

    def begin(self, session: Session) -> None:
        """The login is over."""
        self.session, self.login = session, None
        self.proxy.wheel.arm(self, inf)

    def read_on(self) -> None:
        """Take more from the client, beginning with what is there already."""
        session = self.session
        if session is not None and session.has_more:
            asyncio.get_running_loop().call_soon(self._receive_kept)
        elif self.paused and self.transport is not None:
            self.paused = False
            self.transport.resume_reading()

    def _receive_kept(self) -> None:
        if self.session is not None and self.transport is not None:
            self.session.received(b"")
            if not self.session.has_more:
                self.read_on()

    def pause_reading(self) -> None:
        """Take nothing more from the client for now."""
        if not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def fail(self, sqlstate: str, sentence: str) -> None:
        """Say why, and close."""
        if self.transport is not None and not self.transport.is_closing():
            self.write(backend.error_response("FATAL", sqlstate, sentence))
            self.close()

    def close(self) -> None:
        """Close when what was written has gone."""
        if self.transport is not None:
            self.transport.close()
