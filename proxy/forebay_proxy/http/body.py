"""A request's body on its way up: decoded, counted, buffered until there is a connection, then passed on as it comes.

Up to `requestBuffer` is taken before a connection is asked for; what is longer streams from then on, and is read from
the client no faster than the upstream takes it. While others wait for the connection that it holds, it has to go on at
`LEAST_RATE` at least, counted over each `bodyTimeout`: a byte now and then would hold the connection for good.
"""

from time import monotonic
from typing import TYPE_CHECKING

from forebay_core.http1 import ChunkDecoder, ProtocolError
from forebay_proxy.http import answers, phases

if TYPE_CHECKING:
    from forebay_proxy.http.exchange import Exchange
    from forebay_proxy.http.upstream import HttpConnection
    from forebay_proxy.upstream import Upstream

LEAST_RATE = 1024  # bytes of payload a second; Apache's mod_reqtimeout asks for 500, and EDGE has ten times this
HEARING = 0.001  # seconds that an upstream which has begun to answer is heard before more is sent to it


def chunk(payload: bytes) -> bytes:
    """One chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class RequestBody:
    """The body of one exchange's request. Made only where there is one."""

    __slots__ = (
        "_counted", "_decoder", "_exchange", "_heard", "_left", "_pieces", "_streaming", "_unserved", "held",
        "replayable",
    )  # fmt: skip

    def __init__(self, exchange: "Exchange") -> None:
        head = exchange.head
        self._exchange = exchange
        self._decoder = ChunkDecoder(exchange.max_head) if head.chunked else None
        self._left = head.content_length
        self._pieces: list[bytes] = []  # as they go upstream, kept for a retry
        self._streaming = False  # longer than the buffer
        self._counted = 0  # bytes_in when the deadline was set anew
        self._unserved = 0  # how many others had waited in vain then
        self._heard = 0.0  # when something came last
        self.held = b""  # kept back while the upstream is heard
        self.replayable = True  # nothing has been sent that is not in `_pieces`

    def received(self, data: bytes) -> None:
        """More of the body, and perhaps the next request behind it, which goes back to the client's buffer."""
        exchange = self._exchange
        client = exchange.client
        decoder = self._decoder
        if decoder is None:
            piece = data[: self._left]
            self._left -= len(piece)
            done = not self._left
            rest = data[len(piece) :]
        else:
            try:
                piece, end = decoder.feed(data, 0)
            except ProtocolError as error:
                exchange.fail(answers.Failure(error.status, "bad_request", error.detail))
                return
            done = decoder.done
            rest = data[end:]
        exchange.bytes_in += len(piece)
        limit = client.proxy.http.max_body_bytes
        if limit and exchange.bytes_in > limit:
            exchange.fail(answers.BODY_TOO_LARGE)
            return
        if done:
            exchange.request_done = True
            client.buffer = rest
        if decoder is not None:
            piece = (chunk(piece) if piece else b"") + (b"0\r\n" + decoder.trailer + b"\r\n" if done else b"")
        now = self._heard = monotonic()
        if exchange.connection is not None:
            self.replayable = False
            # Before the write, which may find the upstream full.
            if done:
                client.expect(now, phases.STREAM if exchange.status else phases.ANSWER)
            elif exchange.status or exchange.bytes_in - self._counted >= LEAST_RATE * client.proxy.http.body_timeout:
                self._count_anew()
                client.expect(now, phases.BODY)
            if piece:
                self._send(exchange.connection, piece)
            return
        if piece:
            self._pieces.append(piece)
        if self._streaming:
            return
        if done or exchange.bytes_in >= client.proxy.request_buffer():
            self._streaming = not done
            if self._streaming:
                client.stop_reading()
            exchange.ask(now)
        else:
            client.expect(now, phases.BODY)

    def begin(self, connection: "HttpConnection", request: bytes, now: float) -> None:
        """There is a connection: send the head and what has come of the body."""
        client = self._exchange.client
        self._heard = now
        self._count_anew()
        client.expect(now, phases.ANSWER if self._exchange.request_done else phases.BODY)
        if self._streaming:
            client.read_on()
        connection.transport.write(b"".join((request, *self._pieces)))  # last: the upstream may be full at once

    def _send(self, connection: "HttpConnection", piece: bytes) -> None:
        """More of the body to the upstream. If that has begun to answer it is heard first: it may have closed already,
        and then its answer would be lost with the connection on which the write fails."""
        exchange = self._exchange
        if self.held:
            self.held += piece
        elif not exchange.status and connection.speaks():
            self.held = piece
            exchange.client.stop_reading()
            exchange.client.proxy.loop.call_later(HEARING, self._send_held)
        else:
            connection.transport.write(piece)

    def _send_held(self) -> None:
        held, self.held = self.held, b""
        exchange = self._exchange
        if exchange.connection is not None:
            exchange.client.read_on()
            exchange.connection.transport.write(held)

    def _count_anew(self) -> None:
        self._counted = self._exchange.bytes_in
        self._unserved = unserved(self._exchange.upstream)

    def stalled(self, now: float) -> None:
        """Nothing of the body has come for `bodyTimeout`, or too little where it holds a connection. While nobody waits
        for that, it may take longer."""
        exchange = self._exchange
        client = exchange.client
        http = client.proxy.http
        if (
            exchange.connection is not None
            and len(exchange.upstream.pool.waiters) <= exchange.upstream.pool.opening  # each has its own to come
            and unserved(exchange.upstream) == self._unserved
            and now - self._heard < http.stream_idle_timeout
        ):
            self._count_anew()
            client.proxy.wheel.arm(client, now + http.body_timeout)
            return
        exchange.timed_out(answers.BODY_TIMEOUT, now)


def unserved(upstream: "Upstream") -> int:
    """How many requests got no connection as there was none for them, so far."""
    return upstream.rejections.get("timeout", 0) + upstream.rejections.get("queue_full", 0)
