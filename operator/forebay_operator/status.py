"""The status of a pool: conditions, counts, the ledger, and numbers that ride along. Pure.

It is written when the ledger, a condition or a count has changed; for the numbers alone at most every 30 s, and only
where one has moved by a tenth: status is no metrics pipe.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from forebay_core.spec.model import ProxyPool
from forebay_operator.book import Book, write
from forebay_operator.objects import selector_text
from forebay_operator.observed import Pod, Report

Json = dict[str, Any]

NUMBERS = ("granted", "budget", "waiting", "upstreams")
ALONE = 30.0  # seconds between two writes for the numbers' sake
MOVED = 0.1  # the part by which a number must have moved for that


class State(NamedTuple):
    """One condition: its type, whether it holds, why in a word, and why in words."""

    type: str
    holds: bool
    reason: str
    message: str


def ready(problem: State | None, pods: Iterable[Pod], wanted: int) -> State:
    """Whether clients are served. `problem`: what stands in the way of the present document, if anything."""
    count = sum(pod.ready for pod in pods)
    if problem is not None:
        return problem
    if wanted == 0:
        return State("Ready", False, "ScaledToZero", "no replicas are wanted")
    message = f"{count} of {wanted} replicas are ready"
    return State("Ready", count > 0, "Serving" if count else "NoReplicaReady", message)


def progressing(
    pods: Iterable[Pod], reports: Mapping[str, Report], wanted: int, document: str, deployment: Mapping[str, Any] | None
) -> State:
    """Whether the replicas are still on their way to what is wanted: number, rollout, document."""
    present = [pod for pod in pods if not pod.terminating]
    behind = [p.name for p in present if p.ready and p.uid in reports and reports[p.uid].document != document]
    count = sum(pod.ready for pod in present)
    rollout = deployment is not None and _rolling(deployment)
    if rollout:
        return State("Progressing", True, "Rollout", "replicas are being replaced")
    if len(present) != wanted or count != wanted:
        return State("Progressing", True, "Replicas", f"{count} of {wanted} replicas are ready, {len(present)} exist")
    if behind:
        return State("Progressing", True, "Document", f"not all replicas serve the present document: {_some(behind)}")
    return State("Progressing", False, "Settled", "all replicas serve the present document")


def waiting_for(pods: tuple[str, ...]) -> State | None:
    """While a lost ledger can't be founded anew."""
    if not pods:
        return None
    message = f"the ledger is lost; no connection is granted until these answer, or have ended: {_some(list(pods))}"
    return State("Progressing", True, "LedgerLost", message)


def paused(pool: ProxyPool, reports: Iterable[Report]) -> State:
    """Whether spec or a replica says so."""
    if pool.spec.paused:
        return State("Paused", True, "Spec", "spec.paused is true: requests wait")
    if any(upstream.paused for report in reports for upstream in report.upstreams.values()):
        return State("Paused", True, "Replica", "a replica has been told to pause: its requests wait")
    return State("Paused", False, "Running", "requests are served")


def upstreams(pool: ProxyPool, book: Book | None, reports: Iterable[Report]) -> list[Json]:
    """`status.upstreams`."""
    result = []
    by_replica = [report.upstreams for report in reports]
    for upstream in pool.spec.upstreams:
        waiting = sum(seen[upstream.name].waiting for seen in by_replica if upstream.name in seen)
        row: Json = {"name": upstream.name, "waiting": waiting}
        if upstream.budget is not None:
            limit = upstream.budget.max_connections - upstream.budget.reserved
            row["budget"] = limit
            if book is not None:
                entries = book.ledger.entries.items()
                row["granted"] = sum(entry.grant for (_, name), entry in entries if name == upstream.name)
                row["budgetInForce"] = max(limit, book.ledger.bounds(upstream.name))
        result.append(row)
    return result


def status(
    pool: ProxyPool,
    generation: int,
    states: Iterable[State],
    pods: Iterable[Pod],
    book: Book | None,
    rows: list[Json],
    *,
    old: Mapping[str, Any],
    now: str,
) -> Json:
    """The whole status; `old` is the one that stands, `now` the time for conditions that turn."""
    present = [pod for pod in pods if not pod.terminating and not pod.departed]
    # The columns show one upstream: the one that most wait for, of those where none does the first that is bounded.
    shown = max(rows, key=lambda row: (row["waiting"], "budget" in row))
    result: Json = {
        "observedGeneration": generation,
        "replicas": len(present),
        "readyReplicas": sum(pod.ready for pod in present),
        "selector": selector_text(pool.metadata.name),
        "conditions": conditions(states, generation, old, now),
        "upstreams": rows,
        **{key: shown.get(key) for key in ("granted", "budget", "waiting")},
    }
    if book is not None:
        result["ledger"] = write(book)
    return {key: value for key, value in result.items() if value is not None}


def conditions(states: Iterable[State], generation: int, old: Mapping[str, Any], now: str) -> list[Json]:
    """The conditions, each with the time of its last turn; of those that nobody speaks of, the old ones."""
    before = {condition["type"]: condition for condition in old.get("conditions", [])}
    for state in states:
        says = "True" if state.holds else "False"
        last = before.get(state.type)
        since = last["lastTransitionTime"] if last is not None and last["status"] == says else now
        before[state.type] = {
            "type": state.type,
            "status": says,
            "observedGeneration": generation,
            "lastTransitionTime": since,
            "reason": state.reason,
            "message": state.message,
        }
    return list(before.values())


def patch(old: Mapping[str, Any], new: Json, age: float) -> Json | None:
    """The merge patch of the status from `old` to `new`, None where there is no need to write. `age`: seconds since
    the last write."""
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    changed |= {key: None for key in NUMBERS if key in old and key not in new}
    if not changed or (all(key in NUMBERS for key in changed) and not (age >= ALONE and _moved(old, new))):
        return None
    return changed


def _moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    before = {row["name"]: row for row in old.get("upstreams", [])}
    for row in new["upstreams"]:
        last = before.get(row["name"])
        if last is None or last.keys() != row.keys():
            return True
        for key, value in row.items():
            if key != "name" and abs(value - last[key]) > MOVED * max(value, last[key], 1):
                return True
    return len(before) != len(new["upstreams"])


def _rolling(deployment: Mapping[str, Any]) -> bool:
    """Whether the Deployment's controller has not come to the end of its spec (as `kubectl rollout status` tells)."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    present, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    observed = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return not observed or updated < min(wanted, present) or present > max(updated, wanted)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
