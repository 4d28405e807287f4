"""What only the operator can see becomes a condition and an event, and what served serves on."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.cluster.conftest import complaints, install
from tests.cluster.place import Place, fixed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SERVICE = "orders-forebay:8080"
QUOTA = """
apiVersion: v1
kind: ResourceQuota
metadata: {name: pods}
spec: {hard: {pods: "1"}}
"""


@pytest.fixture(scope="module")
def whole_place(places: Callable[[str], Place], system: None) -> Place:
    place = places("forebay-test-conditions")
    install(f"watchNamespace={place.name}")
    return place


@pytest.fixture
def place(whole_place: Place) -> Iterator[Place]:
    """Two replicas that serve; afterwards, whatever was wrong for a while, they do again, and nobody is in trouble."""
    whole_place.declare(fixed(2, 40, 4))
    whole_place.ready(2)
    yield whole_place
    whole_place.declare(fixed(2, 40, 4))
    wait(whole_place, "Progressing=False")
    wait(whole_place, "BackendUnavailable=False")
    assert whole_place.load(SERVICE, 5, 1)["failed"] == {}


def wait(place: Place, condition: str) -> None:
    place.kubectl("wait", f"--for=condition={condition}", "pp/orders", "--timeout=80s")


def until_said(place: Place, condition: str, reason: str) -> str:
    """The message of a condition, once it has this reason."""
    until = time.monotonic() + 60
    while (found := conditions(place)[condition])["reason"] != reason:
        assert time.monotonic() < until, found
        time.sleep(0.5)
    return str(found["message"])


def conditions(place: Place) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in place.get("pp", "orders")["status"]["conditions"]}


def told(place: Place, reason: str) -> list[str]:
    """Messages of the pool's events with this reason."""
    selected = f"--field-selector=involvedObject.kind=ProxyPool,reason={reason}"
    return [event["message"] for event in place.get("events", selected)["items"]]


def test_a_missing_secret_is_named_and_the_last_good_document_serves(place: Place) -> None:
    pods = set(place.pods())
    document = fixed(2, 40, 4)
    document["spec"]["listen"]["tls"] = {"certSecret": {"name": "not-there"}}
    place.declare(document)
    message = until_said(place, "Progressing", "CannotStart")
    assert "FailedMount" in message
    assert 'secret "not-there" not found' in message
    assert conditions(place)["Ready"]["status"] == "True"
    assert told(place, "CannotStart") == [message]
    assert pods < set(place.pods())
    assert place.load(SERVICE, 5, 2)["failed"] == {}, "over plain HTTP, as before"


def test_a_pod_that_a_quota_refuses_is_told_of(place: Place) -> None:
    place.kubectl("apply", "-f", "-", stdin=QUOTA)
    try:
        document = fixed(3, 40, 4)
        place.declare(document)
        message = until_said(place, "Progressing", "CannotStart")
        assert "no replica can be added: FailedCreate:" in message
        assert "exceeded quota" in message
    finally:
        place.kubectl("delete", "resourcequota", "pods")


def test_an_image_that_is_not_there_is_told_of(place: Place) -> None:
    document = fixed(2, 40, 4)
    containers = [{"name": "proxy", "image": "forebay-proxy:no-such-tag"}]
    document["spec"]["template"] = {"spec": {"containers": containers}}
    place.declare(document)
    assert "forebay-proxy:no-such-tag" in until_said(place, "Progressing", "CannotStart")
    assert place.load(SERVICE, 5, 1)["failed"] == {}


def test_a_service_without_endpoints_and_a_backend_that_is_gone(place: Place) -> None:
    place.kubectl("scale", "deployment/orders", "--replicas=0")
    try:
        wait(place, "BackendUnavailable")
        found = conditions(place)
        message = found["BackendUnavailable"]["message"]
        assert "orders: no replica reaches orders.forebay-test-conditions.svc:80@" in message
        assert told(place, "BackendUnavailable") == [message]
        assert found["Ready"]["status"] == "True"
        place.kubectl("wait", "--for=condition=Ready", "pods", "-l", "forebay.dev/pool=orders", "--timeout=0")
    finally:
        place.kubectl("scale", "deployment/orders", "--replicas=1")
        place.kubectl("wait", "--for=condition=Available", "deployment/orders", "--timeout=60s")


def test_a_service_that_does_not_exist_is_told_of(place: Place) -> None:
    document = fixed(2, 40, 4)
    nowhere = {"name": "nowhere", "service": {"name": "nowhere", "port": 80}}
    document["spec"]["upstreams"].append(nowhere)
    place.declare(document)
    wait(place, "BackendUnavailable")
    assert conditions(place)["BackendUnavailable"]["message"] == "nowhere: Service nowhere resolves to no address"
    assert place.load(SERVICE, 5, 1)["failed"] == {}, "the others go on"


def test_every_right_was_there(place: Place) -> None:
    assert [line for line in complaints() if "exceeded quota" not in line] == []
