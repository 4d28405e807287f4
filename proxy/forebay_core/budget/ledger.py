"""The ledger: who may hold how many connections, so that the sum never exceeds the budget.

Per life and upstream an entry keeps the `grant` (what the life has been told that it may open), the `bound` (the most
that it may yet hold) and `since` (the sequence of the grant's last change). What must always hold:

    A bound is never below what the life's processes, living and dead, hold or may come to hold.
    The bounds of an upstream fit its budget. (After a cut: they only fall, until they fit the new one.)

Five changes keep that true. Each may stand alone, so a write may make any number of them, in this order:

    lower    the bound follows what is known: of the dead, what they left; of a draining life, what it holds; of
             others, an answer that has seen `since`, down to what is held, but never below the grant
    forget   an entry whose life is dead or draining, and holds nothing
    shrink   the grant falls; the bound stays, until an answer shows that the life has obeyed
    join     an entry for a new life, and
    grow     a higher grant: the bound rises in the same write, and only if all bounds then fit the budget

How it is carried out matters as much. Whoever writes must
  1. read the ledger, *then* ask the lives, *then* look at pods and nodes, decide on that alone, and write only if the
     resource (its document too) is still the one that was read; otherwise start over;
  2. push nothing but what has been written, to a life by its name, until it is answered.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

UNKNOWN = 2**31 - 1  # the bound of a life of which nothing is known: more than any budget, so nobody's bound can rise
Key = tuple[str, str]  # life, upstream


class Home(NamedTuple):
    """Where a life runs: the pod's UID, its node, and the node's boot ID. In local mode a worker's name alone."""

    pod: str
    node: str = ""
    boot: str = ""


class Entry(NamedTuple):
    """One life's share of one upstream's budget, in connections; see the module's docstring."""

    grant: int
    bound: int
    since: int
    home: Home


class Answer(NamedTuple):
    """What a replica answers to every push, taken or refused.

    `pod` is its own, which it knows from its environment: an address may have passed to another. `sequence` is the
    highest that this life has seen. `held` counts, per upstream, what it has open with what the dead before it left;
    of an upstream that is not named there nothing is known: its document does not bound it yet, or not any more.
    """

    life: str
    pod: str
    sequence: int
    held: Mapping[str, int]
    draining: bool = False


class Push(NamedTuple):
    """What a life is told: its grants, as written under this sequence."""

    life: str
    sequence: int
    grants: Mapping[str, int]


class Terms(NamedTuple):
    """What the document says about one upstream, in connections; `shares.terms` makes it."""

    budget: int
    floor: int
    least: int = 1  # the smallest grant of use: 2 where asking or cancelling takes a connection of its own
    ceiling: int = UNKNOWN  # what one replica can use: size + maxOverflow
    linger: float = 0.0  # seconds after which the upstream has let go of a dead client


@dataclass(frozen=True, slots=True)
class Ledger:
    """`entries` are in the order in which lives joined; `in_force` is the budget per upstream that holds now."""

    sequence: int
    entries: Mapping[Key, Entry] = field(default_factory=dict)
    in_force: Mapping[str, int] = field(default_factory=dict)

    def bounds(self, upstream: str) -> int:
        """The most connections that all lives together may yet hold."""
        return total(self.entries, upstream)

    def granted(self, upstream: str) -> int:
        """What all lives together have been told."""
        return sum(entry.grant for (_, name), entry in self.entries.items() if name == upstream)

    def lives(self) -> dict[str, Home]:
        """All lives with an entry, oldest first."""
        return {life: entry.home for (life, _), entry in self.entries.items()}

    def push(self, life: str) -> Push:
        """What to push to a life. Only a ledger that has been written, or read, may be asked."""
        grants = {name: entry.grant for (owner, name), entry in self.entries.items() if owner == life}
        return Push(life, self.sequence, grants)

    def unanswered(self, life: str, answer: Answer | None) -> bool:
        """Whether the life is not known to have seen its grants' last change."""
        if answer is not None and answer.draining:
            return False
        newest = max((entry.since for (owner, _), entry in self.entries.items() if owner == life), default=0)
        return newest > (answer.sequence if answer is not None else 0)


class Change(NamedTuple):
    """One change of one entry; `after` is None where it goes."""

    kind: Literal["lower", "forget", "shrink", "join", "grow", "enter"]
    life: str
    upstream: str
    before: Entry | None
    after: Entry | None


def changes(
    ledger: Ledger,
    terms: Mapping[str, Terms],
    wanted: Mapping[Key, int],
    homes: Mapping[str, Home],
    answers: Mapping[str, Answer],
    left: Mapping[Key, int],
) -> Iterator[Change]:
    """The changes that one write may make now, in order; every prefix of them keeps what must hold.

    `wanted`: the grant wished for, in the order in which to serve; an entry without a wish keeps its grant. `homes`:
    where those run who may join. `answers` by life. `left`: of lives proven dead, what may still be open; no others.
    """
    sequence = ledger.sequence + 1
    entries: dict[Key, Entry] = {}
    finished: set[Key] = set()  # dead or draining: they will open nothing any more
    for key, entry in ledger.entries.items():
        life, upstream = key
        answer = answers.get(life)
        if key in left:
            finished.add(key)
            bound = min(entry.bound, left[key])
        elif answer is not None and answer.draining and upstream in answer.held:
            finished.add(key)
            bound = min(entry.bound, answer.held[upstream])
        elif answer is not None and answer.sequence >= entry.since and upstream in answer.held:
            bound = max(entry.grant, answer.held[upstream])
        else:
            bound = entry.bound
        if upstream not in terms or (key in finished and bound == 0):
            yield Change("forget", life, upstream, entry, None)
            continue
        entries[key] = entry
        if bound != entry.bound:
            entries[key] = entry._replace(bound=bound)
            yield Change("lower", life, upstream, entry, entries[key])
    for key, entry in entries.items():
        wish = 0 if key in finished else wanted.get(key, entry.grant)
        if wish < entry.grant:
            entries[key] = entry._replace(grant=wish, since=sequence)
            yield Change("shrink", *key, entry, entries[key])
    for upstream, term in terms.items():
        wishes = {key: wish for key, wish in wanted.items() if key[1] == upstream and key not in finished}
        for key, grant in raised(entries, upstream, term, wishes).items():
            old = entries.get(key)
            bound = grant if old is None else max(old.bound, grant)
            new = entries[key] = Entry(grant, bound, sequence, homes[key[0]] if old is None else old.home)
            yield Change("join" if old is None else "grow", *key, old, new)


def raised(entries: Mapping[Key, Entry], upstream: str, term: Terms, wishes: Mapping[Key, int]) -> dict[Key, int]:
    """The grants that rise, from what no bound takes: first to the least of use, then to the floor, then the rest.

    The last free place is never lent beyond a floor: a newcomer joins with it.
    """
    free = term.budget - total(entries, upstream)
    if free < 0:
        return {}  # a cut, or somebody of whom nothing is known: no grant rises, not even within its bound
    grants = {key: entries[key].grant if key in entries else 0 for key in wishes}
    rising: dict[Key, int] = {}
    for level, kept in ((term.least, 0), (term.floor, 0), (UNKNOWN, term.least)):
        for key in sorted(wishes, key=grants.__getitem__):
            bound = max(entries[key].bound if key in entries else 0, grants[key])
            grant = min(wishes[key], level, bound + max(0, free - kept))
            if grant > grants[key]:
                free -= max(0, grant - bound)
                grants[key] = rising[key] = grant
    return rising


def total(entries: Mapping[Key, Entry], upstream: str) -> int:
    """The sum of an upstream's bounds."""
    return sum(entry.bound for (_, name), entry in entries.items() if name == upstream)


def applied(ledger: Ledger, made: list[Change], terms: Mapping[str, Terms], sequence: int) -> Ledger:
    """The ledger to write after these changes, under this sequence."""
    entries = dict(ledger.entries)
    for change in made:
        if change.after is None:
            del entries[change.life, change.upstream]
        else:
            entries[change.life, change.upstream] = change.after
    in_force = {}
    for upstream, term in terms.items():
        fits = total(entries, upstream) <= term.budget
        in_force[upstream] = term.budget if fits else max(ledger.in_force.get(upstream, 0), term.budget)
    return Ledger(sequence, entries, in_force)
