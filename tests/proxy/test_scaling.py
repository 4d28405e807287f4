"""Local mode's autoscaler around the real one: when it is asked, about whom, and what is shown of it."""

from typing import Any

import pytest
from tests.support.forebay import http_pool
from tests.support.states import histogram, upstream, worker

from forebay_core.spec.load import parse
from forebay_core.spec.model import Spec
from forebay_proxy.scaling import NOTHING, TICK, Scaling


def spec(**more: Any) -> Spec:
    return parse(http_pool(80, spec=more, pool={"size": 4, "maxOverflow": 0}), form="local").spec


SCALED = {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}}


def states(number: int, ticks: int) -> list[dict[str, Any]]:
    """So many workers that are full, and at which ever more wait."""
    full = upstream(
        connections={"leased": 4}, limit=4, ceiling=4, waiting=9, wait_oldest=1.0,
        hold=histogram(*[0.1] * 80 * ticks), wait={"served": histogram(*[0.5] * 80 * ticks)},
    )  # fmt: skip
    return [worker(pid, upstreams={"origin": full}) for pid in range(1, number + 1)]


@pytest.mark.parametrize(("document", "number"), [({"replicas": 3}, 3), ({"replicas": 3, **SCALED}, 2)])
def test_it_begins_with_what_the_document_says(document: dict[str, Any], number: int) -> None:
    assert Scaling(spec(**document)).replicas == number


def test_a_changed_document_holds_at_once() -> None:
    scaling = Scaling(spec(**SCALED))
    scaling.follow(spec(autoscaling={"minReplicas": 4, "maxReplicas": 5}))
    assert scaling.replicas == 4
    scaling.follow(spec(replicas=1))  # no longer scaled
    assert scaling.replicas == 1


def test_it_is_asked_every_other_second_only() -> None:
    scaling, document = Scaling(spec(**SCALED)), spec(**SCALED)
    assert scaling.tick(document, {}, [], 100.0)
    assert not scaling.tick(document, {}, [], 100.0 + TICK - 0.1)
    assert scaling.tick(document, {}, [], 100.0 + TICK)


def test_nobody_told_anything_so_nothing_is_changed() -> None:
    scaling = Scaling(spec(**SCALED))
    assert scaling.wanted is NOTHING
    scaling.tick(spec(**SCALED), {}, [], 100.0)
    assert scaling.replicas == 2
    assert scaling.as_state()["dropped_readings"] == {"missing": 2}


def test_full_workers_get_company() -> None:
    document = spec(**SCALED)
    scaling = Scaling(document)
    for ticks in range(30):
        now = 100.0 + TICK * ticks
        scaling.tick(document, {}, [(state, now) for state in states(2, ticks)], now)
    assert scaling.replicas > 2
    shown = scaling.as_state()
    assert shown["replicas"] == scaling.replicas
    assert shown["upstreams"]["origin"]["cause"] == "Ceiling"
    assert (
        shown["upstreams"]["origin"]["wanted"].keys()
        == {"life-1", "life-2"}
        == {life for life, _ in scaling.wanted.demand}
    )
