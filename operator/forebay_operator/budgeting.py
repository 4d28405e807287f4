"""The ledger's turn: what was seen, in the words of `forebay_core.budget`, and its decision in those of the operator.

What is decided, and why it is safe, is there. The order in which it was seen is `gather`'s. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from forebay_core.budget.decide import Decision, Seen, decide
from forebay_core.budget.ledger import UNKNOWN, Answer, Key, Ledger, Terms
from forebay_core.budget.proofs import STRANGERS, Cluster, Node
from forebay_core.budget.rebuild import unnamed
from forebay_core.scale.grants import Wanted
from forebay_operator.observed import Pod, Report
from forebay_operator.past import Past

STUCK = 120.0  # seconds of silence after which a pod that blocks others is deleted, which gives proof of its death


class Push(NamedTuple):
    """Grants for a pod's life, of the ledger that stands written. `deadline`: seconds after which what is leased above
    the grant is to be closed; None: it may last."""

    ip: str
    life: str
    sequence: int
    grants: Mapping[str, int]
    deadline: float | None = None


class Look(NamedTuple):
    """What was seen, in this order: the ledger that stands, the pods' answers (by UID), pods and nodes.

    `unseen`: nodes that were not looked at. `confirmed`: UIDs of pods that a person says are dead. `strangers`: see
    `forebay_core.budget.decide.Seen`. `now`: seconds since 1970.
    """

    ledger: Ledger | None
    reports: Mapping[str, Report]
    pods: Mapping[str, Pod]
    nodes: Mapping[str, Node]
    unseen: frozenset[str]
    confirmed: frozenset[str]
    strangers: bool
    now: float


def turn(look: Look, past: Past, terms: Mapping[str, Terms], grace: float, wanted: Wanted) -> Decision:
    """The next write, if any. `grace`: of the pods, seconds."""
    pods = {**past.ended, **look.pods}
    answers = {report.answer.life: report.answer for report in look.reports.values()}
    said = farewells(look, pods.values())
    return decide(
        Seen(
            ledger=look.ledger,
            terms=terms,
            cluster=Cluster(
                pods={uid: pod.as_proof for uid, pod in pods.items()},
                nodes=look.nodes,
                missing=past.missing,
                confirmed=look.confirmed - look.reports.keys(),  # a person who is contradicted by the dead
                unseen=look.unseen,
                grace=grace,
            ),
            answers=said | answers,
            now=look.now,
            demand=wanted.demand,
            besides=wanted.besides,
            capped=wanted.capped,
            reported=closed(look.ledger, pods.values()),
            dead_since=past.dead_since,
            highest=past.highest,
            began=past.began,
            heard=past.heard | look.reports.keys(),
            strangers=look.strangers,
        )
    )


def farewells(look: Look, pods: Iterable[Pod]) -> dict[str, Answer]:
    """Last words, as answers of lives that drain. Only of a life that is the last of its pod: an answer proves other
    lives of the same pod dead, and this one may be older than they."""
    if look.ledger is None:
        return {}
    homes = look.ledger.lives()
    lives = [home.pod for home in homes.values()]
    return {
        pod.farewell[0]: Answer(pod.farewell[0], pod.uid, 0, pod.farewell[1], draining=True)
        for pod in pods
        if pod.farewell is not None
        and pod.farewell[0] in homes
        and lives.count(pod.uid) == 1
        and pod.uid not in look.reports
    }


def closed(ledger: Ledger | None, pods: Iterable[Pod]) -> dict[Key, int]:
    """Of lives whose last word was that they hold nothing: that nothing is left, once they are proven dead."""
    said = dict(pod.farewell for pod in pods if pod.farewell is not None)
    entries = ledger.entries if ledger is not None else {}
    return {(life, name): 0 for life, name in entries if said.get(life, {}).get(name) == 0}


def pushes(ledger: Ledger, look: Look, pressing: frozenset[str], deadline: float) -> tuple[Push, ...]:
    """What is to be told, once the ledger is written: to lives that are not known to have heard of their grants' last
    change, the silent too; and again, where others wait for it, to those that hold more than their grant, and to those
    whose deadline is to be withdrawn, as nobody does any more."""
    homes = {home.pod: life for life, home in ledger.lives().items()}  # the latest life of each pod
    told = []
    for uid, pod in look.pods.items():
        report = look.reports.get(uid)
        answer = report.answer if report is not None else None
        life = answer.life if answer is not None else homes.get(uid, "")
        push = ledger.push(life)
        leaving = answer is None and pod.terminating
        if not (push.grants and pod.ip) or pod.finished or leaving or life == unnamed(uid):
            continue
        urgent = pressing.intersection(push.grants)
        over = answer is None or any(answer.held.get(name, 0) > push.grants[name] for name in urgent)
        within = deadline if urgent and over else None
        again = over and answer is not None and not answer.draining
        withdrawn = within is None and report is not None and report.pressed
        if ledger.unanswered(life, answer) or again or withdrawn:
            told.append(Push(pod.ip, life, push.sequence, push.grants, within))
    return tuple(told)


def unsettled(ledger: Ledger | None) -> list[str]:
    """Whose share is not known yet, for people: while there is anybody, no grant rises."""
    entries = ledger.entries.items() if ledger is not None else ()
    lives = dict.fromkeys(life for (life, _), entry in entries if entry.bound == UNKNOWN)
    return ["what earlier pods of this name left open" if life == STRANGERS else life for life in lives]


def stuck(ledger: Ledger, look: Look, silent: Mapping[str, float], pressing: frozenset[str]) -> list[Pod]:
    """Pods that have not answered for so long, and keep others from their share: what they may hold is above what they
    were granted, and somebody waits for it."""
    blocking = {
        entry.home.pod
        for (_, upstream), entry in ledger.entries.items()
        if entry.bound > entry.grant and (upstream in pressing or entry.bound == UNKNOWN)
    }
    return [
        pod
        for uid, pod in look.pods.items()
        if uid in blocking and not pod.terminating and look.now - silent.get(uid, look.now) >= STUCK
    ]
