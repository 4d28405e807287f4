"""The client's side of HTTP/1: one connection, its requests one after the other.

Pipelined requests wait in `buffer` until the answer before them is complete; a client that sends more than that, or
does not read, is itself not read. Each phase of the connection has its own deadline, and a slow client loses only its
own connection.
"""

import asyncio
import socket
import struct
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from forebay_core.http1 import ProtocolError, RequestHead, scan_request
from forebay_proxy.http import answers
from forebay_proxy.http.exchange import Exchange

if TYPE_CHECKING:
    from forebay_proxy.http.proxy import HttpProxy

LINGER: Final = 2.0  # seconds that a client has to read an answer whose request we did not read to the end


class ClientConnection(asyncio.Protocol):
    """One downstream connection; an entry of the timer wheel."""

    # Phases, each with the deadline that `expect` gives it.
    IDLE: Final = 0  # between requests
    HEAD: Final = 1  # a request's head has begun
    BODY: Final = 2  # its body is being read
    QUEUE: Final = 3  # it waits for a connection: the pool has that deadline
    ANSWER: Final = 4  # the upstream has it
    STREAM: Final = 5  # the answer, or a tunnel, is under way
    CLOSING: Final = 6  # answered; what the client still sends is dropped

    __slots__ = (
        "_eof", "_full", "_paused", "_stalled", "_suffix", "_suffix_host", "_suffix_minor",
        "buffer", "deadline", "exchange", "peer", "phase", "proxy", "transport",
        "trusted", "wheel_due", "writable", "write",
    )  # fmt: skip

    def __init__(self, proxy: "HttpProxy", peer: str) -> None:
        """`peer` is the client's address where a balancer has said it, else empty."""
        self.proxy = proxy
        self.peer = peer
        self.transport: Any = None
        self.exchange: Exchange | None = None
        self.buffer = b""
        self.phase = self.IDLE
        self.deadline = self.wheel_due = inf
        self.writable = True
        self._eof = False
        self._paused = False
        self._full = False  # the upstream does not take the body as fast as it comes
        self._stalled = 0.0
        self._suffix_host: bytes | None = None
        self._suffix_minor = 1
        self._suffix = b""

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.write = self.transport.write
        peername = self.transport.get_extra_info("peername")
        self.peer = self.peer or (peername[0] if peername else "")
        self.trusted = self.proxy.trusts(self.peer)
        if not self.proxy.admit(self):
            self.write(answers.render(answers.MAX_CLIENTS, close=True, head_only=False))
            self.close()
            return
        self.transport.set_write_buffer_limits(high=self.proxy.http.response_buffer)
        self.expect(monotonic(), self.HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.proxy.wheel.disarm(self)
        self.proxy.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.abandon("client_gone")

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            if self.phase != self.CLOSING:
                self._process(self.buffer + data if self.buffer else data)
        elif exchange.tunnel:
            exchange.tunnel_received(data)
        elif exchange.request_done:
            self.buffer += data
            if len(self.buffer) > self.proxy.http.max_header_bytes:
                self.transport.pause_reading()
                self._paused = True
        else:
            exchange.body_received(data)

    def eof_received(self) -> bool:
        exchange = self.exchange
        self._eof = True
        if exchange is None:
            return False
        if exchange.tunnel:
            return exchange.tunnel_client_ended()
        if not exchange.request_done:
            exchange.abandon("client_gone")
            self.close()
            return False
        return True  # a half-close: the answer is still wanted

    def pause_writing(self) -> None:
        self.writable = False
        if self.exchange is not None and self.exchange.connection is not None:
            self.exchange.connection.transport.pause_reading()

    def resume_writing(self) -> None:
        self.writable = True
        if self.exchange is not None:
            if self.exchange.connection is not None:
                self.exchange.connection.transport.resume_reading()
        else:
            self._process_buffer()

    # ------------------------------------------------------------------ requests

    def _process(self, data: bytes) -> None:
        """Begin the request that `data` starts with, if its head is complete."""
        proxy = self.proxy
        if not self.writable:  # a client that pipelines and does not read
            self.buffer = data
            self._stop_reading()
            return
        if self._paused:
            self._read_on()
        try:
            head = scan_request(data, proxy.http.max_header_bytes, self.trusted)
        except ProtocolError as error:
            self._refuse(answers.Failure(error.status, "bad_request", error.detail))
            return
        now = monotonic()
        if head is None:
            self.buffer = data
            if self.phase != self.HEAD:
                self.expect(now, self.HEAD)
            return
        self.buffer = b""
        self.exchange = Exchange(self, head, now)
        self.exchange.begin(data[head.end :] if head.end < len(data) else b"")

    def _process_buffer(self) -> None:
        if self.buffer and self.exchange is None and self.transport is not None and self.phase != self.CLOSING:
            self._process(self.buffer)

    def finished(self, exchange: Exchange, now: float) -> None:
        """The exchange is over; the connection goes on with the next one, or closes."""
        if self.exchange is not exchange:
            return
        self.exchange = None
        if self.transport is None:
            return
        if not exchange.request_done:
            self.close_after_answer()
        elif exchange.close_client or (self._eof and not self.buffer):
            self.close()
        else:
            self.expect(now, self.IDLE)
            if self.buffer or self._paused:
                self._read_on()
                # Not at once: others have their turn between the requests of a client that pipelines.
                self.proxy.loop.call_soon(self._process_buffer)

    def _refuse(self, failure: answers.Failure) -> None:
        """A request that can't be read: answered, and nothing after it is believed."""
        self.proxy.reject(None, failure.reason)
        self.proxy.refused(self, failure)
        self.buffer = b""
        self.write(answers.render(failure, close=True, head_only=False))
        self.close_after_answer()

    def suffix(self, head: RequestHead) -> bytes:
        """The fields that the proxy adds, and the blank line: nearly always those of the request before."""
        if head.forwarding:
            return self._make_suffix(head)
        if head.host != self._suffix_host or head.minor != self._suffix_minor:
            self._suffix = self._make_suffix(head)
            self._suffix_host = head.host
            self._suffix_minor = head.minor
        return self._suffix

    def _make_suffix(self, head: RequestHead) -> bytes:
        """X-Forwarded-* as everybody writes them, and Forwarded by RFC 7239."""
        peer, host = self.peer.encode(), head.host
        node = b'"[%b]"' % peer if b":" in peer else peer
        proto = b"https" if self.proxy.tls else b"http"
        before: dict[bytes, list[bytes]] = {}
        for name, value in head.forwarding:
            before.setdefault(name, []).append(value)
        forwarded = b"for=%b;proto=%b" % (node, proto) + (b';host="%b"' % host if host else b"")
        chain = [*before.get(b"x-forwarded-for", ()), peer]
        return b"".join(
            (
                b"X-Forwarded-For: ", b", ".join(chain),
                b"\r\nX-Forwarded-Proto: ", before.get(b"x-forwarded-proto", [proto])[-1],
                b"\r\nX-Forwarded-Host: ", before.get(b"x-forwarded-host", [host])[-1],
                b"\r\nForwarded: ", b", ".join([*before.get(b"forwarded", ()), forwarded]),
                b"\r\nVia: 1.%d forebay\r\n\r\n" % head.minor,
            )
        )  # fmt: skip

    # ------------------------------------------------------------------ deadlines

    def expect(self, now: float, phase: int) -> None:
        """Enter a phase; its deadline starts now."""
        self.phase = phase
        self.proxy.wheel.arm(self, now + self.proxy.patience[phase])

    def on_deadline(self, now: float) -> None:
        phase, exchange, http = self.phase, self.exchange, self.proxy.http
        if phase == self.HEAD and self.buffer:
            self._refuse(answers.HEADER_TIMEOUT)
        elif exchange is None or phase in (self.IDLE, self.HEAD, self.CLOSING):
            self.abort() if phase == self.CLOSING else self.close()
        elif phase == self.ANSWER:
            exchange.timed_out(answers.RESPONSE_TIMEOUT, now)
        elif phase == self.STREAM:
            exchange.abandon("stream_idle")
            self.cut()
        elif phase == self.BODY:
            if self._full:  # not the client's fault
                exchange.timed_out(answers.RESPONSE_TIMEOUT, now)
            elif exchange.connection is None or exchange.upstream.pool.waiters:
                exchange.timed_out(answers.BODY_TIMEOUT, now)
            else:  # nobody waits for the connection that it holds, so it may take longer
                self._stalled = self._stalled or now
                if now - self._stalled > http.stream_idle_timeout:
                    exchange.timed_out(answers.BODY_TIMEOUT, now)
                else:
                    self.proxy.wheel.arm(self, now + http.body_timeout)

    # ------------------------------------------------------------------ flow control

    def pause(self, exchange: Exchange) -> None:
        """Stop reading: what the exchange holds of its body is enough for now."""
        self._full = exchange.connection is not None
        self._stop_reading()

    def unpause(self) -> None:
        """Read on."""
        self._full = False
        self._read_on()

    def _stop_reading(self) -> None:
        if not self._paused and self.transport is not None:
            self.transport.pause_reading()
            self._paused = True

    def _read_on(self) -> None:
        if self._paused and self.transport is not None:
            self.transport.resume_reading()
            self._paused = False

    # ------------------------------------------------------------------ closing

    def write_eof(self) -> bool:
        """Close our side only. False where the transport can't (TLS) or is gone."""
        if self.transport is None or not self.transport.can_write_eof():
            return False
        self.transport.write_eof()
        return True

    def close(self) -> None:
        """Close when what was written is sent."""
        if self.transport is not None:
            self.expect(monotonic(), self.CLOSING)
            self.transport.close()

    def close_after_answer(self) -> None:
        """Close, but not before the client could read the answer: closing with unread input would reset it
        (RFC 9112 section 9.6)."""
        self.expect(monotonic(), self.CLOSING)
        self._read_on()
        if not self.write_eof() and self.transport is not None:
            self.transport.close()

    def cut(self) -> None:
        """End a half-sent answer so that nobody takes it for a whole one: by a reset, as a close would be the proper
        end of an answer without framing."""
        if self.transport is None:
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def abort(self) -> None:
        """Close now, whatever is unsent."""
        if self.transport is not None:
            self.transport.abort()
