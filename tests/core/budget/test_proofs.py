"""What proves a life dead, what does not, and what the dead have left."""

import pytest

from forebay_core.budget.ledger import Answer, Entry, Home, Ledger, Terms
from forebay_core.budget.proofs import STRANGERS, Cluster, Node, Pod, dead, leavings, orphaned, proof

HOME = Home("p", "n", "boot1")
NODES = {"n": Node("boot1", 100.0)}
RUNNING = Pod("n")


def verdict(
    pod: Pod | None = None,
    nodes: dict[str, Node] = NODES,
    missing: dict[str, float] | None = None,
    answers: tuple[Answer, ...] = (),
    confirmed: frozenset[str] = frozenset(),
    home: Home = HOME,
) -> str | None:
    cluster = Cluster({} if pod is None else {"p": pod}, nodes, missing or {}, confirmed, grace=40.0)
    return proof("a", home, cluster, {answer.life: answer for answer in answers})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (verdict(RUNNING, answers=(Answer("b", "p", 0, {}),)), "its pod has a new life, b"),
        (verdict(confirmed=frozenset({"p"})), "a person has confirmed it"),
        (verdict(Pod("n", terminal=True, terminated=True)), "its containers have terminated"),
        (verdict(RUNNING, nodes={}), "node n has been deleted"),
        (verdict(RUNNING, nodes={"n": Node("boot2", 0.0)}), "node n has booted since"),
        (verdict(missing={"p": 59.0}), "node n has been ready for 41 s since the pod went"),
    ],
)
def test_proof(said: str | None, expected: str) -> None:
    assert said == expected


@pytest.mark.parametrize(
    "said",
    [
        verdict(RUNNING),
        verdict(RUNNING, answers=(Answer("a", "p", 0, {}),)),
        verdict(RUNNING, answers=(Answer("b", "q", 0, {}),)),
        verdict(Pod("n", terminal=True)),
        verdict(Pod("n", terminated=True)),
        verdict(),
        verdict(missing={"p": 60.0}),
        verdict(nodes={"n": Node("boot1", 30.0)}, missing={"p": 31.0}),
        verdict(RUNNING, missing={"p": 0.0}),
        verdict(home=Home("p"), nodes={}),
    ],
    ids=[
        "it runs", "it answers", "another pod's life", "pod GC's phase", "a container that ended", "no object",
        "no object, not for long", "no object, a silent node", "the object is back", "a worker",
    ],
)  # fmt: skip
def test_no_proof(said: str | None) -> None:
    assert said is None


def test_an_orphan_is_nobody_who_is_proven_dead() -> None:
    entries = {(life, "u"): Entry(1, 1, 1, Home(pod, "n", "boot1")) for life, pod in (("a", "p"), ("b", "q"))}
    cluster = Cluster({"q": RUNNING}, NODES)
    ledger = Ledger(1, entries)
    assert orphaned(ledger, cluster, dead(ledger, cluster, {})) == {"a"}
    assert orphaned(ledger, cluster, {"a": "proven"}) == frozenset()


def test_what_is_left_is_reported_or_passes_with_linger() -> None:
    ledger = Ledger(1, {("a", "u"): Entry(0, 3, 1, HOME), ("b", "u"): Entry(2, 2, 1, HOME)})
    terms = {"u": Terms(6, 2, linger=30.0)}
    assert leavings(ledger, {"a": 10.0}, {}, terms, 40.0) == {("a", "u"): 3}
    assert leavings(ledger, {"a": 10.0}, {}, terms, 40.1) == {("a", "u"): 0}
    assert leavings(ledger, {"a": 10.0}, {("a", "u"): 1}, terms, 99.0) == {("a", "u"): 1}


def test_strangers_are_dead_by_definition() -> None:
    assert proof(STRANGERS, Home(""), Cluster(), {}) is not None
