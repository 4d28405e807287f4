"""Which endpoint gets the next connection? Endpoints and the three load-balancing policies.

A picker never returns an endpoint whose health does not allow it. One that is out but due for a probe can be
picked; the caller then claims the probe (``EndpointHealth.take_probe``). Pickers are made anew when the
endpoints change, or the policy.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

from forebay_core.health import EndpointHealth

RING_POINTS = 160  # per endpoint of the largest weight, as ketama: shares within about 10 % of the ideal


class Server:
    """What listens at one address and port: where a budget holds for each endpoint apart, it holds here. Endpoints
    that come and go, or have other names for the same address, share it. ``open`` and ``closing``: of all of them.
    """

    __slots__ = ("__weakref__", "address", "closing", "open", "port")

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.open = self.closing = 0


class Endpoint:
    """One host and port of an upstream. Compared by identity: a re-resolved name makes new ones.

    ``open`` counts its connections of any state, ``closing`` those that are being closed, ``idle`` holds the free ones,
    last used last; the pool engine owns them.
    """

    __slots__ = (
        "address", "closing", "health", "host", "idle", "listed", "name", "open", "port", "role", "server", "weight",
    )  # fmt: skip

    def __init__(
        self, host: str, port: int, weight: int, address: str, health: EndpointHealth, server: Server | None = None
    ) -> None:
        """``address`` is the resolved IP address, or ``host`` itself; ``server`` what is known to be there, if anything
        is. Raises ValueError: weight below 1."""
        if weight < 1:
            raise ValueError(f"weight of endpoint {host}:{port} is {weight}: expected 1 or more")
        self.host = host
        self.port = port
        self.weight = weight
        self.address = address
        self.health = health
        self.server = server or Server(address, port)
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.role: str | None = None  # a database's: primary or standby
        self.listed = True  # one of the upstream's; False: a forward proxy's origin
        self.open = self.closing = 0
        self.idle: list[Any] = []

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} at {self.address}: {self.open} open, {len(self.idle)} idle, {self.health!r}>"

    @property
    def busy(self) -> int:
        """Connections that are in use, or on their way in or out: what the endpoint is at work for."""
        return self.open - len(self.idle)


class Picker(Protocol):
    """A load-balancing policy over a fixed set of endpoints."""

    def pick(self, now: float, key: bytes | None) -> Endpoint | None:
        """The endpoint for the next request, or None where none is available. ``key`` is what the
        consistent hash is taken of; None: the request has none.
        """


class Sole:
    """The usual case: one endpoint, nothing to choose."""

    __slots__ = ("_endpoint",)

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def pick(self, now: float, key: bytes | None) -> Endpoint | None:
        return self._endpoint if self._endpoint.health.available(now) else None


class RoundRobin:
    """Smooth weighted round robin, nginx's: weights 5, 1, 1 give a a b a c a a, not a a a a a b c."""

    __slots__ = ("_credit", "_endpoints")

    def __init__(self, endpoints: Sequence[Endpoint], seed: int) -> None:
        self._endpoints = _rotated(endpoints, seed)
        self._credit = [0] * len(endpoints)

    def pick(self, now: float, key: bytes | None) -> Endpoint | None:
        total, best, credit = 0, -1, self._credit
        for index, endpoint in enumerate(self._endpoints):
            if endpoint.health.available(now):
                total += endpoint.weight
                credit[index] += endpoint.weight
                if best < 0 or credit[index] > credit[best]:
                    best = index
        if best < 0:
            return None
        credit[best] -= total
        return self._endpoints[best]


class LeastConnections:
    """The fewest busy connections per weight; the search starts one further each time, so ties rotate."""

    __slots__ = ("_endpoints", "_start")

    def __init__(self, endpoints: Sequence[Endpoint], seed: int) -> None:
        self._endpoints = _rotated(endpoints, seed)
        self._start = 0

    def pick(self, now: float, key: bytes | None) -> Endpoint | None:
        endpoints, best = self._endpoints, None
        self._start = start = (self._start + 1) % (len(endpoints) or 1)
        for index in range(start - len(endpoints), start):  # negative indexes are the wrap-around
            endpoint = endpoints[index]
            if endpoint.health.available(now) and (
                best is None or endpoint.busy * best.weight < best.busy * endpoint.weight
            ):
                best = endpoint
        return best


class ConsistentHash:
    """A ring of hashed points, weighted by their number: an endpoint that comes or goes (or is out) moves
    only the keys that it gains or had. The same in every replica, so ``seed`` counts only for requests
    without a key; they go where the fewest connections are busy.
    """

    __slots__ = ("_count", "_keyless", "_points", "_ring")

    def __init__(self, endpoints: Sequence[Endpoint], seed: int) -> None:
        self._keyless = LeastConnections(endpoints, seed)
        self._count = len(endpoints)
        heaviest = max((endpoint.weight for endpoint in endpoints), default=1)
        # A headless service has one name for all of its pods: there the address tells them apart.
        shared_name = len({endpoint.name for endpoint in endpoints}) < len(endpoints)
        ring: list[tuple[int, str, Endpoint]] = []
        for endpoint in endpoints:
            label = f"{endpoint.address} {endpoint.port}" if shared_name else endpoint.name
            points = max(1, round(RING_POINTS * endpoint.weight / heaviest))
            ring += [(_hash(f"{label} {number}".encode()), label, endpoint) for number in range(points)]
        ring.sort(key=lambda point: point[:2])
        self._points = [point for point, _, _ in ring]
        self._ring = [endpoint for _, _, endpoint in ring]

    def pick(self, now: float, key: bytes | None) -> Endpoint | None:
        if key is None:
            return self._keyless.pick(now, key)
        start, ring = bisect_right(self._points, _hash(key)), self._ring
        refused: set[Endpoint] = set()
        for index in range(start - len(ring), start):
            endpoint = ring[index]
            if endpoint in refused:
                continue
            if endpoint.health.available(now):
                return endpoint
            refused.add(endpoint)
            if len(refused) == self._count:
                break
        return None


POLICIES: dict[str, Callable[[Sequence[Endpoint], int], Picker]] = {
    "roundRobin": RoundRobin,
    "leastConnections": LeastConnections,
    "consistentHash": ConsistentHash,
}


def picker(policy: str, endpoints: Sequence[Endpoint], seed: int) -> Picker:
    """The picker for ``spec.upstreams[].loadBalancing.policy``. ``seed`` should differ between replicas, so
    that they don't all begin with the same endpoint. Raises ValueError on an unknown policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"load-balancing policy {policy!r}: expected one of {', '.join(POLICIES)}")
    return Sole(endpoints[0]) if len(endpoints) == 1 else POLICIES[policy](endpoints, seed)


def _rotated(endpoints: Sequence[Endpoint], seed: int) -> list[Endpoint]:
    start = seed % (len(endpoints) or 1)
    return [*endpoints[start:], *endpoints[:start]]


def _hash(data: bytes) -> int:
    """64 bits, the same on every machine and in every process, unlike ``hash()``."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
