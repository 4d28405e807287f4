"""What can happen in the model's world, how often, and schedules of it: `run(seed)` is the same run every time."""

import random
from collections.abc import Callable

from tests.simulation.budget.shell import Operator
from tests.simulation.budget.world import PodState, Violation, World

__all__ = ["Violation", "begun", "calm", "run", "step"]


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
            step(world)
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


def step(world: World) -> None:
    """One random move, and the check."""
    world.now += 1
    world.random.choices(MOVES, cum_weights=world.weights)[0](world)
    world.check()


def begun(seed: int) -> World:
    """A world in which two replicas run."""
    world = World(seed, budget=random.Random(seed).choice((3, 4, 6, 8)))
    world.weights = swarm(world.random)
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
        step(world)
    return world


def calm(world: World, rounds: int = 40) -> bool:
    """A fair world: one operator, requests end, the backend notices, nodes and persons answer for the lost.

    Whether every replica comes to a grant.
    """
    operator = world.operators[0]
    world.network.clear()
    do_new_node(world)
    for node in world.nodes:
        world.reconnect(node)
    for _ in range(rounds):
        world.now += 1
        world.round(operator)
        for pod in list(world.pods):
            world.kubelet(pod)
            if pod.process is not None and pod.process.memory.draining:
                world.finish(pod, 9)
                world.round(operator)
                world.crash(pod)
            world.start(pod)
            if pod.process is not None:
                world.finish(pod, max(0, pod.process.open - pod.process.limit))
                world.fill(pod)
            world.kernel(pod)
            world.check()
            world.confirm(pod)
        for life in list(world.left):
            world.notice(life, 9)
        staying = [pod for pod in world.pods if pod.object and not pod.deleted]
        served = [pod for pod in staying if pod.process is not None and pod.process.limit > 0]
        settled = world.in_force == world.budget or world.restoring
        if settled and len(served) >= min(len(staying), world.budget):
            return True
    return False
