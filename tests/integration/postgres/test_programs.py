"""PostgreSQL's own programs beside psql (see `test_everyday`), unchanged but for the port."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.integration.postgres.server import Postgres, program
from tests.support.forebay import Forebay, postgres_pool

Start = Callable[..., Awaitable[Forebay]]
EVERYDAY = Path(__file__).parent / "everyday"


async def run(name: str, port: int, *arguments: str, script: str = "") -> str:
    """Its output; it must not fail."""
    process = await asyncio.create_subprocess_exec(
        program(name), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(script.encode())
    assert process.returncode == 0, (out + err).decode()
    return out.decode()


@contextmanager
def fresh(postgres: Postgres, database: str) -> Iterator[None]:
    """A database for as long as it lasts."""
    where = f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres"
    with psycopg.connect(where, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
        try:
            yield
        finally:
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)")


PURSES = """
CREATE TABLE purses (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0));
CREATE TABLE moves (id serial PRIMARY KEY, source int, target int, amount int, client int);
CREATE TABLE refusals (source int, note text);
INSERT INTO purses SELECT n, 100 FROM generate_series(1, 100) n;
"""
KEPT = """SELECT sum(balance), (SELECT count(*) FROM moves) + (SELECT count(*) FROM refusals WHERE note <> 'piped'),
                 (SELECT count(*) FROM refusals WHERE note = 'piped') FROM purses"""


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
async def test_pgbench(forebay: Start, postgres: Postgres, mode: str, pool_mode: str) -> None:
    pool = await forebay(postgres_pool(postgres.port, postgres={"poolMode": pool_mode}))

    async def bench(clients: int, *script: str) -> None:
        retries = ("--max-tries", "1000", "--failures-detailed")
        said = await run("pgbench", pool.port, "-n", f"-c{clients}", "-t20", "-M", mode, *retries, *script, "benched")
        assert f"processed: {clients * 20}/{clients * 20}" in said
        assert "number of failed transactions: 0 (" in said

    with fresh(postgres, "benched"):
        await run("pgbench", pool.port, "-i", "-q", "benched")
        # With more clients than connections pgbench would wait for itself: it prepares one by one, blocking.
        await bench(20 if pool_mode == "transaction" else 5, "-b", "select-only")
        await bench(5, "-b", "tpcb-like@2", "-b", "simple-update@1")
        await run("psql", pool.port, "-X", "-q", "benched", script=PURSES)
        await bench(5, "-f", str(EVERYDAY / "pgbench.sql"))
        if mode != "simple":
            await bench(5, "-f", str(EVERYDAY / "pgbench_pipeline.sql"))
        kept = await run("psql", pool.port, "-X", "-A", "-t", "-c", KEPT, "benched")
        assert kept == f"10000|100|{0 if mode == 'simple' else 100}\n"


DUMPED = r"""
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('sad', 'happy');
CREATE TABLE shop.customers (
    id serial PRIMARY KEY, name text UNIQUE, mood shop.mood, tags text[], facts jsonb, raw bytea);
CREATE TABLE shop.orders (id int, customer int REFERENCES shop.customers, at timestamptz) PARTITION BY RANGE (id);
CREATE TABLE shop.orders_low PARTITION OF shop.orders FOR VALUES FROM (0) TO (500);
CREATE TABLE shop.orders_high PARTITION OF shop.orders DEFAULT;
INSERT INTO shop.customers (name, mood, tags, facts, raw)
    SELECT E'é \t\n\\ ' || n, 'happy', ARRAY['a', NULL], jsonb_build_object('n', n), decode(md5(n::text), 'hex')
    FROM generate_series(1, 300) n;
INSERT INTO shop.orders SELECT n, 1 + n % 300, '2026-01-01T00:00Z' FROM generate_series(1, 1000) n;
CREATE VIEW shop.busy AS SELECT customer, count(*) FROM shop.orders GROUP BY customer HAVING count(*) > 3;
CREATE MATERIALIZED VIEW shop.first AS SELECT * FROM shop.customers WHERE id < 10;
CREATE FUNCTION shop.twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
CREATE INDEX ON shop.orders (at);
COMMENT ON TABLE shop.orders IS 'what was bought';
GRANT SELECT ON shop.customers TO trusting;
SELECT lo_from_bytea(4711, 'a large object');
"""
RESTORE = ("pg_restore", "--exit-on-error", "-d", "restored")
FORMATS = (
    (("-Fp",), ("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f")),
    (("-Fc",), RESTORE),
    (("-Ft",), (*RESTORE, "--single-transaction")),
    (("-Fd", "-j2"), (*RESTORE, "-j2")),  # these share a snapshot
)


def without_key(dump: str) -> list[str]:
    """Newer ones have a random key against injection."""
    return [line for line in dump.splitlines() if "restrict" not in line]


async def test_pg_dump_and_pg_restore_in_session_mode(forebay: Start, postgres: Postgres, tmp_path: Path) -> None:
    size = {"size": 3, "maxOverflow": 0}
    pool = await forebay(postgres_pool(postgres.port, postgres={"poolMode": "session"}, pool=size))
    with fresh(postgres, "dumped"):
        await run("psql", pool.port, "-X", "-q", "dumped", script=DUMPED)
        for kind in ("--no-privileges", "--schema-only", "--data-only", "--inserts", "--clean", "--create"):
            through = await run("pg_dump", pool.port, kind, "dumped")
            assert without_key(through) == without_key(await run("pg_dump", postgres.port, kind, "dumped"))
        direct = without_key(await run("pg_dump", postgres.port, "dumped"))
        assert len(direct) > 1300
        for options, (restore, *arguments) in FORMATS:
            file = str(tmp_path / options[0])
            await run("pg_dump", pool.port, *options, "-f", file, "dumped")
            with fresh(postgres, "restored"):
                await run(restore, pool.port, *arguments, file)
                assert without_key(await run("pg_dump", pool.port, "restored")) == direct


async def test_programs_that_keep_house(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port))
    await run("createdb", pool.port, "kept")
    await run("createuser", pool.port, "keeper")
    for name, *arguments in (("vacuumdb", "-z", "-j2"), ("reindexdb",), ("clusterdb",), ("pg_isready", "-d")):
        await run(name, pool.port, *arguments, "kept")
    await run("dropuser", pool.port, "keeper")
    await run("dropdb", pool.port, "--force", "kept")
