"""The pool engine: one replica's connections to one upstream, and the requests that wait for them.

Theory of operation
-------------------
A `Connection` is in exactly one state, and is counted in `Pool.total` from before `connect()` until the upstream's
end is seen closed:

    OPENING --opened()--> IDLE <--> LEASED --release()--> IDLE
       |                    |         |
       +---- failed() --->  +---------+--- close ---> CLOSING --closed()--> gone

    (`failed` before anything was connected to: gone at once.)

- `acquire` hands over an idle connection at once (the youngest first, so that the surplus can age out), or queues the
  waiter. Waiters are served first in, first out; the queue is bounded and each waiter has a deadline.
- Opening is driven by demand: there are never more connections being opened than waiters plus what `min_idle` lacks.
  What is opened goes to the waiter that has waited longest, not to the one it was opened for. An opening that is of no
  use any more, as its endpoint has gone, keeps its place until it has ended, and nobody waits for it.
- A hand-over is accepted or refused by the receiver (`Waiter.take`), so a waiter that has just gone can't keep a place.
- A lease ends once: `release` and `discard` raise `LeaseError` for anyone but the present owner.
- The pool does no I/O: connections to open and to close are appended to `opens` and `closes`, which the driver carries
  out after each call. It has no clock: `now` is monotonic seconds, the same clock in every call.

Invariants (`check()` states them; the tests call it after every step): `total + left <= limit` whenever something is
opened; no waiter waits while an idle connection could serve it and the pool is not paused; each leased connection has
one owner.
"""

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import NoReturn, Protocol

from forebay_core.balance import Endpoint, Picker, Server
from forebay_core.histogram import Histogram
from forebay_core.lease import (
    CLOSED,
    CLOSING,
    DRAINING,
    IDLE,
    LEASED,
    NO_ENDPOINT,
    OPENING,
    PAUSE_TIMED_OUT,
    QUEUE_FULL,
    TIMED_OUT,
    Connection,
    Kind,
    LeaseError,
    Refusal,
    Refused,
    Waiter,
)

# Seconds of idleness within which a connection is handed over unlooked at (`prePing: auto`): what closes sooner, the
# loop has seen.
FRESH = 1.0
# Seconds that a waiter of another kind waits for a place before a connection is closed for it: one more login at the
# backend is dearer than a short wait, and those of one kind must not keep all places for themselves.
FAIRNESS = 0.1

# Uses after which a connection is closed in any case: Python compares larger integers more slowly.
MOST_USES = (1 << 30) - 1

NONE_ENDING: Counter[Server] = Counter()

CLOSE_REASONS = ("idle", "recycle", "uses", "error", "overflow", "shrink", "drain", "upstream")


class PoolSettings(Protocol):
    """The part of the document's `pool` block that the engine reads; durations in seconds."""

    @property
    def size(self) -> int: ...
    @property
    def max_overflow(self) -> int: ...
    @property
    def min_idle(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def max_waiting(self) -> int: ...
    @property
    def recycle(self) -> float: ...
    @property
    def recycle_jitter(self) -> int: ...
    @property
    def idle_timeout(self) -> float: ...
    @property
    def max_uses(self) -> int: ...
    @property
    def pre_ping(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A snapshot; ages in seconds."""

    idle: int
    leased: int
    opening: int
    draining: int
    closing: int
    left: int
    limit: int
    waiting: int
    wait_oldest: float
    lease_oldest: float
    held: int


class Pool:
    """One upstream's connections in one replica. See the module's docstring for the rules."""

    __slots__ = (
        "_ceiling", "_fresh", "_kept", "_keyed", "_kind", "_kinds", "_lent", "_make", "_make_picker", "_opening",
        "_picker", "_pickers", "_probe", "_random", "_served", "_sole", "_spares", "_waits", "braked", "closed_total",
        "closes", "closing", "connections", "drain_keep", "draining", "endpoint_limit", "endpoints", "grant",
        "grant_per_endpoint", "hold", "idle_timeout", "left", "limit", "max_overflow", "max_uses", "max_waiting",
        "min_idle", "opened_total", "opening", "opens", "pause_timeout", "recycle", "recycle_jitter", "size", "spare",
        "timeout", "total", "waiters",
    )  # fmt: skip

    def __init__(
        self,
        settings: PoolSettings,
        endpoints: Sequence[Endpoint],
        make_picker: Callable[[Sequence[Endpoint]], Picker],
        *,
        random: Callable[[], float],
        make: Callable[[Endpoint], Connection] = Connection,
        kinds: bool = False,
        session: bool = False,
    ) -> None:
        """`kinds`: connections are of kinds. `session`: of a session protocol, where they are too, and where a grant's
        last place is not for leases but for `take_spare`."""
        self._make = make
        self._make_picker = make_picker
        self._random = random
        self.endpoints: list[Endpoint] = list(endpoints)
        self._picker = make_picker(self.endpoints)
        self._pickers: dict[str, Picker] = {}  # by the role that an endpoint has to play
        self._kinds = kinds or session
        self._kind: Kind | None = None  # the one asked for last
        self.spare = 1 if session else 0
        self._spares: set[Server | None] = set()  # places that are taken beside the leases; None: at any endpoint
        self.connections: set[Connection] = set()
        self._opening: set[Connection] = set()  # those of them that are being opened, and not to be closed at once
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self.opens: list[Connection] = []
        self.closes: list[Connection] = []

        self.grant: int | None = None  # None: no budget, size + max_overflow rules
        self.grant_per_endpoint = False
        self.left = 0  # what a dead predecessor's connections still hold
        self.total = self.opening = self.closing = 0
        self._keyed = True  # keys count
        self.braked = False  # the upstream lets nobody in for now: see `brake`
        self._probe = False  # but for one
        self.pause_timeout: float | None = None  # None: not paused
        self._set_sole()
        self.draining = False
        self.drain_keep = 0

        self._served = Histogram()
        self._waits = {"served": self._served, "timeout": Histogram(), "refused": Histogram()}
        self._lent = 0  # those among the served who had not to wait, as far as the histogram does not know of them
        self.hold = Histogram()
        self.opened_total = 0
        self.closed_total = dict.fromkeys(CLOSE_REASONS, 0)
        self.configure(settings, 0.0)

    def __repr__(self) -> str:
        names = ",".join(endpoint.name for endpoint in self.endpoints)
        return (
            f"<Pool {names}: {self.leased} leased, {self.idle} idle, {self.opening} opening, "
            f"{self.closing} closing, {self.left} left, of {self.limit}; {len(self.waiters)} waiting>"
        )

    @property
    def wait(self) -> dict[str, Histogram]:
        """How long those who asked have waited, in seconds, by what came of it."""
        self._served.counts[0] += self._lent
        self._lent = 0
        return self._waits

    @property
    def idle(self) -> int:
        """How many connections are free to be leased."""
        return sum(len(endpoint.idle) for endpoint in self.endpoints)

    @property
    def leased(self) -> int:
        """How many connections are leased, or free for a moment between two states."""
        return self.total - self.opening - self.idle - self.closing

    # ------------------------------------------------------------------ settings

    def configure(self, settings: PoolSettings, now: float) -> None:
        """Take new settings; a smaller size is reached as leases end and idle connections are closed."""
        self.size = settings.size
        self.max_overflow = settings.max_overflow
        self.min_idle = settings.min_idle
        self.timeout = settings.timeout
        self.max_waiting = settings.max_waiting
        self.recycle = settings.recycle
        self.recycle_jitter = settings.recycle_jitter / 100
        self.idle_timeout = settings.idle_timeout
        self.max_uses = min(settings.max_uses or MOST_USES, MOST_USES)
        self._fresh = 0.0 if settings.pre_ping == "always" else FRESH
        if self.pause_timeout is None:
            for waiter in self.waiters:  # a shorter timeout holds for those who wait already
                waiter.deadline = min(waiter.deadline, waiter.since + self.timeout)
        longest = now + self.recycle * (1 + self.recycle_jitter)
        for connection in self.connections:  # nor does one that is open live longer than one that is opened now
            if self.recycle and connection.expires_at > longest:
                connection.expires_at = now + self._life()
        self._set_limit()

    def set_grant(self, grant: int | None, now: float, *, per_endpoint: bool = False) -> None:
        """The budget's share for this replica. Idle connections above it are closed now, leased ones as they end."""
        self.grant = grant
        self.grant_per_endpoint = per_endpoint
        self._set_limit()
        for endpoint in self.endpoints:  # the oldest go first
            while endpoint.idle and self.excess(endpoint):
                self._drop_idle(endpoint.idle[0], "shrink")
        self._supply(now)

    def set_left(self, left: int, now: float) -> None:
        """How many connections of dead predecessors may still be open at the upstream."""
        self.left = left
        self._set_limit()
        self._supply(now)

    def set_endpoints(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Other endpoints (DNS, reload): what stays is kept by identity, connections to the rest are retired."""
        gone = {endpoint for endpoint in self.endpoints if endpoint.listed} - set(endpoints)
        self.endpoints = [*endpoints, *(endpoint for endpoint in self.endpoints if not endpoint.listed)]
        self._set_sole()
        self._renew_pickers()
        for connection in [c for c in self.connections if c.endpoint in gone]:
            self.retire(connection, "drain")
        self._supply(now)

    def change_policy(self, *, keyed: bool) -> None:
        """Pickers are made by another policy from now on; `keyed`: it asks for keys."""
        self._renew_pickers()
        self._keyed = keyed
        if not keyed:
            for waiter in self.waiters:
                waiter.key = None

    def _renew_pickers(self) -> None:
        self._picker = self._make_picker([endpoint for endpoint in self.endpoints if endpoint.listed])
        self._pickers.clear()

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """One that only its kinds name: no policy chooses it, and no list of endpoints shows it."""
        endpoint.listed = False
        self.endpoints.append(endpoint)
        self._set_sole()

    def remove_endpoint(self, endpoint: Endpoint, now: float) -> None:
        """One of `add_endpoint`. Its idle connections are closed now, leased ones as their leases end."""
        self.endpoints.remove(endpoint)
        self._set_sole()
        for connection in [c for c in self.connections if c.endpoint is endpoint]:
            self.retire(connection, "idle")
        self._supply(now)

    def set_role(self, endpoint: Endpoint, role: str | None, now: float) -> None:
        """The endpoint plays another role: connections that were opened for its old one are retired."""
        endpoint.role = role
        self._pickers.clear()
        for connection in [c for c in self.connections if c.endpoint is endpoint]:
            if connection.kind is not None and connection.kind.role not in (None, role):
                self.retire(connection, "drain")
        self._supply(now)

    def take_spare(self, endpoint: Endpoint) -> bool:
        """A place at the endpoint beside the leases, for asking or cancelling; False where it is taken. Ends with
        `return_spare`."""
        place = endpoint.server if self.grant_per_endpoint else None
        held = (self.open if place is None else place.open) + self.left
        if not self.spare or place in self._spares or (self.grant is not None and held >= self.grant):
            return False
        if self.sealed and not self._keeps_spare(self.total if place is None else place.open, held):
            return False
        self._spares.add(place)
        return True

    def return_spare(self, endpoint: Endpoint, now: float) -> None:
        """The connection beside the leases is closed at both ends."""
        self._spares.discard(endpoint.server if endpoint.server in self._spares else None)
        self._supply(now)

    def _life(self) -> float:
        """Seconds that one connection may live."""
        return self.recycle * (1 + self.recycle_jitter * (2 * self._random() - 1))

    def _set_sole(self) -> None:
        self._sole = self.endpoints[0] if len(self.endpoints) == 1 and self.pause_timeout is None else None

    def _set_limit(self) -> None:
        own = self.size + self.max_overflow
        granted = own if self.grant is None else max(0, min(own, self.grant - self.spare))
        self.limit = own if self.grant_per_endpoint else granted
        self.endpoint_limit = granted
        self._ceiling = granted - self.left
        self._kept = 0 if self.draining else min(self.size, self._ceiling)

    # ------------------------------------------------------------------ leases

    def acquire(self, waiter: Waiter, now: float) -> Connection | None:
        """A connection, leased to `waiter`; or None: it is queued and will hear by `take` or `refuse`.

        Raises `Refused` where there is no endpoint, the queue is full, or the pool drains.
        """
        retry = waiter.deadline != 0.0
        if not retry:
            waiter.ready_at = now
            waiter.deadline = now + (self.timeout if self.pause_timeout is None else self.pause_timeout)
            connection = self.lend(waiter, now)
            if connection is not None or self.line_up(waiter, now):
                return connection
        else:
            waiter.first_at = waiter.since
            waiter.ready_at = waiter.again_at = now
        waiter.assigned_at = 0.0
        if not self._keyed:  # it is from before: each connection that comes free would be closed for hashing elsewhere
            waiter.key = None
        self._kind = waiter.kind
        endpoint = self._choose(waiter, now)
        if endpoint is None:
            self._refuse(NO_ENDPOINT, waiter, now)
        # Where there are kinds, those who wait do so for idle connections of others.
        if self.pause_timeout is None and (self._kinds or not self.waiters):
            connection = self._idle_for(waiter, endpoint, now)
            if connection is not None:
                self._lease(connection, waiter, now)
                self._observe("served", waiter, now)
                return connection
        if self.sealed and not (self.total if waiter.kind is None or waiter.kind.endpoint is None else endpoint.open):
            self._refuse(DRAINING, waiter, now)
        if len(self.waiters) >= self.max_waiting:
            self._refuse(QUEUE_FULL, waiter, now)
        self.waiters[waiter] = None
        if retry:  # it has waited longest of all
            self.waiters.move_to_end(waiter, last=False)
        if self.pause_timeout is None:
            self._open_for(waiter, endpoint)
            if (
                len(self.waiters) > len(self._opening) and self.idle
            ):  # balanced elsewhere, but nobody waits beside an idle one
                self._serve_from_idle(now)
            self._promise(now)
        return None

    def lend(self, waiter: Waiter, now: float) -> Connection | None:
        """The usual case of `acquire`, written out: there is one endpoint, nobody waits, and a connection was in use a
        moment ago. None: it is another case, and nothing has been done."""
        sole = self._sole
        if sole is None or self.waiters or not sole.idle:
            return None
        connection: Connection = sole.idle.pop()
        if connection.kind is not waiter.kind or now - connection.idle_since >= self._fresh or not sole.health.healthy:
            sole.idle.append(connection)
            return None
        connection.state = LEASED
        connection.owner = waiter
        connection.leased_at = now
        connection.uses += 1
        self._lent += 1
        return connection

    def line_up(self, waiter: Waiter, now: float) -> bool:
        """The other usual case, written out: there is one endpoint, and all connections to it that there may be are
        leased. False: it is another case, and nothing has been done."""
        sole, kind = self._sole, waiter.kind
        if (
            sole is None
            or sole.idle
            or not sole.open >= self._ceiling > 0
            or self.opening
            or not sole.health.healthy
            or len(self.waiters) >= self.max_waiting
            or (kind is not None and ((kind.role is not None and kind.role != sole.role) or kind.endpoint is not None))
        ):
            return False
        waiter.ready_at = now
        waiter.deadline = now + self.timeout
        waiter.assigned_at = 0.0
        self._kind = kind
        self.waiters[waiter] = None
        return True

    def reserve(self, endpoint: Endpoint, owner: object, now: float, kind: Kind | None = None) -> Connection | None:
        """A place for a health check: an idle connection of that endpoint, else a new one that the caller has to open.

        None where nothing is free (then the traffic is the check), or the endpoint is no more. A new one is in state
        OPENING and has its owner already: it goes to no waiter before `release`.
        """
        if self.draining or self.waiters or endpoint not in self.endpoints:
            return None
        connection = self._pop_idle(endpoint, now, kind)
        if connection is not None:
            self._lease(connection, owner, now)
        elif self._room(endpoint):
            connection = self._new(endpoint, kind)
            connection.owner = owner
        return connection

    def release(self, connection: Connection, owner: object, now: float, *, count: bool = True) -> bool:
        """The lease is over and the connection can be used again. `count`: whether its time is a hold time. Returns
        whether the driver has something to open or to close."""
        if connection.owner is not owner:
            self._end_lease(connection, owner)  # raises
        connection.idle_since = now
        if count:
            hold, held = self.hold, now - connection.leased_at
            hold.counts[bisect_left(hold.bounds, held)] += 1  # `observe`, written out
            hold.sum += held
        sole = self._sole
        if (
            sole is not None
            and now < connection.expires_at
            and connection.uses < self.max_uses
            and connection.retire is None
        ):
            # The two usual cases, written out. Nothing speaks against keeping it (one to an endpoint that is no more
            # would be retired), and
            if self.waiters:  # the first who waits may have it, or
                if self._handed_on(connection, now):
                    return bool(self.opens or self.closes)
            elif self.total <= self._kept:  # nobody waits.
                connection.owner = None
                connection.state = IDLE
                sole.idle.append(connection)
                return False
        self._end_lease(connection, connection.owner)
        self._place(connection, now)
        return bool(self.opens or self.closes)

    def _handed_on(self, connection: Connection, now: float) -> bool:
        """To the first who waits, if any may have it and it is wanted."""
        waiter = next(iter(self.waiters))
        if (
            self.total > self._ceiling
            or waiter.kind is not connection.kind
            or waiter.key is not None
            or not connection.endpoint.health.healthy
        ):
            return False
        del self.waiters[waiter]
        connection.owner = waiter
        connection.leased_at = now
        connection.uses += 1
        if not waiter.take(connection, now):
            return False
        served, waited = self._served, (waiter.assigned_at or now) - waiter.ready_at
        served.counts[bisect_left(served.bounds, waited)] += 1
        served.sum += waited
        if self.opening:
            self._promise(now)
        return True

    def discard(self, connection: Connection, owner: object, now: float, reason: str) -> None:
        """The lease is over and the connection can't be used again."""
        self._end_lease(connection, owner)
        if connection.counted:
            self.hold.observe(now - connection.leased_at)
        self._close(connection, reason)

    def cancel(self, waiter: Waiter, now: float, outcome: str = "refused") -> None:
        """The waiter has gone. Unknown waiters are ignored: it may just have been served or refused."""
        if waiter in self.waiters:
            del self.waiters[waiter]
            for connection in self._opening:
                if connection.wanted_by is waiter:  # it may be back before that has failed
                    connection.wanted_by = None
            self._observe(outcome, waiter, now)
            self._promise(now)

    # ------------------------------------------------------------------ what the driver reports

    def opened(self, connection: Connection, now: float) -> None:
        """`connect()` (and TLS) succeeded."""
        if self.recycle:
            connection.expires_at = now + self._life()
        connection.idle_since = now
        self.opened_total += 1
        self.braked = False
        self.opening -= 1
        self._opening.discard(connection)
        connection.wanted_by = None
        if connection.owner is not None:  # a reserved place
            self._lease(connection, connection.owner, now)
        else:
            self._place(connection, now)
            self._supply(now)

    def failed(self, connection: Connection, refusal: Refusal, now: float, *, connected: bool = False) -> None:
        """Opening failed, and the waiter that it was opened for hears it. Its place is free, unless it failed after the
        upstream had been `connected` to (in TLS): then when `closed` says so."""
        self.opening -= 1
        self._opening.discard(connection)
        connection.owner = None
        if connected:
            self._closing(connection)
        else:
            self._forget(connection)
        waiter = connection.wanted_by
        if waiter is not None and waiter in self.waiters:
            del self.waiters[waiter]
            waiter.avoid = connection.endpoint
            self._observe("refused", waiter, now)
            waiter.refuse(refusal, now)
        self._supply(now)

    def closed(self, connection: Connection, now: float) -> None:
        """The upstream's end is seen closed (or `linger` is over). Whoever leases it has to be told by the driver."""
        if connection.state == CLOSED:
            return
        if connection.state == CLOSING:
            self.closing -= 1
            connection.endpoint.closing -= 1
            connection.endpoint.server.closing -= 1
        elif connection.state == IDLE:
            connection.endpoint.idle.remove(connection)
            self.closed_total["upstream"] += 1
        elif connection.state == LEASED:
            self._end_lease(connection, connection.owner)
            if connection.counted:
                self.hold.observe(now - connection.leased_at)
            self.closed_total["upstream"] += 1
        else:
            raise LeaseError("a connection that is still being opened has failed, it is not closed")
        self._forget(connection)
        if connection.uses:  # it was in: there is a place now
            self._probe = self.braked
        self._supply(now)

    # ------------------------------------------------------------------ time and commands

    def next_deadline(self) -> float:
        """When the waiter at the head gives up; inf without one. Retries apart, the head has the earliest deadline."""
        return next(iter(self.waiters)).deadline if self.waiters else inf

    def expire(self, now: float) -> None:
        """Refuse the waiters whose deadline has come."""
        refusal = TIMED_OUT if self.pause_timeout is None else PAUSE_TIMED_OUT
        while self.waiters:
            waiter = next(iter(self.waiters))
            if waiter.deadline > now:
                break
            del self.waiters[waiter]
            self._observe("timeout", waiter, now)
            waiter.refuse(refusal, now)
        self._promise(now)

    def tick(self, now: float) -> None:
        """Close what was idle or alive too long, keep `min_idle` ready, expire waiters. Call about once a second."""
        self.expire(now)
        idle = self.idle
        for endpoint in self.endpoints:
            for connection in list(endpoint.idle):  # the oldest come first
                if now >= connection.expires_at:
                    self._drop_idle(connection, "recycle")
                elif now - connection.idle_since >= connection.idle_for or (
                    now - connection.idle_since >= self.idle_timeout and idle > self.min_idle
                ):
                    self._drop_idle(connection, "idle")
                else:
                    continue
                idle -= 1
        self._supply(now)

    def brake(self) -> None:
        """The upstream is full: open nothing more, until one opening succeeds that `ease`, or the end of a connection,
        has let try."""
        self.braked = True
        self._probe = False

    def ease(self, now: float) -> None:
        """One opening may try again."""
        self._probe = True
        self._supply(now)

    def pause(self, now: float, timeout: float) -> None:
        """Admit, but lease nothing. Those who wait, and those who come, may wait for `timeout` seconds."""
        self.pause_timeout = timeout
        self._set_sole()
        for waiter in self.waiters:
            waiter.deadline = now + timeout

    def resume(self, now: float) -> None:
        """Lease again; the pause counts against nobody's deadline."""
        self.pause_timeout = None
        self._set_sole()
        for waiter in self.waiters:
            waiter.deadline = now + self.timeout
        self._supply(now)

    def recycle_all(self, now: float) -> None:
        """Close every connection: idle ones now, leased ones as their leases end."""
        for connection in list(self.connections):
            self.retire(connection, "recycle")
        self._supply(now)

    def part_with(self, of: Callable[[Kind | None], bool], now: float) -> list[Waiter]:
        """Keep no connection of some kinds: idle ones are closed now, leased ones as their leases end. Returns those
        who wait for one, and are out of the queue."""
        for connection in [c for c in self.connections if of(c.kind)]:
            self.retire(connection, "recycle")
        if of(self._kind):
            self._kind = None  # none is kept ready either
        waiting = [waiter for waiter in self.waiters if of(waiter.kind)]
        for waiter in waiting:
            del self.waiters[waiter]
        self._supply(now)
        return waiting

    def drain(self, now: float, *, keep: int) -> None:
        """Open nothing more of a share of a budget (final), and without a budget only what waiters need. Idle
        connections above `keep` are closed: it serves those clients that are still connected. `keep=0` ends it."""
        self.draining = True
        self.drain_keep = keep
        self._set_limit()
        for endpoint in self.endpoints:
            while endpoint.idle and self.idle > keep:
                self._drop_idle(endpoint.idle[0], "drain")
        if self.sealed and not self.total:
            self._refuse_from(0, DRAINING, now)

    # ------------------------------------------------------------------ reading

    @property
    def sealed(self) -> bool:
        """Whether nothing may be opened any more: the share of a budget is being given back."""
        return self.draining and self.grant is not None

    @property
    def held(self) -> int:
        """What counts against the budget: every connection of any state, spare ones, and what predecessors left. In a
        drain also the place beside the leases, as long as there is anything to be cancelled from it."""
        held = self.open + self.left
        return held + (not self._spares and self._keeps_spare(self.total, held))

    @property
    def open(self) -> int:
        """Every connection of this process, of any state, with the spare ones."""
        return self.total + len(self._spares)

    @property
    def servers(self) -> set[Server]:
        """All that are known: those of the endpoints, and of what is still open to others."""
        endpoints = {connection.endpoint for connection in self.connections}.union(self.endpoints)
        return {endpoint.server for endpoint in endpoints} | {place for place in self._spares if place is not None}

    def held_at(self, server: Server) -> int:
        """What counts against a budget that holds for each endpoint apart."""
        taken = server in self._spares
        held = server.open + taken + self.left
        return held + (not taken and self._keeps_spare(server.open, held))

    def _keeps_spare(self, there: int, held: int) -> bool:
        """Whether a share that is being given back still has its place beside the leases, where so many are open, and
        so many of the grant are held."""
        return self.sealed and self.drain_keep > 0 and there > 0 and self.spare > 0 and held < (self.grant or 0)

    def statistics(self, now: float) -> PoolStatistics:
        leased = [c for c in self.connections if c.state == LEASED]
        draining = sum(1 for c in leased if c.retire is not None)
        return PoolStatistics(
            idle=self.idle,
            leased=self.leased - draining,
            opening=self.opening,
            draining=draining,
            closing=self.closing,
            left=self.left,
            limit=self.limit,
            waiting=len(self.waiters),
            wait_oldest=max((now - waiter.ready_at for waiter in self.waiters), default=0.0),
            lease_oldest=max((now - c.leased_at for c in leased if c.counted), default=0.0),
            held=self.held,
        )

    def check(self) -> None:
        """Raise AssertionError where an invariant is broken; for tests and the simulator."""
        counts = [0] * 5
        endpoints = {c.endpoint for c in self.connections} | set(self.endpoints)
        for connection in self.connections:
            counts[connection.state] += 1
            owned = connection.owner is not None
            assert owned == (connection.state == LEASED) or connection.state == OPENING, "owner and state disagree"
        assert counts == [self.opening, self.idle, self.leased, self.closing, 0], (counts, self)
        assert {c for c in self.connections if c.state == OPENING and c.retire is None} == self._opening
        assert self.total == len(self.connections)
        owners = [id(c.owner) for c in self.connections if c.owner is not None]
        assert len(owners) == len(set(owners)), "one owner holds two connections"
        for endpoint in endpoints:
            mine = [c for c in self.connections if c.endpoint is endpoint]
            assert endpoint.open == len(mine)
            assert endpoint.closing == sum(c.state == CLOSING for c in mine)
            there = [c for c in self.connections if c.endpoint.server is endpoint.server]
            assert endpoint.server.open == len(there)
            assert endpoint.server.closing == sum(c.state == CLOSING for c in there)
            assert set(endpoint.idle) == {c for c in mine if c.state == IDLE}

    # ------------------------------------------------------------------ inside
    # A connection is *free* between its states: in no count but `total`, in no list, without an owner.

    def _refuse(self, refusal: Refusal, waiter: Waiter, now: float) -> NoReturn:
        self._observe("refused", waiter, now)
        raise Refused(refusal)

    def _refuse_from(self, first: int, refusal: Refusal, now: float) -> None:
        for waiter in list(islice(self.waiters, first, None)):
            del self.waiters[waiter]
            self._observe("refused", waiter, now)
            waiter.refuse(refusal, now)

    def _observe(self, outcome: str, waiter: Waiter, now: float) -> None:
        self._waits[outcome].observe((waiter.assigned_at or now) - waiter.ready_at)

    def _lease(self, connection: Connection, owner: object, now: float) -> None:
        connection.state = LEASED
        connection.owner = owner
        connection.leased_at = now
        connection.uses += 1

    def _end_lease(self, connection: Connection, owner: object) -> None:
        if connection.owner is not owner or connection.state != LEASED:
            raise LeaseError(f"this lease of {connection.endpoint.name} has already ended")
        connection.owner = None

    def _choose(self, waiter: Waiter, now: float) -> Endpoint | None:
        """By policy. An endpoint that is out is picked only when its probe is due; then this request is the probe."""
        if waiter.kind is not None and waiter.kind.endpoint is not None:
            return waiter.kind.endpoint
        endpoint = self._picker_for(waiter.kind).pick(now, waiter.key)
        if endpoint is not None and endpoint is waiter.avoid:
            others = [e for e in self._playing(waiter.kind) if e is not endpoint and e.health.healthy]
            endpoint = min(others, key=lambda e: e.busy, default=endpoint)
        if endpoint is not None and not endpoint.health.healthy and not endpoint.health.take_probe(now):
            return None
        return endpoint

    def _playing(self, kind: Kind | None) -> list[Endpoint]:
        """The endpoints that play the role that this kind needs."""
        if kind is not None and kind.endpoint is not None:
            return [kind.endpoint]
        return [e for e in self.endpoints if kind is None or kind.role is None or e.role == kind.role]

    def _picker_for(self, kind: Kind | None) -> Picker:
        if kind is None or kind.role is None:
            return self._picker
        if kind.role not in self._pickers:
            self._pickers[kind.role] = self._make_picker(self._playing(kind))
        return self._pickers[kind.role]

    def _idle_for(self, waiter: Waiter, endpoint: Endpoint, now: float) -> Connection | None:
        connection = self._pop_idle(endpoint, now, waiter.kind)
        if connection is None and waiter.key is None and not self._room(endpoint) and self.idle:
            # Balancing gives way to pooling: a connection to another endpoint is better than a wait.
            for other in self._playing(waiter.kind):
                if other.health.healthy and (connection := self._pop_idle(other, now, waiter.kind)) is not None:
                    break
        return connection

    def _pop_idle(self, endpoint: Endpoint, now: float, kind: Kind | None) -> Connection | None:
        """The youngest idle connection of this kind that is still good, now free; those that are not are closed."""
        idle = endpoint.idle
        while idle:
            last = len(idle) - 1
            if idle[last].kind is not kind:
                last = next((index for index in range(last, -1, -1) if idle[index].kind is kind), -1)
                if last < 0:
                    return None
            connection: Connection = idle.pop(last)
            if now >= connection.expires_at:
                self._close(connection, "recycle")
            elif now - connection.idle_since >= connection.idle_for:
                self._close(connection, "idle")
            elif now - connection.idle_since >= self._fresh and connection.stale():
                self._close(connection, "upstream")
            else:
                return connection
        return None

    def _serve_from_idle(self, now: float) -> None:
        """After a pause, or when an endpoint has come back: idle connections to those who wait."""
        wanted = {waiter.kind for waiter in self.waiters}
        for endpoint in self.endpoints:
            for kind in {connection.kind for connection in endpoint.idle} & wanted:
                while endpoint.health.healthy and self._next_of(kind) is not None:
                    connection = self._pop_idle(endpoint, now, kind)
                    if connection is None:
                        break
                    self._place(connection, now)

    def _place(self, connection: Connection, now: float) -> None:
        """Give a free connection to the first waiter that takes it, else keep it or close it."""
        if (
            connection.retire is not None
            or now >= connection.expires_at
            or connection.uses >= self.max_uses
            or self.total + self.left > self.limit
            or self.grant_per_endpoint
        ):
            reason = self._reason_to_close(connection, now)
            if reason is not None:
                self._close(connection, reason)
                return
        waiters = self.waiters
        if waiters and connection.uses and not connection.endpoint.health.healthy:
            # A check's, or of a lease from before its endpoint went out: it makes room for one to another endpoint.
            # (What has just been opened may be the probe.)
            self._close(connection, "error")
            return
        while waiters and self.pause_timeout is None:
            waiter = next(iter(waiters))
            if waiter.kind is not connection.kind:
                other = self._next_of(connection.kind)
                late = not waiter.assigned_at and now - waiter.since > FAIRNESS
                if (other is None or late) and self._in_the_way(connection.endpoint, waiter):
                    self._close(connection, "overflow")  # it makes room for one of the kind that is waited for
                    return
                if other is None:
                    break
                waiter = other
            if waiter.key is not None and self._picker.pick(now, waiter.key) is not connection.endpoint:
                self._close(connection, "overflow")  # it hashes elsewhere: make room for it there
                return
            del waiters[waiter]
            self._lease(connection, waiter, now)
            if waiter.take(connection, now):
                self._observe("served", waiter, now)
                self._promise(now)
                return
            self._end_lease(connection, waiter)
        if self.draining and self.idle >= self.drain_keep:
            self._close(connection, "drain")
        elif self.total - self.closing > self.size:
            self._close(connection, "overflow")
        else:
            connection.state = IDLE
            connection.endpoint.idle.append(connection)

    def _next_of(self, kind: Kind | None) -> Waiter | None:
        """Who has waited longest for a connection of this kind."""
        return next((waiter for waiter in self.waiters if waiter.kind is kind), None)

    def _covered(self) -> Iterator[Waiter]:
        """Those for whom a connection is being opened: of each kind, as many as there are, who have waited longest."""
        if not self._kinds:
            yield from islice(self.waiters, len(self._opening))
            return
        opening = Counter(c.kind for c in self._opening if c.owner is None)
        for waiter in self.waiters:
            if opening[waiter.kind]:
                opening[waiter.kind] -= 1
                yield waiter

    def _uncovered(self, but: Container[Kind | None] = ()) -> Waiter | None:
        """Who has waited longest of the others. `but`: where there are kinds, it is of none of these."""
        if not self._kinds:
            return next(islice(self.waiters, len(self._opening), None), None)
        covered = set(self._covered())
        return next((w for w in self.waiters if w not in covered and w.kind not in but), None)

    def _reason_to_close(self, connection: Connection, now: float) -> str | None:
        if connection.retire is not None:
            return connection.retire
        if now >= connection.expires_at:
            return "recycle"
        if connection.uses >= self.max_uses:
            return "uses"
        return "shrink" if self.excess(connection.endpoint) else None

    def _room(self, endpoint: Endpoint) -> bool:
        if self.braked and not self._probe:
            return False
        return self.total + self.left < self.limit and endpoint.server.open + self.left < self.endpoint_limit

    def _crowds(self, other: Endpoint, endpoint: Endpoint) -> bool:
        """Whether one connection less to `other` is a place at `endpoint`, which has none."""
        return other.server is endpoint.server or endpoint.server.open + self.left < self.endpoint_limit

    def _in_the_way(self, endpoint: Endpoint, waiter: Waiter) -> bool:
        """Whether one connection less to this endpoint is a place for the waiter, for whom there is none here."""
        if self._room(endpoint) or (self.braked and self.closing):  # one that is being closed is enough for one to try
            return False
        return any(self._crowds(endpoint, e) for e in self._playing(waiter.kind))

    def excess(self, endpoint: Endpoint, ending: Counter[Server] = NONE_ENDING) -> bool:
        """Whether the limit is exceeded even when all that are closing have gone, and of the others so many as `ending`
        says."""
        server = endpoint.server
        return (
            self.total - self.closing - ending.total() + self.left > self.limit
            or server.open - server.closing - ending[server] + self.left > self.endpoint_limit
        )

    def _new(self, endpoint: Endpoint, kind: Kind | None) -> Connection:
        connection = self._make(endpoint)
        connection.kind = kind
        self.connections.add(connection)
        self._probe = False
        self.total += 1
        self.opening += 1
        self._opening.add(connection)
        endpoint.open += 1
        endpoint.server.open += 1
        return connection

    def _open_for(self, waiter: Waiter, endpoint: Endpoint) -> None:
        """Where no opening is under way for the waiter: start one, or make room for it."""
        if self.sealed or (not self._kinds and len(self._opening) >= len(self.waiters)):
            return
        room = self._room(endpoint)
        if self._kinds and self._opening and (room or self.idle) and waiter in self._covered():
            return
        if room:
            connection = self._new(endpoint, waiter.kind)
            connection.wanted_by = waiter
            self.opens.append(connection)
        elif self.idle and (waiter.key is not None or waiter.kind is not None) and not (self.braked and self.closing):
            # There is no place because others keep idle connections: the oldest of those makes room.
            idle = [c for other in self.endpoints if self._crowds(other, endpoint) for c in other.idle]
            if idle:
                self._drop_idle(min(idle, key=lambda c: c.idle_since), "overflow")

    def _supply(self, now: float) -> None:
        """Open what waiters and `min_idle` lack; refuse at once those for whom no endpoint is left."""
        if self.waiters and self.pause_timeout is None and self._uncovered() is not None and self.idle:
            self._serve_from_idle(now)
        if self.sealed:
            if not self.total:
                self._refuse_from(0, DRAINING, now)
            return
        full: set[Kind | None] = set()  # of these there is no room at the endpoint
        while self.pause_timeout is None and self.total + self.left < self.limit:
            waiter = self._uncovered(full)
            if waiter is None:
                break
            endpoint = self._choose(waiter, now)
            if endpoint is None:
                del self.waiters[waiter]
                self._observe("refused", waiter, now)
                waiter.refuse(NO_ENDPOINT, now)
                continue
            before = self.opening
            self._open_for(waiter, endpoint)
            if self.opening == before:
                if not self._kinds:
                    break
                full.add(waiter.kind)
        self._promise(now)
        if not self.min_idle or self.draining or (self._kinds and self._kind is None):
            return
        missing = self.min_idle - self.idle - max(0, len(self._opening) - len(self.waiters))
        for _ in range(missing):
            endpoint = self._picker_for(self._kind).pick(now, None)
            if endpoint is None or not endpoint.health.healthy or not self._room(endpoint) or self.total >= self.size:
                break
            self.opens.append(self._new(endpoint, self._kind))

    def _promise(self, now: float) -> None:
        """Note the end of the wait for those whom a connection is being opened for (opening is counted apart)."""
        if self._opening:
            for waiter in self._covered():
                if not waiter.assigned_at:
                    waiter.assigned_at = now

    def retire(self, connection: Connection, reason: str) -> None:
        """Close it: now where it is idle, else when its lease ends, or when it has been opened."""
        if connection.state == IDLE:
            self._drop_idle(connection, reason)
        elif connection.state == LEASED:
            connection.retire = reason
        elif connection.state == OPENING:
            connection.retire = reason
            self._opening.discard(connection)
            waiter, connection.wanted_by = connection.wanted_by, None
            if waiter is not None:  # it waits for another one again, and does not hear what becomes of this one
                waiter.assigned_at = 0.0

    def _drop_idle(self, connection: Connection, reason: str) -> None:
        connection.endpoint.idle.remove(connection)
        self._close(connection, reason)

    def _close(self, connection: Connection, reason: str) -> None:
        """A free connection: the driver closes it, and reports `closed` when the upstream has closed too."""
        self._closing(connection)
        self.closed_total[reason] += 1
        self.closes.append(connection)

    def _closing(self, connection: Connection) -> None:
        connection.state = CLOSING
        self.closing += 1
        connection.endpoint.closing += 1
        connection.endpoint.server.closing += 1

    def _forget(self, connection: Connection) -> None:
        connection.state = CLOSED
        connection.endpoint.open -= 1
        connection.endpoint.server.open -= 1
        self.total -= 1
        self.connections.discard(connection)
