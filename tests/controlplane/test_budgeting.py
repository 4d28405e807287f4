"""The ledger's turn in the operator: who joins, who goes on which proof, and what is told to whom. That the budget
holds in all of it is `tests/simulation/budget`'s to show."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.controlplane.parts import BOOT, NOW, ledger, pod, report

from forebay_core.budget.decide import Decision
from forebay_core.budget.ledger import UNKNOWN, Answer, Ledger, Terms
from forebay_core.budget.proofs import Node
from forebay_core.scale.grants import Wanted
from forebay_operator import budgeting
from forebay_operator.budgeting import Look, farewells, pushes, stuck, unsettled
from forebay_operator.observed import Pod, Report
from forebay_operator.past import Past

TERMS = {"orders": Terms(12, 4, ceiling=15, linger=30.0)}
NOTHING = Wanted({}, frozenset())
GRACE = 40.0


def look(stands: Ledger | None, *pairs: tuple[Pod, Report | None], **fields: Any) -> Look:
    values: dict[str, Any] = {
        "ledger": stands,
        "reports": {r.answer.pod: r for _, r in pairs if r is not None},
        "pods": {p.uid: p for p, _ in pairs},
        "nodes": {"node1": Node(BOOT, 0.0)},
        "unseen": frozenset(),
        "confirmed": frozenset(),
        "strangers": False,
        "now": NOW,
    }
    return Look(**values | fields)


def turn(seen: Look, past: Past | None = None, terms: Mapping[str, Terms] = TERMS) -> Decision:
    return budgeting.turn(seen, past or Past(), terms, GRACE, NOTHING)


def granted(decision: Decision) -> dict[str, tuple[int, int]]:
    assert decision.ledger is not None
    return {life: (e.grant, e.bound) for (life, _), e in decision.ledger.entries.items()}


def test_a_new_pool_begins_with_an_empty_ledger_where_its_name_was_free() -> None:
    assert granted(turn(look(None))) == {}


def test_where_the_name_was_not_free_what_strangers_left_counts_first() -> None:
    first = turn(look(None, strangers=True))
    assert first.ledger is not None
    assert unsettled(first.ledger) == ["what earlier pods of this name left open"]
    joining = pod("a"), report("a")
    waits = turn(look(first.ledger, joining))
    assert waits.ledger is None, "nobody joins"
    over = Past(dead_since={"strangers": NOW - 31.0})
    freed = turn(look(first.ledger, joining), over)
    assert granted(freed) == {}
    assert granted(turn(look(freed.ledger, joining))) == {"a": (11, 11)}, "all but the place that is never lent"


def test_a_newcomers_home_has_the_boot_under_which_it_runs() -> None:
    joined = turn(look(ledger(1), (pod("a"), report("a"))))
    assert joined.ledger is not None
    assert joined.ledger.lives()["a"] == ("a-uid", "node1", BOOT)


def test_nothing_is_written_before_everybody_was_heard() -> None:
    silent = (pod("a"), report("a")), (pod("b"), None)
    assert turn(look(ledger(1), *silent), Past(began=NOW - 1)).ledger is None
    assert turn(look(ledger(1), *silent), Past(began=NOW - 1, heard=frozenset({"b-uid"}))).ledger is not None
    assert turn(look(ledger(1), *silent), Past(began=NOW - 61)).ledger is not None


ENDED = {"terminating": True, "terminal": True, "terminated": True}


def test_a_farewell_that_nothing_is_held_frees_at_once() -> None:
    ended = pod("a", **ENDED, farewell=("a", {"orders": 0}))
    assert granted(turn(look(ledger(1, a=(4, 4, 1)), (ended, None)))) == {}
    gone = Past(ended={ended.uid: ended})
    assert granted(turn(look(ledger(1, a=(4, 4, 1))), gone)) == {}, "its object may go meanwhile"


def test_a_farewell_with_something_held_counts_until_linger_is_over() -> None:
    ended = pod("a", **ENDED, farewell=("a", {"orders": 2}))
    assert granted(turn(look(ledger(1, a=(4, 4, 1)), (ended, None)))) == {"a": (0, 4)}
    over = Past(dead_since={"a": NOW - 31.0})
    assert granted(turn(look(ledger(1, a=(4, 4, 1)), (ended, None)), over)) == {}


def test_a_farewell_is_no_answer_where_its_pod_has_had_another_life() -> None:
    restarted = pod("a", farewell=("old", {"orders": 0}))
    two = ledger(2, a=(4, 4, 1), old=(4, 4, 1))
    entries = {key: entry._replace(home=entry.home._replace(pod="a-uid")) for key, entry in two.entries.items()}
    seen = look(Ledger(2, entries, two.in_force), (restarted, None))
    assert farewells(seen, [restarted]) == {}
    alone = look(ledger(2, old=(4, 4, 1)), (pod("old", farewell=("old", {"orders": 1})), None))
    assert farewells(alone, alone.pods.values()) == {"old": Answer("old", "old-uid", 0, {"orders": 1}, True)}


def test_the_dead_go_when_the_backend_has_had_time_to_notice() -> None:
    ended = pod("a", **ENDED)
    found = turn(look(ledger(1, a=(4, 4, 1)), (ended, None)))
    assert found.dead == {"a": "its containers have terminated"}
    assert granted(found) == {"a": (0, 4)}
    over = Past(ended={ended.uid: ended}, dead_since={"a": NOW - 31.0})
    assert granted(turn(look(ledger(1, a=(4, 4, 1))), over)) == {}


def orphan(past: Past | None = None, **fields: Any) -> Decision:
    return turn(look(ledger(1, a=(4, 4, 1)), **fields), past)


def test_a_missing_pod_proves_nothing() -> None:
    decision = orphan(Past(missing={"a-uid": NOW - 1000.0}))
    assert decision.orphaned == {"a"}
    assert decision.ledger is None


@pytest.mark.parametrize(
    ("nodes", "proof"),
    [
        ({}, "node node1 has been deleted"),
        ({"node1": Node("boot-2", 0.0)}, "node node1 has booted since"),
        ({"node1": Node(BOOT, NOW)}, "node node1 has been ready for 60 s since the pod went"),
    ],
)
def test_a_node_may_prove_it(nodes: dict[str, Node], proof: str) -> None:
    past = Past(missing={"a-uid": NOW - 60.0})
    assert orphan(past, nodes=nodes).dead == {"a": proof}
    unseen = orphan(past, nodes={}, unseen=frozenset({"node1"}))
    assert unseen.dead == {}, "a node that was not looked at proves nothing"


def test_a_persons_word_counts_only_for_who_is_silent() -> None:
    assert orphan(confirmed=frozenset({"a-uid"})).dead == {"a": "a person has confirmed it"}
    alive = look(ledger(1, a=(4, 4, 1)), (pod("a"), report("a", 1, 4)), confirmed=frozenset({"a-uid"}))
    assert turn(alive).dead == {}


def test_a_ledger_that_a_replica_is_ahead_of_is_begun_anew() -> None:
    begun = turn(look(ledger(5, a=(4, 4, 1)), (pod("a"), report("a", 9, 3))))
    assert granted(begun) == {"a": (3, UNKNOWN)}
    assert begun.ledger is not None
    assert begun.ledger.sequence > 1e15
    assert unsettled(begun.ledger) == ["a"]


def test_pushes_go_to_those_that_have_not_heard_of_the_last_change() -> None:
    stands = ledger(9, heard=(4, 4, 3), behind=(4, 4, 9), silent=(4, 4, 3), leaving=(4, 4, 9))
    seen = look(
        stands,
        (pod("heard"), report("heard", 3)),
        (pod("behind"), report("behind", 8)),
        (pod("silent"), None),
        (pod("leaving"), report("leaving", 8, life_draining=True)),
        (pod("stranger"), report("stranger", 0)),
    )
    told = pushes(stands, seen, frozenset(), 30.0)
    assert [(p.life, p.sequence, p.grants, p.deadline) for p in told] == [
        ("behind", 9, {"orders": 4}, None),
        ("silent", 9, {"orders": 4}, None),
    ]


def test_where_others_wait_for_it_the_excess_has_a_deadline() -> None:
    stands = ledger(9, over=(4, 8, 3), within=(4, 4, 3))
    seen = look(stands, (pod("over"), report("over", 9, 8)), (pod("within"), report("within", 9, 4)))
    assert pushes(stands, seen, frozenset(), 30.0) == ()
    (push,) = pushes(stands, seen, frozenset({"orders"}), 30.0)
    assert (push.life, push.deadline) == ("over", 30.0)


def test_a_deadline_that_nobody_waits_for_any_more_is_withdrawn() -> None:
    stands = ledger(9, over=(4, 8, 3))
    told = look(stands, (pod("over"), report("over", 9, 8, orders={"pressed": True})))
    (push,) = pushes(stands, told, frozenset(), 30.0)
    assert (push.life, push.sequence, push.grants, push.deadline) == ("over", 9, {"orders": 4}, None)
    (push,) = pushes(stands, told, frozenset({"orders"}), 30.0)
    assert push.deadline == 30.0, "it stands"


def test_who_is_silent_and_blocks_others_is_stuck_at_last() -> None:
    stands = ledger(9, a=(4, 9, 3), b=(4, 4, 3))
    seen = look(stands, (pod("a"), None), (pod("b"), None))
    long_ago = {"a-uid": NOW - 120.0, "b-uid": NOW - 120.0}
    pressing = frozenset({"orders"})
    assert [p.name for p in stuck(stands, seen, long_ago, pressing)] == ["a"], "b holds no more than it was granted"
    assert stuck(stands, seen, {"a-uid": NOW - 119.0}, pressing) == []
    assert stuck(stands, seen, long_ago, frozenset()) == [], "nobody waits"
    leaves = look(stands, (pod("a", terminating=True), None))
    assert stuck(stands, leaves, long_ago, pressing) == [], "it is on its way out already"
