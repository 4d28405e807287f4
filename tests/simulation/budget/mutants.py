"""Rules taken away, one at a time, as edits of the real source; and the seed of the schedule that catches each.

A mutant is built by executing the edited modules afresh, world included, so nothing of it leaks into other tests.
`python -m tests.simulation.budget.mutants` searches the seeds anew and prints the table of docs/explanation/ledger.md.
"""

import importlib.util
import sys
from types import ModuleType
from typing import NamedTuple

CORE = "forebay_core.budget."
WORLD = "tests.simulation.budget.world"
MODULES = (*(CORE + name for name in ("ledger", "shares", "proofs", "rebuild", "replica", "decide")), WORLD)


class Edit(NamedTuple):
    """`old`, which the module's source has exactly once, becomes `new`."""

    module: str
    old: str
    new: str


class Mutant(NamedTuple):
    rule: str  # the rule, as broken
    seed: int  # of the schedule that catches it
    edits: tuple[Edit, ...]


def build(mutant: Mutant) -> ModuleType:
    """The mutant's world. Raises ValueError where an edit does not fit the source any more."""
    kept = {name: sys.modules.pop(name, None) for name in MODULES}
    try:
        for name in MODULES:
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            with open(spec.origin, encoding="utf-8") as file:  # noqa: PTH123
                source = file.read()
            for edit in mutant.edits:
                if edit.module == name:
                    if source.count(edit.old) != 1:
                        raise ValueError(f"{mutant.rule}: {edit.old!r} is {source.count(edit.old)} times in {name}")
                    source = source.replace(edit.old, edit.new)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            exec(compile(source, spec.origin, "exec"), module.__dict__)
        return sys.modules[WORLD]
    finally:
        for name, original in kept.items():
            sys.modules.pop(name, None)
            if original is not None:
                sys.modules[name] = original


def caught(world: ModuleType, seed: int) -> bool:
    """Whether the schedule of this seed ends in a violation."""
    try:
        world.run(seed)
    except world.Violation:
        return True
    return False


def core(name: str, old: str, new: str) -> Edit:
    return Edit(CORE + name, old, new)


def world(old: str, new: str) -> Edit:
    return Edit(WORLD, old, new)


OLD_SEQUENCE = (
    core("ledger", "entry._replace(grant=wish, since=sequence)", "entry._replace(grant=wish, since=ledger.sequence)"),
    core(
        "decide",
        "after = applied(ledger, made, seen.terms, ledger.sequence + 1)",
        "after = applied(ledger, made, seen.terms, ledger.sequence + any(c.kind in ('join', 'grow') for c in made))",
    ),
)

MUTANTS = (
    # ---- writing and pushing
    Mutant(
        "pushed before it is written",
        0,
        (
            world(
                "        if self.version == world.version:\n",
                "        self.ledger = decision.ledger\n"
                "        if world.dice() < 0.5:\n"
                "            return  # it crashes, or the write is refused\n"
                "        if self.version == world.version:\n",
            ),
        ),
    ),
    Mutant(
        "a shrink is pushed without a write of its own",
        0,
        (
            world(
                "        if self.version == world.version:\n",
                "        if all(change.kind == 'shrink' for change in decision.changes) and world.dice() < 0.5:\n"
                "            self.ledger, self.cluster = decision.ledger, None\n"
                "            return\n"
                "        if self.version == world.version:\n",
            ),
            world(
                "        self.ledger, self.version, self.budget = world.ledger, world.version, world.budget\n",
                "        if self.version != world.version:\n"
                "            self.ledger, self.version, self.budget = world.ledger, world.version, world.budget\n",
            ),
        ),
    ),
    Mutant("no compare-and-swap", 0, (world("if self.version == world.version:", "if True:"),)),
    Mutant(
        "compare-and-swap on the ledger alone: the document may be from before a cut",
        0,
        (world("if self.version == world.version:", "if self.ledger is world.ledger:"),),
    ),
    Mutant(
        "answers are kept over a new read",
        0,
        (
            world("        if asked == self.reads:\n", "        if True:\n"),
            world("        self.answers = {}\n        self.cluster = None\n\n    def find", "        self.cluster = None\n\n    def find"),
        ),
    ),
    Mutant(
        "a look is kept over a new read",
        0,
        (
            world("        self.answers = {}\n        self.cluster = None\n\n    def find", "        self.answers = {}\n\n    def find"),
            world("            self.cluster = None\n            self.answers[", "            self.answers["),
        ),
    ),
    Mutant(
        "a look is older than the answers",
        0,
        (world("            self.cluster = None\n            self.answers[", "            self.answers["),),
    ),
    # ---- the ledger's changes
    Mutant(
        "the sum is of grants instead of bounds",
        0,
        (core("ledger", "sum(entry.bound for", "sum(entry.grant for"),),
    ),
    Mutant(
        "the bound is lowered with the grant",
        0,
        (core("ledger", "entry._replace(grant=wish, since=sequence)", "entry._replace(grant=wish, bound=wish, since=sequence)"),),
    ),
    Mutant("a shrink is written under the old sequence", 0, OLD_SEQUENCE),
    Mutant(
        "an equal sequence with other content is taken",
        0,
        (*OLD_SEQUENCE, core("replica", "push.sequence <= memory.sequence", "push.sequence < memory.sequence")),
    ),
    Mutant(
        "acknowledged without having seen `since`",
        0,
        (core("ledger", "answer.sequence >= entry.since", "True"),),
    ),
    Mutant(
        "acknowledged when told, not when closed",
        0,
        (core("ledger", "bound = max(entry.grant, answer.held.get(upstream, 0))", "bound = entry.grant"),),
    ),
    Mutant(
        "the bound follows what is held below the grant",
        0,
        (core("ledger", "bound = max(entry.grant, answer.held.get(upstream, 0))", "bound = answer.held.get(upstream, 0)"),),
    ),
    Mutant(
        "a grant rises within a bound of which nothing is known",
        0,
        (
            core("ledger", "        return {}  # a cut,", "        free = 0  # a cut,"),
            core("shares", "if any(entry.bound == UNKNOWN for entry in mine.values()):", "if False:"),
        ),
    ),
    # ---- the replica
    Mutant(
        "older pushes are taken", 0, (core("replica", "push.sequence <= memory.sequence", "push.sequence < 1"),)
    ),
    Mutant("pushes are taken by address", 0, (core("replica", "push.life != memory.life or ", ""),)),
    Mutant(
        "answers are taken by address",
        0,
        (world("return replica.answer(taken, pod.uid)", "return replica.answer(taken, pod.uid)._replace(life=push.life or taken.life)"),),
    ),
    Mutant(
        "the sequence is not durable",
        0,
        (world("            pod.memory = taken\n", "            pod.memory = replace(taken, sequence=0)\n"),),
    ),
    Mutant(
        "answered before it is written down",
        0,
        (world("            pod.memory = taken\n", "            pod.memory = taken if self.dice() < 0.5 else pod.memory\n"),),
    ),
    Mutant(
        "connected before the count is written down",
        0,
        (world("        pod.memory = replace(pod.memory, held=held)", "        if self.dice() < 0.5:\n            pod.memory = replace(pod.memory, held=held)"),),
    ),
    Mutant(
        "held is answered without what the dead left",
        0,
        (world("return replica.answer(taken, pod.uid)", "return replica.answer(taken, pod.uid)._replace(held={U: process.open})"),),
    ),
    Mutant(
        "a restarted process does not count what the dead left",
        0,
        (world("self.left = memory.held.get(U, 0)", "self.left = 0"),),
    ),
    Mutant(
        "a new pod starts at 1",
        0,
        (core("replica", "        return Memory(new_life)\n", "        return Memory(new_life, grants={'u': 1})\n"),),
    ),
    Mutant(
        "a restarted process starts at a floor",
        0,
        (core("replica", "    return found\n", "    return replace(found, grants={'u': max(2, found.grants.get('u', 0))})\n"),),
    ),
    Mutant(
        "a lost memory keeps the life",
        0,
        (world('replica.begin(pod.memory, f"L{self.born}")', 'replica.begin(pod.memory, pod.lives[-1] if pod.lives else f"L{self.born}")'),),
    ),
    Mutant(
        "draining is not final: it opens again",
        0,
        (core("replica", "    if memory.draining:\n        return 0\n", ""),),
    ),
    Mutant(
        "draining is not written down",
        0,
        (world("            pod.memory = pod.process.memory\n", ""),),
    ),
    # ---- proofs
    Mutant(
        "freed when the pod's object is gone",
        0,
        (core("proofs", "if pod is not None and finished(pod):", "if pod is None or finished(pod):"),),
    ),
    Mutant(
        "freed when the pod's object is gone and its node is there",
        0,
        (core("proofs", "gone is not None and node.heard - gone > cluster.grace", "gone is not None"),),
    ),
    Mutant(
        "freed while connections of the dead are open",
        0,
        (core("proofs", "left[key] = reported.get(key, 0 if over else entry.bound)", "left[key] = 0"),),
    ),
    Mutant(
        "a terminated container is a dead life, though it may start again",
        0,
        (core("proofs", "return pod.terminal and pod.terminated", "return pod.terminated"),),
    ),
    Mutant(
        "a terminal phase is a dead pod, though pod GC wrote it",
        0,
        (
            core("proofs", "return pod.terminal and pod.terminated", "return pod.terminal"),
            world("self.terminal and not self.given_up", "self.terminal"),
        ),
    ),
    Mutant(
        "a terminal phase that pod GC wrote, and a container that once terminated, are a dead pod",
        0,
        (world("self.terminal and not self.given_up", "self.terminal"),),
    ),
    # ---- a lost ledger
    Mutant(
        "a missing ledger is an empty one",
        0,
        (core("decide", "else Ledger(0)", "else Ledger(0, {}, dict.fromkeys(seen.terms, 0))"),),
    ),
    Mutant(
        "a lost ledger is rebuilt from what is reported, without a fence",
        0,
        (core("rebuild", "entry = Entry(held, UNKNOWN, sequence, home)", "entry = Entry(held, held, sequence, home)"),),
    ),
    Mutant(
        "a rebuilt ledger goes on with the old sequence",
        0,
        (core("rebuild", "max(known + 1, int(now) * PER_SECOND)", "known + 1"),),
    ),
    Mutant(
        "a restored ledger keeps the grants that it had",
        0,
        (core("rebuild", "entry = Entry(held, UNKNOWN, sequence, home)", "old = ledger.entries.get((life, upstream))\n            entry = Entry(old.grant if old else held, UNKNOWN, sequence, home)"),),
    ),
    Mutant(
        "whoever a rebuilt ledger cannot name is not counted",
        0,
        (core("rebuild", '    lives[STRANGERS] = Home("")\n', ""),),
    ),
    Mutant(
        "a pod that has not told its life is not entered in a rebuilt ledger",
        0,
        (core("rebuild", "    lives |= {unnamed(pod): home for pod, home in homes.items() if pod not in told}\n", ""),),
    ),
    Mutant(
        "a pod's entry passes to the first life that answers from it",
        0,
        (core("rebuild", "                grant = answer.held.get(upstream, 0)\n", "                grant = answer.held.get(upstream, 0)\n                made.append(Change('forget', life, upstream, entry, None))\n"),),
    ),
    Mutant(
        "a ledger behind its replicas is believed",
        0,
        (core("rebuild", "return max(highest, seen) > ledger.sequence or (unknown and not named)", "return False"),),
    ),
    Mutant(
        "a writer that has just started writes before it has heard every replica",
        0,
        (core("decide", "if not all_heard(seen):", "if False:"),),
    ),
)  # fmt: skip


def search(mutant: Mutant, seeds: range) -> int | None:
    """The first seed that catches the mutant."""
    module = build(mutant)
    return next((seed for seed in seeds if caught(module, seed)), None)


def table() -> str:
    """The mutants as rows of docs/explanation/ledger.md."""
    rows = [f"| {mutant.rule} | {mutant.seed} |" for mutant in MUTANTS]
    return "\n".join(["| rule taken away | seed |", "|---|---|", *rows]) + "\n"
