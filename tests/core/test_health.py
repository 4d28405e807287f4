"""The health state machine, by the rules that its docstring numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_core.health import EndpointHealth, HealthGroup, HealthPolicy

BASE = 30.0
POLICY = HealthPolicy(consecutive_errors=3, base_ejection_time=BASE, max_ejection_percent=50)


def group_of(size: int, policy: HealthPolicy = POLICY) -> tuple[HealthGroup, list[EndpointHealth]]:
    group = HealthGroup(policy)
    return group, [group.add() for _ in range(size)]


def fail(health: EndpointHealth, now: float, times: int = 3) -> None:
    for _ in range(times):
        health.failed(now, "connect refused")


def test_errors_eject_only_in_a_row() -> None:
    _, (health, *_) = group_of(2)
    fail(health, 1.0, 2)
    health.succeeded(1.0)
    fail(health, 1.0, 2)
    assert health.healthy
    health.failed(1.0, "reset")
    assert not health.healthy
    assert not health.available(1.0)
    assert health.reason == "reset"
    assert health.ejections_total == 1


def test_a_sole_endpoint_may_be_ejected() -> None:
    _, (health,) = group_of(1)
    fail(health, 0.0)
    assert not health.available(0.0)


@pytest.mark.parametrize(
    ("size", "percent", "ejected"),
    [(1, 0, 0), (1, 1, 1), (2, 50, 1), (3, 50, 1), (4, 50, 2), (4, 100, 4), (10, 34, 3)],
)
def test_at_most_the_percentage_is_ejected(size: int, percent: int, ejected: int) -> None:
    group, members = group_of(size, HealthPolicy(consecutive_errors=3, max_ejection_percent=percent))
    for member in members:
        fail(member, 0.0)
    assert [member.healthy for member in members].count(False) == ejected
    assert group.healthy == size - ejected


def test_an_endpoint_over_the_percentage_is_known_to_fail() -> None:
    _, (first, second) = group_of(2)
    fail(first, 0.0)
    fail(second, 0.0, 2)
    assert (first.failing, second.failing) == (True, False)
    fail(second, 0.0, 1)
    assert (second.healthy, second.failing) == (True, True)
    second.succeeded(0.0)
    assert not second.failing


def test_an_endpoint_over_the_percentage_goes_once_there_is_room() -> None:
    _, (first, second) = group_of(2)
    fail(first, 0.0)
    fail(second, 0.0)
    assert second.healthy
    assert first.take_probe(BASE)
    first.succeeded(BASE)
    second.failed(BASE, "reset")
    assert (first.healthy, second.healthy) == (True, False)


def test_one_probe_per_interval_goes_through_and_its_success_closes() -> None:
    _, (health, _) = group_of(2)
    fail(health, 0.0)
    assert not health.take_probe(BASE - 0.1)
    assert health.available(BASE)
    assert health.take_probe(BASE)
    assert not health.available(BASE)
    assert not health.take_probe(2 * BASE - 0.1)
    assert health.take_probe(2 * BASE), "a probe without an outcome must not block the next one"
    health.succeeded(2 * BASE + 1)
    assert health.healthy
    assert health.errors == 0
    assert not health.take_probe(2 * BASE + 1), "a healthy endpoint has no probe to take"


def test_ejections_in_a_row_last_longer_while_others_serve() -> None:
    _, (health, _) = group_of(2)
    fail(health, 0.0)
    now, waits = 0.0, []
    for _ in range(12):
        due = health.probe_at
        waits.append(due - now)
        now = due
        assert health.take_probe(now)
        health.failed(now, "timeout")
    assert waits == [BASE * row for row in range(1, 11)] + [300.0, 300.0]


def test_with_all_out_there_is_a_probe_every_second() -> None:
    """A backend that has been restarted is found within a second, however long it was away."""
    _, (health,) = group_of(1)
    fail(health, 0.0)
    for second in (1.0, 2.0, 3.0, 4.0):
        assert not health.available(second - 0.1)
        assert health.take_probe(second)
        assert not health.available(second + 0.9), "nor without an outcome"
        health.failed(second, "timeout")
    assert health.take_probe(5.0)
    health.succeeded(5.0)
    assert health.healthy


def test_all_that_come_back_are_in_again_within_two_seconds() -> None:
    """However many probes have failed while all were out: those were no ejections."""
    _, members = group_of(3, HealthPolicy(consecutive_errors=3, max_ejection_percent=100))
    for health in members:
        fail(health, 0.0)
    for second in range(1, 60):
        for health in members:
            assert health.take_probe(float(second))
            health.failed(float(second), "refused")
    for second in (60.0, 61.0):
        for health in members:
            if health.take_probe(second):
                health.succeeded(second)
    assert [(health.healthy, health.ejections_total) for health in members] == [(True, 1)] * 3


def test_a_failed_check_is_the_probe_of_a_sole_endpoint_too() -> None:
    _, (health,) = group_of(1)
    fail(health, 0.0)
    health.checked(ok=False, now=0.5)
    assert not health.available(0.4 + BASE)
    assert health.available(0.5 + BASE)


def test_the_row_ends_after_as_long_a_time_in() -> None:
    _, (health, _) = group_of(2)

    def ejected_for(now: float) -> float:
        fail(health, now)
        due = health.probe_at
        assert health.take_probe(due)
        health.succeeded(due)
        return due - now

    assert ejected_for(0.0) == BASE
    assert ejected_for(BASE + 1) == 2 * BASE, "it was in for a second only"
    assert ejected_for(3 * BASE + 1 + 61) == BASE, "it was in for longer than its last ejection"


def test_what_was_in_flight_when_it_went_out_is_ignored() -> None:
    _, (health, _) = group_of(2)
    fail(health, 0.0)
    due = health.probe_at
    health.succeeded(1.0)
    assert not health.healthy
    fail(health, 1.0, 5)
    assert health.probe_at == due
    assert health.ejections_total == 1


def test_checks_take_out_and_bring_back_by_their_thresholds() -> None:
    _, (health, other) = group_of(2)
    fail(other, 0.0)  # half are out: no percentage holds checks back
    for ok in (False, False, True, False, False):
        health.checked(ok, 1.0)
    assert health.healthy
    health.checked(False, 2.0)
    assert not health.healthy
    for ok in (True, False, True):
        health.checked(ok, 3.0)
    assert not health.healthy
    health.checked(True, 4.0)
    assert health.healthy


def test_passing_checks_end_an_ejection() -> None:
    _, (health,) = group_of(1)
    health.checked(True, 0.0)
    fail(health, 1.0)
    health.checked(True, 2.0)
    assert not health.healthy, "the check that passed before the ejection does not count"
    health.checked(True, 3.0)
    assert health.healthy


def test_failing_checks_put_the_traffic_probe_off_and_starved_checks_let_it_go() -> None:
    _, (health,) = group_of(1)
    for second in range(0, 65, 5):
        health.checked(False, float(second))
    assert not health.available(60 + BASE - 0.1), "checks run: they are the probe"
    assert health.take_probe(60 + BASE), "no check for a whole interval: the traffic is the check"
    health.succeeded(60 + BASE)
    assert health.healthy


def test_the_next_request_is_the_probe_where_checks_have_ended() -> None:
    group, (out, fit) = group_of(2)
    for _ in range(3):
        out.checked(False, 1.0)
    fit.checked(False, 1.0)
    assert not out.available(2.0)
    group.checks_ended(2.0)
    assert fit.take_probe(2.0) is False
    assert out.take_probe(2.0)
    assert not out.take_probe(2.0)
    out.succeeded(2.0)
    assert out.healthy


def test_a_removed_member_no_longer_touches_its_group() -> None:
    group, (gone, stays) = group_of(2)
    group.remove(gone)
    fail(gone, 0.0)
    assert (group.healthy, len(group.members)) == (1, 1)
    fail(stays, 0.0)
    assert group.healthy == 0
    group.remove(stays)
    assert (group.healthy, len(group.members)) == (0, 0)


EVENTS = st.sampled_from(["success", "failure", "check passed", "check failed", "probe"])


@given(st.lists(st.tuples(EVENTS, st.integers(0, 3), st.floats(0, 40)), max_size=200), st.integers(0, 100))
def test_invariants_through_any_events(events: list[tuple[str, int, float]], percent: int) -> None:
    policy = HealthPolicy(consecutive_errors=2, max_ejection_percent=percent)
    group, members = group_of(4, policy)
    now = 0.0
    for kind, index, passed in events:
        now += passed
        health = members[index]
        was, out_before = health.healthy, 4 - group.healthy
        if kind == "probe":
            due = health.available(now) and not health.healthy
            assert health.take_probe(now) == due
            assert not health.take_probe(now), "two probes in one interval"
        elif kind.startswith("check"):
            health.checked(kind == "check passed", now)
        elif kind == "success":
            health.succeeded(now)
        else:
            health.failed(now, "reset")
            if was and not health.healthy:
                assert percent > 0
                assert out_before + 1 <= max(1, 4 * percent // 100)
        assert group.healthy == sum(member.healthy for member in members)
        assert health.healthy or health.errors > 0
        assert any(member.healthy for member in members) or any(
            member.available(now + policy.base_ejection_time) for member in members
        ), "all out, and none is probed within the interval"
