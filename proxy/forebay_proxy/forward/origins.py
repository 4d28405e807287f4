"""The origins that clients ask for: many, short-lived, and bounded.

Each is an endpoint of its own with its own kinds of connections in the one pool of the upstream, so that one limit, one
queue and one budget hold over all of them, and an idle connection of one makes room for another. Before that pool
stands a gate per origin: so many requests at once, so many in a second. Who waits at the gate waits like any other:
first in, first out, until `pool.timeout`.

An origin is looked up when it is used and its last look-up is older than `FRESH`; every address has been judged before
it can be connected to, and what is connected to is that address.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from forebay_core.balance import Endpoint
from forebay_core.forward.access import Access, Denial
from forebay_core.forward.rate import TokenBucket
from forebay_core.forward.target import Target
from forebay_core.health import HealthGroup, HealthPolicy
from forebay_core.lease import Kind, Refusal
from forebay_core.spec.forward import PerOrigin
from forebay_proxy.resolver import ResolveError, Resolver, ResolveTimeout
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream

if TYPE_CHECKING:
    from forebay_proxy.forward.client import ForwardClient
    from forebay_proxy.forward.exchange import ForwardExchange

MOST: Final = 1024  # origins that are remembered; those in use may be more, as many as there are clients
FRESH: Final = 5.0  # seconds that a look-up holds, as for the endpoints of an upstream

NEVER_OUT = HealthPolicy(max_ejection_percent=0)  # an origin's errors are its clients' to judge


class OriginKind(Kind):
    """Connections to one origin: for requests, or for tunnels."""

    __slots__ = ("origin", "tunnels")

    def __init__(self, origin: "Origin", *, tunnels: bool) -> None:
        super().__init__()
        self.origin = origin
        self.tunnels = tunnels


class Looker(Protocol):
    """Who waits for a name's addresses."""

    client: "ForwardClient"

    def found(self, now: float) -> None: ...
    def denied(self, denial: Denial) -> None: ...
    def refuse(self, refusal: Refusal, now: float) -> None: ...


class Origin:
    """One host and port."""

    __slots__ = (
        "active", "addresses", "bucket", "endpoint", "found_at", "letting_in", "lookers", "plain", "queue", "table",
        "target", "tunnel", "upstream",
    )  # fmt: skip

    def __init__(self, table: "Origins", upstream: Upstream, target: Target, rate: float) -> None:
        self.table = table
        self.upstream = upstream  # whose pool has its connections
        self.target = target
        self.addresses: Sequence[str] = ()  # that may be connected to
        self.found_at = float("-inf")
        self.lookers: list[Looker] = []
        self.endpoint: Endpoint | None = None
        self.plain = OriginKind(self, tunnels=False)
        self.tunnel = OriginKind(self, tunnels=True)
        self.active = 0  # exchanges that have passed the gate
        self.queue: deque[ForwardExchange] = deque()
        self.letting_in = False
        self.bucket = TokenBucket(rate) if rate else None

    def __repr__(self) -> str:
        return f"<Origin {self.target.name}: {self.active} active, {len(self.queue)} at the gate, {self.endpoint}>"

    @property
    def unused(self) -> bool:
        return not (self.active or self.queue or self.lookers)


class Origins:
    """Those of one upstream. Nothing here awaits but the look-ups."""

    def __init__(self, resolver: Resolver, tasks: Tasks) -> None:
        self._resolver = resolver
        self._tasks = tasks
        self._origins: OrderedDict[Target, Origin] = OrderedDict()

    def __len__(self) -> int:
        return len(self._origins)

    def configure(self, access: Access, limits: PerOrigin, upstream: Upstream) -> None:
        """Other rules: what has been judged by the old ones is judged again. Another upstream: those who are under way
        keep their origins, which are the old one's."""
        if any(origin.upstream is not upstream for origin in self._origins.values()):
            self._origins.clear()
        self._access = access
        self._limits = limits
        self._upstream = upstream
        for origin in self._origins.values():
            origin.found_at = float("-inf")
            origin.bucket = TokenBucket(limits.requests_per_second) if limits.requests_per_second else None
            self.let_in(origin)

    def get(self, target: Target) -> Origin:
        """The origin of this name, made if it is new; the one used longest ago makes room for it."""
        origin = self._origins.get(target)
        if origin is not None:
            self._origins.move_to_end(target)
            return origin
        if len(self._origins) >= MOST:
            oldest = next((o for o in self._origins.values() if o.unused), None)
            if oldest is not None:
                del self._origins[oldest.target]
                self._place(oldest, None)
        origin = self._origins[target] = Origin(self, self._upstream, target, self._limits.requests_per_second)
        return origin

    # ------------------------------------------------------------------ names

    def is_fresh(self, origin: Origin, now: float) -> bool:
        return now - origin.found_at < FRESH

    def look_up(self, origin: Origin, looker: Looker) -> None:
        """`looker` is told; one look-up serves all who wait for it."""
        origin.lookers.append(looker)
        if len(origin.lookers) == 1:
            self._tasks.spawn(self._look_up(origin, looker.client.peer), f"resolve {origin.target.host}")

    async def _look_up(self, origin: Origin, asker: str) -> None:
        target = origin.target
        refusal: Refusal | None = None
        found: Sequence[str] = ()
        try:
            found = [address.ip for address in await self._resolver.resolve(target.host, target.port, asker)]
        except ResolveTimeout as error:
            refusal = Refusal("resolve_timeout", str(error))
        except ResolveError as error:
            refusal = Refusal("resolve", str(error))
        now = monotonic()
        lookers, origin.lookers = origin.lookers, []
        if refusal is None:
            judged = self._access.addresses(target, found)
            if isinstance(judged, Denial):
                self._place(origin, None)
                for looker in lookers:
                    looker.denied(judged)
                return
            self._settle(origin, judged, now)
        for looker in lookers:
            if refusal is not None:
                looker.refuse(refusal, now)
            else:
                looker.found(now)

    def _settle(self, origin: Origin, addresses: Sequence[str], now: float) -> None:
        origin.addresses = addresses
        origin.found_at = now
        if origin.endpoint is None or origin.endpoint.address not in addresses:
            self._place(origin, addresses[0])

    def next_address(self, origin: Origin, failed: Endpoint) -> bool:
        """Connecting to `failed` did not work: whether there is another address to try."""
        if origin.endpoint is failed and len(origin.addresses) > 1:
            at = origin.addresses.index(failed.address) if failed.address in origin.addresses else -1
            self._place(origin, origin.addresses[(at + 1) % len(origin.addresses)])
        return origin.endpoint is not None and origin.endpoint is not failed

    def _place(self, origin: Origin, address: str | None) -> None:
        """From now on it is there; None: nowhere."""
        old, origin.endpoint = origin.endpoint, None
        if address is not None:
            # By its address: the log says of the name in a request what was really connected to.
            origin.endpoint = Endpoint(address, origin.target.port, 1, address, HealthGroup(NEVER_OUT).add())
            origin.upstream.pool.add_endpoint(origin.endpoint)
        origin.plain.endpoint = origin.tunnel.endpoint = origin.endpoint
        if old is not None:
            origin.upstream.pool.remove_endpoint(old, monotonic())
            origin.upstream.act()

    # ------------------------------------------------------------------ the gate

    def enter(self, origin: Origin, exchange: "ForwardExchange") -> bool:
        """Whether the exchange may go on to the pool. False: it stands in the queue, and hears `let_in`."""
        if not origin.queue and self._has_room(origin, exchange):
            origin.active += 1
            return True
        origin.queue.append(exchange)
        self._make_room(origin)
        return False

    def leave(self, origin: Origin, exchange: "ForwardExchange", *, entered: bool) -> None:
        """The exchange is over, or has given up waiting."""
        if entered:
            origin.active -= 1
        elif exchange in origin.queue:
            origin.queue.remove(exchange)
        self.let_in(origin)

    def let_in(self, origin: Origin) -> None:
        """As many as there is room for. One who is refused at once makes room for the next, but not from within."""
        if origin.letting_in:
            return
        origin.letting_in = True
        try:
            while origin.queue and self._has_room(origin, origin.queue[0]):
                origin.active += 1
                origin.queue.popleft().let_in(monotonic())
        finally:
            origin.letting_in = False
        self._make_room(origin)

    def _has_room(self, origin: Origin, exchange: "ForwardExchange") -> bool:
        """A connection counts until the origin's end of it is seen closed, as everywhere; an idle one is room for who
        can use it."""
        most = self._limits.max_connections
        endpoint = origin.endpoint
        if origin.active >= most or endpoint is None or endpoint.open < most:
            return origin.active < most
        return any(connection.kind is exchange.kind for connection in endpoint.idle)

    def _make_room(self, origin: Origin) -> None:
        """For the first at the gate: an idle connection goes that it can't use."""
        endpoint = origin.endpoint
        if not origin.queue or endpoint is None or not endpoint.idle or endpoint.closing:
            return
        if origin.active < self._limits.max_connections and not self._has_room(origin, origin.queue[0]):
            origin.upstream.pool.retire(endpoint.idle[0], "overflow")
            origin.upstream.act()
