"""The upstream's side of HTTP/1: reads answers off a leased connection and hands them to the exchange.

A connection can be reused only when its last message is provably complete: anything else closes it
(RFC 9112 section 9.3).
"""

import socket
from typing import TYPE_CHECKING, Final

from forebay_core.balance import Endpoint
from forebay_core.http1 import (
    CHUNKED,
    LENGTH,
    NO_BODY,
    UNTIL_CLOSE,
    ChunkDecoder,
    ProtocolError,
    ResponseHead,
    answered,
    scan_response,
)
from forebay_core.lease import IDLE, LEASED
from forebay_core.pool import FRESH
from forebay_proxy.connection import UpstreamConnection
from forebay_proxy.http.exchange import Exchange

if TYPE_CHECKING:
    from forebay_proxy.upstream import Upstream

HEAD: Final = -1  # waiting for the answer: not one byte of it has come yet
PARTIAL: Final = -2  # inside its head, or after an interim one
TUNNEL: Final = -3  # after 101: bytes, not messages
PIECE: Final = 1 << 16  # bytes read at once


class HttpConnection(UpstreamConnection):
    """One HTTP/1.1 connection to an endpoint."""

    __slots__ = ("_buffer", "_decoder", "_left", "_phase", "_reusable", "ended", "lone")

    owner: Exchange | None

    def __init__(self, endpoint: Endpoint, upstream: "Upstream") -> None:
        super().__init__(endpoint, upstream)
        self._phase = HEAD
        self.ended = False
        self.lone = False  # leased for a lone request, see `ClientConnection`

    @property
    def untouched(self) -> bool:
        """Whether not one byte of an answer has come yet."""
        return self._phase == HEAD

    @property
    def until_close(self) -> bool:
        """Whether the end of the connection is the end of the answer."""
        return self._phase == UNTIL_CLOSE

    def speaks(self) -> bool:
        """Whether bytes have come that the loop has not read yet."""
        assert self.sock is not None
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def data_received(self, data: bytes) -> None:
        exchange = self.owner
        if self.lone and exchange is not None:
            self.lone = False
            found = answered(data, exchange.max_head, exchange.close_client)
            if found is not None:
                status, size, answer = found
                exchange.answered_alone(self, status, size, answer)
                return
        if self.state != LEASED or exchange is None:
            super().data_received(data)
        elif self._phase == HEAD:
            self._read_heads(exchange, data)
        elif self._phase == LENGTH:
            self._read_length(exchange, data)
        elif self._phase == CHUNKED:
            self._read_chunked(exchange, data)
        elif self._phase == PARTIAL:
            self._read_heads(exchange, self._buffer + data)
        else:
            exchange.payload(data)

    def eof_received(self) -> bool:
        if self.state == IDLE:  # at once: until the transport has closed it could still be leased
            self.upstream.pool.retire(self, "upstream")
            self.upstream.act()
        elif self.state == LEASED and self.owner is not None:
            self.ended = True
            if self._phase == TUNNEL:
                return bool(self.transport.can_write_eof()) and self.owner.tunnel_upstream_ended()
            self.transport.abort()  # nothing that we still have to send will be read
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self.owner
        if (
            exc is not None
            and self.state == LEASED
            and isinstance(exchange, Exchange)
            and exchange.body is not None
            # What has come before the first write to a used connection is no answer to it.
            and (self.uses == 1 or not exchange.body.replayable)
        ):
            self._hear_out()
        super().connection_lost(exc)

    def _hear_out(self) -> None:
        """Read what the kernel still has. An upstream that answers and hangs up with the body unread resets the
        connection: our next write fails, and the transport looks no more for the answer that has come before."""
        if self.sock is None or not self.transport.can_write_eof():  # TLS
            return
        self.retire = "error"
        while self.state == LEASED:
            try:
                data = self.sock.recv(PIECE, socket.MSG_DONTWAIT)
            except OSError:
                return
            if not data:
                return
            self.data_received(data)

    # ------------------------------------------------------------------ messages

    def _read_heads(self, exchange: Exchange, data: bytes) -> None:
        while True:
            try:
                head = scan_response(data, exchange.max_head, exchange.to_head_request, exchange.minor)
            except ProtocolError as error:
                exchange.malformed(error)
                return
            if head is None:
                self._phase = PARTIAL
                self._buffer = data
                return
            if head.status >= 200 or head.status == 101:
                break
            exchange.interim(head)
            exchange.max_head = max(0, exchange.max_head - head.end)  # one limit for all heads of an answer
            data = data[head.end :]
        self._buffer = b""
        self._reusable = head.keep_alive
        if head.keep_alive_timeout >= 0:
            self.idle_for = head.keep_alive_timeout - 1
            if self.idle_for < FRESH:
                self._reusable = False
        end = head.end
        self._begin_body(exchange, head, data[end:] if end < len(data) else b"")

    def _begin_body(self, exchange: Exchange, head: ResponseHead, rest: bytes) -> None:
        body = self._phase = head.body
        if head.status == 101:
            if not exchange.switch(head, rest):
                return
            self._phase, self.counted = TUNNEL, False
        elif body == LENGTH:
            self._left = head.content_length - len(rest)
            if self._left > 0:
                exchange.answer(head, rest, True)
            else:
                # What comes after a complete answer poisons the connection: nobody has asked for it.
                exchange.answer(head, rest if not self._left else rest[: self._left], False)
                self._phase = HEAD
                exchange.complete(self._reusable and not self._left)
        elif body == NO_BODY:
            exchange.answer(head, b"", False)
            self._phase = HEAD
            exchange.complete(self._reusable and not rest)
        elif body == CHUNKED:
            self._decoder = ChunkDecoder(exchange.max_head)
            exchange.answer(head, b"", True)
            if rest:
                self._read_chunked(exchange, rest)
        else:
            exchange.answer(head, rest, True)

    def _read_length(self, exchange: Exchange, data: bytes) -> None:
        self._left -= len(data)
        if self._left > 0:
            exchange.payload(data)
        else:
            exchange.payload(data if not self._left else data[: self._left])
            self._phase = HEAD
            exchange.complete(self._reusable and not self._left)

    def _read_chunked(self, exchange: Exchange, data: bytes) -> None:
        decoder = self._decoder
        try:
            payload, end = decoder.feed(data, 0)
        except ProtocolError as error:
            exchange.malformed(error)
            return
        if payload:
            exchange.payload(payload)
        if decoder.done:
            self._phase = HEAD
            exchange.complete(self._reusable and end == len(data), decoder.trailer)
