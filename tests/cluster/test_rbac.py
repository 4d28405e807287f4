"""The operator's rights: none was missing, and every one that the chart grants is used."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from tests.cluster.conftest import SYSTEM, install
from tests.cluster.kubectl import get, kubectl
from tests.cluster.place import Place, fixed
from tests.support.forebay import Metrics

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

OURS = "app.kubernetes.io/instance=forebay"


class Right(NamedTuple):
    verb: str
    group: str
    resource: str


# Used in faults only, which this run doesn't have; each with the test that would fail without it.
RARE = {
    Right("delete", "", "pods"): "a pod that is silent for minutes and keeps others from their share",
    Right("list", "", "events"): "test_conditions: a pod that waits for a Secret",
}


@pytest.fixture(scope="module")
def counted(places: Callable[[str], Place], system: None) -> list[dict[str, str]]:
    """The labels of all requests of a run in which a pool comes, changes, and is scaled."""
    place = places("forebay-test-rbac")
    install()
    document = fixed(2, 40, 4)
    place.declare(document)
    place.ready(2)
    document["spec"]["upstreams"][0]["pool"]["timeout"] = "4s"
    place.declare(document)
    place.kubectl("scale", "pp", "orders", "--replicas=3")
    place.ready(3)
    place.kubectl("wait", "--for=condition=Progressing=False", "pp/orders", "--timeout=60s")
    return list(requests())


def requests() -> Iterator[dict[str, str]]:
    for pod in get("pods", "--namespace", SYSTEM, "-l", OURS)["items"]:
        path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}:9090/proxy/metrics"
        for sample in Metrics(kubectl("get", "--raw", path)).samples:
            if sample.name == "forebay_api_requests_total" and sample.value:
                yield sample.labels


def used(labels: dict[str, str]) -> Right:
    return Right(labels["verb"], labels["group"], labels["resource"])


def granted() -> set[Right]:
    """What the chart's roles say, wherever they are bound."""
    roles: list[dict[str, Any]] = [
        *get("clusterroles", "-l", OURS)["items"],
        *get("roles", "--all-namespaces", "-l", OURS)["items"],
    ]
    return {
        Right(verb, group, resource)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_no_right_was_missing(counted: list[dict[str, str]]) -> None:
    assert [labels for labels in counted if labels["code"] in ("401", "403")] == []


def test_every_right_is_used_and_none_but_these(counted: list[dict[str, str]]) -> None:
    ours = {used(labels) for labels in counted}
    assert granted() - ours - RARE.keys() == set(), "granted and not used"
    assert ours - granted() == set(), "used, and granted by nobody of ours"
    assert "*" not in {part for right in granted() for part in right}
