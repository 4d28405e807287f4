"""Where a lease begins and ends."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest
from tests.integration.postgres.scripted import READY, Answer, then_close
from tests.proxy.postgres.harness import Rig
from tests.support.waiting import until

from forebay_core.pgwire import backend, frontend, startup
from forebay_proxy.postgres.server import PgConnection

Start = Callable[..., Awaitable[Rig]]
COPY = "COPY t FROM STDIN"
COPY_IN = b"G\0\0\0\7\0\0\0"
BAD = b"d\0\0\0\7bad"
COPY_DONE = b"c\0\0\0\4"
SYNC = b"S\0\0\0\4"
EXTENDED = frontend.parse(frontend.Statement(b"", COPY.encode(), b"\0\0")) + frontend.bind(b"", b"")
EXECUTE = b"E\0\0\0\x09\0\0\0\0\0"


def row(text: str) -> bytes:
    return (
        backend.row_description([("n", 25)]) + backend.data_row([text]) + backend.command_complete("SELECT 1") + READY
    )


async def test_a_setting_that_the_server_refuses_keeps_its_connection_until_the_server_is_ready(rig: Start) -> None:
    """PostgreSQL sends an error before it is ready again, often in two packets: what comes behind it is nobody else's
    answer."""
    r = await rig(pool={"size": 1, "maxOverflow": 0})
    ready = asyncio.Event()

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(backend.error_response("ERROR", "22023", 'invalid value for parameter "TimeZone": "bogus"'))
        await ready.wait()
        writer.write(READY)

    r.server.answers[b"SET TimeZone TO 'bogus'"] = refuses
    r.server.answers[b"SELECT secret"] = row("secret")
    await (await r.session()).ask("SELECT 1")
    bad, other = await r.session(TimeZone="bogus"), await r.session()
    bad.send(frontend.query("SELECT 1"))
    (heard,) = r.server.heard
    await until(lambda: b"bogus" in heard)
    other.send(frontend.query("SELECT secret"))
    pool = r.upstream.pool
    await until(lambda: pool.waiters or b"secret" in heard)
    ready.set()
    assert (await other.until(b"Z"))[1][1].endswith(b"secret")
    error = await bad.refused()
    assert (error.severity, error.sqlstate) == ("FATAL", "22023")
    assert pool.opened_total == 1, "the connection is good for others"


async def test_what_is_taken_back_is_no_more_than_the_others_need(rig: Start) -> None:
    """A transaction that is cut is rolled back before its connection is closed; until then it counts as ending."""
    r = await rig(pool={"size": 6, "maxOverflow": 0})
    clients = [await r.transaction() for _ in range(6)]
    pool = r.upstream.pool
    assert pool.leased == 6
    pool.set_grant(6, monotonic())  # one of which is spare
    r.upstream.act()
    assert (pool.limit, pool.leased) == (5, 6)
    r.upstream.press(0.0)
    assert (await clients[0].error()).sqlstate == "57P01", "the longest"
    await until(lambda: pool.total == 5)
    assert (len(r.proxy.clients), pool.leased, pool.closed_total["shrink"]) == (5, 5, 1)


def fails(syncs_before: int, go_on: asyncio.Event) -> Answer:
    """A server's COPY that fails at its first row. So many Syncs it reads before that, to ignore them; those behind it
    are answered when the script goes on."""

    async def copies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(COPY_IN)
        await reader.readexactly(len(SYNC) * syncs_before + len(BAD))
        writer.write(backend.error_response("ERROR", "22P04", "bad row"))
        if syncs_before:  # of the extended protocol: it skips up to a Sync
            await reader.readexactly(len(SYNC))
        writer.write(READY)
        await go_on.wait()

    return copies


@pytest.mark.parametrize("reset", ["auto", "always"])
async def test_half_a_message_of_a_copy_that_fails_is_not_left_to_the_next_client(rig: Start, reset: str) -> None:
    r = await rig(pool={"size": 1, "maxOverflow": 0, "resetOnReturn": reset})
    go_on = asyncio.Event()
    go_on.set()
    r.server.answers[COPY.encode()] = fails(0, go_on)
    client, other = await r.session(), await r.session()
    client.send(frontend.query(COPY))
    await client.until(b"G")
    client.send(BAD + b"d\0\0\0\x68" + b"x" * 10)
    assert [kind for kind, _ in await client.until(b"Z")] == [b"E", b"Z"]
    assert (await other.ask("SELECT 1"))[-1] == (b"Z", b"I")
    client.send(b"x" * 90 + frontend.query("SELECT 1"))
    assert (await client.until(b"Z"))[-1] == (b"Z", b"I")
    assert r.upstream.pool.closed_total["error"] == 1


@pytest.mark.parametrize(
    ("first", "then", "syncs"),
    [
        (frontend.query(COPY), BAD + SYNC, 0),
        (frontend.query(COPY) + SYNC, BAD, 0),
        (EXTENDED + EXECUTE + SYNC, BAD + SYNC + COPY_DONE + SYNC, 1),
    ],
    ids=["simple", "before it begins", "extended"],
)
async def test_a_sync_within_a_copy_that_fails_is_nobody_elses(
    rig: Start, first: bytes, then: bytes, syncs: int
) -> None:
    """It is answered after all where the server reads it behind the failure."""
    r = await rig(pool={"size": 1, "maxOverflow": 0})
    go_on = asyncio.Event()
    r.server.answers[COPY.encode()] = r.server.usual[b"E"] = fails(syncs, go_on)
    r.server.answers[b"SELECT secret"] = row("secret")
    client, other = await r.session(), await r.session()
    client.send(first)
    await client.until(b"G")
    client.send(then)
    assert (await client.until(b"Z"))[-2][0] == b"E"
    other.send(frontend.query("SELECT secret"))
    pool = r.upstream.pool
    await until(lambda: pool.waiters or any(b"secret" in heard for heard in r.server.heard))
    go_on.set()
    assert (await other.until(b"Z"))[1][1].endswith(b"secret")
    assert pool.closed_total["error"] == 1


async def test_a_connection_whose_cancel_request_is_still_under_way_is_for_nobody_else(
    rig: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has it, and has not passed the signal on in time: it may still come."""
    monkeypatch.setattr("forebay_proxy.postgres.cancel.PATIENCE", 0.1)
    r = await rig(pool={"size": 1, "maxOverflow": 0})
    answer = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer.wait()
        writer.write(row("slow"))

    r.server.answers[b"SELECT slow"] = slow
    r.server.cancel_ends.clear()
    client = await r.client()
    client.start("somebody")
    key = next(body for kind, body in await client.until(b"Z") if kind == b"K")
    client.send(frontend.query("SELECT slow"))
    await until(lambda: r.server.heard and b"slow" in r.server.heard[0])
    asks = await r.client()
    asks.send(startup.write_cancel(startup.CancelRequest(int.from_bytes(key[:4]), key[4:])))
    await until(lambda: r.server.cancels)
    answer.set()
    await client.until(b"Z")
    assert (await client.ask("SELECT 1"))[-1] == (b"Z", b"I")
    assert len(r.server.heard) == 2, "the second query went to another connection"
    r.server.cancel_ends.set()


async def test_settings_that_cant_be_set_for_a_whole_queue(rig: Start) -> None:
    """Each is told so, and none from within another's end."""
    r = await rig(pool={"size": 1, "maxOverflow": 0})
    holder = await r.transaction()
    queue = [await r.session(application_name="é", client_encoding="SJIS") for _ in range(300)]
    for client in queue:
        client.send(frontend.query("SELECT 1"))
    await until(lambda: len(r.upstream.pool.waiters) == 300)
    await holder.ask("COMMIT")
    for client in queue:
        assert (await client.refused()).sqlstate == "22023"
    await holder.ask("SELECT 1")


def is_full(r: Rig) -> None:
    """It lets in nobody but a monitor, and serves those who are there."""
    r.server.greetings[b"somebody"] = backend.error_response("FATAL", "53300", "sorry, too many clients already")


async def test_who_may_not_log_in_for_now_waits_for_a_connection_that_there_is(rig: Start) -> None:
    r = await rig(pool={"size": 2, "maxOverflow": 0})
    holder = await r.transaction()
    is_full(r)
    waiting = await r.session()
    waiting.send(frontend.query("SELECT 1"))
    await until(lambda: r.upstream.connect_errors.get("server_full"))
    await holder.ask("COMMIT")
    assert (await waiting.until(b"Z"))[0][0] == b"T"
    (endpoint,) = r.upstream.pool.endpoints
    assert endpoint.health.errors == 0


async def test_who_waits_for_a_full_server_in_vain_is_told_so(rig: Start) -> None:
    r = await rig(pool={"size": 2, "maxOverflow": 0, "timeout": "300ms"})
    await r.transaction()
    waiting = [await r.session() for _ in range(2)]
    is_full(r)
    for client in waiting:
        client.send(frontend.query("SELECT 1"))
    errors = [await client.error() for client in waiting]
    assert {error.sqlstate for error in errors} == {"53300"}
    assert any("the server takes no further connections" in error.message for error in errors)


async def test_a_full_server_is_asked_by_one_at_a_time(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each login is a process for it. When it has room again, everybody has."""
    monkeypatch.setattr("forebay_proxy.upstream.FULL_FOR", 0.05)
    r = await rig(pool={"size": 20, "maxOverflow": 0, "timeout": "5s"})
    clients = [await r.session() for _ in range(100)]
    r.upstream.pool.recycle_all(monotonic())
    r.upstream.act()
    await until(lambda: not r.upstream.pool.total)
    is_full(r)
    before = len(r.server.startups)
    for client in clients:
        client.send(frontend.query("SELECT 1"))
    errors = r.upstream.connect_errors
    await until(lambda: errors.get("server_full", 0) >= 25)
    began, first = monotonic(), len(r.server.startups)
    assert first - before < 30, "as many as there is room for, and then one after the other"
    await until(lambda: len(r.server.startups) >= first + 3)
    assert monotonic() - began > 0.09
    del r.server.greetings[b"somebody"]
    for client in clients:
        assert (await client.until(b"Z"))[0][0] == b"T"
    assert not r.upstream.pool.braked


async def test_a_reset_that_is_followed_by_a_transaction_takes_nothing_away_at_its_end(rig: Start) -> None:
    """Both answers come at once, so when the first one's comes the server is in a transaction."""
    r = await rig(pool={"size": 1, "maxOverflow": 0})
    in_transaction = backend.ready_for_query(b"T")
    r.server.answers |= {
        b"RESET work_mem": b"",
        b"BEGIN": backend.command_complete("RESET") + READY + backend.command_complete("BEGIN") + in_transaction,
        b"SET work_mem = '1GB'": backend.command_complete("SET") + in_transaction,
    }
    client = await r.session()
    client.send(frontend.query("RESET work_mem"))
    await until(lambda: b"RESET" in b"".join(map(bytes, r.server.heard)))
    client.send(frontend.query("BEGIN"))
    await client.until(b"Z")
    await client.until(b"Z")
    await client.ask("SET work_mem = '1GB'")
    await client.ask("COMMIT")
    (there,) = r.proxy.clients
    assert there.session is not None
    assert there.session.pins == {"set:work_mem"}
    assert r.upstream.pool.leased == 1


async def test_statements_that_are_in_doubt_count_among_those_that_a_connection_keeps(rig: Start) -> None:
    r = await rig(postgres={"maxPreparedStatements": 5}, pool={"size": 1, "maxOverflow": 0})
    r.server.answers[b"SET statement_timeout = 1"] = backend.command_complete("SET") + READY
    r.server.answers[b"RESET statement_timeout"] = backend.command_complete("RESET") + READY
    client = await r.session()
    for number in range(20):
        await client.ask("SET statement_timeout = 1")
        text = f"SELECT {number}".encode()
        client.send(frontend.parse(frontend.Statement(b"s%d" % number, text, b"\0\0")) + SYNC)
        await client.until(b"Z")
        await client.ask("RESET statement_timeout")
    (connection,) = r.upstream.pool.connections
    assert isinstance(connection, PgConnection)
    assert len(connection.statements.present) + len(connection.statements.stale) == 5
    assert r.server.heard[0].count(b"Sforebay_") == 15, "the others are closed"


async def test_who_has_waited_in_vain_and_does_nothing_ends(rig: Start) -> None:
    """Its time begins anew with the error, though it had passed before."""
    r = await rig(pool={"size": 1, "maxOverflow": 0, "timeout": "400ms"}, postgres={"clientIdleTimeout": "300ms"})
    r.server.answers[b"BEGIN"] = b""
    holder, client = await r.session(), await r.session()
    holder.send(frontend.query("BEGIN"))
    await until(lambda: r.upstream.pool.leased)
    assert (await client.ask("SELECT 1"))[0][0] == b"E"
    assert (await client.refused()).sqlstate == "57P05"


async def test_a_query_has_no_time_left_over_when_its_server_has_gone(rig: Start) -> None:
    r = await rig(postgres={"clientIdleTimeout": "1h", "queryTimeout": "10s"})
    r.server.answers[b"LOST"] = then_close(b"")
    client = await r.session()
    assert (await client.ask("LOST"))[0][0] == b"E"
    (there,) = r.proxy.clients
    assert there.deadline > monotonic() + 100
