"""A document that is changed under sessions: what their database is now counts from their next lease on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.integration.postgres.scripted import READY, ROW
from tests.proxy.postgres.harness import Client, Rig
from tests.support.forebay import postgres_pool
from tests.support.waiting import until

from forebay_core.pgwire import backend, frontend
from forebay_core.spec.load import parse

Start = Callable[..., Awaitable[Rig]]
WITHIN = "SELECT within"


def document(database: str = "old", **fields: Any) -> dict[str, Any]:
    """The clients' database `db` is this one on the server."""
    postgres = {"databases": [{"name": "db", "database": database}], **fields}
    return {"postgres": postgres, "pool": {"size": 1, "maxOverflow": 0}}


def databases(r: Rig) -> list[str]:
    """That connections were logged in to, the first one first."""
    return [packet.split(b"database\0")[1].split(b"\0")[0].decode() for packet in r.server.startups]


async def begun(r: Rig) -> Client:
    """A client in a transaction, in which it may say WITHIN."""
    r.server.answers[WITHIN.encode()] = ROW + backend.ready_for_query(b"T")
    return await r.transaction()


async def test_a_session_at_rest_goes_where_its_database_has_gone(rig: Start) -> None:
    r = await rig(**document())
    client = await r.session()
    await client.ask("SELECT 1")
    await r.apply(**document("new"))
    await client.ask("SELECT 1")
    assert databases(r) == ["old", "new"]
    (pool,) = r.proxy.rows("pools")
    assert pool["cl_active"] == 1, "the console knows it as one of the new database's"


async def test_a_transaction_ends_where_it_began(rig: Start) -> None:
    r = await rig(**document())
    client = await begun(r)
    await r.apply(**document("new"))
    await client.ask(WITHIN)
    assert databases(r) == ["old"]
    await client.ask("COMMIT")
    await client.ask("SELECT 1")
    assert databases(r) == ["old", "new"]


@pytest.mark.parametrize("paused", [False, True])
async def test_who_waits_for_the_old_one_gets_the_new_one(rig: Start, paused: bool) -> None:
    r = await rig(**document())
    holder, waiting = await begun(r), await r.session()
    if paused:
        r.proxy.pause("db")
    waiting.send(frontend.query("SELECT 1"))
    await until(lambda: r.upstream.gated if paused else r.upstream.pool.waiters)
    await r.apply(**document("new"))
    if paused:
        r.proxy.resume("db")
    await holder.ask("COMMIT")
    await waiting.until(b"Z")
    assert databases(r) == ["old", "new"]
    assert r.upstream.pool.total == 1


async def test_the_sessions_of_a_database_that_has_gone_end_when_they_are_idle(rig: Start) -> None:
    r = await rig(**document())
    busy, idle = await begun(r), await r.session()
    await r.apply(postgres={"databases": [{"name": "another"}]})
    assert (await idle.refused()).sqlstate == "57P01"
    await busy.ask(WITHIN)
    busy.send(frontend.query("COMMIT"))
    await busy.until(b"Z")
    error = await busy.refused()
    assert (error.sqlstate, error.message.partition(": ")[2]) == ("57P01", "there is no database db any more")


async def test_a_client_that_logs_in_meanwhile_gets_the_new_one(rig: Start) -> None:
    """It waits for what the old one's server says of itself."""
    r = await rig(**document())
    holder = await begun(r)
    late = await r.client()
    late.start("another")
    await until(lambda: r.upstream.pool.waiters)
    await r.apply(**document("new"))
    await holder.ask("COMMIT")
    await late.until(b"Z")
    await late.ask("SELECT 1")
    assert databases(r)[-1] == "new"


async def test_a_session_keeps_its_mode_of_pooling(rig: Start) -> None:
    """Its statements' names on servers stay its own."""
    r = await rig(**document())
    client = await r.session()
    client.send(frontend.parse(frontend.Statement(b"mine", b"SELECT 1", b"\0\0")) + b"S\0\0\0\4")
    await client.until(b"Z")
    await r.apply(**document(poolMode="session"))
    client.send(frontend.bind(b"", b"mine") + b"E\0\0\0\x09\0\0\0\0\0" + b"S\0\0\0\4")
    await client.until(b"Z")
    assert r.upstream.pool.leased == 0
    (heard,) = r.server.heard
    assert b"mine" not in heard


async def test_a_watch_over_roles_that_begins_and_ends_counts_for_all(rig: Start) -> None:
    r = await rig(**document())
    r.server.answers[b"SELECT pg_catalog.pg_is_in_recovery()"] = (
        backend.row_description([("n", 16)]) + backend.data_row(["f"]) + backend.command_complete("SELECT 1") + READY
    )
    client = await r.session()
    (endpoint,) = r.upstream.pool.endpoints

    async def role() -> str | None:
        """That the client's connections need."""
        await client.ask("SELECT 1")
        (database,) = r.proxy.databases.values()
        return database.login.role

    assert await role() is None
    await r.apply(**document(monitor={"user": "monitor", "database": "postgres"}))
    assert await role() == endpoint.role == "primary"
    await r.apply(**document())
    assert await role() is endpoint.role is None


async def test_a_database_without_an_upstream_is_at_the_first_one(rig: Start) -> None:
    """Also for those who were there before another one came to be the first."""
    r = await rig()
    client = await r.session()
    await client.ask("SELECT 1")
    document = postgres_pool(r.server.port)
    document["spec"]["listen"]["port"] = 0
    (upstream,) = document["spec"]["upstreams"]
    document["spec"]["upstreams"] = [{**upstream, "name": "first"}, upstream]
    await r.worker.apply(parse(document, form="local"))
    await client.ask("SELECT 1")
    late = await r.session()
    await late.ask("SELECT 1")
    assert r.worker.upstreams["first"].pool.opened_total == 1
    assert {database.upstream.name for database in r.proxy.databases.values()} == {"first"}


async def test_the_failure_of_an_opening_for_the_old_one_is_not_told_to_who_waits_for_the_new_one(rig: Start) -> None:
    def of(user: str) -> dict[str, Any]:
        return {"postgres": {"databases": [{"name": "db", "user": user}]}, "pool": {"size": 2, "maxOverflow": 0}}

    r = await rig(**of("old"))
    await begun(r)
    waiting = await r.session()
    go_on = asyncio.Event()

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(backend.error_response("FATAL", "28P01", "password authentication failed"))

    r.server.greetings[b"old"] = refuses
    waiting.send(frontend.query("SELECT 1"))
    await until(lambda: r.upstream.pool.opening)
    await r.apply(**of("new"))
    go_on.set()
    assert (await waiting.until(b"Z"))[0][0] == b"T"


async def test_a_session_of_a_database_that_has_gone_ends_with_its_server_too(rig: Start) -> None:
    r = await rig(**document())
    go_on = asyncio.Event()

    async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.close()

    r.server.answers[b"SELECT slow"] = ends
    client = await r.session()
    client.send(frontend.query("SELECT slow"))
    await until(lambda: r.upstream.pool.leased)
    await r.apply(postgres={"databases": [{"name": "another"}]})
    go_on.set()
    assert (await client.until(b"Z"))[0][0] == b"E"
    assert (await client.refused()).sqlstate == "57P01"


async def test_a_transaction_at_the_old_one_is_shown_to_a_pause(rig: Start) -> None:
    r = await rig(**document())
    client = await begun(r)
    await r.apply(**document("new"))
    assert [row["state"] for row in r.proxy.rows("servers")] == ["active"]
    (row,) = r.proxy.rows("databases")
    assert (row["name"], row["current_connections"]) == ("db", 1)
    await client.ask("COMMIT")
