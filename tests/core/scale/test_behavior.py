"""`behavior` as in autoscaling/v2: stabilization windows, policies, selectPolicy."""

from typing import Any

import pytest

from forebay_core.scale.behavior import Change, Pace, Wish, follow
from forebay_core.spec.scaling import Behavior, ScaleDown, ScaleUp, ScalingPolicy


def policy(kind: Any, value: int, period: int = 15) -> ScalingPolicy:
    return ScalingPolicy(type=kind, value=value, period_seconds=period)


def behavior(up: dict[str, Any] | None = None, down: dict[str, Any] | None = None) -> Behavior:
    return Behavior(scale_up=ScaleUp(**(up or {})), scale_down=ScaleDown(**(down or {})))


@pytest.mark.parametrize(("current", "wanted", "got"), [(1, 9, 9), (1, 20, 10), (4, 100, 40), (3, 4, 4), (3, 3, 3)])
def test_by_default_up_to_ten_times_as_many(current: int, wanted: int, got: int) -> None:
    assert follow(Behavior(), Pace(), current, wanted, 100.0)[0] == got


def test_down_waits_for_the_window_and_takes_its_greatest_wish() -> None:
    pace, replicas, seen = Pace(), 8, []
    for now, wanted in ((0, 8), (100, 2), (200, 5), (299, 2), (301, 2), (499, 2), (501, 2)):
        replicas, pace = follow(Behavior(), pace, replicas, wanted, now)
        seen.append(replicas)
    assert seen == [8, 8, 8, 8, 5, 5, 2]


def test_up_with_a_window_takes_its_smallest_wish() -> None:
    slow = behavior(up={"stabilization_window_seconds": 60})
    pace = Pace((Wish(0.0, 2),))
    replicas, pace = follow(slow, pace, 2, 6, 10.0)
    assert replicas == 2
    replicas, pace = follow(slow, pace, 2, 4, 61.0)
    assert replicas == 4


@pytest.mark.parametrize(
    ("select", "got"),
    [("Max", 6), ("Min", 3), ("Disabled", 2)],
)
def test_select_policy_up(select: Any, got: int) -> None:
    policies = (policy("Pods", 4), policy("Percent", 50))
    assert follow(behavior(up={"policies": policies, "select_policy": select}), Pace(), 2, 50, 0.0)[0] == got


@pytest.mark.parametrize(("select", "got"), [("Max", 5), ("Min", 8), ("Disabled", 10)])
def test_select_policy_down(select: Any, got: int) -> None:
    policies = (policy("Pods", 2), policy("Percent", 50))
    down = {"policies": policies, "select_policy": select, "stabilization_window_seconds": 0}
    assert follow(behavior(down=down), Pace(), 10, 1, 0.0)[0] == got


def test_a_period_counts_from_its_beginning() -> None:
    pods = behavior(up={"policies": (policy("Pods", 4, 60),)})
    pace, replicas, seen = Pace(), 2, []
    for now in (0, 10, 30, 59, 61, 100, 122):
        replicas, pace = follow(pods, pace, replicas, 50, now)
        seen.append(replicas)
    assert seen == [6, 6, 6, 6, 10, 10, 14]


def test_what_was_removed_in_the_period_may_come_back() -> None:
    pods = behavior(up={"policies": (policy("Pods", 1, 60),)})
    pace = Pace(changes=(Change(0.0, -3),))
    assert follow(pods, pace, 2, 50, 10.0)[0] == 6  # 5 at the period's beginning, and one


def test_percent_rounds_up_for_up_and_down_for_down() -> None:
    assert follow(behavior(up={"policies": (policy("Percent", 10),)}), Pace(), 1, 9, 0.0)[0] == 2
    down = {"policies": (policy("Percent", 10),), "stabilization_window_seconds": 0}
    assert follow(behavior(down=down), Pace(), 3, 1, 0.0)[0] == 2


def test_more_than_a_hundred_percent_down_is_all_of_it() -> None:
    down = {"policies": (policy("Percent", 300),), "stabilization_window_seconds": 0}
    assert follow(behavior(down=down), Pace(), 3, 1, 0.0)[0] == 1
