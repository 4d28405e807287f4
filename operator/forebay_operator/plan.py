"""One immutable picture of a pool in, everything to do about it out. Pure: no API, no clock, no randomness."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from forebay_core.spec.load import DocumentError, Problem, parse
from forebay_core.spec.model import ProxyPool
from forebay_operator import objects, status
from forebay_operator.book import Book, read
from forebay_operator.document import Document, render
from forebay_operator.grants import Seen, Turn, next_turn, pushes
from forebay_operator.observed import Pod, Report
from forebay_operator.settings import Settings

CONFIRM_DEAD = "forebay.dev/confirm-dead"  # annotation of the ProxyPool: uids of pods that a person says are dead


class Applied(NamedTuple):
    """An object as it was last applied by this process: the digest of what was sent, the generation that came back."""

    digest: str
    generation: int


class Apply(NamedTuple):
    """An object to apply. `again`: somebody else has changed it since it was applied."""

    body: objects.Object
    digest: str
    again: bool


class Push(NamedTuple):
    """Grants for a pod's life, of the book that the plan writes (or that is written already)."""

    ip: str
    life: str
    sequence: int
    grants: Mapping[str, int]


class Event(NamedTuple):
    """`type`: Normal or Warning."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is seen. `raw`: the ProxyPool; `token`: the one in the Secret, None where there is no Secret; `fresh_token`
    is for it then; `applied` by (kind, name); `refused`: what the API server said of what was applied last;
    `now`: RFC 3339; `status_age`: seconds since this process last wrote the status.
    """

    raw: Mapping[str, Any]
    pods: tuple[Pod, ...]
    reports: Mapping[str, Report]
    deployment: Mapping[str, Any] | None
    token: str | None
    fresh_token: str
    applied: Mapping[tuple[str, str], Applied]
    refused: str
    lingered: frozenset[str]
    now: str
    status_age: float
    settings: Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """In the order of doing: make the Secret, apply, write the status (with the ledger), and only then push.

    `dead`: lives in the book whose process is known dead, whose linger is to be waited for, in seconds.
    `busy`: something is under way, look again soon.
    """

    create: objects.Object | None = None
    apply: tuple[Apply, ...] = ()
    annotate: tuple[str, ...] = ()
    document: str = ""
    status: Mapping[str, Any] | None = None
    pushes: tuple[Push, ...] = ()
    events: tuple[Event, ...] = ()
    dead: Mapping[str, float] | None = None
    busy: bool = False


def plan(seen: Gathered) -> Plan:
    """See the module's docstring."""
    try:
        pool, document = _understood(seen.raw)
        wanted = objects.Wanted(
            pool=pool,
            namespace=seen.raw["metadata"]["namespace"],
            uid=seen.raw["metadata"]["uid"],
            document=document,
            token=seen.token if seen.token is not None else seen.fresh_token,
            replicas=replicas(pool, seen.deployment),
            settings=seen.settings,
        )
        built = objects.build(wanted)
    except DocumentError as error:
        return _refused(seen, error)
    budgets = {
        u.name: u.budget.max_connections - u.budget.reserved for u in pool.spec.upstreams if u.budget is not None
    }
    old = seen.raw.get("status", {})
    turn = next_turn(
        read(old.get("ledger")),
        budgets,
        pool.spec.maximum_replicas,
        Seen(seen.pods, seen.reports, seen.lingered, _confirmed(seen.raw)),
    )
    pods = tuple(pod for pod in seen.pods if not pod.departed)
    states = (
        status.ready(_problem(seen.refused), pods, wanted.replicas),
        status.waiting_for(turn.waits_for)
        or status.progressing(pods, seen.reports, wanted.replicas, document.hash, seen.deployment),
        status.paused(pool, seen.reports.values()),
    )
    new = status.status(
        pool,
        seen.raw["metadata"]["generation"],
        states,
        pods,
        turn.book,
        status.upstreams(pool, turn.book, seen.reports.values()),
        old=old,
        now=seen.now,
    )
    told = _pushes(turn.book, pods, seen.reports)
    behind = tuple(
        pod.name
        for pod in pods
        if pod.uid in seen.reports and seen.reports[pod.uid].document != document.hash and pod.document != document.hash
    )
    waits = turn.changed or turn.book is None or states[1].holds or seen.refused or _leaving(pods)
    linger = max((u.budget.linger for u in pool.spec.upstreams if u.budget is not None), default=0.0)
    dead = {life: linger for life, owner in turn.book.owners.items() if owner.ended} if turn.book is not None else {}
    return Plan(
        create=objects.secret(wanted) if seen.token is None else None,
        apply=tuple(_due(body, seen) for body in built if _is_due(body, seen)),
        annotate=behind,
        document=document.hash,
        status=status.patch(old, new, seen.status_age),
        pushes=told,
        events=tuple(_events(old, new, turn)),
        dead=dead,
        busy=bool(waits or told or dead),
    )


def replicas(pool: ProxyPool, deployment: Mapping[str, Any] | None) -> int:
    """How many there shall be: what spec says, or with autoscaling as many as there are, within its bounds."""
    scaling = pool.spec.autoscaling
    if scaling is None:
        return pool.spec.replicas
    present = deployment["spec"].get("replicas", 1) if deployment is not None else scaling.min_replicas
    return max(scaling.min_replicas, min(scaling.max_replicas, present))


def digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _understood(raw: Mapping[str, Any]) -> tuple[ProxyPool, Document]:
    pool = parse(raw, form="cluster")
    if pool.spec.listen.port == objects.ADMIN_PORT:
        expected = "expected another port: this is the admin port of every pod"
        raise DocumentError((Problem("spec.listen.port", str(objects.ADMIN_PORT), expected),))
    return pool, render(pool, raw["metadata"]["namespace"])


def _refused(seen: Gathered, error: DocumentError) -> Plan:
    """A document that can't be used: every problem in the condition, and nothing else is touched."""
    old = seen.raw.get("status", {})
    state = status.State("Ready", False, "InvalidDocument", str(error))
    generation = seen.raw["metadata"]["generation"]
    new = {
        "observedGeneration": generation,
        "conditions": status.conditions([state], generation, old, seen.now),
    }
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    before = {c["type"]: c for c in old.get("conditions", [])}.get("Ready", {})
    news = before.get("reason") != state.reason or before.get("observedGeneration") != generation
    events = (Event("Warning", state.reason, str(error)),) if news else ()
    return Plan(status=changed or None, events=events)


def _problem(refused: str) -> status.State | None:
    return status.State("Ready", False, "Refused", refused) if refused else None


def _is_due(body: objects.Object, seen: Gathered) -> bool:
    before = seen.applied.get((body["kind"], body["metadata"]["name"]))
    return before is None or before.digest != digest(body) or _edited(body, before, seen.deployment)


def _due(body: objects.Object, seen: Gathered) -> Apply:
    before = seen.applied.get((body["kind"], body["metadata"]["name"]))
    sent = digest(body)
    return Apply(body, sent, before is not None and before.digest == sent)


def _edited(body: objects.Object, before: Applied, deployment: Mapping[str, Any] | None) -> bool:
    """Whether the Deployment is not as we left it. The others are seen to at every resync."""
    if body["kind"] != "Deployment":
        return False
    return deployment is None or deployment["metadata"].get("generation", 0) > before.generation


def _pushes(book: Book | None, pods: tuple[Pod, ...], reports: Mapping[str, Report]) -> tuple[Push, ...]:
    if book is None:
        return ()
    told = []
    for pod in pods:
        report = reports.get(pod.uid)
        grants = pushes(book, report) if report is not None else None
        if report is not None and grants is not None:
            told.append(Push(pod.ip, report.life, book.ledger.sequence, grants))
    return tuple(told)


def _events(old: Mapping[str, Any], new: Mapping[str, Any], turn: Turn) -> list[Event]:
    events = []
    if turn.founded and turn.book is not None and turn.book.owners:
        message = "the ledger was lost, or older than what replicas have seen: founded anew from their answers"
        events.append(Event("Warning", "LedgerFounded", message))
    before = {condition["type"]: condition["status"] for condition in old.get("conditions", [])}
    for condition in new["conditions"]:
        if condition["type"] == "Ready" and before.get("Ready") != condition["status"]:
            kind = "Normal" if condition["status"] == "True" or "Ready" not in before else "Warning"
            events.append(Event(kind, condition["reason"], condition["message"]))
    return events


def _confirmed(raw: Mapping[str, Any]) -> frozenset[str]:
    said = raw["metadata"].get("annotations", {}).get(CONFIRM_DEAD, "")
    return frozenset(uid.strip() for uid in said.split(",") if uid.strip())


def _leaving(pods: tuple[Pod, ...]) -> bool:
    return any(pod.terminating for pod in pods)
