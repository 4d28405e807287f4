"""What people are told of, once each: decisions, turns of conditions, and what only they can settle. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from forebay_core.scale.diagnosis import Cause
from forebay_core.scale.verdict import Verdict
from forebay_core.spec.scaling import Autoscaling
from forebay_operator.budgeting import STUCK
from forebay_operator.causes import because
from forebay_operator.observed import Pod
from forebay_operator.past import Past
from forebay_operator.picture import Event, Gathered, Turns
from forebay_operator.status import CANNOT_START, INVALID
from forebay_operator.troubles import sentences

CONFIRM_DEAD = "forebay.dev/confirm-dead"  # annotation of the ProxyPool: uids of pods that a person says are dead
TOLD = 60.0  # seconds for which nothing proves an orphan dead, or a pod does not answer, before a person is told
TURNS = (
    "BudgetExhausted",
    "BackendSaturated",
    "BackendUnavailable",
)  # conditions that are bad news when they become true


def events(seen: Gathered, conditions: list[dict[str, Any]], turns: Turns, past: Past, stuck: list[Pod]) -> list[Event]:
    """Of this look. `conditions`: as they will be; `past`: as it will be; `stuck`: pods that are deleted."""
    told = [*_of_ledger(seen, turns), *of_conditions(seen, conditions), *_of_scale(seen, turns, past)]
    told += [event for key, event in worries(seen, turns).items() if key not in seen.past.told]
    for pod in stuck:
        message = f"pod {pod.name} has not answered for {STUCK:.0f} s and keeps others from their share"
        told.append(Event("Warning", "PodDeleted", message))
    return told


def worries(seen: Gathered, turns: Turns) -> dict[str, Event]:
    """What lasts and needs a person: by the life of an orphan, by the UID of a pod that does not answer, or by the
    kind of what keeps pods from starting."""
    said = sentences(turns.troubles, {uid: pod.name for uid, pod in seen.look.pods.items()}, seen.look.now)
    found = {f"trouble {kind}": Event("Warning", CANNOT_START, sentence) for kind, sentence in said.items()}
    homes = seen.look.ledger.lives() if seen.look.ledger is not None else {}
    for life in sorted(turns.decision.orphaned & homes.keys()):
        pod = homes[life].pod
        if seen.look.now - seen.past.missing.get(pod, seen.look.now) >= TOLD:
            message = f"pod {pod} has gone and nothing proves that its process has ended: what it may hold counts on"
            found[life] = Event("Warning", "Orphaned", f"{message}{_confirm(seen, pod)}")
    for uid, since in seen.past.silent.items():
        silent = seen.look.pods.get(uid)
        if silent is not None and uid not in seen.look.reports and seen.look.now - since >= TOLD:
            message = f"pod {silent.name} has not answered for {TOLD:.0f} s: what it may hold counts on"
            found[uid] = Event("Warning", "PodSilent", f"{message}{_confirm(seen, uid)}")
    return found


def _confirm(seen: Gathered, uid: str) -> str:
    """What a person may do about it."""
    name = seen.raw["metadata"]["name"]
    return f"; if you know that it is dead: kubectl annotate proxypool {name} --overwrite {CONFIRM_DEAD}={uid}"


def scaled(seen: Gathered, scaling: Autoscaling | None, verdict: Verdict) -> Event | None:
    """The event of a Deployment that is applied with another number of replicas, where the autoscaler rules."""
    if scaling is None or seen.deployment is None:
        return None
    before, now = seen.deployment["spec"].get("replicas", 1), verdict.replicas
    if before == now:
        return None
    message = f"from {before} to {now} replicas: {_why(scaling, verdict, before)}"
    return Event("Normal", "ScaledUp" if now > before else "ScaledDown", message)


def _why(scaling: Autoscaling, verdict: Verdict, before: int) -> str:
    """Why there shall be so many. The upstream that waits longest is not always the one that replicas help."""
    if before < scaling.min_replicas == verdict.replicas:
        return f"minReplicas is {verdict.replicas}"
    if before > scaling.max_replicas == verdict.replicas:
        return f"maxReplicas is {verdict.replicas}"
    if verdict.replicas > before:
        busy = [each.message for each in verdict.upstreams.values() if each.cause is Cause.REPLICA][:1]  # said of all
        full = [f"{name}: {each.message}" for name, each in verdict.upstreams.items() if each.cause is Cause.CEILING]
        return "; ".join(busy + full) or verdict.message
    return verdict.message


def confirmed(raw: Mapping[str, Any]) -> frozenset[str]:
    """UIDs of pods that a person says are dead."""
    said = raw["metadata"].get("annotations", {}).get(CONFIRM_DEAD, "")
    return frozenset(uid.strip() for uid in said.split(",") if uid.strip())


def _of_ledger(seen: Gathered, turns: Turns) -> Iterator[Event]:
    entered = any(change.kind == "enter" for change in turns.decision.changes)
    if entered and (seen.look.ledger is not None or seen.look.reports):
        message = "the ledger was missing, or older than the world: begun anew, grants rise once all have answered"
        yield Event("Warning", "LedgerBegun", message)


def of_conditions(seen: Gathered, conditions: list[dict[str, Any]]) -> Iterator[Event]:
    """Of those that have turned, and of every document anew that can't be used."""
    stood = {c["type"]: c for c in seen.raw.get("status", {}).get("conditions", [])}
    before = {name: condition["status"] for name, condition in stood.items()}
    for condition in conditions:
        name, says = condition["type"], condition["status"]
        if condition["reason"] == INVALID:
            said = stood.get(name, {})
            if any(said.get(key) != condition[key] for key in ("reason", "observedGeneration")):
                yield Event("Warning", INVALID, condition["message"])
        elif name == "Ready" and before.get(name) != says:
            kind = "Normal" if says == "True" or name not in before else "Warning"
            yield Event(kind, condition["reason"], condition["message"])
        elif name in TURNS and before.get(name, "False") != says:
            bad = says == "True"
            yield Event("Warning" if bad else "Normal", name if bad else condition["reason"], condition["message"])


def _of_scale(seen: Gathered, turns: Turns, past: Past) -> Iterator[Event]:
    before, now = seen.past.signals.get("ConnectFailing", {}), past.signals["ConnectFailing"]
    if any(signal.holds for signal in now.values()) and not any(signal.holds for signal in before.values()):
        yield Event("Warning", "ConnectFailing", because("ConnectFailing", turns.verdict, now))
    changed = past.spec_replicas != seen.past.spec_replicas and seen.past.scaler is not None
    if "autoscaling" in seen.raw["spec"] and changed:
        message = f"spec.replicas is {past.spec_replicas}: with autoscaling it is only reported"
        yield Event("Normal", "ScaleIgnored", message)
