"""Random schedules with two upstreams: a life may have a place at one of them and none at the other.

The world of `world.py` has one upstream and all that can go wrong; this one has less trouble, and two budgets. After
every move what is open is compared with the budget in force, each process opening as much as it may.
"""

import os
import random
from collections import Counter
from dataclasses import replace

import pytest

from forebay_core.budget import replica
from forebay_core.budget.decide import Seen, decide
from forebay_core.budget.ledger import Answer, Ledger
from forebay_core.budget.proofs import Cluster, Node, Pod
from forebay_core.budget.record import dump, load
from forebay_core.budget.shares import terms

SCHEDULES = int(os.environ.get("FOREBAY_SCHEDULES", "20000")) // 20
FIRST = int(os.environ.get("FOREBAY_FIRST_SEED", "0"))
UPSTREAMS = ("a", "b")
BUDGETS = (6, 8, 9, 12)
CEILING = 4
LENGTH = 120  # moves
PODS = 5


class Process:
    """The one process of a pod; after a restart the same life goes on, as its memory says."""

    def __init__(self, number: int) -> None:
        self.uid = f"p{number}"
        self.memory = replica.begin(None, f"L{number}")
        self.open = dict.fromkeys(UPSTREAMS, 0)
        self.dead = dict.fromkeys(UPSTREAMS, 0)  # of its predecessors, open at the backend
        self.runs = True
        self.terminated = False  # as the kubelet shows it
        self.silent = False

    def may(self, upstream: str) -> int:
        return min(CEILING, replica.limit(self.memory, upstream, self.dead[upstream]))

    def crash(self) -> None:
        for upstream in UPSTREAMS:
            self.dead[upstream] += self.open[upstream]
        self.open = dict.fromkeys(UPSTREAMS, 0)


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.budgets = {upstream: self.random.choice(BUDGETS) for upstream in UPSTREAMS}
        self.in_force = dict(self.budgets)
        self.ledger: Ledger | None = None
        self.processes: list[Process] = []
        self.born = 0
        self.kinds: Counter[str] = Counter()
        self.create()
        self.create()

    def create(self) -> None:
        self.born += 1
        self.processes.append(Process(self.born))

    def step(self) -> None:
        self.now += self.random.choice((1, 2, 5))
        running = [process for process in self.processes if process.runs]
        process = self.random.choice(running) if running else None
        upstream = self.random.choice(UPSTREAMS)
        dice = self.random.random()
        if dice < 0.05:
            if len(self.processes) < PODS:
                self.create()
        elif dice < 0.10:
            self.budgets[upstream] = self.random.choice(BUDGETS)
        elif dice < 0.16:
            for process in self.processes:
                process.terminated = process.terminated or not process.runs
                process.dead[upstream] = self.random.randint(0, process.dead[upstream])
        elif dice < 0.30:
            self.look()
        elif process is None:
            pass
        elif dice < 0.36:
            process.memory = replica.drain(process.memory)
        elif dice < 0.42:
            process.silent = not process.silent
        elif dice < 0.48:
            process.crash()
            process.runs = not process.memory.draining
        elif dice < 0.75:
            process.open[upstream] = max(process.open[upstream], process.may(upstream))
        else:
            process.open[upstream] = self.random.randint(0, process.open[upstream])
        for process in self.processes:
            held = {name: process.open[name] + process.dead[name] for name in UPSTREAMS}
            process.memory = replace(process.memory, held=held)

    def look(self) -> None:
        """A tick of the operator's; nothing is lost but what the silent do not say."""
        answers: dict[str, Answer] = {}
        known = self.ledger.lives() if self.ledger is not None else {}
        for process in self.processes:
            if process.runs and not process.silent:
                if self.ledger is not None and process.memory.life in known:
                    process.memory = replica.take(process.memory, self.ledger.push(process.memory.life))
                answers[process.memory.life] = replica.answer(process.memory, process.uid, UPSTREAMS)
        pods = {p.uid: Pod("n", True, p.terminated, p.terminated) for p in self.processes}
        dead = {(p.memory.life, name): p.dead[name] for p in self.processes for name in UPSTREAMS}
        decision = decide(
            Seen(
                self.ledger,
                {name: terms(budget, 2, ceiling=CEILING) for name, budget in self.budgets.items()},
                Cluster(pods, {"n": Node("boot", self.now)}),
                answers,
                self.now,
                demand={key: self.random.randint(1, 6) for key in dead if self.random.random() < 0.8},
                reported=dead,
                highest=self.ledger.sequence if self.ledger is not None else 0,
                heard=frozenset(pods),
                strangers=False,
            )
        )
        self.kinds.update(change.kind for change in decision.changes)
        if decision.ledger is not None:
            self.ledger = load(dump(decision.ledger))
        lives = self.ledger.lives() if self.ledger is not None else {}
        self.processes = [p for p in self.processes if not p.terminated or p.memory.life in lives]

    def check(self) -> None:
        for name, budget in self.budgets.items():
            fits = self.ledger is not None and self.ledger.bounds(name) <= budget
            self.in_force[name] = budget if fits else max(self.in_force[name], budget)
            count = sum(
                process.dead[name] + (max(process.open[name], process.may(name)) if process.runs else 0)
                for process in self.processes
            )
            assert count <= self.in_force[name], f"{count} open at {name}, {self.in_force[name]} allowed; {self.ledger}"


@pytest.mark.timeout(3600)
def test_no_schedule_opens_more_than_either_budget_in_force() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + SCHEDULES):
        world = World(seed)
        try:
            for _ in range(LENGTH):
                world.step()
                world.check()
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        kinds += world.kinds
    assert kinds.keys() == {"enter", "lower", "forget", "shrink", "join", "grow"}
