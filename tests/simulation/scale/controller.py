"""The operator's other half in virtual time: the real budget, carried out in its order.

A turn: push what was written at the last tick, and take the answers; look at pods; decide; write. So a change of grants
takes a tick to arrive and another until its effect is known: slower than the real operator, which looks again at once.
"""

from collections.abc import Mapping, Sequence

from tests.simulation.scale.pods import Pod

from forebay_core.budget.decide import Seen, decide
from forebay_core.budget.ledger import Ledger
from forebay_core.budget.proofs import Cluster, Node
from forebay_core.budget.proofs import Pod as Shown
from forebay_core.budget.shares import terms
from forebay_core.scale.grants import Wanted
from forebay_core.scale.targets import Targets

NODE = "node"


class Controller:
    """`ledger` is what stands in the resource's status: it outlives the leader, all else goes with it."""

    def __init__(self, targets: Targets, now: float) -> None:
        self.ledger: Ledger | None = None
        self.terms = {
            name: terms(target.budget, targets.max_replicas, ceiling=target.ceiling)
            for name, target in targets.upstreams.items()
            if target.budget is not None
        }
        self.replace_leader(now)

    def replace_leader(self, now: float) -> None:
        """Another process goes on, and knows the ledger only."""
        self.began = now
        self.heard: set[str] = set()
        self.dead_since: Mapping[str, float] = {}
        self.highest = 0

    def tick(self, now: float, pods: Sequence[Pod], ended: Sequence[str], wanted: Wanted) -> None:
        """`pods` can be reached or not; of the `ended` the kubelet has said so."""
        ledger = self.ledger
        lives = ledger.lives() if ledger is not None else {}
        answers = {}
        for pod in pods:
            if pod.reachable(now):
                told = ledger.push(pod.name) if ledger is not None and pod.name in lives else None
                answers[pod.name] = pod.answer(now, told)
        self.heard.update(answers)
        shown = {pod.name: Shown(NODE, started=pod.ready_at <= now) for pod in pods}
        shown |= {name: Shown(NODE, terminal=True, terminated=True) for name in ended if name in lives}
        self.highest = max(self.highest, ledger.sequence if ledger is not None else 0)
        made = decide(
            Seen(
                ledger,
                self.terms,
                Cluster(shown, {NODE: Node("boot", now)}),
                answers,
                now,
                demand=wanted.demand,
                capped=wanted.capped,
                dead_since=self.dead_since,
                highest=self.highest,
                began=self.began,
                heard=frozenset(self.heard),
            )
        )
        self.dead_since = {life: self.dead_since.get(life, now) for life in made.dead}
        if made.ledger is not None:
            self.ledger = made.ledger
            self.highest = made.ledger.sequence
