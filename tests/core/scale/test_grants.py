"""What a verdict asks of the ledger."""

from tests.core.scale.cases import Fleet

from forebay_core.budget.decide import Seen, decide
from forebay_core.budget.ledger import Answer, Entry, Home, Ledger
from forebay_core.budget.proofs import Cluster, Pod
from forebay_core.budget.shares import terms
from forebay_core.scale.grants import Wanted, grants_wanted
from forebay_core.scale.targets import Targets, UpstreamTargets

AIMS = Targets({"db": UpstreamTargets(15, 20), "api": UpstreamTargets(15)}, 1, 3)


def asked(*others: dict[str, float]) -> Wanted:
    """Of two replicas that do the same, but for the last ones, with leases of 0.1 s at first and 0.9 s then."""
    fleet = Fleet(2, AIMS, grant=9)
    fleet.calm()
    return grants_wanted(fleet.ticks(4, *others, requests=16, hold=0.1, leased=1, waiting=0))


def test_what_each_life_wants_by_upstream() -> None:
    wanted = asked({"requests": 130, "wait": 0.3, "hold": 0.11, "leased": 9, "waiting": 5, "wait_oldest": 0.3})
    assert set(wanted.demand) == {("life-0", "db"), ("life-1", "db")}
    assert wanted.demand["life-0", "db"] < 9 < wanted.demand["life-1", "db"]
    assert wanted.capped == frozenset()


def test_a_saturated_backend_is_capped() -> None:
    slow = {"requests": 40, "wait": 0.3, "hold": 0.9, "leased": 9, "waiting": 5, "wait_oldest": 0.3}
    assert asked(slow, slow).capped == {"db"}


def test_surplus_moves_in_two_writes() -> None:
    """The example of docs/explanation/autoscaler.md: it is given once it is known to be back."""
    wanted = Wanted({("a", "db"): 6, ("b", "db"): 14}, frozenset())
    held = {"a": 3, "b": 9}
    pods = Cluster({life: Pod("") for life in held})
    ledger = Ledger(1, {(life, "db"): Entry(9, 9, 1, Home(life)) for life in held}, {"db": 20})
    seen = []
    for now in (100.0, 102.0):
        answers = {life: Answer(life, life, ledger.sequence, {"db": count}) for life, count in held.items()}
        made = decide(Seen(ledger, {"db": terms(20, 3, ceiling=15)}, pods, answers, now, *wanted))
        assert made.ledger is not None
        ledger = made.ledger
        seen.append([(entry.grant, entry.bound) for entry in ledger.entries.values()])
    assert seen == [[(6, 9), (10, 10)], [(6, 6), (13, 13)]]
