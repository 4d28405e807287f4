"""The client's side of HTTP/1: one connection, its requests one after the other.

Pipelined requests wait in `buffer` until the answer before them is complete; a client that sends more than that, or
does not read, is itself not read. Each phase of the connection has its own deadline, and a slow client loses only its
own connection.

The usual request is `lone`: it comes in one read, with nothing behind it, and has no body. While it is under way, and
the answer comes as usually too, in one read (`HttpConnection`), nothing has to be looked at that an `Exchange` keeps
for other cases: one exchange per client serves all of those, one after the other. Whatever else comes of either side
makes it an exchange like the others (`attend`). `rests` says that the next may be lone.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from forebay_core.http1 import ProtocolError, RequestHead, scan_request
from forebay_proxy.ending import end_tls, keep_end_behind, reset_at_close, uncork
from forebay_proxy.http import answers, phases
from forebay_proxy.http.exchange import Exchange

if TYPE_CHECKING:
    from forebay_proxy.http.proxy import HttpProxy

LINGER: Final = 2.0  # seconds without a byte from the client after which a closing connection is gone
LINGER_MOST: Final = 30.0  # seconds that we go on dropping what a client sends after its answer; as nginx
SUFFIXES: Final = 1024  # for how many clients and hosts the fields that we add are remembered
LONGEST_HOST: Final = 261  # bytes: a name of 255 (RFC 1035 section 2.3.4) with its port; longer ones are not
STREAM_IDLE: Final = "stream_idle"
MAPPED: Final = "::ffff:"  # an IPv4 client on an IPv6 socket (RFC 4291 section 2.5.5.2)


def added_fields(
    peer: str, proto: bytes, host: bytes, minor: int, forwarding: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """X-Forwarded-* as everybody writes them, Forwarded by RFC 7239, Via, and the blank line. `forwarding` are those of
    a client that is trusted to say them."""
    client = peer.encode()
    node = b'"[%b]"' % client if b":" in client else client
    before: dict[bytes, list[bytes]] = {}
    for name, value in forwarding:
        before.setdefault(name, []).append(value)
    forwarded = b"for=%b;proto=%b" % (node, proto) + (b';host="%b"' % host if host else b"")
    chain = [*before.get(b"x-forwarded-for", ()), client]
    host = before.get(b"x-forwarded-host", [host])[-1]
    return b"".join(
        (
            b"X-Forwarded-For: ", b", ".join(chain),
            b"\r\nX-Forwarded-Proto: ", before.get(b"x-forwarded-proto", [proto])[-1],
            b"\r\nX-Forwarded-Host: %b" % host if host else b"",  # HTTP/1.0 may have none
            b"\r\nForwarded: ", b", ".join([*before.get(b"forwarded", ()), forwarded]),
            b"\r\nVia: 1.%d forebay\r\n\r\n" % minor,
        )
    )  # fmt: skip


usual_fields = lru_cache(SUFFIXES)(added_fields)  # a client that connects anew for each request


class ClientConnection(asyncio.Protocol):
    """One downstream connection; an entry of the timer wheel."""

    __slots__ = (
        "_closing_since", "_head_since", "_paused", "buffer", "corked", "deadline", "ended", "exchange", "lone", "peer",
        "phase", "proxy", "rests", "suffix", "suffix_host", "tls", "transport", "trusted", "wheel_due", "writable",
        "write",
    )  # fmt: skip

    scan: Callable[[bytes, int, bool], Any] = staticmethod(scan_request)  # reads a head
    begin: type[Exchange] = Exchange  # what is made of it

    def __init__(self, proxy: "HttpProxy", peer: str) -> None:
        """`peer` is the client's address where a balancer has said it, else empty."""
        self.proxy = proxy
        self.peer = peer
        self.transport: Any = None
        self.exchange: Exchange | None = None
        self.lone: Exchange | None = None
        self.rests = False
        self.buffer = b""
        self.phase = phases.IDLE
        self.deadline = self.wheel_due = inf
        self.writable = True
        self.ended = False  # the client has closed its side
        self._paused = False
        self._closing_since = 0.0
        self._head_since = 0.0  # when it began, while a part of it is all that has come
        self.suffix_host: bytes | None = None
        self.suffix = b""

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.corked = transport.can_write_eof()
        self.tls = not self.corked
        self.write: Callable[[bytes], None] = transport.write
        if self.corked:
            self.write = self._write_first
        else:  # its listening socket may have been another worker's a moment ago, which had no TLS then
            uncork(transport)
            keep_end_behind(transport)
        peername = transport.get_extra_info("peername")
        self.peer = self.peer or (peername[0].removeprefix(MAPPED) if peername else "")
        if not self.peer:  # it has gone, and what it has sent is nobody's: no network is allowed that
            transport.abort()
            return
        proxy = self.proxy
        self.trusted = bool(proxy.trusted) and proxy.trusts(self.peer)
        if not proxy.admit(self):
            proxy.refused(self, answers.MAX_CLIENTS, 0.0)
            self.write(answers.render(answers.MAX_CLIENTS, close=True, head_only=False))
            self.close_after_answer()
            return
        transport.set_write_buffer_limits(proxy.http.response_buffer)
        self.phase = phases.HEAD  # `expect`, written out
        self.deadline = monotonic() + proxy.patience[phases.HEAD]
        proxy.wheel.place(self)
        self.rests = proxy.lone is not None

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        proxy = self.proxy
        proxy.wheel.disarm(self)
        proxy.clients.discard(self)
        proxy.turned_away.pop(self, None)
        del self.write  # it may know of us
        exchange = self.exchange
        if exchange is not None:
            self.attend()
            self.exchange = None
            # Over TLS an end is one of both ways.
            exchange.abandon("client_gone", ended=exc is None and (self.tls or self.ended))
        self.lone = None

    def _write_first(self, data: bytes) -> None:
        """What is no last answer must not wait for the end, see `ending`."""
        if self.transport is not None:
            uncork(self.transport)
            self.corked = False
            self.write = self.transport.write
            self.write(data)

    def data_received(self, data: bytes) -> None:
        if not self.rests:
            self._received(data)
            return
        self.rests = False
        proxy = self.proxy
        try:
            head = scan_request(data, proxy.http.max_header_bytes, self.trusted)
        except ProtocolError as error:
            self._refuse(answers.Failure(error.status, "bad_request", error.detail))
            return
        now = monotonic()
        upstream = proxy.lone
        if head is None or not head.lone or upstream is None:
            self._begin(data, head, now)
            return
        if head.host != self.suffix_host:
            self.make_suffix(head)
        exchange = self.lone
        if exchange is None:
            exchange = self.lone = proxy.spare or Exchange(self, head, now)
            exchange.client = self
            proxy.spare = None
        self.exchange = exchange
        exchange.head = head
        exchange.request = request = head.head + self.suffix
        exchange.started = exchange.ready_at = now
        exchange.upstream = upstream
        if not head.keep_alive:
            exchange.close_client = True
        upstream.new_requests += 1
        connection: Any = upstream.pool.lend(exchange, now)
        if connection is None:
            exchange.wait_alone(now)
            return
        exchange.connection = connection
        exchange.deadline = now + upstream.pool.timeout
        exchange.attempts = 1
        connection.lone = True
        self.phase = phases.ANSWER  # `expect`, written out
        deadline = self.deadline = now + proxy.patience[phases.ANSWER]
        if deadline < self.wheel_due:
            proxy.wheel.place(self)
        connection.transport.write(request)

    def _received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            if self.phase != phases.CLOSING:
                self._process(self.buffer + data if self.buffer else data)
            elif (now := monotonic()) < self._closing_since + LINGER_MOST:
                self.proxy.wheel.arm(self, now + LINGER)
        elif exchange.tunnel:
            exchange.tunnel_received(data)
        elif exchange.request_done or exchange.body is None:
            self.attend()
            self.buffer += data
            if len(self.buffer) > self.proxy.http.max_header_bytes:
                self.stop_reading()
        else:
            exchange.body.received(data)

    def eof_received(self) -> bool:
        """The client sends no more; True keeps our side open. TLS has no half-close here: its transport closes."""
        exchange = self.exchange
        self.attend()
        self.ended = True
        if not self.transport.can_write_eof():
            return False
        if exchange is None:
            return self.phase == phases.IDLE and bool(self.buffer)  # whole requests may wait for their turn
        if exchange.tunnel:
            return exchange.tunnel_client_ended()
        if not exchange.request_done:
            self.close()
            exchange.abandon("client_gone")
            return False
        return True  # a half-close: the answer is still wanted

    def pause_writing(self) -> None:
        self.writable = False
        self.attend()
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

    def attend(self) -> None:
        """Something is to be heeded: whatever comes next, of either side, is looked at."""
        self.rests = False
        self.lone = None
        if self.exchange is not None and self.exchange.connection is not None:
            self.exchange.connection.lone = False

    def _process(self, data: bytes) -> None:
        """Begin the request that `data` starts with, if its head is complete."""
        proxy = self.proxy
        if not self.writable:  # a client that pipelines and does not read
            self.buffer = data
            self.stop_reading()
            return
        if self._paused:
            self.read_on()
        scan = self.scan
        try:
            head = scan(data, proxy.http.max_header_bytes, self.trusted)
        except ProtocolError as error:
            self._refuse(answers.Failure(error.status, "bad_request", error.detail))
            return
        self._begin(data, head, monotonic())

    def _begin(self, data: bytes, head: RequestHead | None, now: float) -> None:
        """`data` begins with this head; None: with a part of one."""
        if head is None:
            if data == b"\r\n" and self.phase == phases.IDLE and not self.ended:  # clients of old send it behind a body
                self.buffer = b""
                self._rest()
                return
            if not self.buffer or self.phase != phases.HEAD:
                self._head_since = now
            self.buffer = data
            if self.ended:  # it will never be complete
                self.close()
            elif self.phase != phases.HEAD:
                self.expect(now, phases.HEAD)
            return
        self.buffer = b""
        begin = self.begin
        self.exchange = exchange = begin(self, head, now)
        end = head.end
        exchange.begin(data[end:] if end < len(data) else b"")

    def _process_buffer(self) -> None:
        if self.buffer and self.exchange is None and self.transport is not None and self.phase != phases.CLOSING:
            self._process(self.buffer)

    def finished(self, exchange: Exchange, now: float) -> None:
        """The exchange is over; the connection goes on with the next one, or closes."""
        exchange.body = None  # they know each other: else both stay, with all their bytes, until garbage is collected
        self.lone = None
        if self.exchange is not exchange:
            return
        self.exchange = None
        if self.transport is None or self.phase == phases.CLOSING:
            return
        # Told only now, it may have sent more that is still on its way.
        told_now = exchange.head.keep_alive and not self.ended
        if not exchange.request_done or (exchange.close_client and (told_now or self.buffer or self._paused)):
            self.close_after_answer()
        elif exchange.close_client or (self.ended and not self.buffer):
            self.close()
        else:
            self.expect(now, phases.IDLE)
            if self.buffer or self._paused:
                self.read_on()
                # Not at once: others have their turn between the requests of a client that pipelines.
                self.proxy.loop.call_soon(self._process_buffer)
            else:
                self._rest()

    def _rest(self) -> None:
        """Nothing is under way."""
        self.rests = self.writable and self.proxy.lone is not None

    def _refuse(self, failure: answers.Failure) -> None:
        """A request that can't be read: answered, and nothing after it is believed."""
        self.proxy.reject(None, failure.reason)
        in_parts = self.phase == phases.HEAD and self.buffer
        self.proxy.refused(self, failure, monotonic() - self._head_since if in_parts else 0.0)
        self.write(answers.render(failure, close=True, head_only=False))
        self.close_after_answer()

    def make_suffix(self, head: RequestHead) -> bytes:
        """The fields that the proxy adds, and the blank line. Kept for the next request, unless the client's own fields
        are part of it."""
        proto = b"https" if self.tls else b"http"
        if head.forwarding:
            return added_fields(self.peer, proto, head.host, head.minor, head.forwarding)
        made = usual_fields if len(head.host) <= LONGEST_HOST else added_fields
        suffix = made(self.peer, proto, head.host, head.minor)
        if head.minor:
            self.suffix, self.suffix_host = suffix, head.host
        return suffix

    # ------------------------------------------------------------------ deadlines

    def expect(self, now: float, phase: int) -> None:
        """Enter a phase; its deadline starts now."""
        self.phase = phase
        proxy = self.proxy
        deadline = self.deadline = now + proxy.patience[phase]
        if deadline < self.wheel_due:  # Wheel.arm, written out
            proxy.wheel.place(self)

    def on_deadline(self, now: float) -> None:
        phase, exchange = self.phase, self.exchange
        if phase == phases.CLOSING:
            self._closing_stalled(now)
        elif phase == phases.HEAD and self.buffer:
            self._refuse(answers.HEADER_TIMEOUT)
        elif exchange is None:
            self.close()
        elif phase == phases.ANSWER and self.writable:
            exchange.timed_out(answers.RESPONSE_TIMEOUT, now)
        elif phase in (phases.ANSWER, phases.STREAM):  # ANSWER: a client that is full keeps the upstream from answering
            self.cut()
            self.proxy.reject(exchange.upstream, STREAM_IDLE)
            exchange.abandon(STREAM_IDLE)
        elif phase == phases.BODY and exchange.body is not None:
            exchange.body.stalled(now)

    # ------------------------------------------------------------------ flow control

    def stop_reading(self) -> None:
        """What came last is enough for now."""
        if not self._paused and self.transport is not None:
            self.attend()
            self.transport.pause_reading()
            self._paused = True

    def read_on(self) -> None:
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

    def write_last(self, data: bytes) -> None:
        """As `write`, for what is followed by a close: where nothing was written before, both are one packet. Our side
        ends before the close, as that resets a client that goes on sending, and drops what was not sent until then."""
        transport = self.transport
        transport.write(data)
        if self.corked:
            transport.write_eof()

    def close_with(self, answer: bytes) -> None:
        """Write an answer, and close when it is sent."""
        if self.tls and not self.transport.get_write_buffer_size():
            self._begin_closing()
            end_tls(self.transport, answer)
        else:
            self.write_last(answer)
            self.close()

    def close(self) -> None:
        """Close when what was written is sent."""
        if self.transport is not None:
            if self.tls or self.transport.get_write_buffer_size():  # over TLS that does not count what TCP still has
                self._begin_closing()
            else:  # it closes at once
                self.attend()
                self.buffer = b""
                self.phase, self.deadline = phases.CLOSING, inf
            self.transport.close()

    def close_after_answer(self) -> None:
        """Close, but not before the client could read the answer: closing with unread input would reset it
        (RFC 9112 section 9.6)."""
        self._begin_closing()
        self.read_on()
        if not self.write_eof() and self.transport is not None:
            self.transport.close()

    def _begin_closing(self) -> None:
        """From now on nothing that the client sends is believed."""
        now = self._closing_since = monotonic()
        self.attend()
        self.buffer = b""
        self.expect(now, phases.CLOSING)

    def _closing_stalled(self, now: float) -> None:
        """Nothing has come for a while: end it, unless the client has not taken all of its answer yet."""
        if not self.transport.can_write_eof() and now < self._closing_since + LINGER_MOST:
            self.proxy.wheel.arm(self, now + LINGER)  # TLS does not tell what it has left to send
        elif self.transport.get_write_buffer_size() and now < self._closing_since + self.proxy.http.stream_idle_timeout:
            self.proxy.wheel.arm(self, now + LINGER)
        else:
            self.abort()

    def drained(self) -> None:
        """The time that a drain leaves for what is under way is over."""
        if self.exchange is not None:
            self.exchange.fail(answers.DRAINING)
        elif self.tls or not self.transport.get_write_buffer_size():  # TLS does not tell what it has left
            self.abort()
        else:
            self.cut()

    def cut(self) -> None:
        """End a half-sent answer so that nobody takes it for a whole one: by a reset, as a close would be the proper
        end of an answer without framing."""
        if self.transport is None:
            return
        self._begin_closing()
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            reset_at_close(sock)
        self.abort()

    def abort(self) -> None:
        """Close now, whatever is unsent."""
        if self.transport is not None:
            self.transport.abort()
