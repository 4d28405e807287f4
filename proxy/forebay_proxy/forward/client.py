"""The client's side of a forward proxy: HTTP/1 as everywhere, with targets that name their origin."""

from time import monotonic
from typing import TYPE_CHECKING

from forebay_core.forward.access import Denial
from forebay_core.forward.head import scan_forward
from forebay_core.http1 import ProtocolError, RequestHead
from forebay_proxy.forward.exchange import ForwardExchange
from forebay_proxy.http import answers
from forebay_proxy.http.client import ClientConnection

if TYPE_CHECKING:
    import asyncio

    from forebay_proxy.forward.proxy import ForwardProxy

VIA = {minor: b"Via: 1.%d forebay\r\n\r\n" % minor for minor in (0, 1)}


class ForwardClient(ClientConnection):
    """One client."""

    __slots__ = ("denial",)

    proxy: "ForwardProxy"

    def __init__(self, proxy: "ForwardProxy", peer: str) -> None:
        super().__init__(proxy, peer)
        self.denial: Denial | None = None  # why nothing is done for this client

    def connection_made(self, transport: "asyncio.BaseTransport") -> None:
        super().connection_made(transport)
        if self.peer:
            self.denial = self.proxy.access.client(self.peer)

    def _process(self, data: bytes) -> None:
        """As the reverse proxy's, with another reading of the head."""
        if not self.writable:
            self.buffer = data
            self.stop_reading()
            return
        if self._paused:
            self.read_on()
        try:
            head = scan_forward(data, self.proxy.http.max_header_bytes)
        except ProtocolError as error:
            self._refuse(answers.Failure(error.status, "bad_request", error.detail))
            return
        now = monotonic()
        if head is None:
            self.buffer = data
            if self.ended:
                self.close()
            elif self.phase != self.HEAD:
                self.expect(now, self.HEAD)
            return
        self.buffer = b""
        self.exchange = exchange = ForwardExchange(self, head, now)
        exchange.begin(data[head.end :] if head.end < len(data) else b"")

    def make_suffix(self, head: RequestHead) -> bytes:
        """An origin is told that there is a proxy (RFC 9110 section 7.6.3), not for whom it asks."""
        self.suffix, self.suffix_host, self.suffix_minor = VIA[head.minor], head.host, head.minor
        return self.suffix

    def on_deadline(self, now: float) -> None:
        if self.phase == self.QUEUE and isinstance(self.exchange, ForwardExchange):
            self.exchange.waited(now)
        else:
            super().on_deadline(now)
