"""From one picture of a pool to everything that is to be done about it."""

from collections.abc import Iterable
from typing import Any

import pytest
from tests.controlplane.fakes import merged
from tests.controlplane.parts import BOOT, NOW, SETTINGS, gathered, ledger, pod, pool, report, with_ledger
from tests.support import states

from forebay_core.budget.ledger import Ledger
from forebay_core.budget.proofs import Node
from forebay_core.budget.record import dump, load
from forebay_operator.blueprint import digest
from forebay_operator.memory import Memory
from forebay_operator.observed import Pod, Report
from forebay_operator.past import Past, Signal
from forebay_operator.picture import Applied, Event, Plan
from forebay_operator.plan import plan
from forebay_operator.troubles import CREATING, Lasting, Trouble

HASH = plan(gathered(pool())).document
Pairs = tuple[tuple[Pod, Report | None], ...]


def deployment(replicas: int = 2, **status: Any) -> dict[str, Any]:
    own = {"observedGeneration": 5, "replicas": replicas, "updatedReplicas": replicas}
    return {"metadata": {"generation": 5}, "spec": {"replicas": replicas}, "status": own | status}


def two(b: Report | None = None) -> Pairs:
    """Both answer, and have heard of their grants; `b`: what the other one answers instead."""
    other = b or report("b", 1, 0, document=HASH)
    return (pod("a"), report("a", 1, 0, document=HASH)), (pod("b"), other)


def settled() -> tuple[dict[str, Any], dict[str, Any]]:
    """The picture of a pool with nothing left to do: the pool, and what else `gathered` takes, after a first plan was
    carried out."""
    raw = with_ledger(ledger(1, a=(5, 5, 1), b=(5, 5, 1)))
    first = plan(gathered(raw, *two(), deployment=deployment()))
    assert first.status is not None
    applied = {(a.body["kind"], a.body["metadata"]["name"]): Applied(a.digest, 5) for a in first.apply}
    return after(raw, first), {"deployment": deployment(), "applied": applied, "past": first.past}


def conditions(done: Plan) -> dict[str, tuple[str, str]]:
    assert done.status is not None
    return {c["type"]: (c["status"], c["reason"]) for c in done.status["conditions"]}


def reasons(events: Iterable[Event]) -> list[str]:
    return [event.reason for event in events]


def after(raw: dict[str, Any], done: Plan) -> dict[str, Any]:
    """The pool once the plan's status is written."""
    status: dict[str, Any] = merged(raw.get("status", {}), done.status or {})
    return raw | {"status": status}


def written(raw: dict[str, Any], done: Plan) -> Ledger:
    return load(after(raw, done)["status"]["ledger"])


def test_the_first_look_makes_everything() -> None:
    raw = pool()
    done = plan(gathered(raw, token=None))
    assert done.create is not None
    assert done.create["stringData"] == {"token": "fresh"}
    assert [a.body["kind"] for a in done.apply][-1] == "Deployment"
    assert done.status is not None
    assert written(raw, done).in_force == {"orders": 12}
    assert done.status["selector"] == "app.kubernetes.io/name=forebay,forebay.dev/pool=orders"
    assert conditions(done)["Ready"] == ("False", "NoReplicaReady")
    assert done.busy
    assert done.soon


def test_when_all_is_settled_nothing_is_done() -> None:
    raw, values = settled()
    done = plan(gathered(raw, *two(), **values))
    assert done == Plan(done.past, document=HASH, open={"orders": 0}, sequence=1, busy=True)


def test_grants_are_pushed_with_the_sequence_that_is_written_along() -> None:
    raw = with_ledger(ledger(8))
    done = plan(gathered(raw, (pod("a"), report("a", document=HASH))))
    assert written(raw, done).sequence == 9
    (push,) = done.pushes
    assert (push.life, push.sequence, push.grants) == ("a", 9, {"orders": 11})


def test_a_grant_that_was_not_answered_is_pushed_again_without_a_write() -> None:
    raw, values = settled()
    done = plan(gathered(raw, *two(report("b", document=HASH)), **values))
    assert done.status is None
    assert [(p.life, p.sequence) for p in done.pushes] == [("b", 1)]


def test_a_pool_without_a_budget_has_no_ledger() -> None:
    raw = pool({"upstreams": [{"name": "orders", "service": {"name": "orders", "port": 80}}]})
    unbound = {"grant": None, "budget": None}
    done = plan(
        gathered(
            raw,
            (pod("a"), report("a", orders=unbound)),
        )
    )
    assert done.status is not None
    assert "ledger" not in done.status
    assert "budget" not in done.status["upstreams"][0]
    assert done.pushes == ()


def test_a_pool_that_is_scaled_to_zero_says_so() -> None:
    done = plan(gathered(pool({"replicas": 0})))
    assert conditions(done)["Ready"] == ("False", "ScaledToZero")
    assert [a.body["spec"]["replicas"] for a in done.apply if a.body["kind"] == "Deployment"] == [0]


def test_an_edited_or_missing_deployment_is_applied_again() -> None:
    raw, values = settled()
    values["deployment"] = deployment() | {"metadata": {"generation": 6}}
    (item,) = plan(gathered(raw, *two(), **values)).apply
    assert item.body["kind"] == "Deployment"
    assert item.again
    values["deployment"] = None
    assert len(plan(gathered(raw, *two(), **values)).apply) == 1


def test_numbers_alone_are_written_seldom_and_only_when_they_move() -> None:
    raw, values = settled()
    moved = two(report("b", 1, at=NOW + 2, document=HASH, orders={"waiting": 9}))
    values["now"] = NOW + 2
    assert plan(gathered(raw, *moved, **values, status_age=29.0)).status is None
    late = plan(gathered(raw, *moved, **values, status_age=31.0)).status
    assert late is not None
    assert set(late) == {"waiting", "upstreams"}


def test_what_goes_from_the_ledger_goes_from_the_status() -> None:
    """A merge patch keeps what it does not name."""
    raw = with_ledger(ledger(1))
    raw["status"]["ledger"]["inForce"]["stock"] = 9
    done = plan(gathered(raw, (pod("a"), report("a", document=HASH))))
    assert done.status is not None
    assert done.status["ledger"]["inForce"] == {"stock": None}


def test_pods_with_another_document_are_annotated_once() -> None:
    raw, values = settled()
    behind = two(report("b", 1, document="old"))
    done = plan(gathered(raw, *behind, **values))
    assert done.annotate == ("b",)
    assert conditions(done)["Progressing"] == ("True", "Document")
    told = behind[0], (pod("b", document=HASH), behind[1][1])
    assert plan(gathered(raw, *told, **values)).annotate == ()


def test_a_bad_document_touches_nothing_and_says_everything() -> None:
    raw, values = settled()
    raw["spec"]["listen"]["port"] = 0
    raw["spec"]["upstreams"][0]["name"] = "A B"
    done = plan(gathered(raw, *two(), **values))
    assert done.status is not None
    (ready,) = [c for c in done.status["conditions"] if c["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "InvalidDocument")
    assert "spec.listen.port" in ready["message"]
    assert "spec.upstreams[0].name" in ready["message"]
    assert done == Plan(values["past"], status=done.status, events=done.events)
    assert reasons(done.events) == ["InvalidDocument"]
    raw = after(raw, done)
    assert plan(gathered(raw, *two(), **values)) == Plan(values["past"]), "said once"


def spoilt(raw: dict[str, Any]) -> tuple[dict[str, Any], Memory]:
    """The pool once an edit has left no replica a floor, and a loop that has seen it before."""
    memory = Memory()
    memory.blueprint(raw, SETTINGS)
    bad = pool({"upstreams": [{**raw["spec"]["upstreams"][0], "budget": {"maxConnections": 12, "reserved": 11}}]})
    return raw | {"metadata": {**raw["metadata"], "generation": 4}, "spec": bad["spec"]}, memory


def test_under_a_bad_document_the_last_good_one_stays_in_force() -> None:
    """Pods that are replaced meanwhile join and get their grants, within the budget that held."""
    first, values = settled()
    raw, memory = spoilt(first)
    values["nodes"] = {"node1": Node("boot-2", 0.0), "node2": Node(BOOT, 0.0)}  # both pods are lost with their node
    told: list[Event] = []
    sequence = granted = 0
    for second in range(0, 120, 2):
        newcomer = pod("c", node="node2"), report("c", sequence, at=NOW + second, document=HASH)
        done = plan(gathered(raw, newcomer, **values, now=NOW + second, memory=memory))
        raw, values["past"] = after(raw, done), done.past
        told += done.events
        book = load(raw["status"]["ledger"])
        assert book.in_force == {"orders": 12}
        assert book.bounds("orders") <= 12
        for push in done.pushes:
            sequence, granted = push.sequence, push.grants["orders"]
    assert granted == 11
    assert {life for life, _ in load(raw["status"]["ledger"]).entries} == {"c"}
    assert (raw["status"]["replicas"], raw["status"]["readyReplicas"]) == (1, 1)
    says = {c["type"]: (c["reason"], c["observedGeneration"]) for c in raw["status"]["conditions"]}
    assert (says["Ready"], says["Progressing"]) == (("InvalidDocument", 4), ("Replicas", 3))
    assert raw["status"]["observedGeneration"] == 4
    assert reasons(told) == ["InvalidDocument"]


def test_under_a_bad_document_that_is_mended_the_new_one_holds() -> None:
    raw, values = settled()
    bad, memory = spoilt(raw)
    raw = after(bad, plan(gathered(bad, *two(), **values, memory=memory)))
    raw["metadata"], raw["spec"] = {**raw["metadata"], "generation": 5}, pool({"paused": True})["spec"]
    done = plan(gathered(raw, *two(), **values, memory=memory))
    assert conditions(done)["Paused"] == ("True", "Spec")
    assert conditions(done)["Ready"] == ("True", "Serving")
    assert done.status is not None
    assert {c["observedGeneration"] for c in done.status["conditions"]} == {5}


def test_where_no_good_document_is_known_the_counts_are_still_true() -> None:
    raw, values = settled()
    bad, _ = spoilt(raw)
    done = plan(gathered(bad, two()[0], **values))
    assert done.status is not None
    assert (done.status["replicas"], done.status["readyReplicas"]) == (1, 1)
    assert (done.apply, done.pushes, reasons(done.events)) == ((), (), ["InvalidDocument"])


def test_the_admin_port_is_no_port_to_listen_on() -> None:
    done = plan(gathered(pool({"listen": {"port": 9901}})))
    assert done.apply == ()
    assert "9901" in done.events[0].message


def test_what_the_api_server_refuses_is_a_condition() -> None:
    raw, values = settled()
    done = plan(gathered(raw, *two(), **values, refused="Deployment orders-forebay: no"))
    assert conditions(done)["Ready"] == ("False", "Refused")
    assert done.events == (Event("Warning", "Refused", "Deployment orders-forebay: no"),)


def test_a_lost_ledger_is_begun_anew_and_says_whom_it_waits_for() -> None:
    raw, values = settled()
    del raw["status"]["ledger"]
    done = plan(gathered(raw, two()[0], (pod("b"), None), **values))
    assert {life for life, _ in written(raw, done).entries} == {"a", "pod/b-uid"}
    assert conditions(done)["Progressing"] == ("True", "Ledger")
    assert "LedgerBegun" in reasons(done.events)
    assert {p.grants["orders"] for p in done.pushes} == {0}, "what each holds"


@pytest.mark.parametrize(("present", "wanted"), [(None, 2), (1, 2), (3, 3), (9, 4)])
def test_with_autoscaling_replicas_stay_within_its_bounds(present: int | None, wanted: int) -> None:
    now = None if present is None else deployment(present)
    raw = pool({"autoscaling": {"minReplicas": 2, "maxReplicas": 4}})
    (applied,) = [a.body for a in plan(gathered(raw, deployment=now)).apply if a.body["kind"] == "Deployment"]
    assert applied["spec"]["replicas"] == wanted


def test_busy_replicas_are_made_more_and_an_event_says_why() -> None:
    raw = pool({"autoscaling": {"minReplicas": 1, "maxReplicas": 4}}, {})
    past, done = Past(), Plan(Past())
    for second in range(0, 10, 2):
        at = NOW + second
        busy = report("a", 1, at=at, cpu=float(second), document=HASH)  # a whole core
        done = plan(gathered(raw, (pod("a"), busy), deployment=deployment(1), past=past, now=at))
        past = done.past
    (item,) = [item for item in done.apply if item.body["kind"] == "Deployment"]
    assert item.body["spec"]["replicas"] == 2
    assert item.event is not None
    assert item.event.reason == "ScaledUp"
    assert "CPU" in item.event.message
    assert done.status is not None
    assert done.status["limitedBy"] == "Replica"


def scaling(least: int, most: int) -> dict[str, Any]:
    return pool({"autoscaling": {"minReplicas": least, "maxReplicas": most}}, {})


def told_of_scale(before: dict[str, Any], now: dict[str, Any], there: int) -> list[tuple[int, Event | None]]:
    """The replicas that a Deployment is applied with, and the event: a quiet pool is looked at, then its document is
    another, or the number of replicas that are there is."""
    pairs = two()
    first = plan(gathered(before, *pairs, deployment=deployment(2)))
    applied = {(a.body["kind"], a.body["metadata"]["name"]): Applied(a.digest, 4) for a in first.apply}
    done = plan(gathered(now, *pairs, deployment=deployment(there), applied=applied, past=first.past, now=NOW + 2))
    return [(a.body["spec"]["replicas"], a.event) for a in done.apply if a.body["kind"] == "Deployment"]


def test_replicas_within_new_bounds_are_told_with_the_bound() -> None:
    up = Event("Normal", "ScaledUp", "from 2 to 5 replicas: minReplicas is 5")
    assert told_of_scale(scaling(2, 8), scaling(5, 8), there=2) == [(5, up)]
    down = Event("Normal", "ScaledDown", "from 2 to 1 replicas: maxReplicas is 1")
    assert told_of_scale(scaling(2, 8), scaling(1, 1), there=2) == [(1, down)]


def test_a_deployment_that_was_scaled_by_hand_is_no_scaling_of_ours() -> None:
    assert told_of_scale(scaling(2, 8), scaling(2, 8), there=6) == [(2, None)]


def test_replicas_are_told_with_the_upstream_that_they_help() -> None:
    """Requests to `slow` wait longest, but for the backend; those to `fast` for connections."""
    services = [{"name": name, "service": {"name": name, "port": 80}} for name in ("slow", "fast")]
    raw = pool({"autoscaling": {"minReplicas": 1, "maxReplicas": 4}, "upstreams": services}, {})
    own = {"grant": None, "budget": None, "held": 15, "limit": 15, "ceiling": 15, "connections": {"leased": 15}}
    past, told = Past(), []
    for second in range(0, 20, 2):
        waits, holds = states.histogram(*[0.1] * 400 * second), states.histogram(*[0.05] * 400 * second)
        fast = {"waiting": 20, "wait_oldest": 0.1, "wait": {"served": waits}, "hold": holds}
        slow = {"waiting": 200, "wait_oldest": 30.0, "wait": {"served": states.histogram()},
                "hold": states.histogram(), "lease_oldest": 600.0}  # fmt: skip
        upstreams = {"slow": states.upstream(**own | slow), "fast": states.upstream(**own | fast)}
        answer = report("a", at=NOW + second, upstreams=upstreams)
        done = plan(gathered(raw, (pod("a"), answer), deployment=deployment(1), past=past, now=NOW + second))
        past = done.past
        told += [item.event for item in done.apply if item.event is not None]
        assert done.status is not None
        assert done.status["limitedBy"] == "Backend"
    assert told[0].reason == "ScaledUp"
    assert told[0].message.startswith("from 1 to 2 replicas: fast: ")


def test_with_autoscaling_a_written_number_of_replicas_is_only_reported() -> None:
    raw = pool({"autoscaling": {"maxReplicas": 4}})
    first = plan(gathered(raw, deployment=deployment(1)))
    assert "ScaleIgnored" not in reasons(first.events)
    raw["spec"]["replicas"] = 4
    again = plan(gathered(raw, deployment=deployment(1), past=first.past))
    assert "ScaleIgnored" in reasons(again.events)
    assert all(a.body["spec"]["replicas"] == 1 for a in again.apply if a.body["kind"] == "Deployment")


def test_a_new_leader_knows_the_baseline_that_the_last_one_has_learnt() -> None:
    learnt = {"orders": {"baseline": [0.01, 0.02], "limit": None}}
    done = plan(gathered(with_ledger(ledger(1), autoscaler=learnt), *two()))
    assert done.past.scaler is not None
    assert done.past.scaler.upstreams["orders"].learning.baseline == (0.01, 0.02)
    spoilt = plan(gathered(with_ledger(ledger(1), autoscaler={"orders": 3, "x": {"baseline": "y"}}), *two()))
    assert spoilt.status is not None


def waiting(second: float, waits: int) -> Report:
    """At its ceiling, with so many that have waited for a fifth of a second, and one that still does."""
    orders = {
        "grant": 15, "limit": 15, "connections": {"leased": 15}, "waiting": 1, "wait_oldest": 0.2,
        "wait": {"served": states.histogram(*[0.2] * waits)}, "hold": states.histogram(*[0.1] * waits),
    }  # fmt: skip
    return report("a", 1, 15, at=NOW + second, document=HASH, orders=orders)


def test_an_exhausted_budget_is_said_once_it_lasts() -> None:
    raw = with_ledger(ledger(1, in_force=12, a=(11, 15, 1)))
    past, said, told = Past(), [], []
    for second in range(0, 40, 2):
        done = plan(gathered(raw, (pod("a"), waiting(second, 10 * second)), past=past, now=NOW + second))
        past = done.past
        told += reasons(done.events)
        raw = after(raw, done)
        said.append(next(c["status"] for c in raw["status"]["conditions"] if c["type"] == "BudgetExhausted"))
    assert said[0] == "False"
    assert said[-1] == "True"
    assert told.count("BudgetExhausted") == 1
    assert raw["status"]["limitedBy"] == "Budget"


def test_a_condition_names_the_upstream_that_it_is_true_of_now() -> None:
    """First requests to `orders` wait, then those to `stock`."""
    both = {name: {"name": name, "service": {"name": name, "port": 80}} for name in ("orders", "stock")}
    raw = pool({"replicas": 1, "upstreams": [each | {"budget": {"maxConnections": 12}} for each in both.values()]})
    book = ledger(1, a=(11, 15, 1))
    entry = book.entries["a", "orders"]
    raw["status"] = {"ledger": dump(Ledger(1, {("a", name): entry for name in both}, dict.fromkeys(both, 12)))}
    past, waits, said = Past(), dict.fromkeys(both, 0), []
    for second in range(0, 120, 2):
        busy = "orders" if second < 40 else "stock"
        waits[busy] += 20
        upstreams = {
            name: states.upstream(
                grant=15, budget=12, limit=15, held=15, connections={"leased": 15}, waiting=int(name == busy),
                wait_oldest=0.2 * (name == busy), wait={"served": states.histogram(*[0.2] * count)},
                hold=states.histogram(*[0.1] * count),
            )
            for name, count in waits.items()
        }  # fmt: skip
        answer = report("a", 1, at=NOW + second, document=HASH, upstreams=upstreams)
        done = plan(gathered(raw, (pod("a"), answer), past=past, now=NOW + second))
        raw, past = after(raw, done), done.past
        said.append(next(c for c in raw["status"]["conditions"] if c["type"] == "BudgetExhausted"))
    assert (said[19]["status"], said[19]["message"].split(":")[0]) == ("True", "orders")
    assert (said[-1]["status"], said[-1]["message"].split(":")[0]) == ("True", "stock")
    assert len({c["message"] for c in said}) == 4, "calm, one, both, the other"


def test_what_is_said_does_not_flap() -> None:
    signal, turns = Signal(False), 0
    for second in range(600):
        after = signal.after(second % 9 < 8, float(second))
        turns += after.holds != signal.holds
        signal = after
    assert turns == 0
    for second in range(600):
        after = signal.after(second % 20 < 19, float(second)) if second > 20 else signal.after(True, float(second))
        turns += after.holds != signal.holds
        signal = after
    assert turns == 1


def test_an_orphan_stands_in_the_status_and_a_person_is_told_once() -> None:
    raw, values = settled()
    values["nodes"] = {"node1": Node(BOOT, 0.0)}
    past = values.pop("past")
    fresh = Past(scaler=past.scaler, signals=past.signals, missing={"b-uid": NOW - 1.0})
    done = plan(gathered(raw, two()[0], past=fresh, **values))
    assert done.status is not None
    assert done.status["ledger"]["orphaned"] == [{"life": "b", "pod": "b-uid", "node": "node1"}]
    assert "Orphaned" not in reasons(done.events), "it may be proven yet"
    raw = after(raw, done)
    later = plan(gathered(raw, two()[0], past=done.past, now=NOW + 60.0, **values))
    (event,) = [event for event in later.events if event.reason == "Orphaned"]
    assert "forebay.dev/confirm-dead=b-uid" in event.message
    assert "Orphaned" not in reasons(plan(gathered(raw, two()[0], past=later.past, now=NOW + 62.0, **values)).events)


def test_a_confirmed_orphan_goes_once_its_backend_has_let_go() -> None:
    raw, values = settled()
    values["confirmed"] = frozenset({"b-uid"})
    done = plan(gathered(raw, two()[0], **values))
    raw, values["past"] = after(raw, done), done.past
    assert [life for life, _ in load(raw["status"]["ledger"]).entries] == ["a", "b"]
    over = plan(gathered(raw, two()[0], now=NOW + 31.0, **values))
    assert [life for life, _ in written(raw, over).entries] == ["a"]


def test_a_silent_pod_is_pushed_to_and_told_of() -> None:
    raw, values = settled()
    silent = two()[0], (pod("b"), None)
    done = plan(gathered(raw, *silent, **values))
    assert [p.life for p in done.pushes] == ["b"]
    values["past"] = done.past
    later = plan(gathered(raw, *silent, now=NOW + 60.0, **values))
    assert "PodSilent" in reasons(later.events)
    assert later.delete == ()


def test_a_silent_pod_that_keeps_a_newcomer_from_its_share_is_deleted() -> None:
    raw = with_ledger(ledger(1, a=(4, 12, 1)))
    silent = Past(silent={"a-uid": NOW - 120.0}, signals={}, heard=frozenset({"a-uid"}))
    done = plan(gathered(raw, (pod("a"), None), (pod("b"), report("b", document=HASH)), past=silent))
    assert done.delete == (("a", "a-uid"),)
    assert "PodDeleted" in reasons(done.events)


def test_an_upstream_that_nobody_reaches_is_said_once_and_unsaid_and_pods_stay_ready() -> None:
    raw, values = settled()
    out = {"10.0.0.9:80": states.endpoint(healthy=False, reason="connect_refused")}
    told: list[Event] = []
    for second in range(0, 60, 2):
        orders = {"endpoints": out} if second < 20 else {}
        pairs = [(pod(life), report(life, 1, at=NOW + second, document=HASH, orders=orders)) for life in ("a", "b")]
        done = plan(gathered(raw, *pairs, **values, now=NOW + second))
        raw, values["past"] = after(raw, done), done.past
        told += [event for event in done.events if event.reason.startswith("Backend")]
    assert [(e.type, e.reason) for e in told] == [("Warning", "BackendUnavailable"), ("Normal", "BackendAvailable")]
    assert told[0].message == "orders: no replica reaches 10.0.0.9:80 (connect_refused)"
    states_now = {c["type"]: c["status"] for c in raw["status"]["conditions"]}
    assert (states_now["Ready"], states_now["BackendUnavailable"]) == ("True", "False")


MOUNT = Trouble("FailedMount", 'secret "web" not found')


def test_a_pod_that_cannot_start_is_said_once_it_lasts() -> None:
    raw, values = settled()
    creating = pod("c", ready=False, started=False, trouble=Trouble(CREATING, ""))
    values["deployment"] = deployment(3, updatedReplicas=1)
    seen, told, writes = [], [], 0
    for second in range(0, 40, 2):
        mishaps = {"c-uid": MOUNT} if second == 10 else {}
        done = plan(gathered(raw, *two(), (creating, None), **values, now=NOW + second, mishaps=mishaps))
        raw, values["past"] = after(raw, done), done.past
        seen.append(next(c for c in raw["status"]["conditions"] if c["type"] == "Progressing"))
        told += done.events
        writes += done.status is not None
    assert [condition["reason"] for condition in seen[4:6]] == ["Rollout", "CannotStart"]
    assert seen[-1]["message"] == 'pod c can\'t start: FailedMount: secret "web" not found'
    assert [(e.type, e.reason, e.message) for e in told] == [("Warning", "CannotStart", seen[-1]["message"])]
    assert next(c["status"] for c in raw["status"]["conditions"] if c["type"] == "Ready") == "True"
    assert writes == 2
    fresh = {**values, "past": Past(began=NOW + 40)}
    assert plan(gathered(raw, *two(), (creating, None), **fresh, now=NOW + 42)).status is None, "a new leader agrees"
    well = pod("c", ready=False)
    done = plan(gathered(raw, *two(), (well, None), **values, now=NOW + 42))
    assert conditions(done)["Progressing"] == ("True", "Rollout")


def test_where_no_pod_starts_the_pool_is_not_ready_for_that_reason() -> None:
    stuck = Past(troubles={"": Lasting(Trouble("FailedCreate", "exceeded quota"), NOW - 10.0)})
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    done = plan(gathered(pool(), deployment=deployment(0, conditions=[failure]), past=stuck))
    assert conditions(done)["Ready"] == ("False", "CannotStart")
    assert "no replica can be added: FailedCreate: exceeded quota" in [event.message for event in done.events]


def test_a_pod_on_its_way_out_is_no_trouble() -> None:
    stuck = Past(troubles={"a-uid": Lasting(MOUNT, NOW - 60.0)})
    leaving = pod("a", ready=False, terminating=True, trouble=MOUNT)
    assert "CannotStart" not in reasons(plan(gathered(pool(), (leaving, None), past=stuck)).events)


def test_a_digest_is_of_the_content() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1})
