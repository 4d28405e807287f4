"""A world to try `next_turn` in: pods that open as many connections as they may, two operators with views of any age,
pushes that arrive late, twice or never, crashes, deletions, a lost ledger. Every move is by chance; what is counted
is what is really open."""

import random
from dataclasses import dataclass, field

from tests.controlplane.parts import pod, report

from forebay_operator.book import Book
from forebay_operator.grants import Seen, next_turn, pushes
from forebay_operator.observed import Pod, Report

BUDGET = 6
PODS = 4  # at a time, of those that are not leaving


@dataclass
class Replica:
    """A pod and its memory. `left`: what its dead process left open, which its life still counts."""

    name: str
    life: str
    sequence: int = 0
    grant: int = 0
    open: int = 0
    left: int = 0
    running: bool = True
    draining: bool = False
    final: bool = False
    terminating: bool = False
    farewell: tuple[str, int] | None = None
    object_gone: bool = False

    @property
    def held(self) -> int:
        return self.open + self.left

    def as_pod(self) -> Pod:
        ended = self.terminating and not self.running
        return pod(self.name, terminating=self.terminating, ended=ended, farewell=self.farewell)

    def as_report(self) -> Report:
        return report(self.life, self.sequence, self.held, self.grant, draining=self.draining, final=self.final)


@dataclass
class View:
    """What an operator has seen, some time ago."""

    version: int
    book: Book | None
    seen: Seen


@dataclass
class World:
    """`step` makes a move; `open` is what must stay within BUDGET."""

    random: random.Random
    book: Book | None = None
    version: int = 0
    maximum: int = 2
    replicas: list[Replica] = field(default_factory=list)
    views: list[View | None] = field(default_factory=lambda: [None, None])
    sent: list[tuple[str, int, int]] = field(default_factory=list)
    number: int = 0
    moves: list[str] = field(default_factory=list)

    @property
    def open(self) -> int:
        return sum(r.held for r in self.replicas)

    def step(self) -> None:
        moves = (
            *(self.look, self.act, self.arrive) * 4, *(self.fill, self.fill_all, self.start) * 2,
            self.close, self.terminate, self.drain, self.leave, self.crash, self.lose_memory, self.forget_left,
            self.vanish, self.force, self.lose_ledger, self.scale,
        )  # fmt: skip
        move = self.random.choice(moves)
        move()
        self.moves.append(f"{move.__name__}: {self.open} open, {self.book and self.book.ledger}")

    def _one(self, **wanted: bool) -> Replica | None:
        fitting = [r for r in self.replicas if all(getattr(r, name) == value for name, value in wanted.items())]
        return self.random.choice(fitting) if fitting else None

    def _forgettable(self, replica: Replica) -> bool:
        """Whether the replica may end or go out of sight: with the ledger lost, nobody would count what it left."""
        return self.book is not None or not replica.held

    # ------------------------------------------------------------------ operators

    def look(self) -> None:
        shown = [r for r in self.replicas if not r.object_gone]
        answering = [r for r in shown if r.running and self.random.random() < 0.8]
        # linger is over once what the dead left is closed
        lingered = frozenset(r.life for r in self.replicas if not r.running and not r.held)
        self.views[self.random.randrange(2)] = View(
            self.version,
            self.book,
            Seen(
                tuple(r.as_pod() for r in shown),
                {f"{r.name}-uid": r.as_report() for r in answering},
                lingered,
                frozenset(),
            ),
        )

    def act(self) -> None:
        view = self.views[index := self.random.randrange(2)]
        if view is None:
            return
        self.views[index] = None
        turn = next_turn(view.book, {"orders": BUDGET}, self.maximum, view.seen)
        if turn.book is None:
            return
        if turn.changed:
            if view.version != self.version:
                return  # compare-and-swap
            self.book, self.version = turn.book, self.version + 1
        for seen in view.seen.reports.values():
            grants = pushes(turn.book, seen)
            if grants is not None:
                self.sent.append((seen.life, turn.book.ledger.sequence, grants.get("orders", 0)))

    def arrive(self) -> None:
        if not self.sent:
            return
        life, sequence, grant = self.random.choice(self.sent)
        for r in self.replicas:
            if r.life == life and r.running and sequence > r.sequence and not r.final:
                r.sequence, r.grant = sequence, grant

    def scale(self) -> None:
        """The floor is 3 with a maximum of 1, and 2 with 2."""
        self.maximum = 3 - self.maximum
        self.version += 1

    def lose_ledger(self) -> None:
        """Not while something is open that no running pod can tell of: that is what a lost ledger forgets."""
        untold = any((r.object_gone or not r.running) and (r.held or r.running) for r in self.replicas)
        if self.random.random() < 0.4 and not untold:
            self.book, self.version = None, self.version + 1

    # ------------------------------------------------------------------ replicas

    def fill(self) -> None:
        if (r := self._one(running=True, final=False)) is not None:
            r.open = max(r.open, r.grant - r.left)

    def fill_all(self) -> None:
        for r in self.replicas:
            if r.running and not r.final:
                r.open = max(r.open, r.grant - r.left)

    def close(self) -> None:
        if (r := self._one(running=True)) is not None and r.open:
            r.open -= 1

    def start(self) -> None:
        if sum(not r.terminating for r in self.replicas) < PODS:
            self.number += 1
            self.replicas.append(Replica(f"pod{self.number}", f"life{self.number}"))

    def terminate(self) -> None:
        if (r := self._one(terminating=False)) is not None:
            r.terminating = r.draining = True

    def drain(self) -> None:
        if (r := self._one(running=True, draining=True)) is not None:
            r.final = True

    def leave(self) -> None:
        """The process of a draining pod ends, with its last word or without; what it had open is left behind."""
        if (r := self._one(running=True, final=True)) is not None and self._forgettable(r):
            r.running, r.left, r.open = False, r.held, 0
            if self.random.random() < 0.5:
                r.farewell = (r.life, r.left)

    def crash(self) -> None:
        """kill -9. In a pod that stays, the next process finds the memory."""
        if (r := self._one(running=True)) is not None and self._forgettable(r):
            r.left, r.open = r.held, 0
            r.running = not r.terminating

    def lose_memory(self) -> None:
        """kill -9, and the next process of the pod finds no memory: a new life, that knows of nothing."""
        if (r := self._one(running=True, terminating=False)) is not None and self._forgettable(r):
            r.running, r.terminating, r.object_gone = False, True, True
            r.left, r.open = r.held, 0
            self.number += 1
            self.replicas.append(Replica(r.name, f"life{self.number}"))

    def forget_left(self) -> None:
        """The backend lets go of a dead client."""
        if (r := self._one()) is not None and r.left:
            r.left -= 1

    def vanish(self) -> None:
        """The object of a pod that has ended goes."""
        if (r := self._one(running=False, object_gone=False)) is not None and self._forgettable(r):
            r.object_gone = True

    def force(self) -> None:
        """Deleted with --force: the object is gone, the process runs on."""
        r = self._one(running=True, object_gone=False)
        if r is not None and self.random.random() < 0.2 and self._forgettable(r):
            r.terminating = r.object_gone = True


def walk(seed: int, moves: int) -> World:
    """A walk of so many moves. Raises AssertionError with its moves where more is open than the budget."""
    world = World(random.Random(seed))
    for _ in range(moves):
        world.step()
        assert world.open <= BUDGET, "\n".join(world.moves)
    return world


def settle(world: World, rounds: int = 12) -> None:
    """No more troubles: everything answers, everything arrives, the dead are let go of."""
    for r in world.replicas:
        if r.terminating:
            r.final, r.open, r.left, r.running = True, 0, 0, False
        r.left = 0
    for _ in range(rounds):
        shown = [r for r in world.replicas if not r.object_gone]
        answers = {f"{r.name}-uid": r.as_report() for r in shown if r.running}
        lingered = frozenset(r.life for r in world.replicas if not r.running)
        confirmed = frozenset(f"{r.name}-uid" for r in world.replicas if r.object_gone)
        seen = Seen(tuple(r.as_pod() for r in shown), answers, lingered, confirmed)
        turn = next_turn(world.book, {"orders": BUDGET}, world.maximum, seen)
        assert turn.book is not None
        world.book = turn.book
        for r in shown:
            if r.running and (grants := pushes(turn.book, r.as_report())) is not None:
                r.sequence, r.grant = turn.book.ledger.sequence, grants.get("orders", 0)
            r.open = min(r.open, r.grant)
