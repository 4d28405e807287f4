"""One connection to an upstream's endpoint, as an asyncio Protocol: what all protocols share.

It is counted from before `connect()` until the upstream's end is seen closed. So closing is: send FIN, go on reading
(what comes is dropped), and only the upstream's own end, or `linger` seconds, ends it. A backend that is still busy
with a request whose client has gone keeps its place until it has noticed: opening another connection beside it would
be one too many. (PgBouncer and HAProxy count until their own close(); a server at its limit then refuses.)
"""

import asyncio
import socket
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from forebay_core.balance import Endpoint
from forebay_core.lease import CLOSING, IDLE, LEASED, OPENING, Connection, Refusal
from forebay_proxy.ending import keep_end_behind, reset_at_close

if TYPE_CHECKING:
    from forebay_proxy.upstream import Upstream


FULL = "server_full"  # the reason of a LoginError where there is no connection left for anybody
CHECKED = "checked"  # the reason of a LoginError that ends a check: there is somebody who answers


class LoginRefusal(Refusal):
    """A refusal in the server's own words: `code` is what its protocol numbers errors by."""

    __slots__ = ("code",)

    code: str

    def __init__(self, reason: str, code: str, detail: str) -> None:
        super().__init__(reason, detail)
        object.__setattr__(self, "code", code)


class LoginError(OSError):
    """The upstream has accepted the connection and not let us in. `reason` is the metric's label: `login` where it
    says nothing of the endpoint's health."""

    def __init__(self, code: str, sentence: str, reason: str = "login") -> None:
        super().__init__(0, sentence)
        self.refusal = LoginRefusal(reason, code, sentence)


class BriefOwner:
    """Leases a connection for a question of ours: it ends by itself, and is smaller than any buffer."""

    __slots__ = ()

    def take_back(self) -> None:
        """Nothing to do: it is over soon."""

    def upstream_full(self) -> None:
        """Nothing more is written."""

    def upstream_drained(self) -> None:
        """Nothing more is written."""


class UpstreamConnection(Connection, asyncio.Protocol):
    """Engine record and protocol in one. Subclasses read the wire in `data_received` while it is leased."""

    __slots__ = ("deadline", "record", "sock", "transport", "upstream", "wheel_due")

    transport: Any  # asyncio.Transport; Any, as uvloop's classes are not known to mypy

    def __init__(self, endpoint: Endpoint, upstream: "Upstream") -> None:
        super().__init__(endpoint)
        self.upstream = upstream
        self.transport = None
        self.sock: socket.socket | None = None
        self.record = -1  # in the memory
        self.deadline = self.wheel_due = inf

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.endpoint.name} state={self.state} uses={self.uses}>"

    # ------------------------------------------------------------------ engine

    def stale(self) -> bool:
        """`prePing`: is there an EOF, or a byte that nobody asked for, which the loop has not seen yet?"""
        if self.upstream.pre_ping == "never":
            return False
        if self.sock is None:
            return True
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False  # nothing there, as it should be
        except OSError:
            return True
        return True

    # ------------------------------------------------------------------ opening

    async def ask_for_tls(self, sock: socket.socket) -> None:
        """What a protocol says before the TLS handshake. Raises LoginError, OSError."""

    async def log_in(self) -> None:
        """What a protocol says before the first lease. Raises LoginError, OSError."""

    def chosen(self, refusal: Refusal) -> bool:
        """Whether it is what a client has chosen that was refused: that says nothing of the upstream."""
        return False

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        keep_end_behind(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state == OPENING:  # between connect() and `opened`: the opener finds it out
            self.transport = self.sock = None
            return
        upstream, owner = self.upstream, self.owner if self.state == LEASED else None
        now = monotonic()
        upstream.wheel.disarm(self)
        upstream.forget(self)
        if owner is not None:
            owner.upstream_lost(self, exc, now)  # type: ignore[attr-defined]
        upstream.act()

    def eof_received(self) -> bool:
        """The upstream has closed its side; False lets the transport close ours."""
        return False

    def data_received(self, data: bytes) -> None:
        """Bytes outside of a lease: dropped while closing; else they poison the connection."""
        if self.state == IDLE:
            self.poison()
        elif self.state == OPENING:
            self.upstream.pool.retire(self, "error")

    def pause_writing(self) -> None:
        if self.owner is not None and self.state == LEASED:
            self.owner.upstream_full()  # type: ignore[attr-defined]

    def resume_writing(self) -> None:
        if self.owner is not None and self.state == LEASED:
            self.owner.upstream_drained()  # type: ignore[attr-defined]

    # ------------------------------------------------------------------ closing

    def reset(self) -> None:
        """Cut a relay whose client is gone without an end: the far side must neither take what it has got for all, nor
        go on sending to nobody. To be called before the lease ends, as that sends an end.

        Under a budget an end must do: the place is free when the far side has let go, and a reset is not answered.
        """
        if self.upstream.spec.budget is not None:
            return
        if self.sock is not None and self.sock.fileno() >= 0:  # over TLS it may be closed already
            reset_at_close(self.sock)
        self.transport.abort()

    def poison(self) -> None:
        """Unasked bytes while idle: nothing that follows on this connection can be believed (RFC 9112 section 9.2)."""
        self.upstream.pool.retire(self, "error")
        self.upstream.act()

    def shut(self, linger: float) -> None:
        """Close our side, and wait at most `linger` seconds for the upstream's."""
        transport = self.transport
        if transport.is_closing():
            return
        if transport.can_write_eof():
            transport.resume_reading()
            transport.write_eof()
        else:  # TLS, be it asked for no longer
            transport.close()  # close_notify; the transport waits for the peer's, at most ssl_shutdown_timeout
        self.upstream.wheel.arm(self, monotonic() + linger)

    def on_deadline(self, now: float) -> None:
        if self.state == CLOSING:
            self.transport.abort()
