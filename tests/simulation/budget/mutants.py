"""Rules taken away, one at a time, as edits of the real source; and the seed of the schedule that catches each.

A mutant is built by executing the edited modules afresh, world included, so nothing of it leaks into other tests.
`python -m tests.simulation.budget.mutants` prints the table of docs/explanation/ledger.md, with new seeds where the
old ones no longer catch.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

CORE = "forebay_core.budget."
MODEL = "tests.simulation.budget."
MODULES = (
    *(CORE + name for name in ("ledger", "shares", "proofs", "rebuild", "replica", "decide")),
    *(MODEL + name for name in ("shell", "world", "moves")),
)


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
    """The mutant's `moves`. Raises ValueError where an edit does not fit the source any more."""
    originals = {name: importlib.import_module(name) for name in MODULES}
    try:
        for name in MODULES:
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            source = Path(spec.origin).read_text("utf-8")
            for edit in mutant.edits:
                if edit.module == name:
                    if source.count(edit.old) != 1:
                        raise ValueError(f"{mutant.rule}: {edit.old!r} is {source.count(edit.old)} times in {name}")
                    source = source.replace(edit.old, edit.new)
            module = importlib.util.module_from_spec(spec)
            install(name, module)
            exec(compile(source, spec.origin, "exec"), module.__dict__)
        return sys.modules[MODEL + "moves"]
    finally:
        for name, module in originals.items():
            install(name, module)


def install(name: str, module: ModuleType) -> None:
    """What `import` finds from now on, by either of its ways."""
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    setattr(importlib.import_module(parent), child, module)


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
    return Edit(MODEL + "world", old, new)


def shell(old: str, new: str) -> Edit:
    return Edit(MODEL + "shell", old, new)


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
        21,
        (
            shell(
                "        if self.version == world.version:\n",
                "        self.ledger = decision.ledger\n"
                "        if world.dice() < 0.5:\n"
                "            return  # it crashes, or the write is refused\n"
                "        if self.version == world.version:\n",
            ),
        ),
    ),
    Mutant(
        "a shrink is pushed without a write of its own, under the sequence of the next",
        12906,
        (
            shell(
                "        if self.version == world.version:\n",
                "        if all(change.kind == 'shrink' for change in decision.changes) and world.dice() < 0.5:\n"
                "            self.ledger, self.cluster = decision.ledger, None\n"
                "            return\n"
                "        if self.ledger is not world.ledger and world.ledger is not None:\n"
                "            last = max(world.ledger.sequence + 1, decision.ledger.sequence - 1)\n"
                "            renumbered = Ledger(last, decision.ledger.entries, decision.ledger.in_force)\n"
                "            decision = decision._replace(ledger=renumbered)\n"
                "        if self.version == world.version:\n",
            ),
            core("replica", "sequence > memory.sequence", "sequence >= memory.sequence"),
            shell(
                "        self.ledger, self.version, self.budget = world.ledger, world.version, world.budget\n",
                "        if self.version != world.version:\n"
                "            self.ledger, self.version, self.budget = world.ledger, world.version, world.budget\n",
            ),
        ),
    ),
    Mutant("no compare-and-swap", 2598, (shell("if self.version == world.version:", "if True:"),)),
    Mutant(
        "compare-and-swap on the ledger alone: the document may be from before a cut",
        3357,
        (shell("if self.version == world.version:", "if self.ledger is world.ledger:"),),
    ),
    Mutant(
        "answers are kept over a new read",
        5071,
        (
            shell("        if asked == self.reads:\n", "        if True:\n"),
            shell("        self.answers = {}\n        self.cluster = None\n\n    def find", "        self.cluster = None\n\n    def find"),
        ),
    ),
    Mutant(
        "a look is kept over a new read",
        968,
        (
            shell("        self.answers = {}\n        self.cluster = None\n\n    def find", "        self.answers = {}\n\n    def find"),
            shell("            self.cluster = None\n            self.answers[", "            self.answers["),
        ),
    ),
    Mutant(
        "a look is older than the answers",
        54950,
        (shell("            self.cluster = None\n            self.answers[", "            self.answers["),),
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
    Mutant("a shrink is written under the old sequence", 24, OLD_SEQUENCE),
    Mutant(
        "an equal sequence with other content is taken",
        686,
        (*OLD_SEQUENCE, core("replica", "sequence > memory.sequence", "sequence >= memory.sequence")),
    ),
    Mutant(
        "acknowledged without having seen `since`",
        1559,
        (core("ledger", "answer.sequence >= entry.since", "True"),),
    ),
    Mutant(
        "acknowledged when told, not when closed",
        0,
        (core("ledger", "bound = max(entry.grant, answer.held[upstream])", "bound = entry.grant"),),
    ),
    Mutant(
        "the bound follows what is held below the grant",
        0,
        (core("ledger", "bound = max(entry.grant, answer.held[upstream])", "bound = answer.held[upstream]"),),
    ),
    Mutant(
        "a grant rises within a bound of which nothing is known",
        3624,
        (
            core("ledger", "        return {}  # a cut,", "        free = 0  # a cut,"),
            core("shares", "if any(entry.bound == UNKNOWN for entry in mine.values()):", "if False:"),
        ),
    ),
    # ---- the replica
    Mutant("older pushes are taken", 88, (core("replica", "sequence > memory.sequence", "sequence >= 1"),)),
    Mutant("pushes are taken by address", 65, (core("replica", "life == memory.life and ", ""),)),
    Mutant(
        "answers are taken by address",
        2093,
        (world("return replica.answer(taken, pod.uid, (U,))", "return replica.answer(taken, pod.uid, (U,))._replace(life=push.life or taken.life)"),),
    ),
    Mutant(
        "the sequence is not durable",
        211,
        (world("            pod.memory = taken\n", "            pod.memory = replace(taken, sequence=0)\n"),),
    ),
    Mutant(
        "answered before it is written down",
        192,
        (world("            pod.memory = taken\n", "            pod.memory = taken if self.dice() < 0.5 else pod.memory\n"),),
    ),
    Mutant(
        "connected before the count is written down",
        4,
        (world("        pod.memory = replace(pod.memory, held=held)", "        if self.dice() < 0.5:\n            pod.memory = replace(pod.memory, held=held)"),),
    ),
    Mutant(
        "held is answered without what the dead left",
        0,
        (world("return replica.answer(taken, pod.uid, (U,))", "return replica.answer(taken, pod.uid, (U,))._replace(held={U: process.open})"),),
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
        65,
        (world('replica.begin(pod.memory, f"L{self.born}")', 'replica.begin(pod.memory, pod.lives[-1] if pod.lives else f"L{self.born}")'),),
    ),
    Mutant(
        "draining is not final: it opens again",
        10,
        (core("replica", "    if memory.draining:\n        return 0\n", ""),),
    ),
    Mutant(
        "draining is not written down",
        192,
        (world("            pod.memory = pod.process.memory\n", ""),),
    ),
    # ---- proofs
    Mutant(
        "freed when the pod's object is gone",
        24,
        (core("proofs", "if pod is not None and finished(pod):", "if pod is None or finished(pod):"),),
    ),
    Mutant(
        "freed when the pod's object is gone and its node is there",
        24,
        (core("proofs", "gone is not None and node.heard - gone > cluster.grace", "gone is not None"),),
    ),
    Mutant(
        "freed while connections of the dead are open",
        0,
        (core("proofs", "left[key] = reported.get(key, 0 if over else entry.bound)", "left[key] = 0"),),
    ),
    Mutant(
        "a terminated container is a dead life, though it may start again",
        205,
        (core("proofs", "return pod.terminal and pod.terminated", "return pod.terminated"),),
    ),
    Mutant(
        "a terminal phase is a dead pod, though pod GC wrote it",
        27,
        (
            core("proofs", "return pod.terminal and pod.terminated", "return pod.terminal"),
            world("self.terminal and not self.given_up", "self.terminal"),
        ),
    ),
    Mutant(
        "a terminal phase that pod GC wrote, and a container that once terminated, are a dead pod",
        3107,
        (world("self.terminal and not self.given_up", "self.terminal"),),
    ),
    # ---- a lost ledger
    Mutant(
        "a missing ledger is an empty one",
        25,
        (core("decide", "else Ledger(0)", "else Ledger(0, {}, dict.fromkeys(seen.terms, 0))"),),
    ),
    Mutant(
        "a lost ledger is rebuilt from what is reported, without a fence",
        0,
        (core("rebuild", "entry = Entry(held, UNKNOWN, sequence, home)", "entry = Entry(held, held, sequence, home)"),),
    ),
    Mutant(
        "a rebuilt ledger goes on from the sequence that it finds",
        3494,
        (core("rebuild", "max(known + 1, int(now) * PER_SECOND)", "ledger.sequence + 1"),),
    ),
    Mutant(
        "a restored ledger keeps the grants that it had",
        415,
        (core("rebuild", "entry = Entry(held, UNKNOWN, sequence, home)", "old = ledger.entries.get((life, upstream))\n            entry = Entry(old.grant if old else held, UNKNOWN, sequence, home)"),),
    ),
    Mutant(
        "whoever a rebuilt ledger cannot name is not counted",
        19,
        (core("rebuild", '    lives[STRANGERS] = Home("")\n', ""),),
    ),
    Mutant(
        "a pod that has not told its life is not entered in a rebuilt ledger",
        116,
        (core("rebuild", "    lives |= {unnamed(pod): home for pod, home in homes.items() if pod not in told}\n", ""),),
    ),
    Mutant(
        "a pod's entry passes to the first life that answers from it",
        6866,
        (core("rebuild", "                grant = answer.held.get(upstream, 0)\n", "                grant = answer.held.get(upstream, 0)\n                made.append(Change('forget', life, upstream, entry, None))\n"),),
    ),
    Mutant(
        "a ledger behind its replicas is believed",
        145,
        (core("rebuild", "return max(highest, seen) > ledger.sequence or (unknown and not named)", "return False"),),
    ),
    Mutant(
        "a writer that has just started writes before it has heard every replica",
        3595,
        (core("decide", "if not all_heard(seen):", "if False:"),),
    ),
)  # fmt: skip


def search(mutant: Mutant, seeds: range) -> int | None:
    """The first seed that catches the mutant."""
    module = build(mutant)
    return next((seed for seed in seeds if caught(module, seed)), None)


def table(mutants: tuple[Mutant, ...] = MUTANTS) -> str:
    """The mutants as rows of docs/explanation/ledger.md."""
    rows = [f"| {mutant.rule} | {mutant.seed} |" for mutant in mutants]
    return "\n".join(["| rule taken away | seed |", "|---|---|", *rows]) + "\n"


def kept_or_found(mutant: Mutant) -> Mutant:
    """The mutant with a seed that catches it: its own, if it still does."""
    seed = mutant.seed if caught(build(mutant), mutant.seed) else search(mutant, range(100_000))
    if seed is None:
        raise LookupError(f"{mutant.rule}: no schedule catches it")
    return mutant._replace(seed=seed)


if __name__ == "__main__":
    print(table(tuple(map(kept_or_found, MUTANTS))))
