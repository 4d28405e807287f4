"""The client's side of a forward proxy: HTTP/1 as everywhere, with targets that name their origin."""

from typing import TYPE_CHECKING

from forebay_core.forward.access import Denial
from forebay_core.forward.head import ForwardHead, scan_forward
from forebay_core.http1 import RequestHead
from forebay_proxy.forward.exchange import ForwardExchange
from forebay_proxy.http import phases
from forebay_proxy.http.client import ClientConnection

if TYPE_CHECKING:
    import asyncio

    from forebay_proxy.forward.proxy import ForwardProxy

VIA = {minor: b"Via: 1.%d forebay\r\n\r\n" % minor for minor in (0, 1)}


def scan(data: bytes, most: int, trusted: bool) -> ForwardHead | None:
    """An origin is not told for whom the proxy asks, so `trusted` is no question here."""
    return scan_forward(data, most)


class ForwardClient(ClientConnection):
    """One client."""

    __slots__ = ("denial",)

    proxy: "ForwardProxy"
    scan = staticmethod(scan)
    begin = ForwardExchange

    def __init__(self, proxy: "ForwardProxy", peer: str) -> None:
        super().__init__(proxy, peer)
        self.denial: Denial | None = None  # why nothing is done for this client

    def connection_made(self, transport: "asyncio.BaseTransport") -> None:
        super().connection_made(transport)
        self.denial = self.proxy.access.client(self.peer)

    def make_suffix(self, head: RequestHead) -> bytes:
        """An origin is told that there is a proxy (RFC 9110 section 7.6.3), not for whom it asks."""
        return VIA[head.minor]

    def on_deadline(self, now: float) -> None:
        if self.phase == phases.QUEUE and isinstance(self.exchange, ForwardExchange):
            self.exchange.waited(now)
        else:
            super().on_deadline(now)
