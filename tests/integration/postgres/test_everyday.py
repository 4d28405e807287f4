"""What ordinary clients do all day, unchanged but for the port: through the pool, in transaction mode."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import psycopg
import pytest
from tests.integration.postgres.server import Postgres
from tests.support.forebay import Forebay, postgres_pool

Start = Callable[..., Awaitable[Forebay]]


@pytest.fixture
async def pool(forebay: Start, postgres: Postgres) -> Forebay:
    return await forebay(postgres_pool(postgres.port))


def url(pool: Forebay, user: str = "postgres") -> str:
    return f"postgresql://{user}@127.0.0.1:{pool.port}/postgres"


async def test_psycopg(pool: Forebay) -> None:
    async with await psycopg.AsyncConnection.connect(url(pool)) as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT 1, 'two', NULL::int, 3.5::float8")
        assert await cursor.fetchone() == (1, "two", None, 3.5)
        await cursor.execute("CREATE TABLE everyday (id serial PRIMARY KEY, v text)")
        await cursor.executemany("INSERT INTO everyday (v) VALUES (%s)", [(str(n),) for n in range(50)])
        await connection.commit()
        for _ in range(8):  # prepared from the fifth time on
            await cursor.execute("SELECT v FROM everyday WHERE id = %s", (7,), prepare=True)
            assert await cursor.fetchone() == ("6",)
            await connection.commit()
        with pytest.raises(psycopg.errors.DivisionByZero):
            await cursor.execute("SELECT 1/0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            await cursor.execute("SELECT 1")
        await connection.rollback()
        async with cursor.copy("COPY everyday (v) FROM STDIN") as copy:
            for n in range(1000):
                await copy.write_row((f"row {n}",))
        await connection.commit()
        async with cursor.copy("COPY everyday (v) TO STDOUT") as copy:
            assert len([row async for row in copy.rows()]) == 1050
        await connection.commit()
        async with connection.pipeline():
            for n in range(20):
                await cursor.execute("INSERT INTO everyday (v) VALUES (%s) RETURNING id", (n,))
        await connection.commit()
        async with connection.cursor("named") as named:
            await named.execute("SELECT id FROM everyday ORDER BY id")
            assert len(await named.fetchmany(10)) == 10
        await connection.commit()
        await cursor.execute("SELECT repeat('x', 1000000)")
        row = await cursor.fetchone()
        assert row is not None
        assert len(row[0]) == 1_000_000
        await cursor.execute("SELECT length(%s)", ("y" * 3_000_000,))
        assert await cursor.fetchone() == (3_000_000,)
        await connection.commit()
        await cursor.execute("DROP TABLE everyday")
    assert (await pool.metrics()).get("forebay_upstream_connections_closed_total", reason="error") == 0


async def test_asyncpg(pool: Forebay) -> None:
    connection = await asyncpg.connect(url(pool))
    try:
        assert await connection.fetchval("SELECT $1::int + 1", 41) == 42
        await connection.execute("CREATE TABLE apg (id int, v text)")
        await connection.executemany("INSERT INTO apg VALUES ($1, $2)", [(n, str(n)) for n in range(100)])
        assert len(await connection.fetch("SELECT * FROM apg WHERE id < $1", 50)) == 50
        async with connection.transaction():
            rows = [row["id"] async for row in connection.cursor("SELECT id FROM apg ORDER BY id", prefetch=10)]
            assert rows == list(range(100))
        await connection.copy_records_to_table("apg", records=[(n, "c") for n in range(500)])
        assert await connection.fetchval("SELECT count(*) FROM apg") == 600
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("CREATE UNIQUE INDEX u ON apg (v); ")
        statement = await connection.prepare("SELECT count(*) FROM apg WHERE v = $1")
        assert await statement.fetchval("c") == 500
        await connection.execute("DROP TABLE apg")
    finally:
        await connection.close()


async def test_many_asyncpg_clients_share_a_few_connections(pool: Forebay) -> None:
    async def one(number: int) -> None:
        connection = await asyncpg.connect(url(pool), server_settings={"application_name": f"client {number}"})
        try:
            for _ in range(10):
                assert await connection.fetchval("SELECT $1::int", number) == number
                assert await connection.fetchval("SHOW application_name") == f"client {number}"
        finally:
            await connection.close()

    await asyncio.gather(*(one(number) for number in range(40)))
    assert (await pool.metrics()).value("forebay_upstream_connections_opened_total") <= 5


async def test_cancels_reach_their_query_at_whatever_worker(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port, spec={"replicas": 2}))

    async def one() -> None:
        async with await psycopg.AsyncConnection.connect(url(pool), autocommit=True) as connection:
            await connection.execute("SELECT 1")
            task = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
            await asyncio.sleep(0.2)
            await connection.cancel_safe(timeout=15)
            with pytest.raises(psycopg.errors.QueryCanceled):
                await asyncio.wait_for(task, 15)
            row = await (await connection.execute("SELECT 2")).fetchone()
            assert row == (2,)

    await asyncio.gather(*(one() for _ in range(8)))
