"""A replica in virtual time: the real pool engines, a CPU of one core, and a driver that carries out what they ask."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from random import Random

from tests.simulation.scale.backends import Backend

from forebay_core.balance import Endpoint, picker
from forebay_core.budget import replica
from forebay_core.budget.ledger import Answer, Push
from forebay_core.health import HealthGroup, HealthPolicy
from forebay_core.histogram import Histogram
from forebay_core.lease import Connection, Refusal, Refused, Waiter
from forebay_core.pool import Pool
from forebay_core.scale.readings import Reading, UpstreamReading

At = Callable[..., None]  # (time, function, arguments)

ROUND_TRIP = 0.001  # seconds until a close is seen


@dataclass(frozen=True)
class PoolSettings:
    """As the document's `pool` block; its defaults."""

    size: int = 10
    max_overflow: int = 5
    min_idle: int = 0
    timeout: float = 5.0
    max_waiting: int = 1000
    recycle: float = 1800.0
    recycle_jitter: int = 10
    idle_timeout: float = 55.0
    max_uses: int = 0
    pre_ping: str = "auto"


class Request(Waiter):
    """One request; `done` hears once how long it waited (seconds, the loop's lateness and opening included)."""

    __slots__ = ("arrived", "connection", "link", "size")

    def __init__(self, link: "Link", arrived: float, size: float) -> None:
        super().__init__()
        self.link = link
        self.arrived = arrived
        self.size = size
        self.connection: Connection | None = None

    def take(self, connection: Connection, now: float) -> bool:
        self.link.serve(self, connection, now)
        return True

    def refuse(self, refusal: Refusal, now: float) -> None:
        self.link.books.failed(now, now - self.arrived)


class Books:
    """What the clients saw, all replicas together."""

    def __init__(self) -> None:
        self.waits: list[tuple[float, float]] = []  # (when, seconds waited)
        self.failures = 0

    def served(self, now: float, wait: float) -> None:
        self.waits.append((now, wait))

    def failed(self, now: float, wait: float) -> None:
        self.waits.append((now, wait))
        self.failures += 1


class Link:
    """One pod's pool to one upstream, and its driver."""

    def __init__(self, pod: "Pod", backend: Backend, settings: PoolSettings, books: Books) -> None:
        self.pod, self.backend, self.books = pod, backend, books
        endpoint = Endpoint("10.0.0.1", 80, 1, "10.0.0.1", HealthGroup(HealthPolicy()).add())
        self.pool = Pool(settings, [endpoint], lambda e: picker("leastConnections", e, 0), random=pod.random.random)
        self.endpoint = endpoint
        self.connects = Histogram()
        self.connect_errors = 0

    def request(self, now: float, request: Request) -> None:
        """The request is ready for its upstream."""
        if self.pod.dead:
            self.books.failed(now, now - request.arrived)
            return
        try:
            connection = self.pool.acquire(request, now)
        except Refused:
            self.books.failed(now, now - request.arrived)
            return
        if connection is not None:
            self.serve(request, connection, now)
        self.act(now)

    def serve(self, request: Request, connection: Connection, now: float) -> None:
        """The request has its connection and goes to the backend."""
        request.connection = connection
        self.books.served(now, now - request.arrived)
        self.pod.at(now + self.backend.begin(request.size), self.answered, request)

    def answered(self, now: float, request: Request) -> None:
        self.backend.end()
        if self.pod.dead:
            return
        assert request.connection is not None
        late = max(self.pod.busy_until, self.pod.stopped_until)
        if late > now + 0.001:
            self.pod.at(late, self.release, request)
        else:
            self.release(now, request)

    def release(self, now: float, request: Request) -> None:
        if self.pod.dead:
            return
        assert request.connection is not None
        self.endpoint.health.succeeded(now)
        self.pool.release(request.connection, request, now)
        self.act(now)

    def act(self, now: float) -> None:
        """Carry out what the engine has asked for."""
        pool = self.pool
        while pool.opens:
            self.pod.at(now + self.backend.connect, self.connected, pool.opens.pop(), now)
        while pool.closes:
            self.pod.at(now + ROUND_TRIP, self.closed, pool.closes.pop())

    def connected(self, now: float, connection: Connection, began: float) -> None:
        if self.pod.dead:
            return
        if self.backend.connected(self.pod.random):
            self.connects.observe(now - began)
            self.pool.opened(connection, now)
        else:
            self.connect_errors += 1
            self.endpoint.health.failed(now, "refused")
            self.pool.failed(connection, Refusal("connect_refused", "refused"), now)
        self.act(now)

    def closed(self, now: float, connection: Connection) -> None:
        if self.pod.dead:
            return
        self.backend.closed()
        self.pool.closed(connection, now)
        self.act(now)

    def reading(self, now: float) -> UpstreamReading:
        """As `forebay_proxy.state` tells it."""
        pool, s = self.pool, self.pool.statistics(now)
        waits = [h.counts for h in pool.wait.values()]
        return UpstreamReading(
            waiting=s.waiting,
            wait_oldest=s.wait_oldest,
            leased=s.leased + s.draining,
            opening=s.opening,
            limit=max(0, s.limit - s.left),
            ceiling=pool.size + pool.max_overflow,
            lease_oldest=s.lease_oldest,
            grant=pool.grant,
            left=s.left,
            spare=pool.spare,
            healthy=int(self.endpoint.health.healthy),
            waits=tuple(map(sum, zip(*waits, strict=True))),
            holds=tuple(pool.hold.counts),
            hold_sum=pool.hold.sum,
            connects=self.connects.count,
            connect_sum=self.connects.sum,
            connect_errors=self.connect_errors,
        )


class Pod:
    """One replica. `ready_at` is when it begins to serve."""

    def __init__(
        self,
        name: str,
        ready_at: float,
        backends: Mapping[str, Backend],
        settings: PoolSettings,
        bounded: Collection[str],
        books: Books,
        random: Random,
        at: At,
        born: float,
    ) -> None:
        self.name, self.ready_at, self.random, self.at, self.born = name, ready_at, random, at, born
        self.links = {upstream: Link(self, backend, settings, books) for upstream, backend in backends.items()}
        self.bounded = bounded  # upstreams that have a budget
        self.memory = replica.begin(None, name)
        for upstream in bounded:
            self.links[upstream].pool.set_grant(0, born)
        self.cpu = 0.0
        self.busy_until = self.stopped_until = 0.0
        self.lag = 0.0
        self.weight = 1.0
        self.dead = self.hung = self.silent = self.draining = False
        self.drain_began = 0.0

    def __repr__(self) -> str:
        return f"<Pod {self.name}: {', '.join(repr(link.pool) for link in self.links.values())}>"

    def arrive(self, now: float, upstream: str, size: float, cost: float) -> None:
        """A client's request. `cost` is CPU seconds; one core takes one thing at a time."""
        link = self.links[upstream]
        request = Request(link, now, size)
        self.cpu += cost
        self.busy_until = max(now, self.busy_until, self.stopped_until) + cost
        if self.busy_until > now + 0.001:
            self.at(self.busy_until, link.request, request)
        else:
            link.request(now, request)

    def tick(self, now: float) -> None:
        """Twice a second."""
        self.lag += (max(0.0, self.busy_until - now) - self.lag) * 0.4
        for link in self.links.values():
            link.pool.tick(now)
            link.act(now)

    def reachable(self, now: float) -> bool:
        """Whether it answers whoever asks."""
        return self.ready_at <= now and not self.silent and not self.hung

    def answer(self, now: float, push: Push | None) -> Answer:
        """To a push, or (where it has not been granted anything yet) to a question."""
        taken = replica.take(self.memory, push) if push is not None else self.memory
        if taken is not self.memory:
            for upstream in self.bounded:
                self.links[upstream].pool.set_grant(replica.limit(taken, upstream, 0), now)
                self.links[upstream].act(now)
        self.memory = replace(taken, held={upstream: self.links[upstream].pool.held for upstream in self.bounded})
        return replica.answer(self.memory, self.name, self.bounded)

    def stop(self, now: float, seconds: float) -> None:
        """SIGSTOP, and SIGCONT some seconds later: until then it answers nothing, whoever asks."""
        self.hung, self.stopped_until = True, now + seconds
        self.at(self.stopped_until, self.wake)

    def wake(self, now: float) -> None:
        self.hung = False

    def drain(self, now: float) -> None:
        self.draining, self.drain_began = True, now
        self.memory = replica.drain(self.memory)
        for link in self.links.values():
            link.pool.drain(now, keep=0)
            link.act(now)

    def gone(self, now: float) -> bool:
        """Whether nothing is left to finish, or the drain's deadline has come."""
        held = any(link.pool.leased or link.pool.waiters for link in self.links.values())
        return not held or now - self.drain_began > 30.0

    def die(self, now: float) -> None:
        """Its connections end with it; who waited or was being served fails."""
        self.dead = True
        for link in self.links.values():
            link.books.failures += link.pool.leased
            for connection in link.pool.connections:
                link.backend.open -= connection.state != 0  # OPENING is not yet taken
            for waiter in list(link.pool.waiters):
                assert isinstance(waiter, Request)
                link.books.failed(now, now - waiter.arrived)

    def reading(self, now: float) -> Reading:
        return Reading(
            life=self.name,
            process=self.name,
            at=now,
            cpu=self.used(now),
            loop_lag=self.lag,
            upstreams={name: link.reading(now) for name, link in self.links.items()},
            draining=self.draining,
        )

    def used(self, now: float) -> float:
        """CPU seconds really used by now: what is still queued is not."""
        return max(0.0, self.cpu - max(0.0, self.busy_until - max(now, self.stopped_until)))
