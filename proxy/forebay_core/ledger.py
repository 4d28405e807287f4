"""The budget ledger: who may open how many connections, so that the sum never exceeds the budget.

An entry is kept per life and upstream: `grant` is what the life has been told that it may open, `bound` the most that
it may yet hold, `since` the sequence of the grant's last change. The rules (design section 4):

- A bound is raised only in a step after which all bounds of the upstream fit its budget, and a grant with it.
- A shrink lowers the grant and leaves the bound. The bound follows when an answer has seen `since`: to what the life
  then holds, or to the grant where that is more.
- Only what is written is pushed: `step` returns the ledger to write, `pushes` what to push once it is written. Every
  prefix of (write, push, push, ...) is safe to crash in.
- An entry goes only when its life is known to hold nothing, never by silence.

Pure: a ledger is an immutable value, `step` a function.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple


class Answer(NamedTuple):
    """What a life answers to every push: the highest sequence it has seen, and what it holds per upstream, with what
    the dead before it left."""

    sequence: int
    held: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """One life's share of one upstream's budget; see the module's docstring."""

    grant: int
    bound: int
    since: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """`sequence` grows by one per write; `entries` are by (life, upstream)."""

    sequence: int
    entries: Mapping[tuple[str, str], Entry]

    def bounds(self, upstream: str) -> int:
        """The most connections that all lives together may yet hold to the upstream."""
        return sum(entry.bound for (_, name), entry in self.entries.items() if name == upstream)

    def grants(self, life: str) -> dict[str, int]:
        """What one life is told."""
        return {name: entry.grant for (owner, name), entry in self.entries.items() if owner == life}

    def unanswered(self, life: str, answer: Answer | None) -> bool:
        """Whether the life has not yet seen its grants' last change."""
        newest = max((e.since for (owner, _), e in self.entries.items() if owner == life), default=0)
        return newest > (answer.sequence if answer is not None else 0)


EMPTY = Ledger(0, {})


def floor(budget: int, replicas: int) -> int:
    """The share that every replica can count on while a rollout adds one more: budget / (replicas + 1), rounded down.

    0 where the budget is too small; such a document is refused.
    """
    return budget // (replicas + 1)


def step(
    ledger: Ledger,
    budgets: Mapping[str, int],
    wanted: Mapping[str, Mapping[str, int]],
    answers: Mapping[str, Answer],
    gone: frozenset[str],
) -> Ledger | None:
    """The next ledger to write, or None where nothing changes.

    `budgets`: the budget in force per upstream, less what nobody's entry counts; `wanted`: the grant per life and
    upstream; `answers`: the last one of each life; `gone`: lives that are proven dead and have left nothing open.
    A life without an entry joins, one without a wish is shrunk to 0.
    """
    sequence = ledger.sequence + 1
    entries = {key: entry for key, entry in ledger.entries.items() if key[0] not in gone}
    for key, entry in entries.items():
        entries[key] = _acknowledged(entry, answers.get(key[0]), key[1])
    for key, entry in entries.items():
        wish = wanted.get(key[0], {}).get(key[1], 0)
        if wish < entry.grant:
            entries[key] = replace(entry, grant=wish, since=sequence)
    for upstream, budget in budgets.items():
        free = budget - sum(entry.bound for (_, name), entry in entries.items() if name == upstream)
        for life, wishes in wanted.items():
            key = (life, upstream)
            entry = entries.get(key, Entry(0, 0, 0))
            # What is bound already costs nothing to grant again; the rest comes from what is free. Where the bounds
            # exceed the budget (it was cut, or the ledger was lost) nothing is raised, not even within a bound.
            grant = min(wishes.get(upstream, 0), entry.bound + free)
            if free >= 0 and grant > entry.grant and life not in gone:
                bound = max(entry.bound, grant)
                free -= bound - entry.bound
                entries[key] = Entry(grant, bound, sequence)
    if entries == dict(ledger.entries):
        return None
    return Ledger(sequence, entries)


def _acknowledged(entry: Entry, answer: Answer | None, upstream: str) -> Entry:
    """The bound follows an answer that has seen the grant's last change; older ones say nothing."""
    if answer is None or answer.sequence < entry.since:
        return entry
    return replace(entry, bound=min(entry.bound, max(entry.grant, answer.held.get(upstream, 0))))
