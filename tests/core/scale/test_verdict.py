"""Decisions over ticks: what each cause does to replicas and connections, and what bad readings don't do."""

import json
from math import nan
from typing import Any

from tests.core.scale.cases import Fleet, Replica, targets

from forebay_core.scale.behavior import Pace, Wish
from forebay_core.scale.diagnosis import Cause
from forebay_core.scale.targets import Targets, UpstreamTargets
from forebay_core.scale.targets import targets as targets_of
from forebay_core.scale.verdict import ScalerState, decide, restored, saved
from forebay_core.spec.load import load
from forebay_core.spec.scaling import Behavior, ScaleDown

FULL: dict[str, Any] = {
    "requests": 250, "wait": 0.3, "hold": 0.12, "leased": 15, "waiting": 20, "wait_oldest": 0.3,
}  # fmt: skip
AT_GRANT = FULL | {"leased": 8, "requests": 130}
NOW = Behavior(scale_down=ScaleDown(stabilization_window_seconds=0))


def test_calm() -> None:
    fleet = Fleet(2, targets())
    verdict = fleet.calm()
    assert (verdict.cause, verdict.replicas) == (Cause.NONE, 2)


def test_ceiling_adds_replicas_at_once() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    verdict = fleet.tick(**FULL)
    assert verdict.cause is Cause.CEILING
    assert verdict.replicas > 2


def test_ceiling_ends_where_the_budget_does() -> None:
    fleet = Fleet(2, targets(30))
    fleet.calm()
    verdict = fleet.ticks(5, **FULL)
    assert (verdict.cause, verdict.replicas) == (Cause.BUDGET, 2)


def test_pool_raises_the_wish_of_the_one_that_waits() -> None:
    fleet = Fleet(2, targets(60), grant=8)
    fleet.calm()
    verdict = fleet.ticks(2, AT_GRANT, requests=20, leased=1)
    assert (verdict.cause, verdict.replicas) == (Cause.POOL, 2)
    wanted = verdict.upstreams["db"].wanted
    assert wanted["life-1"] > 8
    assert wanted["life-0"] <= 4


def test_backend_adds_nothing_and_gives_back() -> None:
    fleet = Fleet(2, targets(30))
    fleet.calm()
    slow = FULL | {"hold": 0.5, "requests": 60}
    first = fleet.ticks(3, **slow).upstreams["db"]
    assert (first.cause, first.capped, sum(first.wanted.values())) == (Cause.BACKEND, True, 30)
    verdict = fleet.ticks(20, **slow)
    assert verdict.replicas == 2
    assert sum(verdict.upstreams["db"].wanted.values()) < 30


def test_backend_lets_go_when_leases_are_short_again() -> None:
    fleet = Fleet(2, targets(30))
    fleet.calm()
    fleet.ticks(20, **FULL | {"hold": 0.5, "requests": 60})
    verdict = fleet.ticks(20, requests=20, leased=1, waiting=0)
    assert verdict.cause is Cause.NONE
    assert not verdict.upstreams["db"].capped


def test_a_hung_backend() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    hung = {"requests": 0, "leased": 15, "waiting": 5, "wait_oldest": 4.0, "lease_oldest": 12.0}
    assert fleet.ticks(4, **hung).cause is Cause.BACKEND


def test_without_a_baseline_a_step_is_tried_and_kept_only_if_completions_rise() -> None:
    start = Fleet(2, targets(60), grant=8)
    first = start.tick(**AT_GRANT)
    assert (first.cause, sum(first.upstreams["db"].wanted.values())) == (Cause.POOL, 16), "nothing before it is known"
    assert sum(start.ticks(4, **AT_GRANT).upstreams["db"].wanted.values()) == 24  # half as many again
    for replica in start.replicas:
        replica.db = replica.db._replace(limit=12, grant=12)
    verdict = start.ticks(6, **AT_GRANT | {"leased": 12})
    assert verdict.cause is Cause.BACKEND
    assert sum(verdict.upstreams["db"].wanted.values()) == 16


def test_no_second_step_before_the_first_is_judged() -> None:
    """The replica that the step asked for comes late; when it is full too, nobody knows yet whether it has helped."""
    fleet = Fleet(2, targets())
    assert fleet.ticks(8, **FULL).replicas == 3
    fleet.replicas.append(Replica("late"))
    fleet.ticks(6, {"requests": 2, "leased": 1, "waiting": 0}, **FULL)
    for _ in range(4):
        verdict = fleet.tick(**FULL)
        assert (verdict.replicas, verdict.upstreams["db"].everywhere) == (3, True)


def test_a_few_slow_openings_are_no_cause() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    assert fleet.tick({"connects": 1, "connect_sum": 0.9}, requests=20, leased=1).cause is Cause.NONE
    assert fleet.tick({"connects": 3, "connect_sum": 2.9}, requests=20, leased=1).cause is Cause.CONNECT


def test_connect_scales_nothing() -> None:
    fleet = Fleet(2, targets())
    wanted = fleet.calm().upstreams["db"].wanted
    verdict = fleet.ticks(3, **FULL | {"connect_errors": 9})
    assert (verdict.cause, verdict.replicas) == (Cause.CONNECT, 2)
    assert verdict.upstreams["db"].wanted == wanted


def test_cpu_adds_as_many_as_it_takes() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    verdict = fleet.ticks(4, requests=20, leased=1, cpu=1.0)
    assert (verdict.cause, verdict.replicas) == (Cause.REPLICA, 3)  # 2 * 100 % / 70 %


def test_one_more_where_the_loops_are_late_and_the_cpu_tells_nothing() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    assert fleet.tick(requests=20, leased=1, lag=0.1).replicas == 3


def test_no_upstream_lowers_another() -> None:
    aims = Targets({"db": UpstreamTargets(15, 30), "api": UpstreamTargets(15)})
    dbs, apis = [Replica("a"), Replica("b")], [Replica("a"), Replica("b")]
    state = ScalerState(2)
    for n in range(40):
        calm: dict[str, Any] = {"requests": 20, "leased": 1}
        slow, full = (FULL | {"hold": 0.5, "requests": 60}, FULL) if n >= 35 else (calm, calm)
        readings = []
        for db, api in zip(dbs, apis, strict=True):
            reading, other = db.tick(2.0 * n, **slow), api.tick(2.0 * n, **full)
            readings.append(reading._replace(upstreams={**reading.upstreams, "api": other.upstreams["db"]}))
        verdict, state = decide(state, readings, aims, 2.0 * n)
    assert verdict.upstreams["db"].cause is Cause.BACKEND
    assert verdict.upstreams["api"].cause is Cause.CEILING
    assert verdict.replicas > 2


def test_it_scales_down_when_nothing_is_needed() -> None:
    fleet = Fleet(4, targets(behavior=NOW))
    assert fleet.calm(40).replicas == 1


def test_each_missing_reading_keeps_a_replica() -> None:
    """One is needed, and two are not heard of: one may never have started, and must not keep all the others."""
    fleet = Fleet(4, targets(behavior=NOW))
    fleet.now += 2.0
    verdict = fleet.decide([r.tick(fleet.now, requests=20, leased=1) for r in fleet.replicas[:2]])
    assert (verdict.upstreams["db"].keep, verdict.replicas) == (1, 3)
    assert fleet.state.dropped == {"missing": 2}


def test_no_reading_at_all_changes_nothing() -> None:
    fleet = Fleet(4, targets(behavior=NOW))
    fleet.now += 600.0
    assert fleet.decide([]).replicas == 4


def test_nonsense_is_dropped_and_counted() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    before = fleet.state
    fleet.now += 2.0
    first, second = (r.tick(fleet.now, requests=20, leased=1) for r in fleet.replicas)
    lies = second._replace(upstreams={"db": second.upstreams["db"]._replace(waiting=-5, wait_oldest=nan)})
    verdict = fleet.decide([first, lies])
    assert (verdict.cause, verdict.replicas) == (Cause.NONE, 2)
    assert fleet.state.dropped == {"nonsense": 1}
    assert fleet.state.lives["life-1"] == before.lives["life-1"], "it stays as it was"


def test_a_late_reading_is_dropped() -> None:
    fleet = Fleet(1, targets())
    fleet.calm()
    old = fleet.state.lives["life-0"].reading
    fleet.now += 2.0
    fleet.decide([old])
    assert fleet.state.dropped["late"] == 1


def test_a_restarted_replica_begins_anew_and_panics_nobody() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    fleet.replicas[0] = Replica("life-0")
    fleet.replicas[0].process = "another"
    verdict = fleet.tick(requests=20, leased=1)
    assert (verdict.cause, verdict.replicas) == (Cause.NONE, 2)
    assert fleet.state.dropped == {"restarted": 1}
    fleet.tick(requests=20, leased=1)
    assert fleet.state.dropped == {"restarted": 1}


def test_another_process_is_seen_though_its_counters_are_higher() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    fleet.replicas[0].process = "another"
    assert fleet.tick(requests=2000, wait=0.5, leased=1).cause is Cause.CEILING, "the other one's waits"
    assert fleet.state.dropped == {"restarted": 1}
    assert len(fleet.state.lives["life-0"].cpu) == 1


def test_counters_that_go_backwards_count_as_a_restart() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    fleet.replicas[0] = Replica("life-0")
    fleet.tick(requests=1, leased=1)
    assert fleet.state.dropped == {"restarted": 1}


def test_draining_replicas_are_not_asked() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    fleet.now += 2.0
    first, second = (r.tick(fleet.now, requests=20, leased=1) for r in fleet.replicas)
    fleet.decide([first, second._replace(draining=True)])
    assert "life-1" not in fleet.state.lives


def test_a_new_leader_knows_the_baseline() -> None:
    fleet = Fleet(2, targets(30))
    fleet.calm()
    slow = FULL | {"hold": 0.5, "requests": 60}
    fleet.ticks(20, **slow)
    before = fleet.state.upstreams["db"]
    status = json.loads(json.dumps(saved(fleet.state)))
    fleet.state = restored(status, 2, fleet.now)
    after = fleet.state.upstreams["db"]
    assert after.learning.baseline == before.learning.baseline
    assert after.relief is not None
    assert before.relief is not None
    assert after.relief.limit == before.relief.limit
    assert fleet.state.pace == Pace((Wish(fleet.now, 2),)), "and scales nothing down before the window has passed"
    assert fleet.ticks(3, **slow).cause is Cause.BACKEND


def test_a_new_leader_lets_nothing_go_before_it_has_seen_leases_end() -> None:
    state = restored({"db": {"baseline": [0.1, 0.1], "limit": 12}}, 2, 0.0)
    fleet = Fleet(2, targets(60), grant=6)
    fleet.state = state
    verdict = fleet.tick(requests=0, leased=6, waiting=9, wait_oldest=2.0).upstreams["db"]
    assert (verdict.capped, sum(verdict.wanted.values())) == (True, 12)


def test_what_was_not_saved_by_us_is_left_out() -> None:
    state = restored({"db": {"baseline": [-1, "x"], "limit": -3}, "api": {"baseline": None}}, 2, 0.0)
    assert state.upstreams["db"].learning.baseline is None
    assert state.upstreams["db"].relief is None


def test_targets_of_a_document() -> None:
    pool = load(
        """
apiVersion: forebay.dev/v1alpha1
kind: ProxyPool
metadata: {name: orders}
spec:
  protocol: http
  listen: {port: 8080}
  autoscaling: {minReplicas: 2, maxReplicas: 5, targetWait: 50ms, targetCPU: 60}
  upstreams:
  - name: db
    endpoints: [{host: 127.0.0.1, port: 5432}]
    budget: {maxConnections: 100, reserved: 10}
    pool: {size: 20, maxOverflow: 0}
""",
        form="local",
    )
    found = targets_of(pool.spec, {"db": 90})
    assert found.upstreams == {"db": UpstreamTargets(20, 90)}
    assert (found.min_replicas, found.max_replicas, found.target_wait, found.target_cpu) == (2, 5, 0.05, 0.6)


def test_without_autoscaling_the_number_is_fixed_and_the_cause_is_found() -> None:
    fleet = Fleet(3, targets(min_replicas=3, max_replicas=3))
    fleet.calm()
    verdict = fleet.tick(**FULL)
    assert (verdict.cause, verdict.replicas) == (Cause.CEILING, 3)
