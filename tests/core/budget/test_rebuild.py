"""A missing ledger is not an empty one; nor is an old one the present one."""

from forebay_core.budget.decide import Decision, Seen, decide
from forebay_core.budget.ledger import UNKNOWN, Answer, Entry, Home, Ledger, Terms
from forebay_core.budget.proofs import STRANGERS, Cluster, Node, Pod
from forebay_core.budget.rebuild import PER_SECOND, behind

U = "u"
TERMS = {U: Terms(6, 2, linger=30.0)}
CLUSTER = Cluster({"p": Pod("n"), "q": Pod("n"), "new": Pod("n", started=False)}, {"n": Node("b", 1000.0)})
NOW = 1000.0


def run(ledger: Ledger | None, *answers: Answer, now: float = NOW, **more: object) -> Decision:
    replies = {answer.life: answer for answer in answers}
    seen = Seen(ledger, TERMS, CLUSTER, replies, now, heard=frozenset("pq"), began=NOW, **more)  # type: ignore[arg-type]
    return decide(seen)


def bounds(decision: Decision) -> dict[str, tuple[int, int]]:
    assert decision.ledger is not None
    return {life: (entry.grant, entry.bound) for (life, _), entry in decision.ledger.entries.items()}


def test_everybody_who_can_be_named_is_entered_and_strangers_for_the_rest() -> None:
    first = run(None, Answer("a", "p", 7, {U: 3}))
    assert bounds(first) == {"a": (3, UNKNOWN), "pod/q": (0, UNKNOWN), STRANGERS: (0, UNKNOWN)}
    assert first.ledger is not None
    assert first.ledger.sequence == int(NOW) * PER_SECOND
    assert first.ledger.in_force == {U: 6}


def test_answers_proofs_and_linger_settle_it_and_only_then_grants_rise() -> None:
    ledger = run(None, Answer("a", "p", 7, {U: 3})).ledger
    assert ledger is not None
    seen_it = Answer("a", "p", ledger.sequence, {U: 3})
    ledger = run(ledger, seen_it).ledger
    assert ledger is not None
    assert ledger.entries["a", U].bound == 3
    named = run(ledger, seen_it, Answer("b", "q", 4, {U: 1}))
    assert bounds(named)["b"] == (1, UNKNOWN)
    ledger = named.ledger
    assert ledger is not None
    both = (seen_it, Answer("b", "q", ledger.sequence, {U: 1}))
    lingering = run(ledger, *both, dead_since={STRANGERS: NOW, "pod/q": NOW})
    assert bounds(lingering) == {
        "a": (3, 3), "pod/q": (0, UNKNOWN), STRANGERS: (0, UNKNOWN), "b": (1, 1),
    }  # fmt: skip
    ledger = lingering.ledger
    assert ledger is not None
    over = run(ledger, *both, now=NOW + 31, dead_since={STRANGERS: NOW, "pod/q": NOW})
    assert bounds(over) == {"a": (3, 3), "b": (1, 1)}
    settled = run(over.ledger, *both, now=NOW + 32)
    assert bounds(settled)["b"] == (2, 2)


def test_a_budget_for_an_upstream_that_had_none_begins_like_a_lost_ledger() -> None:
    entries = {("a", "v"): Entry(2, 2, 3, Home("p", "n", "b"))}
    made = run(Ledger(3, entries, {"v": 4}), Answer("a", "p", 3, {U: 5, "v": 2}))
    assert made.ledger is not None
    assert made.ledger.entries["a", U][:2] == (5, UNKNOWN)


def test_a_ledger_is_behind_whoever_has_seen_more() -> None:
    ledger = Ledger(5, {("a", U): Entry(2, 2, 3, Home("p"))}, {U: 6})
    assert not behind(ledger, 5, {"a": Answer("a", "p", 5, {})})
    assert behind(ledger, 6, {})
    assert behind(ledger, 0, {"a": Answer("a", "p", 6, {})})
    assert behind(ledger, 0, {"b": Answer("b", "q", 2, {})}), "it was granted something, yet it has no entry"
    assert not behind(ledger, 0, {"b": Answer("b", "q", 0, {})})
    assert not behind(ledger, 0, {"b": Answer("b", "q", 2, {}, draining=True)})


def test_a_ledger_that_is_behind_is_entered_anew_and_keeps_what_is_held() -> None:
    ledger = Ledger(5, {("a", U): Entry(2, 2, 3, Home("p")), ("z", U): Entry(1, 1, 3, Home("gone"))}, {U: 6})
    made = run(ledger, Answer("a", "p", 9, {U: 4}))
    assert bounds(made) == {
        "a": (4, UNKNOWN), "z": (0, UNKNOWN), "pod/q": (0, UNKNOWN), STRANGERS: (0, UNKNOWN),
    }  # fmt: skip


def test_a_writer_that_has_just_started_hears_everybody_first() -> None:
    ledger = Ledger(5, {}, {U: 6})
    newcomer = Answer("a", "p", 0, {U: 0})
    seen = Seen(ledger, TERMS, CLUSTER, {"a": newcomer}, NOW, began=NOW, heard=frozenset("p"))
    assert decide(seen).ledger is None
    patient = Seen(ledger, TERMS, CLUSTER, {"a": newcomer}, NOW + 61, began=NOW, heard=frozenset("p"))
    assert bounds(decide(patient)) == {"a": (5, 5)}


def test_a_pool_whose_name_has_long_been_free_has_no_strangers() -> None:
    assert bounds(run(None, strangers=False)) == {"pod/p": (0, UNKNOWN), "pod/q": (0, UNKNOWN)}
    empty = decide(Seen(None, TERMS, Cluster(), {}, NOW, strangers=False))
    assert empty.ledger == Ledger(int(NOW) * PER_SECOND, {}, {U: 6})


def test_a_replica_whose_document_does_not_bound_the_upstream_yet_keeps_every_grant_where_it_is() -> None:
    old = Ledger(5, {("a", U): Entry(2, 2, 3, Home("p", "n", "b"))}, {U: 6})
    has = Answer("a", "p", 5, {U: 2})
    entered = run(old, has, Answer("b", "q", 0, {}))
    assert bounds(entered) == {"a": (2, 2), "b": (0, UNKNOWN)}
    assert run(entered.ledger, has, Answer("b", "q", 6, {}), highest=6).ledger is None
    knows = run(entered.ledger, has, Answer("b", "q", 6, {U: 3}), highest=6)
    assert bounds(knows)["b"] == (0, 3)
    assert bounds(run(knows.ledger, has, Answer("b", "q", 7, {U: 3}), highest=7))["b"] == (2, 3)
