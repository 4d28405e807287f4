"""The admin database: PgBouncer's columns, as dashboards and psql read them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.integration.postgres.server import Postgres
from tests.integration.postgres.test_programs import run
from tests.support.forebay import Forebay, postgres_pool

from forebay_core.postgres.console import TABLES

Start = Callable[..., Awaitable[Forebay]]
USERS = {"adminUsers": ["admin"], "statsUsers": ["viewer"]}


async def ask(pool: Forebay, query: str, user: str = "viewer") -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user=user, dbname="pgbouncer", autocommit=True, row_factory=dict_row
    ) as connection:
        cursor = psycopg.AsyncClientCursor(connection, row_factory=dict_row)
        await cursor.execute(query)
        return await cursor.fetchall() if cursor.description else []


@pytest.fixture
async def pool(forebay: Start, postgres: Postgres) -> Forebay:
    return await forebay(postgres_pool(postgres.port, postgres=USERS))


def client(pool: Forebay, dbname: str = "postgres") -> Any:
    return psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user="postgres", dbname=dbname, autocommit=True, application_name="me"
    )


async def test_tables(pool: Forebay) -> None:
    async with await client(pool) as connection:
        await connection.execute("BEGIN")
        await connection.execute("SELECT 1")
        for table, columns in TABLES.items():
            found = await ask(pool, f"SHOW {table.upper()}")
            for row in found:
                assert list(row) == [column.name for column in columns]
        (row,) = await ask(pool, "show pools;")
        assert (row["database"], row["user"], row["cl_active"], row["sv_active"]) == ("postgres", "postgres", 1, 1)
        (row,) = await ask(pool, "SHOW CLIENTS")
        assert (row["state"], row["application_name"], row["addr"]) == ("active", "me", "127.0.0.1")
        (row,) = await ask(pool, "SHOW SERVERS")
        assert row["state"] == "active"
        assert row["remote_pid"] > 0
        await connection.execute("COMMIT")
        (row,) = await ask(pool, "SHOW STATS")
        assert row["total_xact_count"] == 1


async def test_orders(pool: Forebay) -> None:
    with pytest.raises(psycopg.Error, match="admin access needed"):
        await ask(pool, "PAUSE")
    await ask(pool, "PAUSE", "admin")
    assert {"key": "paused", "value": "yes"} in await ask(pool, "SHOW STATE")
    await ask(pool, "RESUME", "admin")
    async with await client(pool) as connection:
        (before,) = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
        await ask(pool, "RECONNECT", "admin")
        (after,) = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
        assert before != after
        await ask(pool, "KILL postgres", "admin")
        with pytest.raises(psycopg.errors.AdminShutdown):
            await connection.execute("SELECT 1")


async def test_psql_and_strangers(pool: Forebay) -> None:
    said = await run("psql", pool.port, "-X", "-U", "admin", "pgbouncer", script="SHOW VERSION;\nSHOW HELP;\n")
    assert "forebay" in said
    with pytest.raises(psycopg.OperationalError, match='user "postgres" may not use database "pgbouncer"'):
        await ask(pool, "SHOW POOLS", "postgres")


async def test_it_tells_of_all_workers(forebay: Start, postgres: Postgres) -> None:
    """Whichever has taken the connection; and orders are for all."""
    pool = await forebay(postgres_pool(postgres.port, postgres=USERS, spec={"replicas": 3}))
    clients = [await client(pool) for _ in range(12)]
    try:
        backends = [await one(each, "SELECT pg_backend_pid()") for each in clients]
        workers = [worker["clients"] for worker in (await pool.state())["workers"]]
        assert len(workers) == 3
        assert max(workers) < len(clients)  # the kernel has spread them
        for _ in range(4):
            assert len(await ask(pool, "SHOW CLIENTS")) == len(clients)
            (row,) = await ask(pool, "SHOW POOLS")
            assert row["cl_active"] == len(clients)
            assert row["sv_idle"] == len(set(backends)) == len(await ask(pool, "SHOW SERVERS"))
            (row,) = await ask(pool, "SHOW STATS")
            assert row["total_xact_count"] == len(clients)
        await ask(pool, "PAUSE", "admin")
        held = [asyncio.create_task(one(each, "SELECT 1")) for each in clients]
        async with asyncio.timeout(20):
            while (await ask(pool, "SHOW POOLS"))[0]["cl_waiting"] < len(clients):
                await asyncio.sleep(0.02)
        await ask(pool, "RESUME", "admin")
        assert await asyncio.wait_for(asyncio.gather(*held), 20) == [1] * len(clients)
        await ask(pool, "KILL postgres", "admin")
        async with asyncio.timeout(20):
            while await ask(pool, "SHOW CLIENTS"):
                await asyncio.sleep(0.02)
    finally:
        for each in clients:
            await each.close()


@pytest.fixture
def orders(postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    """A database of that name, which the test has to leave; this connection is the superuser's, to another one."""
    with psycopg.connect(host="127.0.0.1", port=postgres.port, user="postgres", autocommit=True) as server:
        server.execute("CREATE DATABASE orders")
        yield server
        server.execute("DROP DATABASE orders WITH (FORCE)")


async def waiting(pool: Forebay, database: str) -> int:
    """How many clients of a database wait."""
    return sum(row["cl_waiting"] for row in await ask(pool, "SHOW POOLS") if row["database"] == database)


async def test_one_database_is_renamed_under_its_clients(
    forebay: Start, postgres: Postgres, orders: psycopg.Connection[Any]
) -> None:
    """Which a server does only when nobody is connected to it: the clients of that database wait, those of another do
    not, and nobody gets an error."""
    pool = await forebay(
        postgres_pool(postgres.port, postgres=USERS, spec={"replicas": 3}, pool={"size": 2, "maxOverflow": 0})
    )
    clients = [await client(pool, "orders") for _ in range(9)]
    other = await client(pool)
    asking, asked = True, 0

    async def ask_on(connection: Any) -> None:
        nonlocal asked
        while asking:
            async with connection.transaction():
                assert await one(connection, "SELECT 1") == 1
            asked += 1

    tasks = [asyncio.create_task(ask_on(each)) for each in clients[1:]]
    try:
        await clients[0].execute("BEGIN")
        pausing = asyncio.create_task(ask(pool, "PAUSE orders", "admin"))
        async with asyncio.timeout(20):
            while await waiting(pool, "orders") < len(tasks):
                await asyncio.sleep(0.02)
        assert not pausing.done()  # a transaction is still open, and goes on
        await clients[0].execute("SELECT 1")
        await clients[0].execute("COMMIT")
        await asyncio.wait_for(pausing, 20)
        orders.execute("ALTER DATABASE orders RENAME TO moved")
        assert {row["name"]: row["paused"] for row in await ask(pool, "SHOW DATABASES")} == {"postgres": 0, "orders": 1}
        assert await one(other, "SELECT 2") == 2
        arriving = asyncio.create_task(client(pool, "orders"))
        before = asked
        orders.execute("ALTER DATABASE moved RENAME TO orders")
        with pytest.raises(psycopg.Error, match="database postgres is not paused"):
            await ask(pool, "RESUME postgres", "admin")
        assert asked == before
        await ask(pool, "RESUME orders", "admin")
        async with asyncio.timeout(20):
            while asked < before + 2 * len(tasks):
                await asyncio.sleep(0.02)
        clients.append(await asyncio.wait_for(arriving, 20))
        asking = False
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert {row["paused"] for row in await ask(pool, "SHOW DATABASES")} == {0}
    finally:
        for task in tasks:
            task.cancel()
        for each in (*clients, other):
            await each.close()


async def test_who_waits_for_a_paused_database(forebay: Start, postgres: Postgres) -> None:
    """It may cancel, or go, and it does not wait forever; its session stays."""
    pool = await forebay(
        postgres_pool(
            postgres.port, postgres=USERS, spec={"pauseTimeout": "4s"}, pool={"size": 2, "maxOverflow": 0, "minIdle": 2}
        )
    )
    patient, hasty, leaving = [await client(pool) for _ in range(3)]
    assert await one(patient, "SELECT 1") == 1
    await ask(pool, "PAUSE postgres", "admin")
    assert not await ask(pool, "SHOW SERVERS")
    held = [asyncio.create_task(one(each, "SELECT 2")) for each in (patient, hasty, leaving)]
    async with asyncio.timeout(20):
        while await waiting(pool, "postgres") < 3:
            await asyncio.sleep(0.02)
    assert (await pool.metrics()).value("forebay_upstream_waiting") == 3
    hasty.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        await held[1]
    held[2].cancel()
    await leaving.close()
    with pytest.raises(psycopg.OperationalError, match="the database is paused") as told:
        await asyncio.wait_for(held[0], 20)
    assert told.value.sqlstate == "57P03"
    assert not await waiting(pool, "postgres")
    assert not await ask(pool, "SHOW SERVERS")  # minIdle does not hold for it either
    again = asyncio.create_task(one(patient, "SELECT 3"))
    async with asyncio.timeout(20):
        while not await waiting(pool, "postgres"):
            await asyncio.sleep(0.02)
    await ask(pool, "RESUME postgres", "admin")
    assert await asyncio.wait_for(again, 20) == 3
    assert await one(hasty, "SELECT 4") == 4
    await patient.close()
    await hasty.close()


async def test_a_pause_that_is_ended_before_it_is_reached(pool: Forebay) -> None:
    async with await client(pool) as connection:
        await connection.execute("BEGIN")
        await connection.execute("SELECT 1")
        pausing = asyncio.create_task(ask(pool, "PAUSE postgres", "admin"))
        async with asyncio.timeout(20):
            while (await ask(pool, "SHOW DATABASES"))[0]["paused"] == 0:
                await asyncio.sleep(0.02)
        await ask(pool, "RESUME postgres", "admin")
        with pytest.raises(psycopg.Error, match="database postgres was resumed before its connections were closed"):
            await asyncio.wait_for(pausing, 20)
        await connection.execute("COMMIT")
        assert await one(connection, "SELECT 1") == 1


async def one(connection: Any, query: str) -> Any:
    return (await (await connection.execute(query)).fetchone())[0]
