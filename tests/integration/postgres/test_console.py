"""The admin database: PgBouncer's columns, as dashboards and psql read them."""

import asyncio
from collections.abc import Awaitable, Callable
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


def client(pool: Forebay) -> Any:
    return psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user="postgres", dbname="postgres", autocommit=True, application_name="me"
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


async def one(connection: Any, query: str) -> Any:
    return (await (await connection.execute(query)).fetchone())[0]
