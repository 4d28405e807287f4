"""Readings: parsed from a replica's state, checked, never guessed."""

from math import inf, nan
from typing import Any

import pytest
from tests.core.scale.cases import Replica, counts

from forebay_core.histogram import Histogram
from forebay_core.scale.readings import Reading, ReadingError, UpstreamReading, delta, nonsense, reading


def histogram(*seconds: float) -> list[Any]:
    made = Histogram()
    for value in seconds:
        made.observe(value)
    return [list(made.counts), made.sum]


def state() -> dict[str, Any]:
    """As `forebay_proxy.state.worker_state` serves it; fields that the autoscaler doesn't read are left out."""
    db = {
        "connections": {"idle": 1, "leased": 3, "opening": 2, "draining": 1, "closing": 0},
        "limit": 12, "left": 2, "spare": 1, "grant": 13, "ceiling": 15,
        "waiting": 4, "wait_oldest": 0.2, "lease_oldest": 0.5,
        "paused": False,
        "wait": {
            "served": histogram(0.0, 0.3), "timeout": histogram(5.0), "refused": histogram(),
            "origin": histogram(9.0),
        },
        "connect": histogram(0.01, 0.02), "hold": histogram(0.1, 0.1),
        "connect_errors": {"connect_refused": 2, "tls": 1},
        "endpoints": {"a": {"healthy": True, "busy": 4}, "b": {"healthy": False, "busy": 2}},
    }  # fmt: skip
    return {
        "pid": 7, "started": 1000.0, "life": "abc", "cpu": 12.5, "loop_lag": 0.001, "draining": False,
        "upstreams": {"db": db},
    }  # fmt: skip


def test_from_state() -> None:
    found = reading(state(), 50.0, cores=2.0)
    assert (found.life, found.process, found.at, found.cpu, found.cores) == ("abc", "7@1000.0", 50.0, 12.5, 2.0)
    db = found.upstreams["db"]
    assert (db.waiting, db.leased, db.opening, db.limit, db.ceiling) == (4, 4, 2, 10, 15)
    assert (db.grant, db.left, db.spare, db.besides) == (13, 2, 1, 3)
    assert db._replace(grant=None).besides == 0
    assert (db.connects, db.connect_errors, db.endpoints, db.healthy) == (2, 3, 2, 1)
    assert (db.busy, db.busiest) == (6, 4)
    assert sum(db.waits) == 3, "timeouts and refusals count; waits for an origin's sake do not"
    assert sum(db.holds) == 2
    assert db.hold_sum == pytest.approx(0.2)
    assert nonsense(found) is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("life",), None, "no field 'life'"),
        (("life",), ["a"], r"life is \['a'\]"),
        (("upstreams", "db", "hold"), None, "no field 'hold'"),
        (("upstreams", "db", "hold"), 3, "not what a replica serves"),
        (("upstreams", "db", "connections"), [1, 2], "not what a replica serves"),
        (("upstreams",), ["db"], "not what a replica serves"),
    ],
)
def test_a_state_that_is_none_is_refused_by_name(path: tuple[str, ...], value: object, message: str) -> None:
    broken = state()
    inner = broken
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    with pytest.raises(ReadingError, match=message):
        reading(broken, 50.0)


def good() -> Reading:
    return Replica("a", grant=10).reading(5.0)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"waiting": -1}, "db.waiting is -1"),
        ({"wait_oldest": nan}, "db.wait_oldest is nan"),
        ({"hold_sum": inf}, "db.hold_sum is inf"),
        ({"leased": -3}, "db.leased is -3"),
        ({"grant": -1}, "db.grant is -1"),
        ({"waits": (1, 2)}, "db.waits"),
        ({"holds": (-1, *(0,) * 17)}, "db.holds"),
        ({"holds": (nan, *(0,) * 17)}, "db.holds"),
        ({"connect_errors": -1}, "db.connect_errors is -1"),
    ],
)
def test_nonsense_is_named(fields: dict[str, Any], named: str) -> None:
    one = good()
    broken = one._replace(upstreams={"db": one.upstreams["db"]._replace(**fields)})
    assert named in (nonsense(broken) or "")


@pytest.mark.parametrize("fields", [{"cpu": nan}, {"cpu": -0.1}, {"loop_lag": -1.0}, {"at": inf}, {"cores": 0.0}])
def test_nonsense_of_the_replica_is_named(fields: dict[str, Any]) -> None:
    assert (nonsense(good()._replace(**fields)) or "").startswith(next(iter(fields)))


def test_a_counter_that_goes_backwards_is_of_another_process() -> None:
    old = UpstreamReading(0, 0.0, 0, 0, 15, 15, waits=counts((0.1, 5)), holds=counts((0.1, 5)), hold_sum=0.5)
    new = old._replace(waits=counts((0.1, 9)), holds=counts((0.1, 8)), hold_sum=0.8)
    found = delta(new, old, 2.0)
    assert found is not None
    assert (sum(found.waits), sum(found.holds)) == (4, 3)
    assert delta(old, new, 2.0) is None
    assert delta(new._replace(connect_errors=0), old._replace(connect_errors=1), 2.0) is None
