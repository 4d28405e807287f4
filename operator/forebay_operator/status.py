"""The status of a pool: conditions, counts, the ledger, and numbers that ride along. Pure.

It is written when the ledger, a condition or a count has changed; for the numbers alone at most every 30 s, and only
where one has moved by a tenth: status is no metrics pipe.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from forebay_core.budget.ledger import Ledger
from forebay_core.budget.record import dump
from forebay_core.scale.verdict import Verdict
from forebay_core.spec.model import ProxyPool
from forebay_core.spec.quantities import format_duration, parse_duration
from forebay_operator.objects import selector_text
from forebay_operator.observed import Pod, Report

Json = dict[str, Any]

SHOWN = ("granted", "budget", "waiting", "waitP95", "limitedBy")  # columns, of the upstream that waits longest
NUMBERS = (*SHOWN, "upstreams", "autoscaler")
ALONE = 30.0  # seconds between two writes for the numbers' sake
MOVED = 0.1  # the part by which a number must have moved for that
LEAST = 0.005  # seconds by which a wait must have moved, however short it was
LONGEST = 3600.0  # seconds of wait that are shown
CANNOT_START = "CannotStart"  # reason of conditions, and of the event
INVALID = "InvalidDocument"  # the same


class State(NamedTuple):
    """One condition: its type, whether it holds, why in a word, and why in words."""

    type: str
    holds: bool
    reason: str
    message: str


def ready(invalid: str, refused: str, pods: Iterable[Pod], wanted: int, stuck: str) -> State:
    """Whether clients are served, as the present document wants it. `invalid`: why that can't be used; `refused`: what
    the API server has said of the present objects, if it won't have them; `stuck`: why pods can't start."""
    count = sum(pod.ready for pod in pods)
    if invalid:
        return State("Ready", False, INVALID, invalid)
    if refused:
        return State("Ready", False, "Refused", refused)
    if wanted == 0:
        return State("Ready", False, "ScaledToZero", "no replicas are wanted")
    if count == 0 and stuck:
        return State("Ready", False, CANNOT_START, stuck)
    message = f"{count} of {wanted} replicas are ready"
    return State("Ready", count > 0, "Serving" if count else "NoReplicaReady", message)


def progressing(
    pods: Iterable[Pod],
    reports: Mapping[str, Report],
    wanted: int,
    document: str,
    deployment: Mapping[str, Any] | None,
    unsettled: list[str],
    stuck: str,
) -> State:
    """Whether the replicas are still on their way to what is wanted: shares, number, rollout, document. `stuck`: why
    pods can't start."""
    present = [pod for pod in pods if not pod.terminating]
    behind = [p.name for p in present if p.ready and p.uid in reports and reports[p.uid].document != document]
    count = sum(pod.ready for pod in present)
    if unsettled:
        message = f"no connection is granted until it is known what these may hold: {some(unsettled)}"
        return State("Progressing", True, "Ledger", message)
    if stuck:
        return State("Progressing", True, CANNOT_START, stuck)
    if deployment is not None and _rolling(deployment):
        return State("Progressing", True, "Rollout", "replicas are being replaced")
    if len(present) != wanted or count != wanted:
        return State("Progressing", True, "Replicas", f"{count} of {wanted} replicas are ready, {len(present)} exist")
    if behind:
        return State("Progressing", True, "Document", f"not all replicas serve the present document: {some(behind)}")
    return State("Progressing", False, "Settled", "all replicas serve the present document")


def paused(pool: ProxyPool, reports: Iterable[Report]) -> State:
    """Whether spec or a replica says so."""
    if pool.spec.paused:
        return State("Paused", True, "Spec", "spec.paused is true: requests wait")
    if any(report.paused for report in reports):
        return State("Paused", True, "Replica", "a replica has been told to pause: its requests wait")
    return State("Paused", False, "Running", "requests are served")


def upstreams(pool: ProxyPool, ledger: Ledger | None, verdict: Verdict) -> list[Json]:
    """`status.upstreams`."""
    rows = []
    for upstream in pool.spec.upstreams:
        found = verdict.upstreams[upstream.name]
        row: Json = {
            "name": upstream.name,
            "waiting": found.waiting,
            "waitP95": format_duration(min(found.wait_p95, LONGEST)),
            "limitedBy": str(found.cause),
        }
        if upstream.budget is not None:
            row["budget"] = upstream.budget.max_connections - upstream.budget.reserved
            if ledger is not None:
                row["granted"] = ledger.granted(upstream.name)
                row["budgetInForce"] = ledger.in_force.get(upstream.name, row["budget"])
        rows.append(row)
    return rows


def shown(rows: list[Json]) -> Json:
    """The columns: of the upstream that waits longest, of those where none does the first that is bounded."""
    row = max(rows, key=lambda row: (parse_duration(row["waitP95"]), row["waiting"], "budget" in row))
    return {key: row[key] for key in SHOWN if key in row}


def status(
    pool: ProxyPool,
    generation: int,
    conditions: list[Json],
    pods: Iterable[Pod],
    rows: list[Json],
    *,
    ledger: Json | None,
    autoscaler: Json,
) -> Json:
    """The whole status. `generation`: of the present document, good or not."""
    result: Json = {
        "observedGeneration": generation,
        **counts(pods),
        "selector": selector_text(pool.metadata.name),
        "conditions": conditions,
        "upstreams": rows,
        "autoscaler": autoscaler,
        **shown(rows),
    }
    return result if ledger is None else {**result, "ledger": ledger}


def counts(pods: Iterable[Pod]) -> Json:
    """Of pods that are to stay."""
    present = [pod for pod in pods if not pod.terminating]
    return {"replicas": len(present), "readyReplicas": sum(pod.ready for pod in present)}


def ledger_record(ledger: Ledger, orphaned: frozenset[str]) -> Json:
    """`status.ledger`, with what a person needs to know to speak for orphans."""
    homes = ledger.lives()
    rows = [{"life": life, "pod": homes[life].pod, "node": homes[life].node} for life in sorted(orphaned)]
    return {**dump(ledger), "orphaned": rows}


def conditions(states: Iterable[State], generation: int, good: int, old: Mapping[str, Any], now: str) -> list[Json]:
    """The conditions, each with the time of its last turn, `now` for those that turn; of those that nobody speaks of,
    the ones of `old`, the status that stands. Ready tells of the present document, of this `generation`; the others of
    the last `good` one."""
    before = {condition["type"]: condition for condition in old.get("conditions", [])}
    for state in states:
        says = "True" if state.holds else "False"
        last = before.get(state.type)
        since = last["lastTransitionTime"] if last is not None and last["status"] == says else now
        before[state.type] = {
            "type": state.type,
            "status": says,
            "observedGeneration": generation if state.type == "Ready" else good,
            "lastTransitionTime": since,
            "reason": state.reason,
            "message": state.message,
        }
    return list(before.values())


def patch(old: Mapping[str, Any], new: Json, age: float) -> Json | None:
    """The merge patch of the status from `old` to `new`, None where there is no need to write. `age`: seconds since
    the last write."""
    changed = merge_patch(old, new)
    if not changed or (all(key in NUMBERS for key in changed) and not (age >= ALONE and _moved(old, new))):
        return None
    return changed


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """What makes `new` of `old` (RFC 7386): what has gone is null, objects are patched, lists are replaced."""
    changed: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if before is not value and (inner := merge_patch(before, value)):
                changed[key] = inner
        elif before != value or key not in old:
            changed[key] = value
    return changed


def _moved(old: Mapping[str, Any], new: Json) -> bool:
    before = {row["name"]: row for row in old.get("upstreams", [])}
    pairs = [(before.get(row["name"], {}), row) for row in new["upstreams"]]
    return any(map(_differ, *zip(*pairs, strict=True))) or _differ(old.get("autoscaler", {}), new["autoscaler"])


def _differ(before: Any, now: Any) -> bool:
    """Whether a number within has moved, or anything else is another."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return before.keys() != now.keys() or any(_differ(before[key], now[key]) for key in now)
    if isinstance(before, list) and isinstance(now, list):
        return len(before) != len(now) or any(map(_differ, before, now))
    if isinstance(before, str) and isinstance(now, str) and before != now:
        try:
            before, now = parse_duration(before), parse_duration(now)
        except ValueError:
            return True
        return bool(abs(now - before) > max(LEAST, MOVED * max(now, before)))
    if isinstance(before, int | float) and isinstance(now, int | float):
        return abs(now - before) > MOVED * max(abs(now), abs(before))
    return bool(before != now)


def _rolling(deployment: Mapping[str, Any]) -> bool:
    """Whether the Deployment's controller has not come to the end of its spec (as `kubectl rollout status` tells)."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    present, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    observed = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return not observed or updated < min(wanted, present) or present > max(updated, wanted)


def some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
