"""A world around the pool engine, driven by a script of operations, that checks every invariant after each of them.

The world keeps its own books, not the engine's: what is really open at the upstream, who holds what, who waits.
`run` raises AssertionError (or the engine's own LeaseError) at the first step that breaks a rule.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from forebay_core.balance import Endpoint, Server, picker
from forebay_core.health import HealthGroup, HealthPolicy
from forebay_core.lease import CLOSING, IDLE, Connection, Kind, Refusal, Refused, Waiter
from forebay_core.pool import Pool


@dataclass(frozen=True)
class Settings:
    size: int = 3
    max_overflow: int = 2
    min_idle: int = 1
    timeout: float = 5.0
    max_waiting: int = 6
    recycle: float = 30.0
    recycle_jitter: int = 10
    idle_timeout: float = 10.0
    max_uses: int = 7
    pre_ping: str = "auto"


class Client(Waiter):
    """A waiter that keeps its own record of what it was told."""

    def __init__(self, world: "World", willing: bool) -> None:
        super().__init__()
        self.world = world
        self.willing = willing
        self.connection: Connection | None = None
        self.refusal: Refusal | None = None
        self.gone = False

    def take(self, connection: Connection, now: float) -> bool:
        assert not self.settled, "served twice"
        self.world.serve(self, connection)
        if not self.willing:
            self.connection, self.gone = None, True
            return False
        return True

    def refuse(self, refusal: Refusal, now: float) -> None:
        assert not self.settled, "refused after it was served, refused or gone"
        self.refusal = refusal

    @property
    def settled(self) -> bool:
        return self.connection is not None or self.refusal is not None or self.gone


class World:
    """See the module's docstring. `now` only moves by the operation `wait`."""

    def __init__(
        self, pool_class: type[Pool] = Pool, settings: Settings | None = None, *, session: bool = False,
        origins: bool = False,
    ) -> None:  # fmt: skip
        """`session`: as with a session protocol, connections are of kinds, endpoints play roles, a place is spare.
        `origins`: as with a forward proxy, each kind has its own endpoint, and there are no others."""
        self.now = 100.0
        self.kinds: tuple[Any, ...] = (None,)
        if session:
            self.kinds = (Kind(), Kind("primary"), Kind("standby"))
        elif origins:
            self.kinds = (Kind(), Kind(), Kind())
        self.origins = origins
        self.spare = 1 if session else 0
        self.aside = 0  # connections beside the leases
        self.settings = settings or Settings()
        never_out = 0 if origins else 50
        policy = HealthPolicy(consecutive_errors=3, base_ejection_time=2.0, max_ejection_percent=never_out)
        self.group = HealthGroup(policy)
        self.endpoints = [self.endpoint(n) for n in (1, 2)]
        self.pool = pool_class(
            self.settings, () if origins else self.endpoints, lambda e: picker("leastConnections", e, 0),
            random=lambda: 0.5, kinds=origins, session=session,
        )  # fmt: skip
        if origins:
            for n in range(len(self.kinds)):
                self.do_origin(n)
        if session:
            for endpoint, role in zip(self.endpoints, ("primary", "standby"), strict=True):
                self.pool.set_role(endpoint, role, self.now)
        self.cap: int | None = None
        self.cap_each: int | None = None  # a grant that holds for each endpoint apart
        self.told: int | None = None  # in a drain: the least that the pool has said it holds, so the bound of its life
        self.dialing: list[Connection] = []
        self.open: set[Connection] = set()  # what the upstream sees, until it has closed itself
        self.shutting: list[Connection] = []
        self.clients: list[Client] = []

    def endpoint(self, n: int, server: Server | None = None) -> Endpoint:
        return Endpoint(f"10.0.0.{n}", 80, 1, f"10.0.0.{n}", self.group.add(), server)

    def at(self, server: Server) -> int:
        """What is open there."""
        return sum(connection.endpoint.server is server for connection in self.open)

    # ------------------------------------------------------------------ what happens

    def serve(self, client: Client, connection: Connection) -> None:
        assert connection in self.open, "handed over a connection that is not open"
        assert connection not in self.shutting, "handed over a connection that is being closed"
        holders = [c for c in self.clients if c.connection is connection]
        assert not holders, "one connection, two owners"
        assert connection.kind is client.kind, "handed over a connection of another kind"
        assert not self.origins or connection.endpoint is client.kind.endpoint, "handed over one to another origin"
        client.connection = connection

    def do_acquire(self, n: int) -> None:
        client = Client(self, willing=n % 7 != 0)
        client.kind = self.kinds[n % len(self.kinds)]
        self.clients.append(client)
        try:
            connection = self.pool.acquire(client, self.now)
        except Refused as refused:
            client.refusal = refused.refusal
            return
        if connection is not None:
            client.willing = True
            self.serve(client, connection)

    def do_release(self, n: int) -> None:
        if holder := pick([c for c in self.clients if c.connection], n):
            connection, holder.connection = holder.connection, None
            holder.gone = True
            self.pool.release(connection, holder, self.now)

    def do_discard(self, n: int) -> None:
        if holder := pick([c for c in self.clients if c.connection], n):
            connection, holder.connection = holder.connection, None
            holder.gone = True
            self.pool.discard(connection, holder, self.now, "error")

    def do_cancel(self, n: int) -> None:
        if waiter := pick([c for c in self.clients if not c.settled], n):
            waiter.gone = True
            self.pool.cancel(waiter, self.now)

    def do_connected(self, n: int) -> None:
        if connection := pick(self.dialing, n):
            self.dialing.remove(connection)
            self.pool.opened(connection, self.now)

    def do_connect_failed(self, n: int) -> None:
        if connection := pick(self.dialing, n):
            self.dialing.remove(connection)
            self.open.discard(connection)
            connection.endpoint.health.failed(self.now, "refused")
            refusal = Refusal("connect_refused", "refused")
            self.pool.failed(connection, refusal, self.now)
            told = any(client.refusal is refusal for client in self.clients)
            assert not (told and connection.retire), "who waits for another connection was told of this one"

    def do_upstream_closes(self, n: int) -> None:
        """The upstream ends any connection that is up: idle, leased, or one that we are closing."""
        if connection := pick(sorted(self.open - set(self.dialing), key=id), n):
            self.open.discard(connection)
            if connection in self.shutting:
                self.shutting.remove(connection)
            for client in self.clients:
                if client.connection is connection:
                    client.connection, client.gone = None, True
            self.pool.closed(connection, self.now)

    def do_answered(self, n: int) -> None:
        self.endpoints[n % 2].health.succeeded(self.now)
        self.pool.tick(self.now)

    def do_wait(self, n: int) -> None:
        self.now += (n % 60) / 10
        self.pool.tick(self.now)

    def do_grant(self, n: int) -> None:
        self.told = None
        self.cap, self.cap_each = n % 6, None
        self.pool.set_grant(self.cap, self.now)

    def do_grant_each(self, n: int) -> None:
        if not self.aside:  # a place beside the leases is of one kind of grant or the other
            self.told = None
            self.cap, self.cap_each = None, n % 6
            self.pool.set_grant(self.cap_each, self.now, per_endpoint=True)
            self.carry_out()
            for endpoint in self.pool.endpoints:
                kept = self.at(endpoint.server) - sum(c.endpoint.server is endpoint.server for c in self.shutting)
                assert not endpoint.idle or kept + self.pool.left <= self.cap_each, "idle connections above the grant"

    def do_no_grant(self, _: int) -> None:
        self.cap = self.cap_each = self.told = None
        self.pool.set_grant(None, self.now)

    def do_left(self, n: int) -> None:
        if not self.pool.draining or n % 3 < self.pool.left:  # the dead open nothing
            self.pool.set_left(n % 3, self.now)

    def do_brake(self, _: int) -> None:
        self.pool.brake()

    def do_ease(self, _: int) -> None:
        before = len(self.pool.opens) + len(self.dialing)
        self.pool.ease(self.now)
        if self.pool.braked:
            assert len(self.pool.opens) + len(self.dialing) <= before + 1, "a full upstream is asked by more than one"

    def do_pause(self, n: int) -> None:
        if self.pool.pause_timeout is None:
            self.pool.pause(self.now, 3.0)
        else:
            self.pool.resume(self.now)

    def do_part_with(self, n: int) -> None:
        kind = self.kinds[n % len(self.kinds)]
        if kind is None:
            return
        waiting: list[Any] = self.pool.part_with(lambda other: other is kind, self.now)
        assert waiting == [c for c in self.clients if not c.settled and c.kind is kind]
        for waiter in waiting:
            waiter.gone = True
        kept = [c for c in self.pool.connections if c.kind is kind and c.state != CLOSING and c.retire is None]
        assert not kept, "a connection that was to go stays"

    def do_recycle(self, _: int) -> None:
        self.pool.recycle_all(self.now)

    def do_origin(self, n: int) -> None:
        """A kind's origin has moved, or is looked up for the first time."""
        if self.origins:
            kind = self.kinds[n % len(self.kinds)]
            old, kind.endpoint = kind.endpoint, self.endpoint(n)
            self.pool.add_endpoint(kind.endpoint)
            if old is not None:
                self.pool.remove_endpoint(old, self.now)

    def do_endpoints(self, n: int) -> None:
        if self.origins:
            return
        self.pool.set_endpoints([self.endpoints, self.endpoints[:1], self.endpoints[1:]][n % 3], self.now)

    def do_back_again(self, n: int) -> None:
        """An address has left the list, and comes back: what is leased there still goes on."""
        if not self.origins:
            old = self.endpoints[n % 2]
            self.endpoints[n % 2] = new = self.endpoint(n % 2 + 1, old.server)
            self.group.remove(old.health)
            self.pool.set_endpoints(self.endpoints, self.now)
            self.pool.set_role(new, old.role, self.now)

    def do_role(self, n: int) -> None:
        if self.spare:
            self.pool.set_role(self.endpoints[n % 2], ("primary", "standby", None)[n % 3], self.now)

    def do_take_spare(self, n: int) -> None:
        if self.spare and self.cap_each is None and self.pool.take_spare(self.endpoints[n % 2]):
            self.aside += 1
            granted = inf if self.cap is None else self.cap
            assert len(self.open) + self.aside + self.pool.left <= granted, "a spare place above the grant"

    def do_return_spare(self, n: int) -> None:
        if self.aside:
            self.aside -= 1
            self.pool.return_spare(self.endpoints[n % 2], self.now)

    def do_drain(self, n: int) -> None:
        if n % 9 == 0:
            self.pool.drain(self.now, keep=n % 2)

    # ------------------------------------------------------------------ what must hold

    def carry_out(self) -> None:
        """What a driver does after each call; room is checked at the moment of opening."""
        opened = len(self.pool.opens)
        for connection in self.pool.opens:
            assert not self.pool.sealed, "opened while draining"
            self.dialing.append(connection)
            self.open.add(connection)
        if opened:
            limit = self.settings.size + self.settings.max_overflow
            limit = limit if self.cap is None else min(limit, self.cap)
            assert len(self.open) + self.pool.left <= limit, "opened above the limit"
            if self.cap is not None:
                assert len(self.open) + self.aside + self.pool.left <= self.cap, "opened above the grant"
            for connection in self.pool.opens:
                if self.cap_each is not None:
                    there = self.at(connection.endpoint.server)
                    assert there + self.pool.left <= self.cap_each, "opened above the endpoint's grant"
                kind = connection.kind
                assert not kind or kind.role in (None, connection.endpoint.role), "opened to one of another role"
                assert not self.origins or connection.endpoint is kind.endpoint, "opened to another origin"
        self.shutting.extend(self.pool.closes)
        self.pool.opens.clear()
        self.pool.closes.clear()

    def check(self) -> None:
        pool = self.pool
        pool.check()
        assert pool.total == len(self.open), "the engine's count is not what is open"
        assert {c for c in pool.connections if c.state == CLOSING} == set(self.shutting)
        if pool.sealed and self.cap is not None:
            self.told = min(pool.held, self.told if self.told is not None else pool.held)
            assert len(self.open) + self.aside + pool.left <= self.told, "more than it had said in a drain"
        waiting = {c for c in self.clients if not c.settled}
        assert waiting == set(pool.waiters), "a waiter is lost, or kept after its end"
        assert len(waiting) <= self.settings.max_waiting
        assert all(c.deadline > self.now for c in waiting), "a waiter is left over its deadline"
        held = {c.connection for c in self.clients if c.connection}
        assert held == {c for c in pool.connections if c.owner is not None}
        if pool.pause_timeout is None:
            usable = [c for c in pool.connections if c.state == IDLE and c.endpoint in pool.endpoints]
            for kind in self.kinds:
                # Those who wait for the opening of another connection, of use to them, may do so.
                opening = sum(1 for c in self.dialing if c.kind is kind and c.retire is None)
                uncovered = sum(1 for c in waiting if c.kind is kind) > opening
                beside = [c for c in usable if c.endpoint.health.healthy and c.kind is kind]
                assert not (uncovered and beside), "a waiter waits beside an idle connection"
                room = len(self.open) + self.aside + pool.left < pool.limit and self.cap_each is None
                if room and not pool.braked and not pool.sealed:
                    assert not uncovered, "a waiter waits, and nothing is opened for it where it may be"

    def settle(self) -> None:
        """From any state: when everything that is open answers and leases end, everybody is served or refused."""
        if self.pool.pause_timeout is not None:
            self.do_pause(0)
        self.pool.set_left(0, self.now)
        if not self.pool.draining:
            self.do_no_grant(0)
        for step in range(400):
            self.carry_out()
            self.check()
            if not [c for c in self.clients if not c.settled]:
                return
            for name in ("ease", "connected", "release", "upstream_closes" if self.shutting else "answered"):
                getattr(self, f"do_{name}")(step)
                self.carry_out()
            if step % 10 == 9:
                self.do_wait(10)
        raise AssertionError(f"still waiting: {self.pool!r}")


OPERATIONS = tuple(name.removeprefix("do_") for name in vars(World) if name.startswith("do_"))


def pick(items: list[Any], n: int) -> Any:
    return items[n % len(items)] if items else None


def run(script: Iterable[tuple[str, int]], pool_class: type[Pool] = Pool, **protocol: bool) -> None:
    """Play a script of (operation, number), then let everything settle. `protocol`: as `World`."""
    world = World(pool_class, **protocol)
    for name, number in script:
        getattr(world, f"do_{name}")(number)
        world.carry_out()
        world.check()
    world.settle()
