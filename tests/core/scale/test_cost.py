"""One decision for 1,000 pools of 10 replicas, autoscaler and ledger together, takes under a second of CPU."""

from bench.decide import ALLOWED, POOLS, measure


def test_a_decision_for_a_thousand_pools_takes_under_a_second() -> None:
    """CPU time, and the least of five rounds: what else the machine does is not counted. Usual is half of it."""
    costs, written = measure(ticks=20)
    assert costs.decision * POOLS < ALLOWED, f"{costs}, seconds for one pool of 10 replicas"
    assert written > 0.1, "the workload moves grants, or it would measure too little"
