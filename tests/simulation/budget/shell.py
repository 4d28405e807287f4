"""The operator's shell in the model: it carries out what the budget decides, and knows the world at any age."""

from typing import TYPE_CHECKING

from forebay_core.budget.decide import Seen, decide
from forebay_core.budget.ledger import Answer, Ledger, Push, Terms
from forebay_core.budget.proofs import Cluster, Node

if TYPE_CHECKING:
    from tests.simulation.budget.world import World

U = "u"  # the one upstream of this world
REPLICAS = 2  # the maximum that floors are computed from


class Operator:
    """The operator's shell: reads, asks, looks, decides, writes, pushes. What it knows may be of any age."""

    def __init__(self, world: "World", number: int) -> None:
        self.world, self.number = world, number
        self.reads = 0
        self.ledger: Ledger | None = None
        self.version = -1
        self.budget = 0
        self.answers: dict[str, Answer] = {}
        self.cluster: Cluster | None = None
        self.addresses: dict[str, int] = {}
        self.missing: dict[str, float] = {}
        self.highest = 0
        self.heard: set[str] = set()

    def read(self) -> None:
        """A new beginning: what was asked before is forgotten."""
        world = self.world
        self.reads += 1
        self.ledger, self.version, self.budget = world.ledger, world.version, world.budget
        if self.ledger is not None:
            self.highest = max(self.highest, self.ledger.sequence)
        self.answers = {}
        self.cluster = None

    def find(self) -> None:
        """Where to ask."""
        self.addresses = {pod.uid: pod.ip for pod in self.world.pods if pod.object}

    def look(self) -> None:
        """What the API server shows now."""
        if not self.reads:
            return
        world = self.world
        pods = {pod.uid: pod.shown() for pod in world.pods if pod.object}
        nodes = {}
        for node in world.nodes:
            if node.connected:
                running = [pod.gone for pod in world.pods if pod.node is node and pod.process and not pod.object]
                node.heard = min([world.now, *running])
            if node.exists:
                nodes[node.name] = Node(str(node.boot), node.heard)
        homes = {} if self.ledger is None else {home.pod for home in self.ledger.lives().values()}
        self.missing = {uid: self.missing.get(uid, world.now) for uid in homes if uid not in pods}
        self.cluster = Cluster(pods, nodes, self.missing, frozenset(world.confirmed))

    def push(self) -> list[tuple[int, Push]]:
        """What to send, and where: what is written, to lives; to pods without one nothing but the question."""
        ledger = self.ledger
        if ledger is None:
            return self.ask()
        return [(ip, ledger.push(push.life)) for ip, push in self.ask()]

    def ask(self) -> list[tuple[int, Push]]:
        """The question alone, which every push is too: what a reading of a replica's state answers."""
        lives: dict[str, list[str]] = {}
        if self.ledger is not None:
            for life, home in self.ledger.lives().items():
                lives.setdefault(home.pod, []).append(life)
        return [(ip, Push(life, 0, {})) for uid, ip in self.addresses.items() for life in lives.get(uid, [""])]

    def hear(self, asked: int, answer: Answer) -> None:
        """An answer counts only if it was asked for after the ledger was read; then to look again is due."""
        if asked == self.reads:
            self.cluster = None
            self.answers[answer.life] = answer
            self.heard.add(answer.pod)

    def decide(self) -> None:
        """One decision and its write, which fails if anything was written since the read."""
        if self.cluster is None:
            return
        world = self.world
        floor = max(1, self.budget // (REPLICAS + 1))
        lives = [*self.answers, *({} if self.ledger is None else self.ledger.lives())]
        decision = decide(
            Seen(
                ledger=self.ledger,
                terms={U: Terms(self.budget, floor, 1, world.ceiling)},
                cluster=self.cluster,
                answers=self.answers,
                now=world.now,
                demand={(life, U): int(world.dice() * 7) for life in lives if world.dice() < 0.9},
                reported=world.leavings(self.ledger),
                highest=self.highest,
                began=world.now - (0 if world.restoring or world.dice() < 0.5 else 1000),
                heard=frozenset(self.heard),
            )
        )
        if decision.ledger is None:
            return
        if self.version == world.version:
            world.write(self, decision)
        else:
            self.read()

    def wrote(self, ledger: Ledger, version: int) -> None:
        """What it pushes from now on; what it looked at is used up."""
        self.ledger, self.version = ledger, version
        self.highest = ledger.sequence
        self.answers = {}
        self.cluster = None
