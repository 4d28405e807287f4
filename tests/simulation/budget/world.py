"""A world around the budget: operators, the API server, a network, nodes, pods, processes and a backend.

The deciders are the real ones (`forebay_core.budget`); what this file adds is the thin shell that carries them out, and
everything that can go wrong. After every move `check` adds up what is really open at the backend, each process opening
as much as it may, and compares it with the budget in force, of which it keeps its own account.

There are no clocks to wait for: `now` counts moves, and what takes time in the world (the backend notices the dead,
the kubelet kills what has no object) happens when the script or the dice say so. Two oracles stand for assumptions:
`linger` is over when the backend has really noticed, and a kubelet that has been heard for the grace has really killed.
"""

import random
from dataclasses import replace

from tests.simulation.budget.shell import Operator, U

from forebay_core.budget import replica
from forebay_core.budget.decide import Decision
from forebay_core.budget.ledger import Answer, Ledger, Push
from forebay_core.budget.proofs import STRANGERS, Pod
from forebay_core.budget.replica import Memory


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
        self.weights: list[float] = []  # of the moves, cumulative
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
        return replica.answer(taken, pod.uid, (U,))

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

    def some_pod(self) -> PodState | None:
        pods = [pod for pod in self.pods if pod.object or pod.process is not None]
        return self.random.choice(pods) if pods else None

    def some_operator(self) -> Operator:
        return self.operators[0 if self.dice() < 0.6 else 1]
