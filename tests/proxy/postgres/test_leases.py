"""Where a lease begins and ends."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from tests.proxy.postgres.harness import Client, Rig, eventually

from forebay_core.pgwire import backend, frontend

Start = Callable[..., Awaitable[Rig]]
READY = backend.ready_for_query(b"I")


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
    await eventually(lambda: b"bogus" in heard)
    other.send(frontend.query("SELECT secret"))
    pool = r.upstream.pool
    await eventually(lambda: pool.waiters or b"secret" in heard)
    ready.set()
    assert (await other.until(b"Z"))[1][1].endswith(b"secret")
    error = await bad.refused()
    assert (error.severity, error.sqlstate) == ("FATAL", "22023")
    assert pool.opened_total == 1, "the connection is good for others"


async def test_what_is_taken_back_is_no_more_than_the_others_need(rig: Start) -> None:
    """A transaction that is cut is rolled back before its connection is closed; until then it counts as ending."""
    r = await rig(pool={"size": 6, "maxOverflow": 0})
    r.server.answers[b"BEGIN"] = backend.command_complete("BEGIN") + backend.ready_for_query(b"T")
    clients: list[Client] = []
    for _ in range(6):
        clients.append(await r.session())
        await clients[-1].ask("BEGIN")
    pool = r.upstream.pool
    assert pool.leased == 6
    pool.set_grant(6, monotonic())  # one of which is spare
    r.upstream.act()
    assert (pool.limit, pool.leased) == (5, 6)
    r.upstream.press(0.0)
    assert (await clients[0].error()).sqlstate == "57P01", "the longest"
    await eventually(lambda: pool.total == 5)
    assert (len(r.proxy.clients), pool.leased, pool.closed_total["shrink"]) == (5, 5, 1)
