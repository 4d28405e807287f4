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
from forebay_proxy.leavings import Leavings
from forebay_proxy.resolver import is_literal
from forebay_proxy.upstream import DEFAULT_LINGER

LIVING = Pod("", started=True)
ENDED = Pod("", terminal=True, terminated=True)


class Left:
    """What all the dead have left open at one upstream, by memory. The kernel is asked for all of them together: it
    does not tell whose a connection was."""

    def __init__(self, linger: float) -> None:
        self.linger = linger
        self.counts: dict[str, int] = {}
        self.leavings = Leavings(0, linger, monotonic())

    def add(self, memory: str, count: int) -> None:
        self.counts[memory] = count
        self.leavings = Leavings(sum(self.counts.values()), self.linger, monotonic())

    def observe(self, addresses: set[tuple[str, int]]) -> None:
        """Look what is still there. It is the sum that counts: what has gone is taken from the first."""
        self.leavings.observe(addresses, monotonic())
        gone = sum(self.counts.values()) - self.leavings.left
        for memory, count in self.counts.items():
            taken = min(gone, count)
            self.counts[memory] -= taken
            gone -= taken


class Budgeting:
    """The ledger, and who is in it. `decide` is to be called with answers that were asked for after its last write."""

    def __init__(self, spec: Spec) -> None:
        self.pods: dict[str, Pod] = {}
        self.left: dict[str, Left] = {}
        self._lives: dict[str, str] = {}  # by memory, of those that have ended
        self._pressing: frozenset[str] = frozenset()
        self.inherit(spec, {})

    def inherit(self, spec: Spec, found: Mapping[str, Mapping[str, int]]) -> None:
        """Begin the ledger with what an earlier supervisor's workers have left, by memory and upstream."""
        bounded = terms(spec)
        entries: dict[Key, Entry] = {}
        for memory, left in found.items():
            self.ended(memory, "", left, spec)
            names = left.keys() & bounded.keys()
            entries |= {(unnamed(memory), name): Entry(0, left[name], 0, Home(memory)) for name in names}
        self.ledger = applied(Ledger(0, entries), [], bounded, 1)

    def begins(self, memory: str) -> None:
        """A worker is about to start, or to start anew, with this memory."""
        self.pods[memory] = LIVING

    def ended(self, memory: str, life: str, left: Mapping[str, int], spec: Spec) -> None:
        """No process will start with this memory again; `left`: what its last one had open. `life`
        is empty where it never told its own, so that it was never granted anything."""
        self.pods[memory] = ENDED
        self._lives[memory] = life or unnamed(memory)
        lingers = {u.name: u.budget.linger for u in spec.upstreams if u.budget is not None}
        for name, count in left.items():
            known = self.left.setdefault(name, Left(DEFAULT_LINGER))
            known.linger = lingers.get(name, DEFAULT_LINGER)
            known.add(memory, count)

    def decide(self, spec: Spec, answers: Mapping[str, Answer], wanted: Wanted) -> bool:
        """One step. Whether anything was written: then it is to be pushed, and everybody to be asked anew."""
        self._observe(spec)
        made = self._decision(spec, answers, wanted)
        self._pressing = made.pressing
        if made.ledger is not None:
            self.ledger = made.ledger
        self._forget()
        return made.ledger is not None

    def _decision(self, spec: Spec, answers: Mapping[str, Answer], wanted: Wanted) -> Decision:
        return decide(
            Seen(
                self.ledger,
                terms(spec),
                Cluster(self.pods),
                answers,
                monotonic(),
                demand=wanted.demand,
                capped=wanted.capped,
                reported=self._reported(),
                highest=self.ledger.sequence,
                heard=frozenset(self.pods),  # nobody else writes this ledger, so nobody knows a later one
                strangers=False,
            )
        )

    def _reported(self) -> dict[Key, int]:
        """What each memory's dead have open, under either name that the ledger may have for them. One that has not
        ended has no dead: its life counts what its former processes left."""
        return {
            (life, name): self.left[name].counts.get(memory, 0) if name in self.left else 0
            for memory in self.pods
            for life in {unnamed(memory), self._lives.get(memory, unnamed(memory))}
            for name in self.ledger.in_force
        }

    def _observe(self, spec: Spec) -> None:
        """Names are not looked up here: what they left lasts for `linger`."""
        endpoints = {u.name: u.endpoints or () for u in spec.upstreams}
        for name, left in list(self.left.items()):
            left.observe({(e.host, e.port) for e in endpoints.get(name, ()) if is_literal(e.host)})
            if not left.leavings.left:
                del self.left[name]

    def _forget(self) -> None:
        """Memories that have ended, and of which nothing is left."""
        needed = {entry.home.pod for entry in self.ledger.entries.values()} | self.holding
        for memory in [m for m, pod in self.pods.items() if pod is ENDED and m not in needed]:
            del self.pods[memory]
            del self._lives[memory]

    @property
    def holding(self) -> set[str]:
        """Memories of the dead that may still have something open."""
        return {memory for left in self.left.values() for memory, count in left.counts.items() if count}

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
                + (self.left[upstream.name].leavings.left if upstream.name in self.left else 0),
            }
            for upstream in spec.upstreams
            if upstream.budget is not None
        }
