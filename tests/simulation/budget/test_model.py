"""Random schedules against the world of `world.py`: never above the budget in force, and calm brings everybody a grant.

FOREBAY_SCHEDULES sets how many (20,000 unless set), FOREBAY_FIRST_SEED where they begin. A failure prints its seed and
the moves that led there; `run(seed)` is the same run every time.
"""

import os

import pytest
from tests.simulation.budget import moves
from tests.simulation.budget.shell import Operator
from tests.simulation.budget.world import Violation, World

from forebay_core.budget.decide import Decision

SCHEDULES = int(os.environ.get("FOREBAY_SCHEDULES", "20000"))
FIRST = int(os.environ.get("FOREBAY_FIRST_SEED", "0"))
PARTS = 10
CALM = 10  # one schedule in so many is followed by calm


def traced(seed: int) -> str:
    """The moves of a schedule, for a person."""
    at = World(seed)
    try:
        at = moves.begun(seed)
        at.trace = []
        for _ in range(moves.LENGTH):
            moves.step(at)
        moves.calm(at)
    except Violation:
        pass
    return "\n".join(at.trace or [])


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_opens_more_than_the_budget_in_force(part: int) -> None:
    size = SCHEDULES // PARTS
    first = FIRST + part * size
    for seed in range(first, first + size):
        try:
            at = moves.run(seed)
            if seed % CALM == 0:
                assert moves.calm(at), f"seed {seed}: not every replica came to a grant: {at}\n{traced(seed)}"
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}\n{traced(seed)}")


def test_the_schedules_get_somewhere() -> None:
    """Every kind of change, every kind of proof and every trouble occurs: a model that stands still proves nothing."""
    kinds: set[str] = set()
    proofs: set[str] = set()
    full = 0
    original = World.write

    def write(self: World, operator: Operator, decision: Decision) -> None:
        kinds.update(change.kind for change in decision.changes)
        proofs.update(reason.translate({ord(c): None for c in "0123456789"}) for reason in decision.dead.values())
        original(self, operator, decision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "write", write)
        for seed in range(600):
            at = moves.run(seed)
            full += at.open() == at.in_force
    assert kinds == {"enter", "lower", "forget", "shrink", "join", "grow"}
    assert {reason.split(", L")[0] for reason in proofs} == {
        "nobody by this name answers",
        "its pod has a new life",
        "a person has confirmed it",
        "its containers have terminated",
        *(f"node n{what}" for what in (" has been deleted", " has booted since")),
        "node n has been ready for  s since the pod went",
    }
    assert full > 30, "schedules hardly ever end with the whole budget open"


def test_a_seed_is_a_schedule() -> None:
    assert str(moves.run(7)) == str(moves.run(7))
    assert traced(7) == traced(7)
