"""The engine against a world that keeps its own books: random scripts, and mistakes that must be found."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.pool_model import OPERATIONS, Settings, World, run

from forebay_core.lease import IDLE, LEASED, OPENING, Connection, LeaseError, Waiter
from forebay_core.pool import Pool

# Requests come and go more often than grants change.
WEIGHTED = ("acquire",) * 6 + ("release",) * 3 + ("connected",) * 5 + ("upstream_closes",) * 2 + OPERATIONS
STEP = st.tuples(st.sampled_from(WEIGHTED), st.integers(0, 1000))


@given(st.lists(STEP, max_size=120))
@settings(max_examples=600, deadline=None)
def test_every_invariant_holds_after_every_step(script):
    run(script)


@given(st.lists(STEP, max_size=120))
@settings(max_examples=600, deadline=None)
def test_every_invariant_holds_with_kinds_roles_and_a_spare_place(script):
    run(script, session=True)


@given(st.lists(STEP, max_size=120))
@settings(max_examples=600, deadline=None)
def test_every_invariant_holds_with_origins(script):
    run(script, origins=True)


def random_script(seed, length=150):
    rng = random.Random(seed)
    return [(rng.choice(WEIGHTED), rng.randrange(1000)) for _ in range(length)]


class ForgetsTheCancelled(Pool):
    def cancel(self, waiter, now):
        pass


class CountsFromConnect(Pool):
    """A connection that is being closed is taken for closed."""

    def _room(self, endpoint):
        return self.total - self.closing + self.left < self.limit


class IgnoresTheRefusedHandOver(Pool):
    def _place(self, connection, now):
        if self.waiters and self.pause_timeout is None and self._reason_to_close(connection, now) is None:
            waiter, _ = self.waiters.popitem(last=False)
            self._lease(connection, waiter, now)
            waiter.take(connection, now)
            return
        super()._place(connection, now)


class KeepsItsGrantAfterAShrink(Pool):
    def _set_limit(self):
        super()._set_limit()
        self.limit = max(self.limit, getattr(self, "_highest", 0))
        self._highest = self.limit


class ServesAtRandomTimes(Pool):
    """Released connections become idle even where somebody waits."""

    def release(self, connection: Connection, owner: object, now: float, *, count: bool = True) -> None:
        self._end_lease(connection, owner)
        connection.state = IDLE
        connection.idle_since = now
        connection.endpoint.idle.append(connection)


class LosesAFailedOpening(Pool):
    def failed(self, connection, refusal, now):
        super().failed(connection, refusal, now)
        self.opening += 1


class CountsOnAnOpeningToAnEndpointThatHasGone(Pool):
    def retire(self, connection, reason):
        if connection.state == OPENING:
            connection.retire = reason
        else:
            super().retire(connection, reason)

    def check(self):
        """The world has to find it."""


class LeasesTwice(Pool):
    """An idle connection that is handed over stays in the idle list."""

    def acquire(self, waiter: Waiter, now: float) -> Connection | None:
        connection = super().acquire(waiter, now)
        if connection is not None and connection.state == LEASED:
            connection.endpoint.idle.append(connection)
        return connection


class OpensWhileDraining(Pool):
    def _open_for(self, waiter, endpoint):
        draining, self.draining = self.draining, False
        super()._open_for(waiter, endpoint)
        self.draining = draining


class ForgetsWhatTheDeadLeft(Pool):
    def _room(self, endpoint):
        return self.total < self.limit


class ExpiresNobody(Pool):
    def expire(self, now):
        pass


class CountsEndpointsNotServers(Pool):
    """What is leased at an address that has left the list is forgotten when it comes back."""

    def _room(self, endpoint):
        return super()._room(endpoint) or (
            self.total + self.left < self.limit and endpoint.open + self.left < self.endpoint_limit
        )


class SaysNothingOfItsSparePlace(Pool):
    """Of the one that it may still take."""

    @property
    def held(self):
        return self.open + self.left


SESSION = {"session": True}


@pytest.mark.parametrize(
    ("mistake", "protocol"),
    [
        (ForgetsTheCancelled, {}), (CountsFromConnect, {}), (IgnoresTheRefusedHandOver, {}),
        (KeepsItsGrantAfterAShrink, {}), (ServesAtRandomTimes, {}), (LosesAFailedOpening, {}), (LeasesTwice, {}),
        (CountsOnAnOpeningToAnEndpointThatHasGone, {}),
        (OpensWhileDraining, {}), (ForgetsWhatTheDeadLeft, {}), (ExpiresNobody, {}),
        (CountsEndpointsNotServers, SESSION), (SaysNothingOfItsSparePlace, SESSION),
    ],
)  # fmt: skip
def test_a_mistake_in_the_engine_is_found(mistake, protocol):
    for seed in range(300):
        try:
            run(random_script(seed), mistake, **protocol)
        except (AssertionError, LeaseError):
            return
    pytest.fail(f"{mistake.__name__} was not found in 300 scripts")


@pytest.mark.parametrize("protocol", [{}, SESSION, {"origins": True}], ids=str)
def test_the_same_scripts_pass_without_a_mistake(protocol):
    for seed in range(300):
        run(random_script(seed), **protocol)


def test_after_a_pause_an_idle_connection_serves_its_kind_though_another_has_waited_longer():
    """There is room for the other one's. Once it was put back and taken again without end."""
    served = [("acquire", 3), ("connected", 0), ("release", 0)]
    run([*served, ("pause", 0), ("acquire", 1), ("acquire", 3), ("wait", 2), ("pause", 0)], session=True)


def test_after_a_pause_an_idle_connection_serves_though_one_of_another_kind_is_being_opened():
    """For somebody who has gone: it was taken to be for the one who waits."""
    gone, served = [("acquire", 1), ("cancel", 0)], [("acquire", 3), ("connected", 1), ("release", 0)]
    run([*gone, *served, ("grant", 3), ("pause", 0), ("acquire", 3), ("pause", 0)], session=True)


def test_an_idle_connection_serves_its_kind_though_others_wait_for_theirs():
    """And though more connections are being opened than waiters are left who want them."""
    world = World(settings=Settings(min_idle=0), session=True)
    for n in (3, 6):
        world.do_acquire(n)
    world.carry_out()
    for step in (world.do_connected, world.do_connected, world.do_release, world.do_release):
        step(0)
    for n in (1, 4, 10):
        world.do_acquire(n)
    world.do_cancel(0)
    world.carry_out()
    world.do_acquire(3)
    assert world.clients[-1].connection is not None
    world.carry_out()
    world.check()


def test_at_a_full_upstream_one_connection_makes_room_for_another_kind():
    """More would be lost to those who could have used them; and what one has made may be taken at once."""
    world = World(settings=Settings(size=4, max_overflow=0, min_idle=0, max_uses=0), session=True)
    for n in (3, 6, 9):
        world.do_acquire(n)
    world.carry_out()
    for _ in range(3):
        world.do_connected(0)
    world.do_brake(0)
    world.do_acquire(1)
    waiting = world.clients[-1]
    world.carry_out()
    assert not world.dialing
    world.now += 0.2
    for _ in range(3):
        world.do_release(0)
        world.carry_out()
        world.check()
    assert (len(world.shutting), world.pool.idle) == (1, 2)
    (closing,) = world.shutting
    world.do_upstream_closes(sorted(world.open, key=id).index(closing))
    world.carry_out()
    assert len(world.dialing) == 1
    world.do_connected(0)
    assert waiting.connection is not None
    assert not world.pool.braked


def leased_at_both(seconds_between=0.0):
    """Two leases of each role, all that a grant for each endpoint allows; who waits for the primary has done so for
    longer than who waits for the standby."""
    world = World(settings=Settings(size=20, max_overflow=0, min_idle=0, max_uses=0), session=True)
    world.do_grant_each(3)
    for n in (1, 2, 1, 2):
        world.do_acquire(n)
    world.carry_out()
    for _ in range(4):
        world.do_connected(0)
    waiting = []
    for n in (1, 2):
        world.do_acquire(n)
        waiting.append(world.clients[-1])
        world.now += seconds_between
    world.carry_out()
    world.check()
    standby = next(c.connection for c in world.clients if c.connection and c.kind.role == "standby")
    return world, standby, waiting


def test_who_waits_for_a_full_endpoint_is_in_nobodys_way():
    world, standby, (_, waiting) = leased_at_both()
    world.do_upstream_closes(sorted(world.open, key=id).index(standby))
    world.carry_out()
    world.do_connected(0)
    assert waiting.connection is not None


def test_a_connection_is_not_closed_for_who_waits_for_another_endpoint():
    world, standby, (_, waiting) = leased_at_both(seconds_between=0.2)
    holders = [c for c in world.clients if c.connection]
    world.do_release(next(n for n, c in enumerate(holders) if c.connection is standby))
    world.carry_out()
    assert waiting.connection is standby
    assert not world.shutting


def test_a_smaller_grant_for_each_endpoint_closes_what_is_idle_at_each():
    world = World(settings=Settings(size=20, max_overflow=0, min_idle=0, max_waiting=20, max_uses=0), session=True)
    world.do_grant_each(5)
    for n in (1, 2, 1, 2, 1, 2, 1, 2):
        world.do_acquire(n)
    world.carry_out()
    for _ in range(8):
        world.do_connected(0)
    for _ in range(8):
        world.do_release(0)
    world.check()
    world.do_grant_each(3)
    world.check()
    assert [len(endpoint.idle) for endpoint in world.endpoints] == [2, 2]
