"""What is seen of pods."""

import json
from typing import Any

import pytest
from tests.controlplane.parts import STAMP, raw_pod, report, state
from tests.support import states

from forebay_operator.observed import Pod, Report

ENDED = {"name": "proxy", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}, "lastState": {}}


def leaving(**status: Any) -> Pod:
    raw = raw_pod("a", **status)
    raw["metadata"]["deletionTimestamp"] = STAMP
    return Pod.of(raw)


def test_a_running_pod() -> None:
    pod = Pod.of(raw_pod("a"))
    assert (pod.ready, pod.started, pod.finished, pod.terminating, pod.farewell) == (True, True, False, False, None)


def test_a_pod_that_has_not_run_holds_nothing() -> None:
    def unborn(**fields: Any) -> Pod:
        waiting = {"name": "proxy", "restartCount": 0, "state": {"waiting": {}}, "lastState": {}}
        raw = raw_pod("a", containerStatuses=[waiting | fields])
        del raw["status"]["podIP"]
        return Pod.of(raw)

    assert not unborn().started
    assert unborn(restartCount=1).started
    assert Pod.of(raw_pod("a", containerStatuses=[])).started, "it has an address: the kubelet has begun"


def test_only_phase_and_containers_together_prove_the_end() -> None:
    assert leaving(phase="Succeeded", containerStatuses=[ENDED]).finished
    assert not leaving(phase="Running", containerStatuses=[ENDED]).finished, "it may be started again"
    assert not leaving(phase="Failed").finished, "its container runs"
    assert not leaving(phase="Failed", containerStatuses=[]).finished


def test_a_phase_that_pod_gc_wrote_proves_nothing() -> None:
    gc = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
    assert not leaving(phase="Failed", containerStatuses=[ENDED], conditions=[gc]).finished
    drained = gc | {"reason": "EvictionByEvictionAPI"}
    assert leaving(phase="Failed", containerStatuses=[ENDED], conditions=[drained]).finished


@pytest.mark.parametrize(
    ("message", "farewell"),
    [
        (json.dumps({"life": "a1", "held": {"orders": 2, "stock": 1}}), ("a1", {"orders": 2, "stock": 1})),
        ("killed", None),
        ("[]", None),
        (json.dumps({"life": "a1"}), None),
        (json.dumps({"life": "a1", "held": "all"}), None),
        (json.dumps({"life": "a1", "held": {"orders": -1}}), None),
    ],
)
def test_the_last_word_of_a_process(message: str, farewell: Any) -> None:
    said = ENDED | {"state": {"terminated": {"exitCode": 0, "message": message}}}
    assert leaving(containerStatuses=[said]).farewell == farewell


@pytest.mark.parametrize(
    ("limit", "cores"), [("2", 2.0), ("0.5", 0.5), ("500m", 0.5), (2, 2.0), (None, 1.0), ("2k", 1.0), ("0", 1.0)]
)
def test_the_cores_that_a_pod_may_use(limit: Any, cores: float) -> None:
    raw = raw_pod("a")
    sidecar = {"name": "sidecar", "resources": {"limits": {"cpu": "9"}}}
    raw["spec"]["containers"] = [sidecar, {"name": "proxy", "resources": {"limits": {"cpu": limit} if limit else {}}}]
    assert Pod.of(raw).cores == cores


def test_a_report_is_an_answer_and_a_reading() -> None:
    made = report("a", 7, 3, life_draining=True)
    assert (made.answer.life, made.answer.pod, made.answer.sequence) == ("a", "a-uid", 7)
    assert made.answer.held == {"orders": 3}
    assert made.answer.draining
    assert made.reading.life == "a"


def test_an_upstream_that_its_document_does_not_bound_is_not_in_the_answer() -> None:
    assert report("a", 7, 3, orders={"grant": None}).answer.held == {}


@pytest.mark.parametrize(
    "bad",
    [
        {},
        [],
        {"workers": []},
        {"workers": [{}]},
        {"workers": None},
        {"workers": ["x"]},
        state("a", pod=""),
        state("a", sequence=-1),
        state("a", sequence=1.5),  # type: ignore[arg-type]
        state("a", held=-1),
        states.state(states.worker()),  # of a version that names no pod
    ],
)
def test_what_is_no_report_is_a_value_error(bad: Any) -> None:
    with pytest.raises(ValueError):
        Report.of(bad, 0.0)
