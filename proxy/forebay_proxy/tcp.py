"""Opaque TCP relay: one client, one upstream connection, bytes both ways, nothing reused, half-closes kept.

Either side may speak first. What one has said before it has a partner is kept, and no more is read of it until then.
"""

import asyncio
from time import monotonic
from typing import Any, Final

from forebay_core.lease import CLOSING, LEASED, Connection, Refusal, Refused, Waiter
from forebay_core.spec.model import Spec
from forebay_proxy.accesslog import AccessLog
from forebay_proxy.connection import UpstreamConnection
from forebay_proxy.ending import keep_end_behind, reset_at_close
from forebay_proxy.tracing import Tracer
from forebay_proxy.upstream import KEEPALIVE, Upstream
from forebay_proxy.wheel import Wheel

CLIENT_GONE: Final = "client_gone"  # it has reset its connection, or left the queue
MAX_CLIENTS: Final = "max_clients"


class TcpConnection(UpstreamConnection):
    """The upstream's side."""

    __slots__ = ("early",)

    owner: "TcpClient | None"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.early = b""

    def data_received(self, data: bytes) -> None:
        if self.state == LEASED and self.owner is not None:
            self.owner.upstream_received(data)
        elif self.state != CLOSING:  # it may have been given to nobody yet: pausing in connection_made is in vain
            self.early += data
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self.state == LEASED and self.owner is not None:
            return self.owner.upstream_ended()
        return False


class TcpClient(Waiter, asyncio.Protocol):
    """The client's side, and the lease."""

    __slots__ = (
        "bytes_in", "bytes_out", "connection", "counted", "cut", "early", "ended", "endpoint_name", "peer", "proxy",
        "started", "taken_at", "transport", "upstream", "whole",
    )  # fmt: skip

    def __init__(self, proxy: "TcpProxy", peer: str) -> None:
        """`peer` is the client's address where a balancer has said it, else empty."""
        super().__init__()
        self.proxy = proxy
        self.transport: Any = None
        self.connection: Any = None
        self.peer = peer
        self.upstream = proxy.upstream  # it may be another for those who come after a reload
        self.early = b""
        self.ended = False  # one side has sent its end
        self.whole = False  # the client has sent its end: all of what it has to say is there
        self.cut = ""  # why we have reset it
        self.counted = False  # its outcome
        self.started = self.taken_at = 0.0
        self.endpoint_name = ""
        self.bytes_in = self.bytes_out = 0

    # ------------------------------------------------------------------ the pool

    def take(self, connection: Connection, now: float) -> bool:
        if self.transport is None and self.early:
            self._deliver(connection, now)
            return True
        if self.transport is None or self.transport.is_closing():
            return False
        self.connection = connection
        self.taken_at = now
        self.endpoint_name = connection.endpoint.name
        connection.endpoint.health.succeeded(now)
        if self.connection.early:
            self.upstream_received(self.connection.early)
        self.connection.transport.resume_reading()
        if self.early:
            self.data_received(self.early)
            self.early = b""
        if not self.ended:
            self.transport.resume_reading()
        elif self.connection.transport.can_write_eof():
            self.connection.transport.write_eof()
        else:  # TLS knows no half-close
            self.transport.close()
        return True

    def _deliver(self, connection: Connection, now: float) -> None:
        """What a TLS client has said, all of it before there was a connection."""
        self.taken_at = now
        self.endpoint_name = connection.endpoint.name
        connection.endpoint.health.succeeded(now)
        self.bytes_in = len(self.early)
        connection.transport.write(self.early)  # type: ignore[attr-defined]
        self.upstream.pool.discard(connection, self, now, "upstream")
        self.proxy.finished(self, "ok", now)
        self.proxy.forget(self)
        self.upstream.act()

    def refuse(self, refusal: Refusal, now: float) -> None:
        """There is no way to say why in plain TCP: a reset tells at least that nothing was delivered."""
        self.proxy.finished(self, refusal.reason, now)
        self.reset()

    def reset(self, reason: str = "") -> None:
        self.cut = reason
        self.upstream.pool.cancel(self, monotonic())  # what it has said is not passed on any more
        if self.transport is None:
            if not self.counted:  # its client has gone before it, see `connection_lost`
                self.proxy.finished(self, reason, monotonic())
            self.proxy.forget(self)
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:  # with unread bytes it would be a reset anyway; without, a proper end
            reset_at_close(sock)
        self.transport.abort()

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        keep_end_behind(transport)
        peername = self.transport.get_extra_info("peername")
        self.peer = self.peer or (peername[0] if peername else "")
        if not self.peer:  # it has gone already: nobody knows who it was
            self.transport.abort()
            return
        sock = self.transport.get_extra_info("socket")
        for level, option, value in KEEPALIVE:
            sock.setsockopt(level, option, value)
        now = self.started = monotonic()
        if not self.proxy.admit(self):
            self.reset()
            return
        upstream = self.upstream
        if upstream.hash_header is not None:
            self.key = self.peer.encode()
        try:
            connection = upstream.pool.acquire(self, now)
        except Refused as refused:
            self.refuse(refused.refusal, now)
            return
        if connection is not None:
            self.take(connection, now)
        else:
            upstream.act()

    def data_received(self, data: bytes) -> None:
        if self.connection is None:
            self.early += data
            self.transport.pause_reading()
            return
        self.bytes_in += len(data)
        self.connection.transport.write(data)

    def eof_received(self) -> bool:
        self.whole = True
        if self.connection is None:
            self.ended = True
            return self.transport.can_write_eof()  # type: ignore[no-any-return]
        if not self.connection.transport.can_write_eof():
            return False
        self.connection.transport.write_eof()
        both, self.ended = self.ended, True
        return not both and self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if exc is None and self.early and self in self.upstream.pool.waiters:
            return  # TLS ends both ways at once; what it has said is still to be passed on
        now = monotonic()
        self.proxy.forget(self)
        upstream, connection, self.connection = self.upstream, self.connection, None
        if connection is not None:
            # Who has sent its end and closes with something unread resets too: TLS clients that never read do.
            outcome = self.cut or ("ok" if exc is None or self.whole else CLIENT_GONE)
            if outcome != "ok":
                connection.reset()
            upstream.pool.discard(connection, self, now, "upstream" if outcome == "ok" else "error")
            self.proxy.finished(self, outcome, now)
        else:
            upstream.pool.cancel(self, now)
            if self.started and not self.counted:
                self.proxy.finished(self, self.cut or CLIENT_GONE, now)
        upstream.act()

    def pause_writing(self) -> None:
        if self.connection is not None:
            self.connection.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.connection is not None:
            self.connection.transport.resume_reading()

    # ------------------------------------------------------------------ what the upstream's side reports

    def upstream_received(self, data: bytes) -> None:
        self.bytes_out += len(data)
        self.transport.write(data)

    def upstream_ended(self) -> bool:
        if not self.transport.can_write_eof():
            self.transport.close()
            return False
        self.transport.write_eof()
        both, self.ended = self.ended, True
        return not both

    def upstream_lost(self, connection: TcpConnection, exc: Exception | None, now: float) -> None:
        self.connection = None
        self.proxy.finished(self, "ok" if exc is None else "upstream_reset", now)
        if self.transport is not None:
            if exc is None:
                self.transport.close()
            else:
                self.reset()

    def take_back(self) -> None:
        """The connection's place in the budget is another's now, and the time to end by itself is over."""
        self.reset("taken_back")

    def upstream_full(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def upstream_drained(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()


class TcpProxy:
    """The protocol `tcp` of one worker."""

    def __init__(self, wheel: Wheel) -> None:
        self.wheel = wheel
        self.clients: set[TcpClient] = set()
        self.rejections: dict[str, int] = {}
        self.codes: dict[int | str, int] = {}
        self.log: AccessLog | None = None

    def configure(self, spec: Spec, upstreams: dict[str, Upstream], max_clients: int) -> None:
        """Take a document; whoever is connected stays so."""
        self._max_clients = max_clients
        self.upstream = upstreams[spec.upstreams[0].name]
        self.upstream.codes.setdefault("ok", 0)  # a rate is asked for before the first connection has ended

    def __call__(self, peer: str | None = None) -> TcpClient:
        """The protocol factory of the listeners; `peer` is what a balancer says of the client."""
        return TcpClient(self, peer or "")

    def admit(self, client: TcpClient) -> bool:
        if len(self.clients) >= self._max_clients:
            client.counted = True
            self.count_rejection(MAX_CLIENTS)
            self.codes[MAX_CLIENTS] = self.codes.get(MAX_CLIENTS, 0) + 1
            self._tell(client, None, MAX_CLIENTS, client.started)
            return False
        self.clients.add(client)
        return True

    def count_rejection(self, reason: str) -> None:
        """A connection was refused before it could ask for anything."""
        self.rejections[reason] = self.rejections.get(reason, 0) + 1

    def forget(self, client: TcpClient) -> None:
        self.clients.discard(client)

    def drain(self) -> None:
        """Nothing is said to the clients yet."""

    def close_idle(self) -> None:
        """Every connection of a client is one exchange: none is idle."""

    def cut_all(self) -> None:
        """The drain's deadline has come."""
        for client in list(self.clients):
            client.reset("draining")

    def finished(self, client: TcpClient, outcome: str, now: float) -> None:
        client.counted = True
        upstream = client.upstream
        upstream.count(outcome, now - client.started)
        if outcome not in ("ok", CLIENT_GONE):
            upstream.rejections[outcome] = upstream.rejections.get(outcome, 0) + 1
        self._tell(client, upstream, outcome, now)

    def _tell(self, client: TcpClient, upstream: Upstream | None, outcome: str, now: float) -> None:
        """The access log; `upstream` is None where the client has come to none."""
        if self.log is not None:
            waited = client.assigned_at or client.taken_at or now
            self.log.write(
                client=client.peer,
                method=b"",
                target=b"",
                host=b"",
                status=0,
                upstream=upstream.name if upstream is not None else None,
                endpoint=client.endpoint_name or None,
                bytes_in=client.bytes_in,
                bytes_out=client.bytes_out,
                wait=waited - client.started if upstream is not None else None,
                connect=client.taken_at - client.assigned_at if client.assigned_at and client.taken_at else None,
                upstream_time=now - client.taken_at if client.taken_at else None,
                total=now - client.started,
                attempts=1 if client.taken_at else 0,
                reused=False,
                error=None if outcome == "ok" else outcome,
            )

    def observe_with(self, log: AccessLog | None, tracer: Tracer | None, *, log_all: bool) -> None:
        """Where connections are told when they end. A long one is not a slow one, and there is nothing to trace in it:
        only `accessLog` counts here."""
        self.log = log if log_all else None
