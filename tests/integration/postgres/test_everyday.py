"""What ordinary clients do all day, unchanged but for the port: through the pool, in transaction mode."""

import asyncio
import datetime
import decimal
import io
import uuid
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


async def test_psycopg_types_savepoints_and_large_objects(pool: Forebay) -> None:
    now = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)
    values = (
        *(7, -(2**62), 1.5, decimal.Decimal("12.340"), "é\u20ac\\'", b"\0\xff", True, None, now, now.date()),
        *(uuid.UUID(int=5), [1, 2, 3], datetime.timedelta(days=2, seconds=3)),
    )
    for binary in (False, True):
        async with await psycopg.AsyncConnection.connect(url(pool), prepare_threshold=0) as connection:
            async with connection.cursor(binary=binary) as cursor:
                row = await (await cursor.execute("SELECT " + ", ".join(["%s"] * len(values)), values)).fetchone()
                assert row == values
                await cursor.execute("SELECT '{\"a\": [1, 2]}'::jsonb, '[1,5)'::int4range, '10.0.0.0/8'::cidr")
                row = await cursor.fetchone()
                assert row is not None
                assert row[0] == {"a": [1, 2]}
            async with connection.transaction():
                await connection.execute("CREATE TABLE points (n int PRIMARY KEY)")
                with pytest.raises(psycopg.errors.UniqueViolation):
                    async with connection.transaction():
                        await connection.execute("INSERT INTO points VALUES (1), (1)")
                async with connection.transaction(force_rollback=True):
                    await connection.execute("INSERT INTO points VALUES (2)")
                async with connection.transaction():
                    await connection.execute("INSERT INTO points VALUES (3)")
                assert await (await connection.execute("SELECT array_agg(n) FROM points")).fetchone() == ([3],)
                await connection.execute("DROP TABLE points")
            async with connection.transaction():
                (oid,) = await (
                    await connection.execute("SELECT lo_from_bytea(0, %s)", (b"large" * 50_000,))
                ).fetchone()  # type: ignore[misc]
                (file,) = await (await connection.execute("SELECT lo_open(%s, 262144)", (oid,))).fetchone()  # type: ignore[misc]
                assert await (await connection.execute("SELECT loread(%s, 9)", (file,))).fetchone() == (b"largelarg",)
                await connection.execute("SELECT lo_unlink(%s)", (oid,))


async def test_psycopg_copy_in_binary_and_a_broken_one(pool: Forebay) -> None:
    async with await psycopg.AsyncConnection.connect(url(pool), autocommit=True) as connection:
        await connection.execute("CREATE TABLE copied (n int, v text)")
        async with connection.cursor().copy("COPY copied FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for n in range(2000):
                await copy.write_row((n, "x" * 100))
        async with connection.cursor().copy("COPY copied TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            assert len([row async for row in copy.rows()]) == 2000

        async def broken(data: str, error: type[Exception] | None) -> None:
            async with connection.cursor().copy("COPY copied (n) FROM STDIN") as copy:
                for _ in range(1000):
                    await copy.write(data)
                if error is not None:  # psycopg sends CopyFail
                    raise error

        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            await broken("no number\n", None)
        with pytest.raises(ZeroDivisionError):
            await broken("1\n", ZeroDivisionError)
        assert await (await connection.execute("SELECT count(*) FROM copied")).fetchone() == (2000,)
        await connection.execute("DROP TABLE copied")


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_notifications(forebay: Start, postgres: Postgres, mode: str) -> None:
    pool = await forebay(postgres_pool(postgres.port, postgres={"poolMode": mode}))
    async with (
        await psycopg.AsyncConnection.connect(url(pool), autocommit=True) as hears,
        await psycopg.AsyncConnection.connect(url(pool), autocommit=True) as tells,
    ):
        await hears.execute("LISTEN news")
        for n in range(3):
            await tells.execute("SELECT pg_notify('news', %s)", (str(n),))
        heard = [each.payload async for each in hears.notifies(timeout=20, stop_after=3)]
        assert heard == ["0", "1", "2"]
    listener = await asyncpg.connect(url(pool))
    told: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("news", lambda connection, pid, channel, payload: told.put_nowait(payload))
    async with await psycopg.AsyncConnection.connect(url(pool), autocommit=True) as tells:
        await tells.execute("NOTIFY news, 'more'")
    assert await asyncio.wait_for(told.get(), 20) == "more"
    await listener.close()


async def test_asyncpg_pool_and_statement_cache(pool: Forebay) -> None:
    """Its pool resets connections in its own way; its cache has fewer places than there are statements."""
    async with asyncpg.create_pool(url(pool), min_size=2, max_size=8, statement_cache_size=10) as clients:

        async def one(number: int) -> None:
            async with clients.acquire() as connection, connection.transaction(isolation="repeatable_read"):
                for n in range(30):
                    assert await connection.fetchval(f"SELECT $1::int + {n}", number) == number + n
                rows = await connection.fetch("SELECT n, repeat('x', n) v FROM generate_series(1, 500) n")
                assert sum(len(row["v"]) for row in rows) == 125_250

        await asyncio.gather(*(one(number) for number in range(40)))
        async with clients.acquire() as connection:
            source = io.BytesIO("".join(f"{n}\n" for n in range(3000)).encode())
            await connection.execute("CREATE TABLE apg_pool (n int)")
            await connection.copy_to_table("apg_pool", source=source)
            output = io.BytesIO()
            await connection.copy_from_query("SELECT n FROM apg_pool ORDER BY n", output=output)
            assert output.getvalue() == source.getvalue()
            with pytest.raises(asyncpg.QueryCanceledError):
                await connection.execute("SET LOCAL statement_timeout = 50; SELECT pg_sleep(20)")
            with pytest.raises(TimeoutError):
                await connection.fetchval("SELECT pg_sleep(20)", timeout=0.2)
            assert await connection.fetchval("SELECT $1::uuid", uuid.UUID(int=9)) == uuid.UUID(int=9)
            await connection.execute("DROP TABLE apg_pool")
