"""Any mixture of good, bad, late, repeated and missing readings: a verdict within bounds, nothing scaled down by what
is not known, and never an exception."""

from math import inf, nan
from random import Random
from typing import Any

import pytest
from tests.core.scale.cases import Fleet, counts, targets

from forebay_core.scale.diagnosis import Cause
from forebay_core.scale.readings import Reading
from forebay_core.spec.scaling import Behavior, ScaleDown

LIES: tuple[dict[str, Any], ...] = (
    {"waiting": -1}, {"leased": nan}, {"wait_oldest": inf}, {"hold_sum": -0.1}, {"grant": -2}, {"limit": nan},
    {"waits": ()}, {"holds": (-1,) * 18}, {"waits": counts()}, {"connects": nan}, {"healthy": -1},
    {"waiting": "9"}, {"limit": None}, {"holds": ("x",) * 18}, {"lease_oldest": [1]}, {"hold_sum": 10**400},
)  # fmt: skip


def spoilt(dice: Random, reading: Reading, older: Reading) -> list[Reading]:
    """What arrives in place of one reading."""
    match dice.randrange(8):
        case 0:
            return []
        case 1:
            return [older]
        case 2:
            return [reading, reading]
        case 3:
            db = reading.upstreams["db"]._replace(**dice.choice(LIES))
            return [reading._replace(upstreams={"db": db})]
        case 4:
            return [reading._replace(cpu=dice.choice((nan, -1.0, inf)))]
        case 5:
            return [reading._replace(process=f"p{dice.random()}")]
        case _:
            return [reading]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_arrives_there_is_a_verdict(seed: int) -> None:
    dice = Random(seed)
    at_once = Behavior(scale_down=ScaleDown(stabilization_window_seconds=0))
    fleet = Fleet(4, targets(dice.choice((None, 40)), min_replicas=1, max_replicas=6, behavior=at_once), grant=8)
    before = [r.reading(0.0) for r in fleet.replicas]
    for _ in range(40):
        fleet.now += 2.0
        good = [
            r.tick(
                fleet.now, requests=dice.randrange(200), wait=dice.choice((0.0, 0.5)), hold=dice.choice((0.1, 0.9)),
                leased=dice.randrange(9), waiting=dice.randrange(5), wait_oldest=0.1, cpu=dice.random(),
                connect_errors=r.db.connect_errors + dice.choice((0, 0, 9)),
            )
            for r in fleet.replicas
        ]  # fmt: skip
        arrived = [each for new, old in zip(good, before, strict=True) for each in spoilt(dice, new, old)]
        replicas = fleet.state.replicas
        verdict = fleet.decide(arrived)
        where = f"seed {seed}, second {fleet.now}"
        assert 1 <= verdict.replicas <= 6, where
        assert all(1 <= wanted <= 15 for wanted in verdict.upstreams["db"].wanted.values()), where
        usable = len({r.life for r in arrived if r in good})
        if usable < replicas:
            assert verdict.replicas >= replicas, f"{where}: scaled down, though {replicas - usable} are not known"
        before = good


@pytest.mark.parametrize("seed", range(20))
def test_a_calm_fleet_stays_as_it_is_whatever_arrives(seed: int) -> None:
    """Neither up nor down, nobody's connections are taken away, and what was not used is counted."""
    dice = Random(seed)
    at_once = Behavior(scale_down=ScaleDown(stabilization_window_seconds=0))
    fleet = Fleet(3, targets(40, min_replicas=1, max_replicas=6, behavior=at_once), grant=8)
    fleet.ticks(10, requests=200, hold=0.1, leased=10)
    before = [r.reading(fleet.now) for r in fleet.replicas]
    for _ in range(40):
        fleet.now += 2.0
        good = [r.tick(fleet.now, requests=200, hold=0.1, leased=10) for r in fleet.replicas]
        verdict = fleet.decide([each for new, old in zip(good, before, strict=True) for each in spoilt(dice, new, old)])
        where = f"seed {seed}, second {fleet.now}"
        assert (verdict.replicas, verdict.cause) == (3, Cause.NONE), where
        assert all(wanted >= 10 for wanted in verdict.upstreams["db"].wanted.values()), where
        before = good
    assert set(fleet.state.dropped) == {"missing", "late", "nonsense", "restarted"}
