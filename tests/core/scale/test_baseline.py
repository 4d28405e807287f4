"""The baseline learns from quiet leases only, and slowly upwards."""

import pytest
from tests.core.scale.cases import Fleet, targets

from forebay_core.scale.baseline import Baseline, Learning, learn, slowdown
from forebay_core.scale.windows import Holds


def test_the_first_batch_is_the_baseline() -> None:
    assert learn(Learning(), Holds(0.05, 0.1), 10.0) == Baseline(0.05, 0.1)


def test_it_rises_by_at_most_a_tenth_per_hour_of_quiet() -> None:
    learning = Learning(Baseline(0.05, 0.1))
    for _ in range(360):  # an hour, in batches of 10 s, of leases ten times as long
        learning = Learning(learn(learning, Holds(0.5, 1.0), 10.0))
    assert learning.baseline is not None
    assert learning.baseline.mean == pytest.approx(0.1 * 1.105, rel=0.01)


def test_it_falls_within_minutes() -> None:
    learning = Learning(Baseline(0.05, 0.1))
    for _ in range(30):
        learning = Learning(learn(learning, Holds(0.02, 0.04), 10.0))
    assert learning.baseline is not None
    assert learning.baseline.mean < 0.05


def test_slower_is_only_what_is_slower_in_both_views() -> None:
    base = Baseline(0.05, 0.1)
    assert slowdown(base, Holds(0.15, 0.3)) == pytest.approx(3.0)
    assert slowdown(base, Holds(0.05, 0.3)) == pytest.approx(1.0), "other work: the fastest are as fast as ever"
    assert slowdown(base, Holds(0.11, 0.11)) == pytest.approx(1.1), "a bucket's bound was crossed, no more"
    assert slowdown(None, Holds(0.1, 0.1)) is None
    assert slowdown(base, None) is None


def test_an_incident_is_not_learnt_however_long() -> None:
    fleet = Fleet(2, targets())
    fleet.calm()
    before = fleet.tick(requests=20, leased=1).upstreams["db"].baseline
    assert before is not None
    verdict = fleet.ticks(1200, requests=20, wait=1.0, hold=0.5, leased=15, waiting=9, wait_oldest=1.0)  # 40 minutes
    assert verdict.upstreams["db"].baseline == before


def test_half_the_limit_leased_is_no_quiet_tick() -> None:
    fleet = Fleet(2, targets())
    fleet.ticks(30, requests=100, leased=8, hold=0.15)
    assert fleet.tick(requests=100, leased=8, hold=0.15).upstreams["db"].baseline is None


def test_busy_replicas_make_no_quiet_tick() -> None:
    fleet = Fleet(2, targets())
    fleet.ticks(30, requests=20, leased=1, cpu=0.9)
    assert fleet.tick(requests=20, leased=1, cpu=0.9).upstreams["db"].baseline is None
