"""Prepared statements of many clients on few connections, against a server of their own for each.

`Server` is PostgreSQL as far as prepared statements go. The same script of messages runs twice: each client on a server
of its own, and all of them through pipelines on connections that change hands, at every speed. The answers must be
the same, message by message.
"""

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay_core.postgres import statements
from forebay_core.postgres.statements import (
    Answer,
    ClientStatements,
    OutOfStep,
    Pipeline,
    Send,
    ServerStatements,
    Step,
    TooManyStatements,
    statement,
)

Message = tuple[Any, ...]
ENDS_ALL = (b"DEALLOCATE ALL", b"DISCARD ALL")
ENDINGS = {"1", "2", "3", "T", "n", "C"}  # of answers; an Execute's rows are left out


class Server:
    """Answers messages in order, and after an error skips to a Sync."""

    def __init__(self) -> None:
        self.named: dict[bytes, bytes] = {}
        self.unnamed: bytes | None = None
        self.portal: bytes | None = None
        self.skipping = self.copying = self.simple = False  # simple: the COPY is a Query's
        self.broken: set[bytes] = set()

    def take(self, message: Message) -> list[Message]:
        kind = message[0]
        if self.copying:
            if kind in "cf":
                self.copying, self.skipping = False, kind == "f" and not self.simple
                return [("C", "COPY") if kind == "c" else ("E", b"57014"), *[("Z",)] * self.simple]
            return []  # a Sync is not answered
        if kind == "S":
            self.skipping, self.portal = False, None
            return [("Z",)]
        if self.skipping or kind in "cfH":
            return []
        if kind == "Q":
            self.unnamed = self.portal = None
            if message[1] == b"copy":
                self.copying = self.simple = True
                return [("G",)]
            return [*self._query(message[1]), ("Z",)]
        answer = getattr(self, f"_{kind.lower()}")(*message[1:])
        self.skipping = answer[0][0] == "E"
        return list(answer)

    def _query(self, text: bytes) -> list[Message]:
        if text == b"bad":
            return [("E", b"42601")]
        return self._run(text)

    def _run(self, text: bytes) -> list[Message]:
        if text in ENDS_ALL:
            self.named.clear()
        return [("C", text)]

    def _p(self, name: bytes, text: bytes) -> list[Message]:
        if not name:
            self.unnamed = None
        if text == b"bad":
            return [("E", b"42601")]
        if name in self.named:
            return [("E", b"42P05")]
        if name:
            assert name.startswith(statements.PREFIX) or len(name) < 3
            self.named[name] = text
            self.broken.discard(name)
        else:
            self.unnamed = text
        return [("1",)]

    def _of(self, name: bytes) -> bytes | None:
        return self.named.get(name) if name else self.unnamed

    def _b(self, name: bytes) -> list[Message]:
        self.portal = self._of(name)
        if name in self.broken:
            return [("E", b"0A000")]
        return [("E", b"26000")] if self.portal is None else [("2", self.portal)]

    def _d(self, name: bytes) -> list[Message]:
        text = self._of(name)
        return [("E", b"26000")] if text is None else [("T", text)]

    def _c(self, name: bytes) -> list[Message]:
        if name:
            self.named.pop(name, None)
        else:
            self.unnamed = None
        return [("3",)]

    def _e(self) -> list[Message]:
        if self.portal is None:
            return [("E", b"34000")]
        if self.portal == b"fails":
            return [("E", b"22012")]
        if self.portal == b"copy":
            self.copying, self.simple = True, False
            return [("G",)]
        return self._run(self.portal)


class Connection:
    """A server behind two queues, and what is known of it."""

    def __init__(self, limit: int) -> None:
        self.server, self.known = Server(), ServerStatements(limit)
        self.sent: deque[Message] = deque()
        self.answers: deque[Message] = deque()


class Client:
    def __init__(self, script: list[Message]) -> None:
        self.todo, self.got = deque(script), list[Message]()
        self.statements = ClientStatements()
        self.lease: tuple[Connection, Pipeline] | None = None
        self.held = False


def forward(connection: Connection, pipeline: Pipeline, message: Message) -> bool:
    """A client's message. False: it has to wait."""
    kind, step = message[0], None
    if kind == "P":
        step = pipeline.parse(message[1], statement(message[2], b"", b"", message[2] in ENDS_ALL))
    elif kind in "BD":
        step = pipeline.bind(message[1])
    elif kind == "C":
        step = pipeline.close(message[1])
    elif kind == "E":
        pipeline.other()
    elif kind == "S":
        pipeline.sync()
    elif kind == "Q":
        pipeline.query(message[1] in ENDS_ALL)
    elif kind in "cf":
        pipeline.copy_end()
    if step is None:
        connection.sent.append(message)
        return True
    if step.hold:
        return False
    for name, made in step.before:
        connection.sent.append(("P", name, made.text) if made else ("C", name))
    if step.name is not None:
        connection.sent.append((kind, step.name, *message[2:]))
    return True


def back(client: Client, pipeline: Pipeline, message: Message) -> None:
    """A server's message."""
    kind = message[0]
    answer = Answer()
    if kind == "C":
        pipeline.complete(message[1] if isinstance(message[1], bytes) else b"")
    if kind in ENDINGS:
        answer = pipeline.reply()
    elif kind == "E":
        pipeline.error(message[1])
    elif kind == "G":
        pipeline.copy_in()
    elif kind == "Z":
        answer = Answer(True, pipeline.ready())
    if answer.deliver:
        client.got.append(message)
    client.got += [(each.decode(),) for each in answer.then]


def run(scripts: list[list[Message]], connections: int, limit: int, choose: Any) -> list[list[Message]]:
    """What each client got of shared connections. `choose(n)` is one of n, by chance."""
    pool = [Connection(limit) for _ in range(connections)]
    clients = [Client(script) for script in scripts]
    moves: list[Any] = [None]
    while moves:
        moves = []
        for client in clients:
            if client.lease is None:
                free = [
                    each for each in pool if all(other.lease is None or other.lease[0] is not each for other in clients)
                ]
                if client.todo and free:
                    moves.append(("lease", client, free))
                continue
            connection, _ = client.lease
            moves += [("client", client)] * bool(client.todo and not client.held)
            moves += [("server", client)] * bool(connection.sent)
            moves += [("back", client)] * bool(connection.answers)
        if not moves:
            break
        kind, client, *rest = moves[choose(len(moves))]
        if kind == "lease":
            connection = rest[0][choose(len(rest[0]))]
            client.lease = (connection, Pipeline(client.statements, connection.known))
            continue
        connection, pipeline = client.lease
        if kind == "client":
            if forward(connection, pipeline, client.todo[0]):
                client.todo.popleft()
                client.got += [(each.decode(),) for each in pipeline.due()]
            else:
                client.held = True
                assert connection.sent or connection.answers, "held for ever"
        elif kind == "server":
            connection.answers += connection.server.take(connection.sent.popleft())
        else:
            message = connection.answers.popleft()
            back(client, pipeline, message)
            client.held = client.held and message[0] not in "ZEG"
            if message[0] == "Z" and pipeline.idle and not connection.sent:
                held = connection.server.named
                assert (
                    set(connection.known.present) <= set(held) <= set(connection.known.present) | connection.known.stale
                )
                client.lease = None
    assert not any(client.todo for client in clients)
    return [client.got for client in clients]


def alone(script: list[Message]) -> list[Message]:
    """What a client gets of a server of its own."""
    server = Server()
    return [answer for message in script for answer in server.take(message)]


NAMES = st.sampled_from([b"", b"", b"a", b"b", b"c"])
TEXTS = st.sampled_from([b"one", b"two", b"three", b"four", b"bad", b"fails"])
PIECE = st.one_of(
    st.tuples(st.just("P"), NAMES, TEXTS),
    st.tuples(st.just("B"), NAMES),
    st.tuples(st.just("B"), NAMES),
    st.tuples(st.just("D"), NAMES),
    st.tuples(st.just("C"), NAMES),
    st.just(("E",)),
    st.just(("H",)),
)
# A client that begins a COPY ends it, and forgets the statement, or it would hang on a server of its own too.
BATCH = st.one_of(
    st.lists(PIECE, max_size=6).map(lambda pieces: [*pieces, ("S",)]),
    st.lists(PIECE, max_size=6).map(lambda pieces: [*pieces, ("S",)]),
    st.tuples(st.lists(PIECE, max_size=2), st.sampled_from([b"x", b"bad"])).map(
        lambda both: [*both[0], ("Q", both[1]), ("S",)]
    ),
    st.sampled_from([b"x", b"bad", *ENDS_ALL]).map(lambda text: [("Q", text)]),
    st.sampled_from(ENDS_ALL).map(lambda text: [("P", b"", text), ("B", b""), ("E",), ("C", b""), ("S",)]),
    st.just([("P", b"", b"copy"), ("B", b""), ("E",), ("S",), ("c",), ("C", b""), ("S",)]),
    st.just([("P", b"", b"copy"), ("B", b""), ("E",), ("c",), ("C", b""), ("S",)]),
    st.sampled_from(["Sc", "Sf", "c", "f", "cS", "SScS", "SffS", "SHcfS"]).map(
        lambda kinds: [("Q", b"copy"), *((kind,) for kind in kinds)]
    ),
)
SCRIPT = st.lists(BATCH, max_size=6).map(lambda batches: [message for batch in batches for message in batch])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(SCRIPT, min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 4), st.randoms(use_true_random=False)
)
def test_every_client_is_served_as_if_it_were_alone(
    scripts: list[list[Message]], connections: int, limit: int, chance: Any
) -> None:
    got = run(scripts, connections, limit, chance.randrange)
    assert got == [alone(script) for script in scripts]


def script(text: str) -> list[Message]:
    """`P a one`, `Q DISCARD_ALL`, `P - one` (the unnamed one), separated by commas."""
    found = [each.split() for each in text.split(",")]
    return [
        (kind, *(b"" if word == "-" else word.replace("_", " ").encode() for word in words)) for kind, *words in found
    ]


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize(
    "text",
    [
        "B x, P a one, S, B a, E, S",  # a Parse that was skipped
        "B x, P a one, S, P a two, B a, S, D a, S",
        "P a one, S, P b two, S, B x, B a, S, B a, S",  # one of ours that was skipped
        "P a one, S, P b two, S, B x, B b, S, P b one, S, P c two, S, B c, S",
        "P a one, S, Q DEALLOCATE_ALL, P a one, S, B a, S",
        "P a one, S, P - DISCARD_ALL, B -, E, S, P a one, S, B a, S",
        "P - one, S, P - bad, S, B -, S",  # the old unnamed one is gone
        "P - one, S, Q x, B -, S",
        "P - one, S, B x, Q x, S, B -, S",  # a Query that was skipped
        "B x, P - one, S, B -, S",
        "P a one, S, C a, B a, S, P a two, S, B a, S",
        "B x, P a one, S, P a one, S, B a, S",
        "B x, P b one, S, P a one, B a, S",
        "B x, P b bad, S, P a bad, S",
        "P a one, P a two, S, B a, S",
        "P a one, C a, P a two, B a, E, S, B a, S",
        "P a bad, S, P a one, S, D a, S",
        "P a fails, B a, E, P b one, S, B b, S, B a, S",
    ],
)
@pytest.mark.parametrize("schedule", ["all at once", "one by one"])
def test_scripts_that_are_hard(text: str, limit: int, schedule: str) -> None:
    first = schedule == "all at once"  # of the moves, those of the client come first
    others = script("P a two, S, P - two, B -, E, S, P b three, S")
    got = run([script(text), others], 1, limit, lambda moves: 0 if first else moves - 1)
    assert got == [alone(script(text)), alone(others)]


ONE, TWO = statement(b"one", b"", b""), statement(b"two", b"", b"")


def pipeline(limit: int = 10, *present: statements.Statement) -> Pipeline:
    server = ServerStatements(limit)
    for each in present:
        server.present[each.name] = None
    return Pipeline(ClientStatements(), server)


def test_a_statement_that_is_there_is_not_parsed_again() -> None:
    lease = pipeline(10, ONE)
    assert lease.parse(b"a", ONE) == Step()
    assert lease.due() == (b"1",)
    assert lease.bind(b"a") == Step(name=ONE.name)
    assert lease.reply() == Answer()
    assert lease.close(b"a") == Step()
    assert lease.due() == (b"3",)


def test_one_that_is_not_there_is_parsed_unseen_and_the_oldest_closed() -> None:
    client, server = ClientStatements(), ServerStatements(1)
    server.present[TWO.name] = None
    client.by_name[b"a"] = ONE
    lease = Pipeline(client, server)
    assert lease.bind(b"a") == Step((Send(TWO.name), Send(ONE.name, ONE)), ONE.name)
    assert [lease.reply().deliver for _ in range(3)] == [False, False, True]
    lease.sync()
    assert not lease.idle
    lease.ready()
    assert (lease.idle, list(server.present)) == (True, [ONE.name])


def test_a_plan_whose_result_changed_is_parsed_anew() -> None:
    """Or a client that does what it should, prepare it again, would get the same error for ever."""
    client, server = ClientStatements(), ServerStatements(10)
    client.by_name[b"a"], server.present[ONE.name] = ONE, None
    lease = Pipeline(client, server)
    lease.bind(b"a")
    lease.sync()
    lease.error(b"0A000")
    lease.ready()
    assert lease.bind(b"a") == Step((Send(ONE.name), Send(ONE.name, ONE)), ONE.name)


def test_another_clients_unnamed_statement_cant_be_bound() -> None:
    assert pipeline().bind(b"") == Step((Send(b""),), b"")


def test_names_of_ours_cant_be_guessed() -> None:
    assert pipeline(10, ONE).bind(ONE.name) == Step(name=b"?" + ONE.name)
    assert pipeline(10, ONE).bind(b"of sql") == Step(name=b"of sql")


def test_deallocate_of_a_statement_of_the_protocol() -> None:
    client = ClientStatements()
    client.by_name = {b"a": ONE, b"": TWO}
    assert client.deallocate(b"a")
    assert not client.deallocate(b"a")
    assert not client.deallocate(b"")


def test_a_statement_is_its_text_types_and_context() -> None:
    parts = [(b"a", b"b", b"c"), (b"ab", b"", b"c"), (b"a", b"b", b"d"), (b"a", b"bc", b"")]
    assert len({statement(*each).name for each in parts}) == len(parts)
    assert len(ONE.name) < 63


def test_a_client_cant_fill_the_memory() -> None:
    lease = pipeline()
    lease._client.by_name = dict.fromkeys(map(bytes, range(statements.MOST_PER_CLIENT)), ONE)
    with pytest.raises(TooManyStatements, match="at most 10000"):
        lease.parse(b"new", TWO)


def text_of(number: int, size: int = 1 << 18) -> statements.Statement:
    return statement(b"%d" % number + b"x" * size, b"", b"")


@pytest.mark.parametrize("answered", [True, False])
def test_nor_by_few_that_are_long(answered: bool) -> None:
    """Those count too of which the server has not said yet that it takes them."""
    lease = pipeline()
    most = statements.MOST_TEXT // (1 << 18) - 1
    for number in range(most):
        lease.parse(b"%d" % number, text_of(number))
        if answered:
            lease.reply()
    with pytest.raises(TooManyStatements, match="at most 16777216 bytes"):
        lease.parse(b"new", text_of(most, 1 << 19))
    lease.parse(b"", text_of(most, 1 << 19))  # there is only one without a name


def test_what_is_gone_counts_no_more() -> None:
    client, server = ClientStatements(), ServerStatements(10)
    for number in range(10):
        lease = Pipeline(client, server)
        before = client.held
        for place in range(4):
            lease.parse(b"%d" % place, text_of(100 * number + place))
        assert lease.reply() == Answer()
        lease.error(b"42601")
        lease.sync()
        lease.ready()
        assert client.held == before + len(text_of(100 * number).text), "the others were skipped"
        if number == 1:
            client.clear()
        elif number % 2:
            assert client.deallocate(b"0")
        else:
            lease.close(b"0")
            lease.sync()
            lease.due()
            lease.ready()
        assert (client.held, lease._parsing) == (0, 0)


@pytest.mark.parametrize("wrong", ["reply", "ready", "early"])
def test_a_server_out_of_step_is_found(wrong: str) -> None:
    lease = pipeline()
    if wrong == "early":
        lease.other()
        lease.sync()
        wrong = "ready"
    with pytest.raises(OutOfStep):
        getattr(lease, wrong)()
