"""The traces that broke earlier drafts of the budget, each as a script: docs/explanation/ledger.md tells them.

Budget 6; lives L1 in pod p0 and L2 in pod p1 hold grants of 4 and 2, all open, written under sequence 5.
"""

import pytest
from tests.simulation.budget.shell import U
from tests.simulation.budget.world import PodState, World

from forebay_core.budget import proofs
from forebay_core.budget.decide import Seen, decide
from forebay_core.budget.ledger import UNKNOWN, Answer, Change, Entry, Home, Ledger, Push, Terms, applied, changes
from forebay_core.budget.proofs import STRANGERS, Cluster, Node, Pod


class Script:
    """The world, and writes of chosen grants in place of what `shares` would choose."""

    def __init__(self) -> None:
        self.world = World(budget=6)
        nodes = self.world.nodes
        self.p0, self.p1 = self.world.create(nodes[0]), self.world.create(nodes[1])
        for pod in (self.p0, self.p1):
            self.world.start(pod)
        entries = {("L1", U): Entry(4, 4, 5, Home("p0", "n0", "0")), ("L2", U): Entry(2, 2, 5, Home("p1", "n1", "0"))}
        self.ledger = Ledger(5, entries, {U: 6})
        for pod, life in ((self.p0, "L1"), (self.p1, "L2")):
            self.push(pod, life)
            self.fill(pod)

    def push(self, pod: PodState, life: str, ledger: Ledger | None = None) -> Answer | None:
        """A push of a written ledger (the present one, unless an old one is given) arrives at a pod's address."""
        answer = self.world.ask(pod.ip, (ledger or self.ledger).push(life))
        self.world.check()
        return answer

    def ask(self, pod: PodState) -> Answer:
        answer = self.world.ask(pod.ip, Push("", 0, {}))
        assert answer is not None
        return answer

    def fill(self, pod: PodState) -> None:
        self.world.fill(pod)
        self.world.check()

    def restart(self, pod: PodState) -> None:
        """kill -9, and the container starts again; whatever it then may open, it opens."""
        self.world.crash(pod)
        self.world.start(pod)
        self.fill(pod)

    def write(
        self,
        wanted: dict[str, int] | None = None,
        answers: tuple[Answer, ...] = (),
        left: dict[str, int] | None = None,
        budget: int = 6,
        homes: dict[str, Home] | None = None,
    ) -> list[Change]:
        """One write on the present ledger; what it changed. The floor is the budget: policy holds nothing back."""
        terms = {U: Terms(budget, budget)}
        made = list(
            changes(
                self.ledger,
                terms,
                {(life, U): grant for life, grant in (wanted or {}).items()},
                homes or {},
                {answer.life: answer for answer in answers},
                {(life, U): count for life, count in (left or {}).items()},
            )
        )
        self.ledger = applied(self.ledger, made, terms, self.ledger.sequence + 1)
        self.world.ledger, self.world.budget = self.ledger, budget
        self.world.account()
        return made

    def entry(self, life: str) -> Entry:
        return self.ledger.entries[life, U]


@pytest.fixture
def script() -> Script:
    return Script()


def shrunk_and_acknowledged(script: Script) -> Ledger:
    """L1 goes from 4 to 2: written, pushed, obeyed, answered, and its bound follows. The ledger from before."""
    before = script.ledger
    script.write({"L1": 2})
    assert script.entry("L1")[:3] == (2, 4, 6), "the bound stays until L1 has obeyed"
    script.push(script.p0, "L1")
    script.world.finish(script.p0, 2)
    script.write(answers=(script.ask(script.p0),))
    assert script.entry("L1").bound == 2
    return before


def test_v1a_a_late_push_does_not_undo_a_shrink(script: Script) -> None:
    before = shrunk_and_acknowledged(script)
    script.push(script.p0, "L1", before)
    script.fill(script.p0)
    script.write({"L2": 4})
    script.push(script.p1, "L2")
    script.fill(script.p1)
    assert script.world.open() == 6


def test_v1b_a_second_operator_can_push_nothing_that_is_not_written(script: Script) -> None:
    world = script.world
    world.ledger = script.ledger
    first, second = world.operators
    first.read()
    second.read()
    script.write({"L1": 2})
    world.version += 1
    assert second.version != world.version, "what it would write is refused, so 3 @6 is never pushed"
    assert second.ledger is not None
    script.push(script.p0, "L1")
    world.finish(script.p0, 2)
    script.write({"L2": 4}, answers=(script.ask(script.p0),))
    script.push(script.p0, "L1", second.ledger)
    script.fill(script.p0)
    script.push(script.p1, "L2")
    script.fill(script.p1)
    assert script.world.open() == 6


def test_v1c_an_answer_from_before_the_last_change_acknowledges_nothing(script: Script) -> None:
    shrunk_and_acknowledged(script)
    old = script.ask(script.p0)
    script.write({"L1": 4})
    script.push(script.p0, "L1")
    script.fill(script.p0)
    script.write({"L1": 2})
    made = script.write({"L2": 4}, answers=(old,))
    assert made == []
    assert script.entry("L1").bound == 4


def test_v2_a_restarted_process_remembers_the_sequence(script: Script) -> None:
    before = shrunk_and_acknowledged(script)
    script.restart(script.p0)
    script.push(script.p0, "L1", before)
    script.fill(script.p0)
    script.write({"L2": 4})
    script.push(script.p1, "L2")
    script.fill(script.p1)


def test_v2b_a_new_pod_does_not_take_its_predecessors_push(script: Script) -> None:
    before = shrunk_and_acknowledged(script)
    world = script.world
    world.force_delete(script.p0)
    world.kubelet(script.p0)
    new = world.create(world.nodes[0], ip=script.p0.ip)
    world.start(new)
    script.push(new, "L1", before)
    script.fill(new)
    assert new.process is not None
    assert new.process.open == 0


def test_v3_a_restarted_process_counts_what_its_predecessor_left(script: Script) -> None:
    script.restart(script.p0)
    assert script.world.left == {"L1": 4}
    assert script.p0.process is not None
    assert script.p0.process.open == 0
    assert script.ask(script.p0).held == {U: 4}
    script.world.notice("L1", 3)
    script.world.kernel(script.p0)
    script.fill(script.p0)
    assert script.world.open() == 6


def test_v4_the_entry_of_a_force_deleted_pod_stays(script: Script) -> None:
    world = script.world
    world.partition(world.nodes[0])
    world.force_delete(script.p0)
    new = world.create(world.nodes[1])
    world.start(new)
    script.fill(new)
    cluster = Cluster({"p1": script.p1.shown()}, {"n0": Node("0", 0.0), "n1": Node("0", 9.0)}, {"p0": 1.0})
    assert proofs.dead(script.ledger, cluster, {}) == {}
    assert proofs.orphaned(script.ledger, cluster, {}) == {"L1"}
    assert script.write({"L3": 2}, homes={"L3": Home("p2")}) == [], "no place is free while L1 may hold 4"


@pytest.mark.parametrize("lowered_first", [False, True], ids=["v5a", "v5b"])
def test_v5_a_pod_that_comes_back_has_no_right_to_anything(script: Script, lowered_first: bool) -> None:
    before = script.ledger
    world = script.world
    if lowered_first:
        script.write({"L2": 0})
        script.push(script.p1, "L2")
    world.drain(script.p1)
    world.finish(script.p1, 2)
    script.write({"L1": 6}, answers=(script.ask(script.p1),))
    assert ("L2", U) not in script.ledger.entries
    script.push(script.p0, "L1")
    script.fill(script.p0)
    world.crash(script.p1)
    world.force_delete(script.p1)
    new = world.create(world.nodes[1], ip=script.p1.ip)
    world.start(new)
    script.fill(new)
    script.push(new, "L2", before)
    script.fill(new)
    assert world.open() == 6


def test_v6_a_pod_that_one_operator_does_not_see_is_not_freed(script: Script) -> None:
    world = script.world
    script.write({"L1": 2})
    script.push(script.p0, "L1")
    world.finish(script.p0, 2)
    script.write({"L3": 2}, answers=(script.ask(script.p0),), homes={"L3": Home("p2", "n1", "0")})
    stale = Cluster({pod.uid: pod.shown() for pod in world.pods}, {n: Node("0", 9.0) for n in ("n0", "n1")})
    seen = Seen(script.ledger, {U: Terms(6, 2)}, stale, {}, now=9.0, began=-100.0)
    decision = decide(seen)
    assert decision.dead == {}
    assert decision.orphaned == {"L3"}
    after = decision.ledger or script.ledger
    assert after.entries["L3", U].bound == 2


def test_v7_what_a_finished_pod_left_still_counts(script: Script) -> None:
    world = script.world
    world.delete(script.p1)
    world.kubelet(script.p1)
    world.crash(script.p1)
    world.kubelet(script.p1)
    cluster = Cluster({"p1": script.p1.shown(), "p0": script.p0.shown()}, {"n0": Node("0", 9.0), "n1": Node("0", 9.0)})
    assert list(proofs.dead(script.ledger, cluster, {})) == ["L2"]
    script.write({"L1": 6}, left={"L2": 2})
    assert script.entry("L1").grant == 4
    world.notice("L2", 1)
    script.write({"L1": 6}, left={"L2": 1})
    script.push(script.p0, "L1")
    script.fill(script.p0)
    assert script.entry("L1").grant == 5
    world.notice("L2", 1)
    script.write({"L1": 6}, left={"L2": 0})
    assert ("L2", U) not in script.ledger.entries


def test_v8_a_restart_after_a_cut_knows_only_its_grant(script: Script) -> None:
    world = script.world
    script.write({"L1": 1, "L2": 1}, budget=3)
    assert script.ledger.in_force == {U: 6}
    assert world.in_force == 6
    for pod, life in ((script.p0, "L1"), (script.p1, "L2")):
        script.push(pod, life)
        world.finish(pod, 3 if life == "L1" else 1)
    script.write(answers=(script.ask(script.p0), script.ask(script.p1)), budget=3)
    assert script.ledger.in_force == {U: 3}
    script.restart(script.p0)
    script.restart(script.p1)
    assert world.open() <= world.in_force == 3


def test_v9_a_restart_after_more_replicas_were_allowed_knows_only_its_grant(script: Script) -> None:
    shrunk_and_acknowledged(script)
    script.restart(script.p0)
    new = script.world.create(script.world.nodes[0])
    script.world.start(new)
    life = script.ask(new).life
    script.write({life: 2}, homes={life: Home("p2")})
    script.push(new, life)
    script.fill(new)
    script.fill(script.p0)
    assert script.world.open() == 6


def test_v10_a_pool_that_is_created_again_counts_its_namesakes_pods(script: Script) -> None:
    script.world.recreate()
    script.world.drain(script.p1)
    cluster = Cluster({pod.uid: pod.shown() for pod in script.world.pods}, {n: Node("0", 9.0) for n in ("n0", "n1")})
    answers = {"L2": script.ask(script.p1)}
    decision = decide(Seen(None, {U: Terms(6, 2)}, cluster, answers, now=9.0))
    assert decision.ledger is not None
    assert {life: e.bound for (life, _), e in decision.ledger.entries.items()} == dict.fromkeys(
        ("L2", "pod/p0", STRANGERS), UNKNOWN
    )
    assert decision.ledger.push("pod/p0").grants == {U: 0}
    again = decide(Seen(decision.ledger, {U: Terms(6, 2)}, cluster, answers, now=10.0, began=-100.0))
    assert again.ledger is not None
    assert again.ledger.granted(U) == 0
    assert again.ledger.entries["L2", U].bound == 2


def test_v11_a_push_that_reaches_another_pod_is_refused_and_answered_in_its_own_name(script: Script) -> None:
    answer = script.push(script.p1, "L1")
    script.fill(script.p1)
    assert answer == Answer("L2", "p1", 5, {U: 2})
    assert script.world.open() == 6


def test_v12_a_worker_starts_with_nothing_and_a_restarted_one_with_what_is_not_left() -> None:
    """Local mode: the supervisor keeps the same ledger for its workers, which have no node and no pod object."""
    home = {"W1": Home("1"), "W2": Home("2")}
    ledger = Ledger(1, {}, {U: 4})
    terms = {U: Terms(4, 4)}
    wanted = {("W1", U): 2, ("W2", U): 2}
    made = list(changes(ledger, terms, wanted, home, {}, {}))
    assert [(change.kind, change.life) for change in made] == [("join", "W1"), ("join", "W2")]
    ledger = applied(ledger, made, terms, 2)
    # W1's process is killed with 2 open and its memory is gone; a new worker gets nothing until those are closed.
    wanted = {("W2", U): 2, ("W3", U): 2}
    made = list(changes(ledger, terms, wanted, {"W3": Home("1")}, {}, {("W1", U): 2}))
    assert [change.kind for change in made] == ["shrink"]
    ledger = applied(ledger, made, terms, 3)
    made = list(changes(ledger, terms, wanted, {"W3": Home("1")}, {}, {("W1", U): 0}))
    assert [(change.kind, change.life) for change in made] == [("forget", "W1"), ("join", "W3")]


def test_pods_that_a_view_shows_finished_may_not_be() -> None:
    """Pod GC writes a terminal phase for pods of lost nodes; a container that has ended may start again."""
    assert not proofs.finished(Pod("n0", terminated=True))
    assert not proofs.finished(Pod("n0", terminal=True))
    assert proofs.finished(Pod("n0", terminal=True, terminated=True))
