"""One look at the world in, one write out: what the operator does each tick, and local mode, and the simulator.

The order of the rooms: is the ledger whole (`rebuild`), who is dead (`proofs`), who should have what (`shares`), which
changes may be made now (`ledger`).

The caller reads the ledger, *then* asks the lives, *then* looks at pods and nodes, decides on that alone, and writes
only if the resource, document and all, is still the one that was read. A look or an answer from before the read could
prove the death of a life that began in between; a look from before an answer could show the node as it was before the
boot under which that life runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from forebay_core.budget import proofs, rebuild, shares
from forebay_core.budget.ledger import Answer, Change, Home, Key, Ledger, Terms, applied, changes

PATIENCE = 60.0  # seconds for which a writer that has just started waits for replicas that do not answer


@dataclass(frozen=True, slots=True)
class Seen:
    """What one decision is made from; see the module's docstring.

    `answers` by life. `demand`: recent peak of leases and waiters; missing where there is no reading. `capped`:
    upstreams that can bear no more than the demand, so that nobody gets or keeps what is over. `besides`: what is in
    the demand and serves nobody, as the dead's: it comes on top of a life's share. `reported`: what kernel or upstream
    say the dead have left. `dead_since`: when this writer first found each life dead. `highest`: the last sequence that
    it has read or written. `began`: when it started; `heard`: UIDs of pods that have answered it since.
    `strangers`: whether there may be lives that neither ledger, answers nor pods name, so that a missing ledger has to
    wait for what they left; not where the writer knows that the pool's name has long been free.
    """

    ledger: Ledger | None
    terms: Mapping[str, Terms]
    cluster: proofs.Cluster
    answers: Mapping[str, Answer]
    now: float  # seconds since 1970, of the clock that `cluster` uses
    demand: Mapping[Key, int] = field(default_factory=dict)
    capped: frozenset[str] = frozenset()
    besides: Mapping[Key, int] = field(default_factory=dict)
    reported: Mapping[Key, int] = field(default_factory=dict)
    dead_since: Mapping[str, float] = field(default_factory=dict)
    highest: int = 0
    began: float = 0.0
    heard: frozenset[str] = frozenset()
    strangers: bool = True


class Decision(NamedTuple):
    """`ledger`: to be written, None where there is nothing to. The rest is for events, pushes and the next look."""

    ledger: Ledger | None
    changes: list[Change]
    dead: Mapping[str, str] = {}  # life: what proves it
    orphaned: frozenset[str] = frozenset()  # lives that nothing proves dead and whose pod's object is gone
    pressing: frozenset[str] = frozenset()  # upstreams where shrunk replicas must not wait for leases to end


def decide(seen: Seen) -> Decision:
    """The next write, if any. Pure."""
    ledger = seen.ledger if seen.ledger is not None else Ledger(0)
    homes = {uid: home(uid, pod, seen.cluster) for uid, pod in seen.cluster.pods.items() if pod.started}
    fresh = [upstream for upstream in seen.terms if upstream not in ledger.in_force]
    if rebuild.behind(ledger, seen.highest, seen.answers):
        fresh = list(seen.terms)
    if fresh:
        sequence, made = rebuild.entered(
            ledger, fresh, homes, seen.answers, seen.highest, seen.now, strangers=seen.strangers
        )
        return Decision(applied(ledger, made, seen.terms, sequence), made)
    if not all_heard(seen):
        return Decision(None, [])
    made = rebuild.named(ledger, seen.answers) or rebuild.unbounded(ledger, seen.terms, homes, seen.answers)
    if made:
        return Decision(applied(ledger, made, seen.terms, ledger.sequence + 1), made)

    dead = proofs.dead(ledger, seen.cluster, seen.answers)
    since = {life: seen.dead_since.get(life, seen.now) for life in dead}
    left = proofs.leavings(ledger, since, seen.reported, seen.terms, seen.now)
    lives = served(ledger, seen, dead)
    joining = {a.life: homes[a.pod] for a in seen.answers.values() if a.pod in homes}
    wanted: dict[Key, int] = {}
    for upstream, term in seen.terms.items():
        capped = upstream in seen.capped
        able = [life for life in lives if (life, upstream) in ledger.entries or life in joining]
        wanted |= shares.wishes(ledger, upstream, term, able, seen.demand, besides=seen.besides, capped=capped)
    pressing = shares.pressing(ledger, seen.terms, wanted)
    made = list(changes(ledger, seen.terms, wanted, joining, seen.answers, left))
    after = applied(ledger, made, seen.terms, ledger.sequence + 1)
    orphaned = proofs.orphaned(ledger, seen.cluster, dead)
    if not made and after.in_force == ledger.in_force:
        return Decision(None, [], dead, orphaned, pressing)
    return Decision(after, made, dead, orphaned, pressing)


def home(uid: str, pod: proofs.Pod, cluster: proofs.Cluster) -> Home:
    """Where a life in this pod runs."""
    node = cluster.nodes.get(pod.node)
    return Home(uid, pod.node, node.boot if node is not None else "")


def served(ledger: Ledger, seen: Seen, dead: Mapping[str, str]) -> list[str]:
    """The lives that shares are for, oldest first: not dead, not draining, and their pod is wanted. Who does not answer
    keeps what it has, and joins nothing."""
    lives = ledger.lives()
    newcomers = sorted(a.life for a in seen.answers.values() if a.life not in lives)
    pods = {life: lives[life].pod for life in lives} | {life: seen.answers[life].pod for life in newcomers}

    def is_served(life: str) -> bool:
        pod = seen.cluster.pods.get(pods[life])
        answer = seen.answers.get(life)
        leaving = answer is not None and answer.draining
        return pod is not None and pod.started and life not in dead and not leaving

    return [life for life in pods if is_served(life)]


def all_heard(seen: Seen) -> bool:
    """Whether everybody who could know a later ledger has spoken to this writer; until then it writes nothing.

    A writer that has just started can't tell a ledger that was restored from a copy; replicas can, by what they have
    seen, but only until something else is written under the sequences that they have seen.
    """
    if seen.now - seen.began > PATIENCE:
        return True
    pods = seen.cluster.pods.items()
    return all(uid in seen.heard or not pod.started or proofs.finished(pod) for uid, pod in pods)
