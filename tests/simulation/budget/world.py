"""A world around the budget: operators, the API server, a network, nodes, pods, processes and a backend.

The deciders are the real ones (`forebay_core.budget`); what this file adds is the thin shell that carries them out, and
everything that can go wrong. After every move `check` adds up what is really open at the backend, each process opening
as much as it may, and compares it with the budget in force, of which it keeps its own account.

There are no clocks to wait for: `now` counts moves, and what takes time in the world (the backend notices the dead,
the kubelet kills what has no object) happens when the script or the dice say so. Two oracles stand for assumptions:
`linger` is over when the backend has really noticed, and a kubelet that has been heard for the grace has really killed.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from forebay_core.budget import replica
from forebay_core.budget.decide import Decision, Seen, decide
from forebay_core.budget.ledger import Answer, Ledger, Push, Terms
from forebay_core.budget.proofs import STRANGERS, Cluster, Node, Pod
from forebay_core.budget.replica import Memory

U = "u"  # the one upstream of this world
REPLICAS = 2  # the maximum that floors are computed from


class Violation(AssertionError):
    """More is open than the budget in force allows."""


class Process:
    """A running replica. `memory` is what it acts on; the pod keeps what has been written down."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.open = 0
        self.left = memory.held.get(U, 0)  # of the dead before it, as far as it knows

    @property
    def limit(self) -> int:
        return replica.limit(self.memory, U, self.left)


class PodState:
    """A pod: what is really there, and what its object shows."""

    def __init__(self, uid: str, node: "NodeState", ip: int) -> None:
        self.uid, self.node, self.ip = uid, node, ip
        self.memory: Memory | None = None
        self.process: Process | None = None
        self.lives: list[str] = []
        self.told = False  # the kubelet knows that it is to go: it will not start it again
        self.object = True
        self.gone = 0.0  # when the object went
        self.deleted = False
        self.terminated = self.terminal = False  # as the kubelet has shown them
        self.given_up = False  # pod GC has written the phase

    def shown(self) -> Pod:
        return Pod(self.node.name, True, self.terminal and not self.given_up, self.terminated)


class NodeState:
    def __init__(self, name: str) -> None:
        self.name, self.boot = name, 0
        self.connected, self.exists = True, True
        self.heard = 0.0


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


class World:
    """See the module's docstring. Moves are methods; `step` throws dice for one."""

    def __init__(self, seed: int = 0, budget: int = 6) -> None:
        self.random = random.Random(seed)
        self.dice = self.random.random
        self.now = 0.0
        self.budget = self.in_force = budget
        self.version = 0
        self.ledger: Ledger | None = None
        self.copies: list[Ledger] = []
        self.restoring = False  # a copy is in place of what was written last, and nobody has found out
        self.confirmed: set[str] = set()
        self.nodes = [NodeState("n0"), NodeState("n1")]
        self.pods: list[PodState] = []
        self.born = 0
        self.left: dict[str, int] = {}  # open at the backend though the process has ended, by life
        self.network: list[tuple[int, int, int, Push | Answer]] = []
        self.operators = [Operator(self, 0), Operator(self, 1)]
        self.weights = swarm(self.random)
        self.ceiling = self.random.choice((2, 4, 8))  # size + maxOverflow
        self.trace: list[str] | None = None

    # ------------------------------------------------------------------ the checker

    def open(self) -> int:
        """What is open at the backend, if every process opens all that it may."""
        count = sum(self.left.values())
        for pod in self.pods:
            if pod.process is not None:
                count += max(pod.process.open, pod.process.limit)
        return count

    def check(self) -> None:
        """Raises Violation."""
        count = self.open()
        if count > self.in_force:
            raise Violation(f"{count} open, {self.in_force} allowed; {self}")

    def account(self) -> None:
        """The budget in force: the document's, or after a cut the old one until the bounds fit."""
        fits = self.ledger is not None and not self.restoring and self.ledger.bounds(U) <= self.budget
        self.in_force = self.budget if fits else max(self.in_force, self.budget)

    def __str__(self) -> str:
        pods = [
            f"{pod.uid}: {pod.process.memory.life} open {pod.process.open} limit {pod.process.limit}"
            for pod in self.pods
            if pod.process is not None
        ]
        return f"{pods}, left {self.left}, budget {self.budget}, {self.ledger}"

    # ------------------------------------------------------------------ the store

    def write(self, operator: Operator, decision: Decision) -> None:
        assert decision.ledger is not None
        self.version += 1
        self.ledger = decision.ledger
        if decision.changes and decision.changes[0].kind == "enter":
            self.restoring = False
        self.copies.append(self.ledger)
        self.account()
        operator.wrote(self.ledger, self.version)

    def edit(self, budget: int) -> None:
        """The document's budget changes."""
        self.version += 1
        self.budget = budget
        self.account()

    def lose(self) -> None:
        """The status is lost. Not while a force-deleted pod still runs, which nobody could name: a documented limit."""
        for pod in self.pods:
            if not pod.object:
                self.crash(pod)
                pod.told = True
        self.now += 1
        self.version += 1
        self.ledger = None
        self.restoring = False

    def restore(self, number: int) -> None:
        """The API server's store is restored from an older copy, which takes longer than `linger` or a push."""
        self.now += 1
        self.version += 1
        self.network.clear()
        self.ledger = copy = self.copies[number]
        self.copies = self.copies[: number + 1]
        for pod in self.pods:
            if not pod.object:
                self.crash(pod)
        self.left.clear()
        for node in self.nodes:
            node.connected = True
        self.operators = [Operator(self, operator.number) for operator in self.operators]
        memories = [pod.memory for pod in self.pods if pod.memory is not None]
        self.restoring = any(memory.sequence > copy.sequence for memory in memories)
        self.account()

    def recreate(self) -> None:
        """The pool is deleted and created again; its pods are its namesake's now, and on their way out."""
        self.lose()
        for pod in self.pods:
            self.delete(pod)

    # ------------------------------------------------------------------ the network

    def send(self, operator: Operator, pushes: list[tuple[int, Push]]) -> None:
        for ip, push in pushes:
            self.network.append((ip, operator.number, operator.reads, push))

    def deliver(self, index: int, keep: bool = False) -> None:
        """A message arrives; `keep` leaves a second one of it on the way."""
        message = self.network[index] if keep else self.network.pop(index)
        to, number, asked, content = message
        operator = self.operators[number]
        if isinstance(content, Answer):
            operator.hear(asked, content)
            return
        answer = self.ask(to, content)
        if answer is not None:
            self.network.append((-1, number, asked, answer))

    def ask(self, ip: int, push: Push) -> Answer | None:
        for pod in self.pods:
            if pod.ip == ip and pod.process is not None and pod.node.connected:
                return self.receive(pod, pod.process, push)
        return None

    def receive(self, pod: PodState, process: Process, push: Push) -> Answer:
        taken = replica.take(process.memory, push)
        if taken is not process.memory:
            pod.memory = taken
            process.memory = taken
        return replica.answer(taken, pod.uid)

    def round(self, operator: Operator) -> None:
        """All that an operator does in a tick, with nothing lost on the way."""
        self.gather(operator)
        operator.decide()
        for ip, push in operator.push():
            self.ask(ip, push)

    def gather(self, operator: Operator, heard: float = 1.0) -> None:
        """The first half of a tick: read, ask, look; each answer is heard with this probability."""
        operator.read()
        self.question(operator, heard)
        operator.look()

    def question(self, operator: Operator, heard: float = 1.0) -> None:
        operator.find()
        for ip, push in operator.ask():
            answer = self.ask(ip, push)
            if answer is not None and (heard == 1.0 or self.dice() < heard):
                operator.hear(operator.reads, answer)

    # ------------------------------------------------------------------ processes

    def start(self, pod: PodState) -> None:
        """The container starts, for the first time or again."""
        if pod.process is not None or pod.told or not (pod.object or not pod.node.connected):
            return
        self.born += 1
        memory = replica.begin(pod.memory, f"L{self.born}")
        pod.memory = memory
        pod.process = Process(memory)
        if memory.life not in pod.lives:
            pod.lives.append(memory.life)

    def hold(self, pod: PodState, process: Process, count: int) -> None:
        """Open or close connections; the count is in the memory."""
        process.open = count
        held = {U: count + process.left}
        process.memory = replace(process.memory, held=held)
        assert pod.memory is not None
        pod.memory = replace(pod.memory, held=held)

    def fill(self, pod: PodState) -> None:
        """It opens all that it may."""
        if pod.process is not None and pod.process.limit > pod.process.open:
            self.hold(pod, pod.process, pod.process.limit)

    def finish(self, pod: PodState, count: int) -> None:
        """Requests end, and connections are closed."""
        if pod.process is not None:
            self.hold(pod, pod.process, max(0, pod.process.open - count))

    def kernel(self, pod: PodState) -> None:
        """The kernel shows which connections of the dead are closed."""
        if pod.process is not None:
            there = sum(self.left.get(life, 0) for life in pod.lives)
            pod.process.left = min(pod.process.left, there)
            self.hold(pod, pod.process, pod.process.open)

    def drain(self, pod: PodState) -> None:
        if pod.process is not None and not pod.process.memory.draining:
            pod.process.memory = replica.drain(pod.process.memory)
            pod.memory = pod.process.memory

    def crash(self, pod: PodState) -> None:
        """The process ends, with what it has open; the backend has yet to notice."""
        if pod.process is None:
            return
        life = pod.process.memory.life
        if pod.process.open:
            self.left[life] = self.left.get(life, 0) + pod.process.open
        pod.process = None

    def notice(self, life: str, count: int) -> None:
        """The backend closes connections of a dead process."""
        self.left[life] -= min(count, self.left[life])
        if not self.left[life]:
            del self.left[life]

    def forget(self, pod: PodState) -> None:
        """The memory is lost, with the process or between two."""
        if pod.process is None:
            pod.memory = None

    def leavings(self, ledger: Ledger | None) -> dict[tuple[str, str], int]:
        """What kernel and backend say the dead have left; that they have noticed is what `linger` assumes."""
        if ledger is None:
            return {}
        reported = dict.fromkeys(ledger.lives(), 0)
        for pod in self.pods:
            of_pod = f"pod/{pod.uid}"
            for life in pod.lives:
                count = self.left.get(life, 0)
                for name in (life, of_pod):
                    if name in reported:
                        reported[name] += count
                if life not in reported and of_pod not in reported and STRANGERS in reported:
                    reported[STRANGERS] += count
        return {(life, U): count for life, count in reported.items()}

    # ------------------------------------------------------------------ pods and nodes

    def create(self, node: NodeState, ip: int | None = None) -> PodState:
        """A pod object and its sandbox; `ip` takes over an address that nobody has any more."""
        uid = f"p{len(self.pods)}"
        pod = PodState(uid, node, len(self.pods) if ip is None else ip)
        self.pods.append(pod)
        return pod

    def free_address(self) -> int | None:
        """An address whose pod has ended, and may be given to another."""
        gone = [pod.ip for pod in self.pods if not pod.object and pod.process is None]
        used = {pod.ip for pod in self.pods if pod.object or pod.process is not None}
        free = [ip for ip in gone if ip not in used]
        return self.random.choice(free) if free and self.dice() < 0.5 else None

    def delete(self, pod: PodState) -> None:
        """Deletion is asked for; the object stays until the kubelet has done its part."""
        pod.deleted = True

    def force_delete(self, pod: PodState) -> None:
        """The object goes at once; the process knows nothing of it."""
        if pod.object:
            self.delete(pod)
            pod.object, pod.gone = False, self.now

    def kubelet(self, pod: PodState) -> None:
        """The kubelet syncs the pod: it learns, acts and reports."""
        if not pod.node.connected:
            return
        if not pod.object:
            self.crash(pod)
            pod.told = True
            return
        pod.terminated = pod.process is None
        if not pod.deleted:
            return
        if not pod.told:
            pod.told = True
            self.drain(pod)
        elif pod.process is None and pod.terminal:
            pod.object, pod.gone = False, self.now
        elif pod.process is None:
            pod.terminal = True

    def pod_gc(self, pod: PodState) -> None:
        """Pod GC gives up on a pod of a lost node: it writes the phase itself, then deletes the object by force."""
        if pod.node.connected or not pod.object:
            return
        if pod.given_up:
            self.force_delete(pod)
        self.delete(pod)
        pod.given_up = pod.terminal = True

    def partition(self, node: NodeState) -> None:
        node.connected = False

    def reconnect(self, node: NodeState) -> None:
        node.connected = True

    def reboot(self, node: NodeState) -> None:
        for pod in self.pods:
            if pod.node is node:
                self.crash(pod)
                self.forget(pod)
                pod.told = pod.told or not pod.object
        node.boot += 1
        self.reconnect(node)

    def delete_node(self, node: NodeState) -> None:
        """The machine is gone, and then its object, and its pods'. A new one may get its name."""
        self.reboot(node)
        for pod in self.pods:
            if pod.node is node:
                self.force_delete(pod)
                pod.told = True
        node.exists = False

    def confirm(self, pod: PodState) -> None:
        """A person has made sure that it is dead, and says so."""
        if pod.process is None and (not pod.object or pod.deleted):
            pod.told = True
            self.confirmed.add(pod.uid)

    # ------------------------------------------------------------------ dice

    def step(self) -> None:
        """One random move, and the check."""
        self.now += 1
        self.random.choices(MOVES, cum_weights=self.weights)[0](self)
        self.check()

    def some_pod(self) -> PodState | None:
        pods = [pod for pod in self.pods if pod.object or pod.process is not None]
        return self.random.choice(pods) if pods else None

    def some_operator(self) -> Operator:
        return self.operators[0 if self.dice() < 0.6 else 1]

    def calm(self, rounds: int = 40) -> bool:
        """A fair world: one operator, requests end, the backend notices, nodes and persons answer for the lost.

        Whether every replica comes to a grant.
        """
        operator = self.operators[0]
        self.network.clear()
        do_new_node(self)
        for node in self.nodes:
            self.reconnect(node)
        for _ in range(rounds):
            self.now += 1
            self.round(operator)
            for pod in list(self.pods):
                self.kubelet(pod)
                if pod.process is not None and pod.process.memory.draining:
                    self.finish(pod, 9)
                    self.round(operator)
                    self.crash(pod)
                self.start(pod)
                if pod.process is not None:
                    self.finish(pod, max(0, pod.process.open - pod.process.limit))
                    self.fill(pod)
                self.kernel(pod)
                self.check()
                self.confirm(pod)
            for life in list(self.left):
                self.notice(life, 9)
            staying = [pod for pod in self.pods if pod.object and not pod.deleted]
            served = [pod for pod in staying if pod.process is not None and pod.process.limit > 0]
            settled = self.in_force == self.budget or self.restoring
            if settled and len(served) >= min(len(staying), self.budget):
                return True
        return False


def on_pod(act: Callable[[World, PodState], None]) -> Callable[[World], None]:
    """A move that needs a pod."""

    def move(world: World) -> None:
        pod = world.some_pod()
        if pod is not None:
            if world.trace is not None:
                world.trace.append(f"{act.__name__.removeprefix('do_')} {pod.uid}")
            act(world, pod)

    return move


def on_operator(act: Callable[[World, Operator], None]) -> Callable[[World], None]:
    """A move of an operator."""

    def move(world: World) -> None:
        operator = world.some_operator()
        act(world, operator)
        if world.trace is not None:
            world.trace.append(f"{act.__name__.removeprefix('do_')} {operator.number}: {world.ledger}")

    return move


def do_read(world: World, operator: Operator) -> None:
    operator.read()


def do_find(world: World, operator: Operator) -> None:
    operator.find()


def do_look(world: World, operator: Operator) -> None:
    operator.look()


def do_decide(world: World, operator: Operator) -> None:
    operator.decide()


def do_ask(world: World, operator: Operator) -> None:
    world.send(operator, operator.ask())


def do_send(world: World, operator: Operator) -> None:
    world.send(operator, operator.push())


def do_race(world: World, operator: Operator) -> None:
    """Something happens while an operator makes up its mind; and it may do things in the wrong order."""
    acts = world.random.choice(ORDERS)
    for act in acts:
        act(world, operator)
        for _ in range(int(world.dice() * 4)):
            world.step()
    operator.decide()


def do_question(world: World, operator: Operator) -> None:
    world.question(operator)


def do_round(world: World, operator: Operator) -> None:
    world.round(operator)


def do_replace(world: World, operator: Operator) -> None:
    """The operator's process dies; another one knows nothing."""
    if not world.restoring:
        world.operators[operator.number] = Operator(world, operator.number)


def do_network(world: World) -> None:
    """Messages are lost, repeated, and overtake each other."""
    for _ in range(3):
        if world.network:
            index = int(world.dice() * len(world.network))
            fate = world.dice()
            if world.trace is not None:
                world.trace.append(f"{'lost' if fate < 0.1 else 'arrives'} {world.network[index]}")
            if fate < 0.1:
                world.network.pop(index)
            else:
                world.deliver(index, keep=fate < 0.25)


def do_create(world: World) -> None:
    alive = [pod for pod in world.pods if pod.object]
    nodes = [node for node in world.nodes if node.exists and node.connected]
    if len(alive) < 4 and nodes:
        pod = world.create(world.random.choice(nodes), world.free_address())
        world.start(pod)


def do_fill(world: World, pod: PodState) -> None:
    world.fill(pod)


def do_finish(world: World, pod: PodState) -> None:
    world.finish(pod, 1 + int(world.dice() * 3))


def do_crash(world: World, pod: PodState) -> None:
    if not world.restoring:
        world.fill(pod)
        world.crash(pod)


def do_start(world: World, pod: PodState) -> None:
    world.start(pod)


def do_crash_loop(world: World, pod: PodState) -> None:
    """kill -9, and the kubelet starts it again at once."""
    do_crash(world, pod)
    if world.dice() < 0.5:
        do_kubelet(world, pod)
    world.start(pod)


def do_kernel(world: World, pod: PodState) -> None:
    world.kernel(pod)


def do_drain(world: World, pod: PodState) -> None:
    if not world.restoring:
        world.drain(pod)


def do_forget(world: World, pod: PodState) -> None:
    if not world.restoring:
        world.forget(pod)


def do_delete(world: World, pod: PodState) -> None:
    if not world.restoring:
        world.delete(pod)


def do_force_delete(world: World, pod: PodState) -> None:
    if not world.restoring and world.ledger is not None:
        world.force_delete(pod)


def do_kubelet(world: World, pod: PodState) -> None:
    if not world.restoring:
        world.kubelet(pod)


def do_pod_gc(world: World, pod: PodState) -> None:
    """A node is lost, or stays so for long."""
    if not world.restoring and world.ledger is not None:
        if world.dice() < 0.5:
            world.partition(pod.node)
        world.pod_gc(pod)


def do_partition(world: World, pod: PodState) -> None:
    if not world.restoring:
        world.partition(pod.node)


def do_reconnect(world: World, pod: PodState) -> None:
    world.reconnect(pod.node)


def do_reboot(world: World, pod: PodState) -> None:
    if not world.restoring:
        world.reboot(pod.node)
        if world.dice() < 0.5:
            world.start(pod)


def do_delete_node(world: World, pod: PodState) -> None:
    if not world.restoring:
        world.delete_node(pod.node)


def do_new_node(world: World) -> None:
    for node in world.nodes:
        if not node.exists:
            node.boot += 1
            node.exists, node.connected = True, True


def do_confirm(world: World) -> None:
    if world.pods and not world.restoring:
        world.confirm(world.random.choice(world.pods))


def do_notice(world: World) -> None:
    if world.left:
        world.notice(world.random.choice(list(world.left)), 1 + int(world.dice() * 4))


def do_edit(world: World) -> None:
    world.edit(world.random.choice((3, 4, 6, 8)))


def do_lose(world: World) -> None:
    world.lose()
    for operator in world.operators:
        world.send(operator, operator.push())
        if world.dice() < 0.5:
            do_replace(world, operator)


def do_restore(world: World) -> None:
    if world.copies and world.ledger is not None:
        world.restore(world.random.randrange(max(0, len(world.copies) - 6), len(world.copies)))
        world.gather(world.operators[0], heard=0.5)
        world.operators[0].decide()


def do_recreate(world: World) -> None:
    world.recreate()


ORDERS = (
    (do_read, do_question, do_look),
    (do_read, do_look, do_question),
    (do_look, do_read, do_question),
)
TABLE: list[tuple[float, Callable[[World], None]]] = [
    (10, on_operator(do_read)),
    (3, on_operator(do_find)),
    (10, on_operator(do_look)),
    (8, on_operator(do_ask)),
    (10, on_operator(do_send)),
    (5, on_operator(do_race)),
    (12, on_operator(do_decide)),
    (14, on_operator(do_round)),
    (1, on_operator(do_replace)),
    (30, do_network),
    (6, do_create),
    (10, on_pod(do_fill)),
    (10, on_pod(do_finish)),
    (2, on_pod(do_crash)),
    (3, on_pod(do_crash_loop)),
    (4, on_pod(do_start)),
    (3, on_pod(do_kernel)),
    (2, on_pod(do_drain)),
    (1, on_pod(do_forget)),
    (3, on_pod(do_delete)),
    (1, on_pod(do_force_delete)),
    (6, on_pod(do_kubelet)),
    (1.5, on_pod(do_pod_gc)),
    (1, on_pod(do_partition)),
    (2, on_pod(do_reconnect)),
    (1.5, on_pod(do_reboot)),
    (0.4, on_pod(do_delete_node)),
    (1, do_new_node),
    (1, do_confirm),
    (4, do_notice),
    (2.5, do_edit),
    (0.3, do_lose),
    (1, do_restore),
    (0.3, do_recreate),
]
MOVES = [move for _, move in TABLE]
COMMON = 5.0  # weights below are troubles
LENGTH = 100  # moves of a schedule


def swarm(dice: random.Random) -> list[float]:
    """Cumulative weights of the moves, in which each trouble is absent, as usual, or frequent.

    Swarm testing (Groce et al., ISSTA 2012): a schedule in which everything happens gets nowhere near what takes many
    steps of a few kinds.
    """
    total, cumulative = 0.0, []
    for weight, _ in TABLE:
        total += weight if weight >= COMMON else weight * dice.choice((0, 0, 1, 6))
        cumulative.append(total)
    return cumulative


def begun(seed: int) -> World:
    """A world in which two replicas run."""
    world = World(seed, budget=random.Random(seed).choice((3, 4, 6, 8)))
    for node in world.nodes:
        world.start(world.create(node))
    for _ in range(4):
        world.now += 1
        world.round(world.operators[0])
    return world


def run(seed: int, length: int = LENGTH) -> World:
    """One random schedule. Raises Violation; a run with the same seed is the same run."""
    world = begun(seed)
    for _ in range(length):
        world.step()
    return world
