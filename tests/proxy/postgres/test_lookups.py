"""Look-ups of users: what the server says in answer, how many ask, and when it can't be asked."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.conformance.pgwire_cases import message
from tests.integration.postgres.scripted import GREETING, KEY, READY, Answer, then_close
from tests.proxy.postgres.harness import Rig
from tests.support.waiting import until

from forebay_core.pgwire import backend, frontend
from forebay_core.postgres.scram import ServerExchange, make_verifier, parse_verifier
from forebay_proxy.postgres import lookups

Start = Callable[..., Awaitable[Rig]]

STATEMENT = "SELECT * FROM lookup($1)"
SECRET = str(make_verifier("secret", b"salt" * 4))


@pytest.fixture
async def asking(rig: Start) -> Rig:
    """A rig whose users are looked up."""
    return await start(rig)


async def start(rig: Start, cache: str = "1h", **fields: Any) -> Rig:
    query = {"user": "lookup", "statement": STATEMENT, "cacheTime": cache}
    return await rig(postgres={"auth": {"query": query}}, **fields)


def row(*values: str | None) -> bytes:
    return backend.data_row(values)


def finds(r: Rig, *rows: bytes) -> None:
    """From now on the query has these rows."""
    r.server.usual[b"E"] = b"".join(rows) + backend.command_complete("SELECT")


def asked(r: Rig) -> int:
    """How many look-ups the server has heard."""
    return sum(heard.count(STATEMENT.encode()) for heard in r.server.heard)


async def log_in(r: Rig, user: str, password: str = "secret") -> tuple[bytes, bytes]:
    client = await r.client()
    client.start(user)
    return await client.scram(password)


async def cannot(r: Rig, user: str = "alice") -> str:
    """The SQLSTATE with which a client hears that users can't be looked up."""
    client = await r.client()
    client.start(user)
    return (await client.refused()).sqlstate


async def test_one_for_all_who_ask(asking: Rig) -> None:
    finds(asking, row("alice", SECRET))
    answers = await asyncio.gather(*(log_in(asking, "alice") for _ in range(20)))
    assert {kind for kind, _ in answers} == {b"R"}
    assert asked(asking) == 1


async def test_one_after_the_other(asking: Rig) -> None:
    """On one connection, which is given back when nobody is left."""
    finds(asking)
    await asyncio.gather(*(log_in(asking, f"user{number}") for number in range(10)))
    assert asked(asking) == 10
    assert [b"lookup" in packet for packet in asking.server.startups] == [True]
    assert asking.upstream.pool.leased == 0


async def test_what_is_said_while_it_is_asked_is_not_lost(asking: Rig) -> None:
    """A client may send its whole login at once, if it takes the method for granted."""
    finds(asking, row("alice", SECRET))
    client = await asking.client()
    client.start("alice")
    client.send(b"p\0\0\0")
    client.send(b"\4")
    assert await client.authentication()
    assert (await client.refused()).sqlstate == "08P01"


@pytest.mark.parametrize(
    "rows",
    [(), (row(None, None),), (row("alice", None),), (row("alice", ""),), (row("alice", "md5" + "0" * 32),)],
    ids=["none", "nulls", "null", "empty", "md5"],
)
async def test_nobody_by_that_name(asking: Rig, rows: tuple[bytes, ...]) -> None:
    """Or nobody who can log in this way: it is a wrong password."""
    finds(asking, *rows)
    kind, body = await log_in(asking, "alice")
    assert (kind, b"28P01" in body) == (b"E", True)
    await log_in(asking, "alice")
    assert asked(asking) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (row("alice", SECRET) * 2, "at most one row, found 2"),
        (row("alice"), "two columns, a user and its secret, found 1"),
        (row("bob", SECRET), "found another"),
        (row("alice", "plain"), "expected SCRAM-SHA-256"),
        (row("alice", "x" * 70_000), "an answer of at most 65536 bytes"),
        (message(b"D", b"\0\2\0\0"), "DataRow: expected"),
        (backend.error_response("ERROR", "42883", "no such function"), r"no such function \(42883\)"),
        (then_close(b""), "closed the connection"),
    ],
    ids=["rows", "columns", "another", "plain", "long", "malformed", "error", "lost"],
)
async def test_answers_that_are_none(asking: Rig, caplog: pytest.LogCaptureFixture, answer: Answer, says: str) -> None:
    """The log has the cause, once; clients, who may be anybody, don't hear it."""
    asking.server.usual[b"E"] = answer
    with caplog.at_level(logging.WARNING):
        assert [await cannot(asking) for _ in range(2)] == ["57P03"] * 2
    (record,) = caplog.records
    assert re.search(says, record.getMessage())
    assert asking.proxy.rejections == {"lookup": 2}
    await until(lambda: asking.upstream.pool.leased == 0)
    finds(asking, row("alice", SECRET))
    assert (await log_in(asking, "alice"))[0] == b"R", "it goes on when the server does"


async def test_failures_that_clients_make_are_not_a_line_each(
    asking: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's words may have the name in them, so they are others each time; and logins that are right between
    those that fail change nothing."""
    for number in range(5):
        asking.server.usual[b"E"] = backend.error_response("ERROR", "22021", f"not this: {number}")
        assert await cannot(asking, f"user{number}") == "57P03"
        finds(asking, row(f"right{number}", SECRET))
        assert (await log_in(asking, f"right{number}"))[0] == b"R"
    assert len(caplog.records) == 1
    monkeypatch.setattr(lookups, "LOGGED_AGAIN", 0.0)
    asking.server.usual[b"E"] = backend.error_response("ERROR", "22021", "not this either")
    assert await cannot(asking) == "57P03"
    assert "not this either" in caplog.messages[-1]
    assert "(4 more have failed" in caplog.messages[-1]


async def test_a_name_that_is_no_utf_8_is_not_asked_for(rig: Start) -> None:
    """Where that is what the server expects: it would refuse the question, and each time in other words."""
    r = await start(rig)
    finds(r)
    kind, body = await log_in(r, "\udcc3(")
    assert (kind, b"28P01" in body) == (b"E", True)
    assert asked(r) == 0
    await log_in(r, "müller")
    assert asked(r) == 1


async def test_a_name_in_the_servers_other_encoding(rig: Start) -> None:
    r = await start(rig)
    latin = backend.parameter_status("client_encoding", "LATIN1")
    r.server.greetings[b"lookup"] = backend.AUTHENTICATION_OK + latin + KEY + READY
    finds(r, row("\udcfcser", SECRET))
    assert (await log_in(r, "\udcfcser"))[0] == b"R"


async def test_a_connection_that_has_just_been_closed(asking: Rig) -> None:
    """The server has closed it as it lay idle: another one is asked on, once."""
    finds(asking, row("alice", SECRET), row("bob", SECRET))
    closed = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not closed:
            closed.append(True)
            raise ConnectionResetError
        writer.write(row("alice", SECRET) + backend.command_complete("SELECT"))

    asking.server.usual[b"E"] = once
    assert (await log_in(asking, "alice"))[0] == b"R"
    assert asked(asking) == 2


async def test_a_server_that_does_not_answer(
    asking: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection is not used again, and all who wait are told."""
    monkeypatch.setattr(lookups, "PATIENCE", 0.05)
    finds(asking)
    asking.server.usual[b"S"] = b""
    assert await asyncio.gather(*(cannot(asking, f"user{number}") for number in range(5))) == ["57P03"] * 5
    assert asked(asking) == 1
    await until(lambda: asking.server.open == 0)
    assert len(caplog.records) == 1


async def test_a_server_that_is_not_there(rig: Start) -> None:
    r = await start(rig, pool={"timeout": "300ms", "connectTimeout": "100ms"})
    await r.server.__aexit__()
    assert await cannot(r) == "57P03"
    assert r.upstream.connect_errors.keys() == {"connect_refused"}


async def test_who_waits_for_a_look_up_waits(rig: Start) -> None:
    """Only one of them is in the pool's queue, and between two attempts none."""
    r = await start(rig, pool={"timeout": "400ms", "connectTimeout": "100ms"})
    await r.server.__aexit__()
    tasks = [asyncio.create_task(cannot(r, user)) for user in ("alice", "alice", "bob")]

    def waiting() -> int:
        state = r.worker.state()["upstreams"]["db"]
        return int(state["waiting"] + state["waiting_besides"])

    await until(lambda: waiting() == 3)
    assert set(await asyncio.gather(*tasks)) == {"57P03"}
    assert waiting() == 0


async def test_a_pool_without_a_place(rig: Start) -> None:
    r = await start(rig, pool={"size": 1, "maxOverflow": 0, "timeout": "100ms"})
    finds(r, row("alice", SECRET))
    assert (await log_in(r, "alice"))[0] == b"R"
    r.upstream.pool.set_grant(1, 0.0)  # its last place is not for leases
    assert await cannot(r, "bob") == "53300"


async def test_too_many_who_ask(asking: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MOST_ASKED", 2)
    held = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.write(backend.command_complete("SELECT"))

    asking.server.usual[b"E"] = answer
    first, second = asyncio.create_task(log_in(asking, "a")), asyncio.create_task(log_in(asking, "b"))
    await until(lambda: len(asking.proxy.clients) == 2 and asked(asking))
    assert await cannot(asking, "c") == "53300"
    held.set()
    assert [kind for kind, _ in await asyncio.gather(first, second)] == [b"E", b"E"]


async def test_who_goes_is_not_told(asking: Rig) -> None:
    """Those who stay are, and what was asked for counts for those who come later."""
    held = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.write(row("alice", SECRET) + backend.command_complete("SELECT"))

    asking.server.usual[b"E"] = answer
    gone = await asking.client()
    gone.start("alice")
    await until(lambda: asked(asking))
    stays = asyncio.create_task(log_in(asking, "alice"))
    await until(lambda: len(asking.proxy.clients) == 2)
    await gone.close()
    await until(lambda: len(asking.proxy.clients) == 1)
    held.set()
    assert (await stays)[0] == b"R"
    assert (await log_in(asking, "alice"))[0] == b"R"
    assert asked(asking) == 1


async def test_names_that_no_server_has(asking: Rig) -> None:
    assert (await log_in(asking, "x" * 64))[0] == b"E"
    assert (await log_in(asking, "\udcff" * 64))[0] == b"E"
    assert asked(asking) == 0


async def test_another_document(rig: Start) -> None:
    """The same query goes on as it is; another begins anew."""
    r = await start(rig)
    finds(r, row("alice", SECRET))
    assert (await log_in(r, "alice"))[0] == b"R"
    same = {"user": "lookup", "statement": STATEMENT, "cacheTime": "1h"}
    await r.apply(postgres={"auth": {"query": same}, "queryTimeout": "1m"})
    assert (await log_in(r, "alice"))[0] == b"R"
    assert asked(r) == 1
    await r.apply(postgres={"auth": {"query": same | {"cacheTime": "2h"}}})
    assert (await log_in(r, "alice"))[0] == b"R"
    assert asked(r) == 2
    await r.apply(postgres={"auth": {"method": "trust"}})
    await r.session("alice")
    assert asked(r) == 2


async def test_what_was_shown_serves_at_the_server(asking: Rig) -> None:
    """The client's keys open the server's connections: it has the very same verifier."""
    finds(asking, row("alice", SECRET))
    proved = []

    async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = ServerExchange("SCRAM-SHA-256", parse_verifier(SECRET), "ours")
        writer.write(backend.authentication_sasl(("SCRAM-SHA-256",)))
        _, first = frontend.read_sasl_initial(await body(reader))
        assert first is not None
        writer.write(backend.authentication(backend.SASL_CONTINUE, exchange.first(first)))
        final, _ = exchange.final(await body(reader))
        proved.append(True)
        writer.write(backend.authentication(backend.SASL_FINAL, final) + GREETING)

    asking.server.greetings[b"alice"] = greeting
    assert (await log_in(asking, "alice"))[0] == b"R"
    assert proved


async def body(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
