"""One upstream's part: needs per life, budgets per endpoint, keeping replicas."""

from typing import Any

from tests.core.scale.cases import Fleet, targets

from forebay_core.scale.diagnosis import Cause
from forebay_core.scale.targets import Targets, UpstreamTargets

AT_GRANT: dict[str, Any] = {"requests": 130, "wait": 0.3, "hold": 0.12, "leased": 8, "waiting": 9, "wait_oldest": 0.3}


def test_a_budget_per_endpoint_is_counted_over_all_of_them() -> None:
    """Two endpoints, a grant of 4 each: 8 of 15 may be open, and more is asked for, per endpoint."""
    fleet = Fleet(2, Targets({"db": UpstreamTargets(15, 20, per_endpoint=True)}), grant=4)
    for replica in fleet.replicas:
        replica.db = replica.db._replace(limit=15, endpoints=2, healthy=2)  # as the pool tells it: its own limit
    fleet.calm()
    verdict = fleet.ticks(3, **AT_GRANT).upstreams["db"]
    assert verdict.cause is Cause.POOL
    assert all(5 <= wanted <= 8 for wanted in verdict.wanted.values())


def test_demand_fades_with_the_stable_window() -> None:
    fleet = Fleet(2, targets(60), grant=15)
    fleet.calm()
    assert fleet.ticks(3, requests=160, hold=0.1, leased=9).upstreams["db"].wanted["life-0"] > 9, "and its headroom"
    after = fleet.ticks(10, requests=2, leased=0).upstreams["db"].wanted["life-0"]
    assert after == 9, "the peak is still in the window"
    assert fleet.ticks(30, requests=2, leased=0).upstreams["db"].wanted["life-0"] < 4


def test_who_has_just_become_busy_keeps_its_headroom() -> None:
    """Though the last minute was calm, and its connections are enough at the moment: 10 on average, and half of it."""
    fleet = Fleet(2, targets(60), grant=15)
    fleet.calm()
    verdict = fleet.ticks(3, {"requests": 200, "hold": 0.1, "leased": 9}, requests=2, leased=1)
    assert verdict.cause is Cause.NONE
    assert verdict.upstreams["db"].wanted == {"life-0": 3, "life-1": 15}


def test_while_it_waits_no_replica_goes() -> None:
    fleet = Fleet(4, targets(60), grant=8)
    fleet.calm(3)
    verdict = fleet.tick(AT_GRANT, requests=2, leased=0).upstreams["db"]
    assert verdict.cause is Cause.POOL
    assert verdict.keep == 4


def test_waits_are_of_those_who_still_wait_too() -> None:
    fleet = Fleet(1, targets())
    fleet.calm()
    verdict = fleet.tick(requests=0, leased=15, waiting=4, wait_oldest=1.5)
    assert verdict.upstreams["db"].wait_p95 == 1.5
    assert verdict.upstreams["db"].waiting == 4


def test_paused_is_no_cause() -> None:
    fleet = Fleet(1, targets())
    fleet.calm()
    verdict = fleet.tick(requests=0, leased=0, waiting=40, wait_oldest=9.0, paused=True)
    assert (verdict.cause, verdict.message, verdict.replicas) == (Cause.NONE, "paused", 1)
