"""The replica's side: a memory that outlives the process, the grants that it takes, and what it answers.

The caller keeps the memory where a process's death doesn't reach it (and a machine's does), and in this order:

    take    write the memory that `take` returns, then act on it, then answer from it
    open    write the count that `held` becomes, then `connect()`
    close   see the upstream's end closed, then write the lower count
    drain   write it, then stop opening

Nothing else lets a replica open anything: no name, no file, no timer. A process without a memory begins a new life,
and so does one that finds the memory of a life that was draining, which is over for good.

The proxy asks `takes` of each push. It keeps its memory in a file, of which `Memory` and the functions around it are
the model that the simulations run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from forebay_core.budget.ledger import Answer, Push


class Remembered(Protocol):
    """Of a memory, what decides whether a push is taken."""

    @property
    def life(self) -> str: ...

    @property
    def sequence(self) -> int: ...

    @property
    def draining(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Memory:
    """`held`: what may be open per upstream, the process's own and what it found when it began. In connections."""

    life: str
    sequence: int = 0
    draining: bool = False
    grants: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)


def begin(found: Memory | None, new_life: str) -> Memory:
    """The memory with which a process starts. What `found` held is from now on what the dead have left."""
    if found is None:
        return Memory(new_life)
    if found.draining:
        return Memory(new_life, held=found.held)
    return found


def takes(memory: Remembered, life: str, sequence: int) -> bool:
    """Whether a push is taken: one that is meant for this life and newer than all before."""
    return life == memory.life and sequence > memory.sequence and not memory.draining


def take(memory: Memory, push: Push) -> Memory:
    """The memory after a push. An upstream that is not named there keeps its grant."""
    if not takes(memory, push.life, push.sequence):
        return memory
    return replace(memory, sequence=push.sequence, grants={**memory.grants, **push.grants})


def drain(memory: Memory) -> Memory:
    """From now on this life opens nothing, whatever it is told."""
    return replace(memory, draining=True)


def limit(memory: Memory, upstream: str, left: int) -> int:
    """How many connections the process may have open, where the dead before it have left `left`."""
    if memory.draining:
        return 0
    return max(0, memory.grants.get(upstream, 0) - left)


def answer(memory: Memory, pod: str, upstreams: Iterable[str]) -> Answer:
    """The answer to any push. `upstreams`: those that the replica's document bounds; it knows of no others."""
    held = {upstream: memory.held.get(upstream, 0) for upstream in upstreams}
    return Answer(memory.life, pod, memory.sequence, held, memory.draining)
