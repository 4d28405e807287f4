"""From one picture of a pool to everything that is to be done about it."""

from typing import Any

import pytest
from tests.controlplane.parts import gathered, pod, pool, report, upstream

from forebay_operator.plan import Applied, Event, Plan, digest, plan

HASH = plan(gathered(pool())).document


def deployment(**status: Any) -> dict[str, Any]:
    own = {"observedGeneration": 5, "replicas": 2, "updatedReplicas": 2}
    return {"metadata": {"generation": 5}, "spec": {"replicas": 2}, "status": own | status}


def settled(**fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The picture of a pool with nothing left to do: what `gathered` takes, after a first plan was carried out."""
    reports = {f"{n}-uid": report(n, document=HASH, **({} if n == "a" else fields)) for n in "ab"}
    values: dict[str, Any] = {"pods": (pod("a"), pod("b")), "reports": reports, "deployment": deployment()}
    first = plan(gathered(pool(status={"ledger": {"sequence": 0, "lives": []}}), **values))
    assert first.status is not None
    values["applied"] = {
        (a.body["kind"], a.body["metadata"]["name"]): Applied(a.digest, 5) for a in first.apply
    }  # fmt: skip
    values["reports"] = {f"{n}-uid": report(n, 1, 0, 4, document=HASH) for n in "ab"}
    return pool(status=first.status), values


def conditions(done: Plan) -> dict[str, tuple[str, str]]:
    assert done.status is not None
    return {c["type"]: (c["status"], c["reason"]) for c in done.status["conditions"]}


def test_the_first_look_makes_everything() -> None:
    done = plan(gathered(pool(), token=None))
    assert done.create is not None
    assert done.create["stringData"] == {"token": "fresh"}
    assert [a.body["kind"] for a in done.apply][-1] == "Deployment"
    assert done.status is not None
    assert done.status["ledger"] == {"sequence": 0, "lives": []}
    assert done.status["selector"] == "app.kubernetes.io/name=forebay,forebay.dev/pool=orders"
    assert conditions(done)["Ready"] == ("False", "NoReplicaReady")
    assert done.busy


def test_when_all_is_settled_nothing_is_done() -> None:
    raw, values = settled()
    done = plan(gathered(raw, **values))
    assert done == Plan(document=HASH, dead={})


def test_grants_are_pushed_with_the_sequence_that_is_written_along() -> None:
    reports = {"a-uid": report("a", document=HASH)}
    done = plan(gathered(pool(status={"ledger": {"sequence": 8, "lives": []}}), pods=(pod("a"),), reports=reports))
    assert done.status is not None
    assert done.status["ledger"]["sequence"] == 9
    (push,) = done.pushes
    assert (push.life, push.sequence, push.grants) == ("a", 9, {"orders": 4})


def test_a_grant_that_was_not_answered_is_pushed_again_without_a_write() -> None:
    raw, values = settled()
    values["reports"]["b-uid"] = report("b", document=HASH)
    done = plan(gathered(raw, **values))
    assert done.status is None
    assert [(p.life, p.sequence) for p in done.pushes] == [("b", 1)]


def test_an_edited_or_missing_deployment_is_applied_again() -> None:
    raw, values = settled()
    values["deployment"] = deployment() | {"metadata": {"generation": 6}}
    (item,) = plan(gathered(raw, **values)).apply
    assert item.body["kind"] == "Deployment"
    assert item.again
    values["deployment"] = None
    assert len(plan(gathered(raw, **values)).apply) == 1


def test_numbers_alone_are_written_seldom_and_only_when_they_move() -> None:
    raw, values = settled()
    values["reports"]["b-uid"] = report("b", 1, document=HASH, upstreams={"orders": upstream(0, 4, waiting=9)})
    assert plan(gathered(raw, **values, status_age=29.0)).status is None
    late = plan(gathered(raw, **values, status_age=31.0)).status
    assert late is not None
    assert set(late) == {"waiting", "upstreams"}


def test_pods_with_another_document_are_annotated_once() -> None:
    raw, values = settled()
    values["reports"]["b-uid"] = report("b", 1, 0, 4, document="old")
    done = plan(gathered(raw, **values))
    assert done.annotate == ("b",)
    assert conditions(done)["Progressing"] == ("True", "Document")
    values["pods"] = (pod("a"), pod("b", document=HASH))
    assert plan(gathered(raw, **values)).annotate == ()


def test_a_bad_document_touches_nothing_and_says_everything() -> None:
    raw, values = settled()
    raw["spec"]["listen"]["port"] = 0
    raw["spec"]["upstreams"][0]["name"] = "A B"
    done = plan(gathered(raw, **values))
    assert done.status is not None
    (ready,) = [c for c in done.status["conditions"] if c["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "InvalidDocument")
    assert "spec.listen.port" in ready["message"]
    assert "spec.upstreams[0].name" in ready["message"]
    assert done == Plan(status=done.status, events=done.events)
    assert [e.reason for e in done.events] == ["InvalidDocument"]
    raw["status"] |= done.status
    assert plan(gathered(raw, **values)) == Plan(), "said once"


def test_the_admin_port_is_no_port_to_listen_on() -> None:
    done = plan(gathered(pool({"listen": {"port": 9901}})))
    assert done.apply == ()
    assert "9901" in done.events[0].message


def test_what_the_api_server_refuses_is_a_condition() -> None:
    raw, values = settled()
    done = plan(gathered(raw, **values, refused="Deployment orders-forebay: no"))
    assert conditions(done)["Ready"] == ("False", "Refused")
    assert done.events == (Event("Warning", "Refused", "Deployment orders-forebay: no"),)


def test_a_lost_ledger_is_waited_for_and_says_whom_for() -> None:
    raw, values = settled()
    del raw["status"]["ledger"]
    del values["reports"]["b-uid"]
    done = plan(gathered(raw, **values))
    assert done.status is not None
    assert "ledger" not in done.status
    assert done.pushes == ()
    assert conditions(done)["Progressing"] == ("True", "LedgerLost")


@pytest.mark.parametrize(("present", "wanted"), [(None, 2), (1, 2), (3, 3), (9, 4)])
def test_with_autoscaling_replicas_stay_within_its_bounds(present: int | None, wanted: int) -> None:
    now = None if present is None else deployment() | {"spec": {"replicas": present}}
    raw = pool({"autoscaling": {"minReplicas": 2, "maxReplicas": 4}})
    (applied,) = [a.body for a in plan(gathered(raw, deployment=now)).apply if a.body["kind"] == "Deployment"]
    assert applied["spec"]["replicas"] == wanted


def test_the_linger_of_the_dead_is_waited_for() -> None:
    raw, values = settled()
    values["pods"] = (pod("a"), pod("b", terminating=True, ended=True, ready=False))
    done = plan(gathered(raw, **values))
    assert done.dead == {"b": 30.0}
    assert done.busy


def test_a_confirmed_death_is_read_from_the_annotation() -> None:
    raw, values = settled()
    values["pods"], values["reports"] = values["pods"][:1], {"a-uid": values["reports"]["a-uid"]}
    raw["metadata"]["annotations"] = {"forebay.dev/confirm-dead": "x, b-uid"}
    done = plan(gathered(raw, **values))
    assert done.status is not None
    assert [row["life"] for row in done.status["ledger"]["lives"]] == ["a"]


def test_a_digest_is_of_the_content() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1})
