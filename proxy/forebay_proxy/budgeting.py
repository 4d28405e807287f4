"""Local mode's ledger: what the workers may open, of what is decided in `forebay_core.budget`.

It stands in memory only: the workers end with the supervisor that keeps it, and what they leave open is in their
memories, from which the next supervisor begins. What takes the place of a cluster's pods is a worker's memory, by its
file's name: a life lives in exactly one memory, and a memory has one life, also over restarts. So the supervisor knows
everybody, and whoever has ended for good is dead on its word.
"""

from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any

from forebay_core.budget.decide import Decision, Seen, decide
from forebay_core.budget.ledger import Answer, Entry, Home, Key, Ledger, applied
from forebay_core.budget.proofs import Cluster, Pod
from forebay_core.budget.rebuild import unnamed
from forebay_core.budget.terms import terms
from forebay_core.scale.grants import Wanted
from forebay_core.spec.model import Spec
from forebay_proxy.journal import Record
from forebay_proxy.leavings import Leavings, ownerless
from forebay_proxy.state_directory import Remains
from forebay_proxy.upstream import DEFAULT_LINGER

LIVING = Pod("", started=True)
ENDED = Pod("", terminal=True, terminated=True)


class Budgeting:
    """The ledger, and who is in it. `decide` is to be called with answers that were asked for after its last write."""

    def __init__(self, spec: Spec) -> None:
        self.pods: dict[str, Pod] = {}
        self.left: dict[tuple[str, str], Leavings] = {}  # by memory and upstream
        self._lives: dict[str, str] = {}  # by memory, of those that have ended
        self._dead_since: dict[str, float] = {}  # lives of the ledger: when their death was found
        self._pressing: frozenset[str] = frozenset()
        self.inherit(spec, {})

    def inherit(self, spec: Spec, found: Mapping[str, Remains]) -> None:
        """Begin the ledger with what an earlier supervisor's workers have left, by memory and upstream."""
        bounded = terms(spec)
        entries: dict[Key, Entry] = {}
        for memory, left in found.items():
            self.ended(memory, "", left, spec)
            names = left.keys() & bounded.keys()
            entries |= {(unnamed(memory), name): Entry(0, left[name][0], 0, Home(memory)) for name in names}
        self.ledger = applied(Ledger(0, entries), [], bounded, 1)

    def begins(self, memory: str) -> None:
        """A worker is about to start, or to start anew, with this memory."""
        self.pods[memory] = LIVING

    def ended(self, memory: str, life: str, left: Remains, spec: Spec) -> None:
        """No process will start with this memory again; `left`: what its last one had open. `life`
        is empty where it never told its own, so that it was never granted anything."""
        self.pods[memory] = ENDED
        self._lives[memory] = life or unnamed(memory)
        lingers = {u.name: u.budget.linger for u in spec.upstreams if u.budget is not None}
        for name, (count, records) in left.items():
            self.left[memory, name] = Leavings(count, records, lingers.get(name, DEFAULT_LINGER), monotonic())

    def decide(self, spec: Spec, answers: Mapping[str, Answer], wanted: Wanted) -> bool:
        """One step. Whether anything was written: then it is to be pushed, and everybody to be asked anew."""
        self._observe()
        now = monotonic()
        made = self._decision(spec, answers, wanted, now)
        self._dead_since = {life: self._dead_since.get(life, now) for life in made.dead}
        self._pressing = made.pressing
        if made.ledger is not None:
            self.ledger = made.ledger
        self._forget()
        return made.ledger is not None

    def _decision(self, spec: Spec, answers: Mapping[str, Answer], wanted: Wanted, now: float) -> Decision:
        return decide(
            Seen(
                self.ledger,
                terms(spec),
                Cluster(self.pods),
                answers,
                now,
                demand=wanted.demand,
                besides=wanted.besides,
                capped=wanted.capped,
                reported=self._reported(),
                dead_since=self._dead_since,
                highest=self.ledger.sequence,
                heard=frozenset(self.pods),  # nobody else writes this ledger, so nobody knows a later one
                strangers=False,
            )
        )

    def _reported(self) -> dict[Key, int]:
        """What each memory's dead have open, under either name that the ledger may have for them. One that has not
        ended has no dead: its life counts what its former processes left."""
        return {
            (life, name): self.left[memory, name].left if (memory, name) in self.left else 0
            for memory in self.pods
            for life in {unnamed(memory), self._lives.get(memory, unnamed(memory))}
            for name in self.ledger.in_force
        }

    def _observe(self) -> None:
        if not self.left:
            return
        seen = ownerless()
        for key, leavings in list(self.left.items()):
            leavings.update(seen, monotonic())
            if not leavings.left:
                del self.left[key]

    def records(self, upstream: str) -> list[Record]:
        """What those who have ended for good have left open, as far as it is known."""
        return [record for (_, name), left in self.left.items() if name == upstream for record in left.records]

    def gone(self, upstream: str, records: Iterable[Record]) -> None:
        """The upstream says that it has closed these."""
        for record in records:
            for (_, name), left in self.left.items():
                if name == upstream:
                    left.gone(record)

    def _forget(self) -> None:
        """Memories that have ended, and of which nothing is left."""
        needed = {entry.home.pod for entry in self.ledger.entries.values()} | self.holding
        for memory in [m for m, pod in self.pods.items() if pod is ENDED and m not in needed]:
            del self.pods[memory]
            del self._lives[memory]

    @property
    def holding(self) -> set[str]:
        """Memories of the dead that may still have something open."""
        return {memory for (memory, _), left in self.left.items() if left.left}

    def deadline(self, spec: Spec, life: str) -> float | None:
        """Seconds until a life cuts what is leased above its grant: where a floor or a cut needs the places. A shrink
        for another's surplus waits for leases to end, however long."""
        over = {
            name for (owner, name), entry in self.ledger.entries.items() if owner == life and entry.bound > entry.grant
        }
        return spec.drain.timeout if over & self._pressing else None

    def as_state(self, spec: Spec, workers: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
        """Per bounded upstream, in connections; `open` by what the workers' states say, with what the dead left."""
        told = [worker["upstreams"] for worker in workers]
        return {
            upstream.name: {
                "limit": upstream.budget.max_connections,
                "reserved": upstream.budget.reserved,
                "granted": self.ledger.granted(upstream.name),
                "open": sum(each[upstream.name]["held"] for each in told if upstream.name in each)
                + sum(left.left for (_, name), left in self.left.items() if name == upstream.name),
            }
            for upstream in spec.upstreams
            if upstream.budget is not None
        }
