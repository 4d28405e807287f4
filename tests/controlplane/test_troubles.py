"""Why pods don't start: whose word is taken, how long it must last, and what stands of it."""

from typing import Any

import pytest
from tests.controlplane.parts import NOW, raw_pod

from forebay_operator.observed import Pod
from forebay_operator.troubles import (
    CRASHED,
    CREATING,
    REPLICAS,
    Lasting,
    Trouble,
    after,
    of_deployment,
    of_events,
    sentences,
)

MOUNT = Trouble("FailedMount", 'secret "web" not found')
BEING_MADE = Trouble(CREATING, "")
SCHEDULED = {"type": "PodScheduled", "status": "True"}


def container(state: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "proxy", "restartCount": 0, "ready": False, "state": state, "lastState": {}, **fields}


def waiting(reason: str, message: str = "", **fields: Any) -> dict[str, Any]:
    return container({"waiting": {"reason": reason, "message": message}}, **fields)


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        ({}, None),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no"}]},
            Trouble("Unschedulable", "no"),
        ),
        ({"conditions": [SCHEDULED], "containerStatuses": []}, BEING_MADE),
        ({"containerStatuses": [waiting(CREATING)]}, BEING_MADE),
        ({"containerStatuses": [waiting("ErrImagePull", "not found")]}, Trouble("ImagePullBackOff", "not found")),
        (
            {"containerStatuses": [waiting("CreateContainerConfigError", 'configmap "x" not found')]},
            Trouble("CreateContainerConfigError", 'configmap "x" not found'),
        ),
        (
            {"initContainerStatuses": [waiting("ImagePullBackOff", "x")], "containerStatuses": [waiting(CREATING)]},
            Trouble("ImagePullBackOff", "x"),
        ),
        (
            {"containerStatuses": [waiting(CRASHED, "back-off 20s", lastState={"terminated": {"exitCode": 2}})]},
            Trouble(CRASHED, "container proxy has ended with exit code 2"),
        ),
        (
            {"containerStatuses": [container({"running": {}}, lastState={"terminated": {"exitCode": 2}})]},
            Trouble(CRASHED, "container proxy has ended with exit code 2"),
        ),
        (
            {"containerStatuses": [container({"running": {}}, ready=True, lastState={"terminated": {"exitCode": 2}})]},
            None,
        ),
    ],
)
def test_what_a_pods_status_says(status: dict[str, Any], trouble: Trouble | None) -> None:
    assert Pod.of(raw_pod("a", **status)).trouble == trouble


def test_what_the_controller_of_the_replicas_says() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    assert of_deployment({"status": {"conditions": [failure]}}) == Trouble("FailedCreate", "exceeded quota")
    assert of_deployment({"status": {"conditions": [failure | {"status": "False"}]}}) is None
    assert of_deployment({}) is None
    assert of_deployment(None) is None


def test_what_events_say_last() -> None:
    assert of_events([]) is None
    assert of_events([{"reason": "Scheduled", "message": "assigned"}]) is None
    old, new = (
        {"reason": "FailedMount", "message": text, "lastTimestamp": f"2030-01-01T00:00:0{second}Z"}
        for second, text in enumerate(("old", "new"))
    )
    assert of_events([new, old]) == Trouble("FailedMount", "new")


def test_it_is_said_once_it_lasts_and_with_the_first_words() -> None:
    lasting = after({"a": Trouble("Unschedulable", "0/1 nodes")}, {}, NOW)
    names = {"a": "orders-a"}
    assert sentences(lasting, names, NOW + 9.9) == {}
    lasting = after({"a": Trouble("Unschedulable", "0/2 nodes")}, lasting, NOW + 9.9)
    said = {"Unschedulable": "pod orders-a can't start: Unschedulable: 0/1 nodes"}
    assert sentences(lasting, names, NOW + 10.0) == said
    assert after({}, lasting, NOW + 12.0) == {}, "it has started"


def test_what_the_events_told_stands_while_the_pod_is_being_made() -> None:
    making = after({"a": BEING_MADE}, {}, NOW)
    assert sentences(making, {"a": "orders-a"}, NOW + 60.0) == {}, "a large image"
    told = after({"a": MOUNT}, making, NOW + 10.0)
    assert told == {"a": Lasting(MOUNT, NOW)}
    assert after({"a": BEING_MADE}, told, NOW + 12.0) == told
    pulled = Trouble("ImagePullBackOff", "x")
    assert after({"a": pulled}, told, NOW + 14.0) == {"a": Lasting(pulled, NOW)}
    assert after({"a": BEING_MADE}, {"a": Lasting(pulled, NOW)}, NOW + 14.0) == {"a": Lasting(BEING_MADE, NOW)}


def test_many_pods_with_one_trouble_are_one_sentence() -> None:
    lasting = {uid: Lasting(MOUNT, NOW) for uid in ("a", "b", "c")} | {REPLICAS: Lasting(Trouble("Quota", ""), NOW)}
    assert list(sentences(lasting, {uid: uid for uid in "abc"}, NOW + 10.0).values()) == [
        'pod a can\'t start (and 2 more): FailedMount: secret "web" not found',
        "no replica can be added: Quota: nothing more is known",
    ]
