"""The engine, rule by rule. Random scripts over all rules at once are in test_pool_model.py."""

import pytest
from tests.core.pool_model import Settings

from forebay_core.balance import Endpoint, picker
from forebay_core.health import HealthGroup, HealthPolicy
from forebay_core.lease import (
    DRAINING,
    NO_ENDPOINT,
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
from forebay_core.pool import Pool


class Client(Waiter):
    """Remembers what it was told."""

    def __init__(self, key=None, willing=True, kind=None):
        super().__init__()
        self.key = key
        self.kind = kind
        self.willing = willing
        self.got = None
        self.refusal = None

    def take(self, connection, now):
        if self.willing:
            self.got = connection
        return self.willing

    def refuse(self, refusal, now):
        self.refusal = refusal


class Bench:
    """A pool with a driver that opens at once, unless told otherwise."""

    def __init__(self, endpoints=1, policy="leastConnections", random=lambda: 0.5, session=False, **settings):
        group = HealthGroup(HealthPolicy(consecutive_errors=1, base_ejection_time=10.0))
        self.endpoints = [Endpoint(f"e{n}", 80, 1, f"10.0.0.{n}", group.add()) for n in range(endpoints)]
        self.policy = policy
        defaults = {"size": 2, "max_overflow": 1, "min_idle": 0, "max_waiting": 3, "max_uses": 0}
        self.pool = Pool(
            Settings(**{**defaults, **settings}), self.endpoints, lambda e: picker(self.policy, e, 0), random=random,
            session=session,
        )  # fmt: skip
        self.now = 0.0
        self.opening = []
        self.closing = []

    def act(self, *, connect=True):
        self.opening += self.pool.opens
        self.pool.opens.clear()
        self.closing += self.pool.closes
        self.pool.closes.clear()
        while connect and self.opening:
            self.pool.opened(self.opening.pop(0), self.now)
            self.act()
        self.pool.check()

    def ask(self, *, connect=True, **client):
        client = Client(**client)
        got = self.pool.acquire(client, self.now)
        client.got = client.got or got
        self.act(connect=connect)
        return client

    def give_back(self, client):
        connection, client.got = client.got, None
        self.pool.release(connection, client, self.now)
        self.act()

    def upstream_closes(self):
        for connection in self.closing:
            self.pool.closed(connection, self.now)
        self.closing = []
        self.act()

    def tick(self, now):
        self.now = now
        self.pool.tick(now)
        self.act()


def refusal_of(bench, **client):
    with pytest.raises(Refused) as caught:
        bench.pool.acquire(Client(**client), bench.now)
    return caught.value.refusal


def test_a_connection_is_opened_on_demand_and_reused():
    bench = Bench()
    assert bench.pool.total == 0
    first = bench.ask()
    connection = first.got
    bench.give_back(first)
    assert bench.ask().got is connection
    assert bench.pool.opened_total == 1


def test_the_youngest_idle_connection_is_taken_so_that_the_surplus_ages():
    bench = Bench()
    a, b = bench.ask(), bench.ask()
    older, younger = a.got, b.got
    bench.give_back(a)
    bench.give_back(b)
    assert bench.ask().got is younger
    assert bench.ask().got is older


def test_waiters_are_served_first_in_first_out():
    bench = Bench(size=1, max_overflow=0)
    holder = bench.ask()
    first, second = bench.ask(), bench.ask()
    bench.give_back(holder)
    assert (first.got is not None, second.got) == (True, None)
    bench.give_back(first)
    assert second.got is not None


def test_a_waiter_that_refuses_the_hand_over_costs_the_next_one_nothing():
    bench = Bench(size=1, max_overflow=0)
    holder = bench.ask()
    gone, next_one = bench.ask(willing=False), bench.ask()
    bench.give_back(holder)
    assert gone.got is None
    assert next_one.got is not None


def test_overflow_is_opened_under_load_and_closed_on_release():
    bench = Bench(size=1, max_overflow=1)
    a, b = bench.ask(), bench.ask()
    bench.give_back(a)
    assert bench.pool.closed_total["overflow"] == 1
    assert bench.pool.total == 2, "it counts until the upstream has closed its end"
    bench.upstream_closes()
    assert bench.pool.total == 1
    bench.give_back(b)
    assert bench.pool.idle == 1


def test_a_closing_connection_keeps_its_place_until_the_upstream_has_closed():
    bench = Bench(size=1, max_overflow=0, max_uses=1)
    bench.give_back(bench.ask())
    waiting = bench.ask()
    assert waiting.got is None, "the only place is still taken"
    bench.upstream_closes()
    assert waiting.got is not None


def test_a_full_queue_refuses_at_once():
    bench = Bench(size=1, max_overflow=0, max_waiting=1)
    bench.ask()
    bench.ask()
    assert refusal_of(bench) is QUEUE_FULL


def test_a_waiter_is_refused_at_its_deadline_not_before():
    bench = Bench(size=1, max_overflow=0, timeout=5.0)
    bench.ask()
    waiting = bench.ask()
    assert bench.pool.next_deadline() == 5.0
    bench.tick(4.999)
    assert waiting.refusal is None
    bench.tick(5.0)
    assert waiting.refusal is TIMED_OUT
    assert bench.pool.wait["timeout"].sum == 5.0


def test_opening_is_not_part_of_the_wait_but_of_the_timeout():
    bench = Bench(timeout=5.0)
    bench.now = 1.0
    client = bench.ask(connect=False)
    bench.now = 3.0
    bench.act()
    assert client.got is not None
    assert bench.pool.wait["served"].sum == 0.0
    late = Bench(timeout=5.0)
    client = late.ask(connect=False)
    late.now = 5.0
    late.pool.expire(5.0)
    assert client.refusal is TIMED_OUT


def test_a_failed_opening_is_told_to_the_waiter_and_frees_its_place():
    bench = Bench(size=1, max_overflow=0)
    bench.now = 1.0
    client = bench.ask(connect=False)
    refusal = Refusal("connect_refused", "refused")
    bench.pool.failed(bench.opening.pop(), refusal, bench.now)
    assert client.refusal is refusal
    assert bench.pool.total == 0


def test_a_cancelled_waiter_is_forgotten():
    bench = Bench(size=1, max_overflow=0)
    holder, gone = bench.ask(), bench.ask()
    bench.pool.cancel(gone, bench.now)
    bench.give_back(holder)
    assert gone.got is None
    assert bench.pool.idle == 1


def test_min_idle_is_kept_ready_ahead_of_demand():
    bench = Bench(size=4, min_idle=2)
    bench.tick(1.0)
    assert bench.pool.idle == 2
    bench.ask()
    bench.tick(2.0)
    assert bench.pool.idle == 2


def test_idle_connections_are_closed_after_idle_timeout_down_to_min_idle():
    bench = Bench(size=3, min_idle=1, idle_timeout=10.0)
    clients = [bench.ask() for _ in range(3)]
    for client in clients:
        bench.give_back(client)
    bench.tick(9.9)
    assert bench.pool.idle == 3
    bench.tick(10.0)
    assert (bench.pool.idle, bench.pool.closed_total["idle"]) == (1, 2)


def test_what_the_upstream_says_of_its_patience_counts_for_the_last_one_too():
    bench = Bench(min_idle=1)
    client = bench.ask()
    client.got.idle_for = 4.0
    bench.give_back(client)
    bench.tick(4.0)
    assert bench.pool.closed_total["idle"] == 1


def test_recycle_is_checked_when_a_lease_ends_and_never_cuts_one():
    bench = Bench(recycle=30.0, recycle_jitter=10, random=lambda: 1.0)
    client = bench.ask()
    bench.tick(33.0)
    assert client.got is not None
    bench.give_back(client)
    assert bench.pool.closed_total["recycle"] == 1


def test_lives_differ_by_the_jitter():
    lives = set()
    for draw in (0.0, 0.5, 1.0):
        bench = Bench(recycle=100.0, recycle_jitter=10, random=lambda draw=draw: draw)
        lives.add(round(bench.ask().got.expires_at, 6))
    assert lives == {90.0, 100.0, 110.0}


def test_a_shorter_life_holds_for_those_that_are_open():
    draws = iter((0.5, 0.0, 1.0))
    bench = Bench(size=2, recycle=3600.0, recycle_jitter=10, random=lambda: next(draws))
    old = bench.ask().got
    bench.pool.configure(Settings(size=2, recycle=60.0, recycle_jitter=10), 1000.0)
    assert old.expires_at == 1054.0
    bench.now = 1050.0
    new = bench.ask().got
    bench.pool.configure(Settings(size=2, recycle=60.0, recycle_jitter=10), 1050.0)
    bench.pool.configure(Settings(size=2, recycle=3600.0, recycle_jitter=10), 1050.0)
    assert (old.expires_at, new.expires_at) == (1054.0, 1116.0)


def test_max_uses_closes_after_that_many_leases():
    bench = Bench(max_uses=2)
    bench.give_back(bench.ask())
    bench.give_back(bench.ask())
    assert bench.pool.closed_total["uses"] == 1


def test_pre_ping_looks_at_what_has_been_idle_for_a_while():
    class Stale(Connection):
        __slots__ = ()

        def stale(self):
            return True

    bench = Bench()
    bench.pool._make = Stale
    bench.give_back(bench.ask())
    assert bench.ask().got is not None, "in use a moment ago: not looked at"
    bench = Bench()
    bench.pool._make = Stale
    bench.give_back(bench.ask())
    bench.now = 1.5
    bench.ask()
    assert bench.pool.closed_total["upstream"] == 1


def test_a_released_lease_is_dead():
    bench = Bench()
    client = bench.ask()
    connection = client.got
    bench.give_back(client)
    with pytest.raises(LeaseError):
        bench.pool.release(connection, client, bench.now)
    with pytest.raises(LeaseError):
        bench.pool.discard(connection, client, bench.now, "error")


def test_without_a_grant_nothing_is_opened():
    bench = Bench()
    bench.pool.set_grant(0, 0.0)
    client = bench.ask()
    assert bench.pool.total == 0
    bench.pool.set_grant(1, 0.0)
    bench.act()
    assert client.got is not None


def test_a_smaller_grant_closes_idle_connections_now_and_leased_ones_as_they_end():
    bench = Bench(size=3)
    a, b, c = (bench.ask() for _ in range(3))
    bench.give_back(a)
    bench.pool.set_grant(1, 0.0)
    bench.act()
    assert bench.pool.closed_total["shrink"] == 1
    bench.give_back(b)
    assert bench.pool.closed_total["shrink"] == 2
    bench.give_back(c)
    assert (bench.pool.idle, bench.pool.closed_total["shrink"]) == (1, 2)


def test_what_the_dead_left_takes_its_places():
    bench = Bench(size=2, max_overflow=0)
    bench.pool.set_grant(2, 0.0)
    bench.pool.set_left(2, 0.0)
    client = bench.ask()
    assert client.got is None
    bench.pool.set_left(1, 0.0)
    bench.act()
    assert client.got is not None
    assert bench.pool.held == 2


def test_a_grant_per_endpoint_holds_for_each_apart():
    bench = Bench(endpoints=2, size=10)
    bench.pool.set_grant(1, 0.0, per_endpoint=True)
    assert {bench.ask().got.endpoint, bench.ask().got.endpoint} == set(bench.endpoints)
    assert bench.ask().got is None


def test_each_endpoint_has_a_spare_place_where_the_grant_is_per_endpoint():
    bench = Bench(endpoints=2, size=10, session=True)
    one, two = bench.endpoints
    bench.pool.set_grant(2, 0.0, per_endpoint=True)
    assert {bench.ask().got.endpoint, bench.ask().got.endpoint} == {one, two}
    assert bench.pool.take_spare(one), "though two are open in all"
    assert not bench.pool.take_spare(one)
    assert bench.pool.take_spare(two)
    assert [bench.pool.held_at(endpoint.server) for endpoint in (one, two)] == [2, 2]
    assert bench.pool.open == 4
    bench.pool.return_spare(one, 0.0)
    bench.pool.set_left(1, 0.0)
    assert not bench.pool.take_spare(one), "one of the dead may be there"


def test_the_spare_place_is_one_for_all_endpoints_where_the_grant_is():
    bench = Bench(endpoints=2, size=10, session=True)
    one, two = bench.endpoints
    bench.pool.set_grant(2, 0.0)
    assert bench.pool.take_spare(one)
    assert not bench.pool.take_spare(two)
    bench.pool.return_spare(one, 0.0)
    assert bench.pool.take_spare(two)
    assert bench.ask().got is not None, "a lease has the other place"


def test_least_connections_spreads_over_endpoints():
    bench = Bench(endpoints=2, size=4)
    endpoints = [bench.ask().got.endpoint for _ in range(4)]
    assert sorted(endpoints.count(e) for e in bench.endpoints) == [2, 2]


def test_consistent_hash_keeps_to_its_endpoint_and_makes_room_there():
    bench = Bench(endpoints=2, policy="consistentHash", size=1, max_overflow=0)
    keys = [b"a", b"b", b"c", b"d", b"e", b"f"]
    by_key = {}
    for key in keys:
        client = bench.ask(key=key)
        if client.got is None:  # the other endpoint keeps the only place: it makes room
            bench.upstream_closes()
        by_key[key] = client.got.endpoint
        bench.give_back(client)
    assert set(by_key.values()) == set(bench.endpoints)
    for key in keys:
        client = bench.ask(key=key)
        if client.got is None:
            bench.upstream_closes()
        assert client.got.endpoint is by_key[key]
        bench.give_back(client)


def test_another_policy_holds_at_once_also_for_those_who_wait():
    bench = Bench(endpoints=2, policy="consistentHash", size=1, max_overflow=0)
    first = bench.ask(key=b"a")
    connection = first.got
    waiting = [bench.ask(key=b"a") for _ in range(3)]
    bench.policy = "roundRobin"
    bench.pool.change_policy(keyed=False)
    for client in waiting:
        bench.give_back(first)
        assert client.got is connection, "nobody's key is looked at any more"
        first = client
    late = bench.ask(key=b"b")  # whose request has begun before
    bench.give_back(first)
    assert late.got is connection
    bench.give_back(late)
    bench = Bench(endpoints=2, policy="roundRobin", size=4)
    bench.policy = "consistentHash"
    bench.pool.change_policy(keyed=True)
    assert len({bench.ask(key=b"a").got.endpoint for _ in range(3)}) == 1


def test_with_all_endpoints_out_requests_are_refused_at_once_and_one_is_the_probe():
    bench = Bench()
    bench.endpoints[0].health.failed(0.0, "refused")
    assert refusal_of(bench) is NO_ENDPOINT
    bench.now = 10.0
    probe = bench.ask(connect=False)
    assert bench.opening, "its interval is over: this one goes through"
    assert refusal_of(bench) is NO_ENDPOINT
    bench.act()
    assert probe.got is not None


def test_a_pause_admits_and_leases_nothing_and_costs_nobody_the_timeout():
    bench = Bench(timeout=5.0)
    bench.give_back(bench.ask())
    bench.pool.pause(0.0, 100.0)
    client = bench.ask()
    bench.tick(50.0)
    assert (client.got, client.refusal) == (None, None)
    bench.pool.resume(50.0)
    bench.act()
    assert client.got is not None


def test_a_pause_ends_for_a_waiter_at_its_own_timeout():
    bench = Bench()
    bench.pool.pause(0.0, 100.0)
    client = bench.ask()
    bench.tick(100.0)
    assert client.refusal is PAUSE_TIMED_OUT


def test_parting_with_a_kind_of_connections_leaves_the_others_alone():
    bench = Bench(size=3, max_overflow=0, session=True)
    one, other = Kind(), Kind()
    holders = [bench.ask(kind=kind) for kind in (other, one, one)]
    bench.pool.min_idle = 1
    bench.give_back(holders.pop())
    assert [connection.kind for connection in bench.endpoints[0].idle] == [one]
    bench.pool.part_with(lambda kind: kind is one, 0.0)
    bench.act()
    assert len(bench.closing) == 1
    waiting = bench.ask(kind=one), bench.ask(kind=other)
    assert bench.pool.part_with(lambda kind: kind is one, 0.0) == [waiting[0]]
    bench.give_back(holders.pop())
    bench.upstream_closes()
    assert waiting[1].got is not None
    bench.tick(1.0)
    assert {connection.kind for connection in bench.pool.connections} == {other}


def test_draining_opens_nothing_and_keeps_one_connection_for_those_still_here():
    bench = Bench(size=3)
    bench.pool.set_grant(3, 0.0)  # without a budget there is no reason to open nothing
    clients = [bench.ask() for _ in range(3)]
    for client in clients:
        bench.give_back(client)
    bench.pool.drain(0.0, keep=1)
    bench.act()
    bench.upstream_closes()
    assert bench.pool.total == 1
    bench.give_back(bench.ask())
    bench.pool.drain(0.0, keep=0)
    bench.act()
    bench.upstream_closes()
    assert refusal_of(bench) is DRAINING


def test_recycle_all_closes_everything_as_it_becomes_free():
    bench = Bench()
    a, b = bench.ask(), bench.ask()
    bench.give_back(a)
    bench.pool.recycle_all(bench.now)
    bench.act()
    assert bench.pool.closed_total["recycle"] == 1
    bench.give_back(b)
    assert bench.pool.closed_total["recycle"] == 2


def test_endpoints_that_go_take_their_connections_with_them():
    bench = Bench(endpoints=2, size=4)
    a, b = bench.ask(), bench.ask()
    bench.give_back(a)
    bench.give_back(b)
    bench.pool.set_endpoints(bench.endpoints[:1], 0.0)
    bench.act()
    bench.upstream_closes()
    assert {c.endpoint for c in bench.pool.connections} == {bench.endpoints[0]}


def test_nobody_waits_for_an_opening_to_an_endpoint_that_has_gone():
    bench = Bench(endpoints=1, size=2, max_overflow=0)
    client = bench.ask(connect=False)
    lost = bench.opening.pop()
    (_, there) = Bench(endpoints=2).endpoints
    bench.pool.set_endpoints([there], 0.0)
    bench.act()
    assert client.got.endpoint is there
    waiting = bench.ask()
    assert waiting.got is None, "the opening has its place until it has failed"
    bench.pool.failed(lost, Refusal("connect_timeout", "it took too long"), 5.0)
    bench.act()
    assert waiting.got.endpoint is there
    assert waiting.refusal is None


def test_nothing_is_reserved_at_an_endpoint_that_is_no_more():
    """A round of checks goes on over the endpoints that there were when it began."""
    bench = Bench(endpoints=2, size=2)
    bench.pool.set_endpoints(bench.endpoints[:1], 0.0)
    assert bench.pool.reserve(bench.endpoints[1], object(), 0.0) is None
    assert bench.pool.total == 0


def test_a_check_borrows_a_place_and_takes_none_from_those_who_wait():
    bench = Bench(size=1, max_overflow=0)
    checker = object()
    borrowed = bench.pool.reserve(bench.endpoints[0], checker, 0.0)
    bench.pool.opened(borrowed, 0.0)
    client = bench.ask()
    assert client.got is None, "the check holds the only place"
    bench.pool.release(borrowed, checker, 0.0, count=False)
    bench.act()
    assert client.got is borrowed
    assert bench.pool.reserve(bench.endpoints[0], checker, 0.0) is None
    assert bench.pool.hold.count == 0


def test_statistics_and_repr_are_what_an_operator_reads():
    bench = Bench(size=1, max_overflow=0)
    bench.ask()
    bench.ask()
    bench.now = 2.0
    s = bench.pool.statistics(2.0)
    assert (s.leased, s.waiting, s.wait_oldest, s.lease_oldest, s.held, s.limit) == (1, 1, 2.0, 2.0, 1, 1)
    assert repr(bench.pool).startswith("<Pool e0:80: 1 leased, 0 idle")
    (tunnel,) = bench.pool.connections
    tunnel.counted = False
    assert bench.pool.statistics(2.0).lease_oldest == 0, "how long a tunnel lasts says nothing of the upstream"


def test_a_retry_does_not_go_where_opening_has_just_failed():
    bench = Bench(endpoints=2, size=4)
    bench.now = 1.0
    busy = bench.ask()
    client = bench.ask(connect=False)
    failed = bench.opening.pop()
    assert failed.endpoint is not busy.got.endpoint, "it has the fewest connections"
    bench.pool.failed(failed, Refusal("connect_refused", "refused"), bench.now)
    client.refusal = None
    assert bench.pool.acquire(client, bench.now) is None
    bench.act()
    assert client.got.endpoint is busy.got.endpoint


def waited(bench, outcome):
    """How many, and how long together."""
    counts, total = bench.pool.wait[outcome].snapshot()
    return sum(counts), total


def test_a_retry_waits_from_when_it_asks_again():
    """What the upstream did with the first connection was no wait for one."""
    bench = Bench(size=1, max_overflow=0, timeout=5.0)
    bench.now = 1.0
    client = bench.ask()
    bench.now = 3.0
    bench.pool.closed(client.got, bench.now)
    other = bench.ask()
    assert bench.pool.acquire(client, bench.now) is None
    bench.now = 3.5
    assert bench.pool.statistics(bench.now).wait_oldest == 0.5
    bench.give_back(other)
    assert client.got is not None
    assert waited(bench, "served") == (3, 0.5)


def test_a_retry_of_an_opening_that_took_long():
    bench = Bench(endpoints=2, size=4)
    bench.now = 1.0
    client = bench.ask(connect=False)
    bench.now = 3.0
    bench.pool.failed(bench.opening.pop(), Refusal("connect_timeout", "too long"), bench.now)
    bench.pool.acquire(client, bench.now)
    bench.act()
    assert waited(bench, "refused") == (1, 0.0)
    assert waited(bench, "served") == (1, 0.0)


def test_a_retry_keeps_its_deadline():
    bench = Bench(size=1, max_overflow=0, timeout=5.0)
    bench.now = 1.0
    client = bench.ask()
    for bench.now in (2.0, 3.0):
        bench.pool.closed(client.got, bench.now)
        other = bench.ask()
        assert bench.pool.acquire(client, bench.now) is None
        bench.give_back(other)
    bench.pool.closed(client.got, bench.now)
    bench.ask()
    assert bench.pool.acquire(client, bench.now) is None
    assert (client.since, bench.pool.next_deadline()) == (1.0, 6.0)
    bench.pool.configure(Settings(size=1, max_overflow=0, timeout=4.0), bench.now)
    assert bench.pool.next_deadline() == 5.0, "a shorter timeout counts from when it asked first"


def test_who_asks_anew_is_no_retry():
    bench = Bench(size=1, max_overflow=0)
    bench.now = 1.0
    client = bench.ask()
    bench.pool.closed(client.got, 2.0)
    client.got = bench.pool.acquire(client, 2.0)
    bench.act()
    bench.now = 3.0
    bench.give_back(client)
    holder = bench.ask()
    client.deadline = 0.0
    bench.now = 4.0
    assert bench.pool.acquire(client, bench.now) is None
    assert (client.ready_at, client.since) == (4.0, 4.0)
    bench.give_back(holder)


def test_a_failed_opening_is_told_to_nobody_else():
    bench = Bench(endpoints=2, size=4)
    bench.now = 1.0
    first, second = bench.ask(connect=False), bench.ask(connect=False)
    bench.pool.failed(bench.opening.pop(), Refusal("connect_refused", "refused"), bench.now)
    assert (first.refusal is None, second.refusal is None) == (True, False)


def test_a_check_of_an_endpoint_that_is_out_hands_its_connection_to_nobody():
    bench = Bench(endpoints=2, size=2, max_overflow=0)
    checked = bench.endpoints[0]
    checker = object()
    borrowed = bench.pool.reserve(checked, checker, 0.0)
    bench.pool.opened(borrowed, 0.0)
    bench.ask()
    checked.health.failed(0.0, "the check failed")
    waiting = bench.ask()
    assert waiting.got is None
    bench.pool.release(borrowed, checker, 0.0, count=False)
    bench.act()
    assert waiting.got is None, "the endpoint is out"
    bench.upstream_closes()
    assert waiting.got.endpoint is bench.endpoints[1]
