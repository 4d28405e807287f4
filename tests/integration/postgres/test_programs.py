"""PostgreSQL's own programs, SQLAlchemy and psycopg2, unchanged but for the port."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg2
import pytest
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, String, Table, func, select
from sqlalchemy.ext.asyncio import create_async_engine
from tests.integration.postgres.server import Postgres, program
from tests.support.forebay import Forebay, postgres_pool

Start = Callable[..., Awaitable[Forebay]]


async def run(name: str, port: int, *arguments: str, script: str = "") -> str:
    """Its output; it must not fail."""
    process = await asyncio.create_subprocess_exec(
        program(name), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(script.encode())
    assert process.returncode == 0, (out + err).decode()
    return out.decode()


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
async def test_pgbench(forebay: Start, postgres: Postgres, mode: str, pool_mode: str) -> None:
    pool = await forebay(postgres_pool(postgres.port, postgres={"poolMode": pool_mode}))
    await run("pgbench", pool.port, "-i", "-q", "postgres")
    # With more clients than connections pgbench would wait for itself: it prepares one by one, blocking.
    for clients, script in ((20 if pool_mode == "transaction" else 5, "select-only"), (5, "tpcb-like")):
        said = await run("pgbench", pool.port, "-n", f"-c{clients}", "-t20", "-M", mode, "-b", script, "postgres")
        assert f"processed: {clients * 20}/{clients * 20}" in said
        assert "number of failed transactions: 0 (" in said


PSQL = r"""
\set ON_ERROR_STOP on
CREATE TEMP TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT g, repeat('x', g) FROM generate_series(1, 200) g;
\d t
\copy t TO '/dev/null'
BEGIN; UPDATE t SET v = 'y' WHERE id < 10; SAVEPOINT a; ROLLBACK TO a; COMMIT;
DO $$ BEGIN RAISE NOTICE 'a notice'; END $$;
SET TimeZone = 'Asia/Tokyo'; SET client_encoding = 'LATIN1'; RESET ALL;
LISTEN c; NOTIFY c, 'payload'; UNLISTEN *;
PREPARE p AS SELECT $1::int; EXECUTE p(3); DEALLOCATE p;
BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t; FETCH 5 FROM c; COMMIT; FETCH 5 FROM c; CLOSE c;
\copy t (id, v) FROM STDIN
1001	a
1002	b
\.
SELECT 'rows', count(*) FROM t;
SELECT id, v FROM t WHERE id > 1000 \g | cat
DROP TABLE t;
"""


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
async def test_psql(forebay: Start, postgres: Postgres, pool_mode: str) -> None:
    pool = await forebay(postgres_pool(postgres.port, postgres={"poolMode": pool_mode}))
    assert "rows | 202" in " ".join((await run("psql", pool.port, "-X", "postgres", script=PSQL)).split())


def without_key(dump: str) -> list[str]:
    """Newer ones have a random key against injection."""
    return [line for line in dump.splitlines() if "restrict" not in line]


async def test_pg_dump_in_session_mode(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port, postgres={"poolMode": "session"}))
    await run("psql", pool.port, "-X", "postgres", script="CREATE TABLE dumped AS SELECT generate_series(1, 1000) n;")
    try:
        dump = await run("pg_dump", pool.port, "-t", "dumped", "postgres")
        assert "COPY public.dumped" in dump
        direct = await run("pg_dump", postgres.port, "-t", "dumped", "postgres")
        assert without_key(dump) == without_key(direct)
    finally:
        await run("psql", postgres.port, "-X", "postgres", script="DROP TABLE dumped;")


def use(engine: sqlalchemy.Engine) -> None:
    """A day with SQLAlchemy."""
    metadata = MetaData()
    things = Table("things", metadata, Column("id", Integer, primary_key=True), Column("name", String(50)))
    metadata.create_all(engine)
    try:
        with engine.begin() as connection:
            connection.execute(things.insert(), [{"name": f"thing {n}"} for n in range(2500)])
        with engine.connect() as connection:
            assert connection.scalar(select(func.count()).select_from(things)) == 2500
            rows = connection.execution_options(yield_per=100).execute(select(things.c.id).order_by(things.c.id))
            assert len(list(rows)) == 2500
        with engine.begin() as connection, pytest.raises(sqlalchemy.exc.IntegrityError), connection.begin_nested():
            connection.execute(things.insert(), {"id": 1, "name": "again"})
        assert sqlalchemy.inspect(engine).get_columns("things")[1]["name"] == "name"
    finally:
        metadata.drop_all(engine)
        engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
async def test_sqlalchemy(forebay: Start, postgres: Postgres, driver: str) -> None:
    pool = await forebay(postgres_pool(postgres.port))
    engine = sqlalchemy.create_engine(
        f"postgresql+{driver}://postgres@127.0.0.1:{pool.port}/postgres", pool_pre_ping=True
    )
    await asyncio.to_thread(use, engine)


async def test_sqlalchemy_with_asyncpg(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port))
    engine = create_async_engine(f"postgresql+asyncpg://postgres@127.0.0.1:{pool.port}/postgres")
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE async_things (id int)")
        await connection.exec_driver_sql("INSERT INTO async_things SELECT generate_series(1, 100)")
    async with engine.connect() as connection:
        assert (
            await connection.scalar(sqlalchemy.text("SELECT count(*) FROM async_things WHERE id > :n"), {"n": 10}) == 90
        )
    async with engine.begin() as connection:
        await connection.exec_driver_sql("DROP TABLE async_things")
    await engine.dispose()


async def test_psycopg2(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port))

    def work() -> None:
        connection = psycopg2.connect(host="127.0.0.1", port=pool.port, user="postgres", dbname="postgres")
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE two (n int)")
            cursor.executemany("INSERT INTO two VALUES (%s)", [(n,) for n in range(100)])
            cursor.execute("SELECT sum(n) FROM two")
            assert cursor.fetchone() == (4950,)
        with connection, connection.cursor("named") as cursor:
            cursor.execute("SELECT generate_series(1, 10000)")
            assert len(cursor.fetchall()) == 10000
        connection.set_client_encoding("LATIN1")
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT 'é'")
            assert cursor.fetchone() == ("é",)
        connection.close()

    await asyncio.to_thread(work)
