"""One immutable picture of a pool in, everything to do about it out. Pure: no API, no clock, no randomness."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from forebay_core.budget.decide import PATIENCE, Decision
from forebay_core.budget.rebuild import PER_SECOND
from forebay_core.scale.grants import grants_wanted
from forebay_core.scale.verdict import Verdict
from forebay_core.spec.model import ProxyPool
from forebay_operator import budgeting, causes, objects, outages, scaling, status, troubles
from forebay_operator.blueprint import Blueprint
from forebay_operator.budgeting import Push
from forebay_operator.events import events, of_conditions, scaled, worries
from forebay_operator.observed import Pod, Report
from forebay_operator.past import Past
from forebay_operator.picture import Applied, Apply, Gathered, Plan, Turns
from forebay_operator.troubles import Trouble


def plan(seen: Gathered) -> Plan:
    """See the module's docstring."""
    if seen.blueprint is None:
        return _refused(seen)
    blueprint, look = seen.blueprint, seen.look
    pool, pods = blueprint.pool, tuple(look.pods.values())
    old = seen.raw.get("status", {})
    turns = _turns(seen, blueprint, old)
    decision, ledger = turns.decision, turns.ledger
    wanted = turns.verdict.replicas
    past = _past(seen, pool, turns, old)
    unsettled = budgeting.unsettled(ledger)
    cannot_start = _cannot_start(seen, turns, old)
    states = (
        status.ready(seen.invalid, seen.refused, pods, wanted, cannot_start),
        status.progressing(
            pods, look.reports, wanted, blueprint.document.hash, seen.deployment, unsettled, cannot_start
        ),
        outages.state(
            pool, look.reports.values(), past.outages, seen.past.outages, _condition(old, outages.UNAVAILABLE)
        ),
        *(causes.state(name, turns.verdict, past.signals[name], _condition(old, name)) for name in causes.CALM),
        status.paused(pool, look.reports.values()),
    )
    generation = seen.raw["metadata"]["generation"]
    new = status.status(
        pool,
        generation,
        status.conditions(states, generation, blueprint.generation, old, seen.stamp),
        pods,
        status.upstreams(pool, ledger, turns.verdict),
        ledger=_record(seen, decision),
        autoscaler=scaling.record(turns.scaler),
    )
    told: tuple[Push, ...] = ()
    stuck: list[Pod] = []
    if ledger is not None:
        told = budgeting.pushes(ledger, look, decision.pressing, pool.spec.drain.timeout)
        stuck = budgeting.stuck(ledger, look, past.silent, decision.pressing)
    behind = tuple(
        pod.name
        for pod in pods
        if pod.uid in look.reports and blueprint.document.hash not in (look.reports[pod.uid].document, pod.document)
    )
    return Plan(
        past,
        create=blueprint.secret(seen.fresh_token) if seen.token is None else None,
        apply=_due(seen, blueprint, turns.verdict),
        annotate=behind,
        document=blueprint.document.hash,
        status=status.patch(old, new, seen.status_age),
        sequence=ledger.sequence if ledger is not None else 0,
        pushes=told,
        delete=tuple((pod.name, pod.uid) for pod in stuck),
        events=tuple(events(seen, new["conditions"], turns, past, stuck)),
        open=_open(look.reports.values()),
        busy=bool(pods or wanted or decision.dead),
        soon=decision.ledger is not None,
    )


def _turns(seen: Gathered, blueprint: Blueprint, old: Mapping[str, Any]) -> Turns:
    spec, look = blueprint.pool.spec, seen.look
    stands = look.ledger.in_force if look.ledger is not None else {}
    in_force = {name: stands.get(name, term.budget) for name, term in blueprint.terms.items()}
    state = seen.past.scaler or scaling.first(spec, old.get("autoscaler"), seen.deployment, look.now)
    readings = [report.reading for report in look.reports.values()]
    verdict, scaler = scaling.turn(spec, in_force, state, readings, look.now)
    decision = budgeting.turn(look, seen.past, blueprint.terms, blueprint.grace, grants_wanted(verdict))
    ledger = decision.ledger if decision.ledger is not None else look.ledger
    return Turns(verdict, scaler, decision, ledger, troubles.after(_troubles(seen), seen.past.troubles, look.now))


def _past(seen: Gathered, pool: ProxyPool, turns: Turns, old: Mapping[str, Any]) -> Past:
    past, look = seen.past, seen.look
    ledgers = [each for each in (look.ledger, turns.decision.ledger) if each is not None]
    lives = {life: home.pod for each in ledgers for life, home in each.lives().items()}
    homes = set(lives.values())
    found = dict.fromkeys(turns.decision.dead, look.now)
    begun = any(change.kind == "enter" for change in turns.decision.changes) or (
        look.ledger is not None and look.ledger.sequence - past.highest >= PER_SECOND
    )  # a ledger that was begun anew, by whomever: who is dead in it is found dead in it
    before = {c["type"]: c["status"] == "True" for c in old.get("conditions", [])}
    silent = [uid for uid, pod in look.pods.items() if pod.started and not pod.finished and uid not in look.reports]
    return replace(
        past,
        highest=max(past.highest, look.ledger.sequence if look.ledger is not None else 0),
        heard=(past.heard | look.reports.keys()) & look.pods.keys(),
        silent={uid: past.silent.get(uid, look.now) for uid in silent},
        dead_since={
            life: at for life, at in (found if begun else {**found, **past.dead_since}).items() if life in lives
        },
        missing={uid: at for uid, at in past.missing.items() if uid in homes},
        ended={uid: pod for uid, pod in past.ended.items() if uid in homes},
        scaler=turns.scaler,
        signals=causes.after(turns.verdict, past.signals, old.get("conditions", []), look.now),
        outages=outages.after(
            pool, look.reports.values(), past.outages, before.get(outages.UNAVAILABLE, False), look.now
        ),
        troubles=turns.troubles,
        spec_replicas=seen.raw["spec"].get("replicas"),
        told=frozenset(worries(seen, turns)),
    )


def _refused(seen: Gathered) -> Plan:
    """A document that can't be used, and no good one that is known, as it never was or the one who knew it has ended:
    every problem in the condition, the counts, and nothing else is touched."""
    old, pods = seen.raw.get("status", {}), tuple(seen.look.pods.values())
    generation = seen.raw["metadata"]["generation"]
    state = status.State("Ready", False, status.INVALID, seen.invalid)
    conditions = status.conditions([state], generation, generation, old, seen.stamp)
    new = {"observedGeneration": generation, **status.counts(pods), "conditions": conditions}
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    return Plan(seen.past, status=changed or None, events=tuple(of_conditions(seen, conditions)))


def _record(seen: Gathered, decision: Decision) -> status.Json | None:
    """The ledger as it is to stand in the status; what stands there where nothing of it changes."""
    stands: status.Json | None = seen.raw.get("status", {}).get("ledger")
    if decision.ledger is not None:
        return status.ledger_record(decision.ledger, decision.orphaned)
    look = seen.look
    if look.ledger is None or stands is None:
        return stands
    before = {row["life"] for row in stands.get("orphaned", ())}
    # A leader that has just begun has not looked at everybody yet.
    if before == decision.orphaned or (not decision.orphaned and look.now - seen.past.began <= PATIENCE):
        return stands
    return status.ledger_record(look.ledger, decision.orphaned)


def _condition(old: Mapping[str, Any], name: str) -> status.Json | None:
    return next((c for c in old.get("conditions", []) if c["type"] == name), None)


def _troubles(seen: Gathered) -> dict[str, Trouble]:
    """Of pods that are to serve, and of the ReplicaSet's controller, as they are said now."""
    refused = troubles.of_deployment(seen.deployment)
    found = {troubles.REPLICAS: refused} if refused is not None else {}
    for uid, pod in seen.look.pods.items():
        if pod.trouble is not None and not (pod.terminating or pod.finished):
            found[uid] = seen.mishaps.get(uid, pod.trouble)
    return found


def _cannot_start(seen: Gathered, turns: Turns, old: Mapping[str, Any]) -> str:
    """Why pods can't start; while a leader that has just begun does not know yet, what the last one said."""
    names = {uid: pod.name for uid, pod in seen.look.pods.items()}
    said = "; ".join(troubles.sentences(turns.troubles, names, seen.look.now).values())
    if said or not turns.troubles or seen.look.now - seen.past.began >= 2 * troubles.PATIENCE:
        return said
    before = _condition(old, "Progressing")
    return before["message"] if before is not None and before["reason"] == status.CANNOT_START else ""


def _due(seen: Gathered, blueprint: Blueprint, verdict: Verdict) -> tuple[Apply, ...]:
    """The objects that are not there, not as they should be, or that somebody has edited since."""
    due = []
    for body, digest in blueprint.built(seen.token or seen.fresh_token, verdict.replicas):
        before = seen.applied.get((body["kind"], body["metadata"]["name"]))
        if before is None or before.digest != digest or _edited(body, before, seen.deployment):
            again = before is not None and before.digest == digest
            scales = body["kind"] == "Deployment" and not again  # one that somebody has scaled by hand is put right
            event = scaled(seen, blueprint.pool.spec.autoscaling, verdict) if scales else None
            due.append(Apply(body, digest, again, event))
    return tuple(due)


def _edited(body: objects.Object, before: Applied, deployment: Mapping[str, Any] | None) -> bool:
    """Whether the Deployment is not as we left it. The others are seen to at every resync."""
    if body["kind"] != "Deployment":
        return False
    return deployment is None or deployment["metadata"].get("generation", 0) > before.generation


def _open(reports: Iterable[Report]) -> dict[str, int]:
    """Connections by upstream, as replicas say."""
    total: Counter[str] = Counter()
    for report in reports:
        total.update(report.answer.held)
    return dict(total)
