"""One upstream's part: needs per life, budgets per endpoint, keeping replicas."""

from typing import Any

import pytest
from tests.core.scale.cases import TICK, Fleet, Replica, targets

from forebay_core.scale.diagnosis import Cause
from forebay_core.scale.relief import SETTLE
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


def test_a_budget_per_endpoint_where_one_does_all_the_work() -> None:
    """A primary beside two standbys: what it needs is not divided by three, and its grant is all that there is."""
    fleet = Fleet(2, Targets({"db": UpstreamTargets(15, 60, per_endpoint=True)}), grant=8)
    for replica in fleet.replicas:
        replica.db = replica.db._replace(limit=15, endpoints=3, healthy=3)
    fleet.calm()
    verdict = fleet.ticks(30, **AT_GRANT, busy=8, busiest=8).upstreams["db"]
    assert verdict.cause is Cause.POOL
    assert all(wanted > 8 for wanted in verdict.wanted.values())
    without_a_baseline = Fleet(2, Targets({"db": UpstreamTargets(15, 60, per_endpoint=True)}), grant=8)
    for replica in without_a_baseline.replicas:
        replica.db = replica.db._replace(limit=15, endpoints=3, healthy=3)
    verdict = without_a_baseline.ticks(4, **AT_GRANT, busy=8, busiest=8).upstreams["db"]
    assert verdict.capped, "a step is tried"
    assert sum(verdict.wanted.values()) == 24


def test_a_budget_per_endpoint_without_an_address_yet() -> None:
    """Names may be resolved later, and a document may be mended: until then there is a verdict all the same."""
    fleet = Fleet(2, Targets({"db": UpstreamTargets(15, 20, per_endpoint=True)}), grant=4)
    for replica in fleet.replicas:
        replica.db = replica.db._replace(limit=0, endpoints=0, healthy=0)
    verdict = fleet.ticks(3, waiting=3, wait_oldest=2.0).upstreams["db"]
    assert verdict.wanted == {"life-0": 1, "life-1": 1}


def test_places_that_serve_nobody_come_on_top() -> None:
    """Of a grant of 8 three are of the dead, and one is for cancelling: with what is left it can't do its work."""
    fleet = Fleet(2, targets(60), grant=8)
    fleet.calm()
    usual = fleet.ticks(3, **AT_GRANT).upstreams["db"].wanted["life-0"]
    for replica in fleet.replicas:
        replica.db = replica.db._replace(left=3, spare=1, limit=4)
    verdict = fleet.ticks(3, {**AT_GRANT, "leased": 4}, {**AT_GRANT, "leased": 4}).upstreams["db"]
    assert verdict.cause is Cause.POOL
    assert verdict.besides == {"life-0": 4, "life-1": 4}
    assert verdict.wanted["life-0"] >= usual + 4


def test_a_trial_is_not_judged_while_replicas_die() -> None:
    """The one that was under way is over; the next begins when nothing of the dead is left."""
    fleet = Fleet(2, targets(60), grant=8)
    tried = fleet.ticks(4, **AT_GRANT)
    assert tried.upstreams["db"].capped
    assert fleet.state.upstreams["db"].trial is not None
    for replica in fleet.replicas:
        replica.db = replica.db._replace(left=3)
    fleet.ticks(8, **AT_GRANT | {"requests": 20})
    trial = fleet.state.upstreams["db"].trial
    assert trial is not None
    assert not trial.binding
    for replica in fleet.replicas:
        replica.db = replica.db._replace(left=0)
    fleet.ticks(4, **AT_GRANT | {"requests": 20})
    trial = fleet.state.upstreams["db"].trial
    assert trial is not None
    assert trial.binding


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


def test_for_a_dead_backend_that_nobody_asks_for_no_replica_stays() -> None:
    fleet = Fleet(4, targets(60), grant=8)
    for replica in fleet.replicas:
        replica.db = replica.db._replace(healthy=0)
    verdict = fleet.ticks(3, requests=2, leased=0).upstreams["db"]
    assert (verdict.cause, verdict.keep) == (Cause.CONNECT, 4)
    verdict = fleet.ticks(4, leased=0).upstreams["db"]
    assert (verdict.cause, verdict.keep) == (Cause.CONNECT, 1)


def test_waits_are_of_those_who_still_wait_too() -> None:
    fleet = Fleet(1, targets())
    fleet.calm()
    verdict = fleet.tick(requests=0, leased=15, waiting=4, wait_oldest=1.5)
    assert verdict.upstreams["db"].wait_p95 == 1.5
    assert verdict.upstreams["db"].waiting == 4


@pytest.mark.parametrize("change", ["restarted", "replaced"])
def test_no_step_is_judged_while_it_is_not_known_what_a_replica_completes(change: str) -> None:
    """A saturated backend completes the same, but of the new process nothing is known yet."""
    fleet = Fleet(2, targets(60), grant=15)
    fleet.calm()
    slow = {"requests": 100, "wait": 0.5, "hold": 0.6, "leased": 15, "waiting": 40, "wait_oldest": 0.5}
    fleet.ticks(7, **slow)
    stepped = fleet.state.upstreams["db"].relief
    assert stepped is not None
    assert stepped.limit < stepped.before
    lower = slow | {"leased": stepped.limit // 2}
    while fleet.now + TICK < stepped.stepped_at + SETTLE:
        fleet.tick(**lower)
    old = fleet.replicas[0]
    new = Replica(old.life if change == "restarted" else "new", grant=15)
    new.process = "new"
    fleet.replicas[0] = new
    fleet.tick(**lower)
    assert fleet.state.upstreams["db"].relief == stepped
    fleet.tick(**lower)
    after = fleet.state.upstreams["db"]
    assert after.learning.baseline is not None
    assert after.relief is not None
    assert after.relief.stepped_at == fleet.now, "the next one: it was not taken back"


def test_one_that_is_paused_holds_no_other_back_by_its_grant() -> None:
    fleet = Fleet(4, targets(200), grant=15)
    fleet.replicas[3].db = fleet.replicas[3].db._replace(grant=5, limit=5)
    fleet.calm()
    paused = {"requests": 0, "leased": 0, "waiting": 400, "wait_oldest": 90.0, "paused": True}
    full = {"requests": 300, "wait": 0.3, "hold": 0.1, "leased": 15, "waiting": 40, "wait_oldest": 0.3}
    verdict = fleet.ticks(3, paused, **full)
    assert (verdict.cause, verdict.replicas > 4) == (Cause.CEILING, True)


def test_one_that_is_paused_says_nothing_of_the_others() -> None:
    fleet = Fleet(4, targets())
    fleet.calm()
    paused = {"requests": 0, "leased": 0, "waiting": 400, "wait_oldest": 90.0, "paused": True}
    full = {"requests": 300, "wait": 0.3, "hold": 0.1, "leased": 15, "waiting": 40, "wait_oldest": 0.3}
    verdict = fleet.ticks(3, paused, **full)
    assert (verdict.cause, verdict.replicas > 4) == (Cause.CEILING, True)
    assert verdict.upstreams["db"].waiting == 3 * 40
    assert verdict.upstreams["db"].wanted["life-3"] < 15
    calm = {"requests": 20, "wait": 0.0, "hold": 0.1, "leased": 1, "waiting": 0, "wait_oldest": 0.0}
    verdict = fleet.ticks(6, paused, **calm)
    assert verdict.cause is Cause.NONE
    assert "paused" not in verdict.message


def test_paused_is_no_cause() -> None:
    fleet = Fleet(1, targets())
    fleet.calm()
    verdict = fleet.tick(requests=0, leased=0, waiting=40, wait_oldest=9.0, paused=True)
    assert (verdict.cause, verdict.message, verdict.replicas) == (Cause.NONE, "paused", 1)
