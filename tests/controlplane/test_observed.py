"""What is seen of pods."""

import json
from typing import Any

import pytest
from tests.controlplane.parts import NOW, raw_pod

from forebay_operator.observed import Pod, Report

ENDED = {"name": "proxy", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}, "lastState": {}}
STATE = {
    "workers": [
        {
            "life": "a1", "sequence": 7, "document": "d0", "draining": False,
            "upstreams": {
                "orders": {"held": 3, "grant": 4, "budget": 12, "waiting": 1, "wait_oldest": 0.5, "paused": False}
            },
        }
    ]
}  # fmt: skip


def leaving(**status: Any) -> Pod:
    raw = raw_pod("a", **status)
    raw["metadata"]["deletionTimestamp"] = NOW
    return Pod.of(raw)


def test_a_running_pod() -> None:
    pod = Pod.of(raw_pod("a"))
    assert (pod.ready, pod.ran, pod.ended, pod.terminating, pod.farewell) == (True, True, False, False, None)


def test_a_pod_that_has_not_run_holds_nothing() -> None:
    waiting = {"name": "proxy", "restartCount": 0, "state": {"waiting": {}}, "lastState": {}}
    assert not Pod.of(raw_pod("a", containerStatuses=[waiting])).ran
    assert not Pod.of(raw_pod("a", containerStatuses=[])).ran
    assert Pod.of(raw_pod("a", containerStatuses=[waiting | {"restartCount": 1}])).ran


def test_only_all_three_words_together_prove_the_end() -> None:
    assert leaving(phase="Succeeded", containerStatuses=[ENDED]).ended
    assert not Pod.of(raw_pod("a", phase="Succeeded", containerStatuses=[ENDED])).ended, "it may be started again"
    assert not leaving(phase="Running", containerStatuses=[ENDED]).ended, "a crash, just as the pod was deleted"
    assert not leaving(phase="Failed").ended, "pod GC's word, not the kubelet's"
    assert not leaving(phase="Failed", containerStatuses=[]).ended


@pytest.mark.parametrize(
    ("message", "farewell"),
    [
        (json.dumps({"life": "a1", "held": {"orders": 2, "stock": 1}}), ("a1", 3)),
        ("killed", None),
        ("[]", None),
        (json.dumps({"life": "a1"}), None),
        (json.dumps({"life": "a1", "held": "all"}), None),
    ],
)
def test_the_last_word_of_a_process(message: str, farewell: tuple[str, int] | None) -> None:
    said = ENDED | {"state": {"terminated": {"exitCode": 0, "message": message}}}
    assert leaving(containerStatuses=[said]).farewell == farewell


def test_a_report() -> None:
    report = Report.of(STATE)
    assert (report.life, report.sequence, report.held, report.final) == ("a1", 7, {"orders": 3}, False)
    assert report.upstreams["orders"].budgeted


@pytest.mark.parametrize("state", [{}, {"workers": []}, {"workers": [{}]}, {"workers": None}, [], {"workers": ["x"]}])
def test_what_is_no_report_is_a_value_error(state: Any) -> None:
    with pytest.raises(ValueError):
        Report.of(state)
