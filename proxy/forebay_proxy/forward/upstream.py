"""The far side of a forward proxy: an origin or a parent, spoken HTTP/1 with or, after CONNECT, tunnelled to."""

from forebay_core.balance import Endpoint
from forebay_core.http1 import ResponseHead
from forebay_core.lease import IDLE, OPENING
from forebay_proxy.forward.exchange import ForwardExchange
from forebay_proxy.forward.origins import OriginKind
from forebay_proxy.http.exchange import Exchange
from forebay_proxy.http.upstream import TUNNEL, HttpConnection
from forebay_proxy.upstream import Upstream


class ForwardConnection(HttpConnection):
    """One connection to an origin or a parent."""

    __slots__ = ("_early",)

    def __init__(self, endpoint: Endpoint, upstream: Upstream) -> None:
        super().__init__(endpoint, upstream)
        self._early = b""

    def tunnel(self) -> bytes:
        """Bytes instead of messages from now on, and how long is no matter of the upstream's; what it has said
        already."""
        self._phase = TUNNEL
        self.counted = False
        early, self._early = self._early, b""
        if early:
            self.transport.resume_reading()
        return early

    @property
    def _speaks_first(self) -> bool:
        """Whether it is for a tunnel, where the far side may speak before anybody."""
        return isinstance(self.kind, OriginKind) and self.kind.tunnels and not self.uses

    def data_received(self, data: bytes) -> None:
        if self.state in (OPENING, IDLE) and self._speaks_first:
            self._early += data
            self.transport.pause_reading()
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if isinstance(self.kind, OriginKind):
            self.kind.origin.table.let_in(self.kind.origin)

    def _begin_body(self, exchange: Exchange, head: ResponseHead, rest: bytes) -> None:
        asks = isinstance(exchange, ForwardExchange) and exchange.asks_parent
        if not (asks and exchange.parent_answered(head, rest)):  # type: ignore[attr-defined]
            super()._begin_body(exchange, head, rest)
