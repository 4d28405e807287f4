"""What ordinary clients do all day, unchanged but for the port: each program of everyday/ sees through the pool what it
sees at the server."""

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable

import asyncpg
import psycopg
import pytest
from tests.integration.postgres.server import Postgres, program
from tests.support.forebay import Forebay, postgres_pool
from tests.support.process import ROOT
from tests.support.waiting import until

Start = Callable[..., Awaitable[Forebay]]
CONNECTIONS = {"transaction": 3, "session": 12}  # in session mode a client has one for as long as it is there
FOLDER = "tests/integration/postgres/everyday"
PROGRAMS = {
    "psycopg": ("psycopg3", "postgresql"),
    "psycopg's sessions": ("psycopg3_sessions", "postgresql"),
    "asyncpg": ("asyncpg_", "postgresql"),
    "psycopg2": ("psycopg2_", "postgresql"),
    "sqlalchemy with psycopg": ("sqlalchemy_", "postgresql+psycopg"),
    "sqlalchemy with psycopg2": ("sqlalchemy_", "postgresql+psycopg2"),
    "sqlalchemy with asyncpg": ("sqlalchemy_asyncio", "postgresql+asyncpg"),
    "psql": ("psql.sql", "postgresql"),
}
RANDOM = re.compile(r"server process with PID \d+")


async def day(name: str, port: int) -> list[str]:
    """The lines that the program writes, of both streams; it must not fail."""
    file, scheme = PROGRAMS[name]
    url = f"{scheme}://postgres@127.0.0.1:{port}/everyday"
    argv = [sys.executable, "-W", "error", "-m", f"{FOLDER.replace('/', '.')}.{file}", url]
    if file.endswith(".sql"):
        argv = [program("psql"), "-X", "-a", "-f", f"{FOLDER}/{file}", url]
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, out.decode()
    return RANDOM.sub("server process", out.decode()).splitlines()


async def empty_database(postgres: Postgres) -> None:
    connection = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres")
    await connection.execute("DROP DATABASE IF EXISTS everyday WITH (FORCE)")
    await connection.execute("CREATE DATABASE everyday")
    await connection.close()


@pytest.fixture(scope="module")
def at_the_server() -> dict[str, list[str]]:
    """What was seen there: of each program once."""
    return {}


@pytest.mark.parametrize("mode", CONNECTIONS)
@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_day(
    forebay: Start, postgres: Postgres, at_the_server: dict[str, list[str]], name: str, mode: str
) -> None:
    if name not in at_the_server:
        await empty_database(postgres)
        at_the_server[name] = await day(name, postgres.port)
    await empty_database(postgres)
    size = CONNECTIONS[mode]
    document = postgres_pool(postgres.port, postgres={"poolMode": mode}, pool={"size": size, "maxOverflow": 0})
    pool = await forebay(document)
    assert await day(name, pool.port) == at_the_server[name]

    async def unpinned() -> bool:
        return (await pool.metrics()).get("forebay_upstream_pinned") == 0

    await until(unpinned)
    assert (await pool.metrics()).value("forebay_upstream_connections") <= size
    assert "Traceback" not in pool.stderr


@pytest.fixture
async def pool(forebay: Start, postgres: Postgres) -> Forebay:
    return await forebay(postgres_pool(postgres.port))


def url(pool: Forebay, user: str = "postgres") -> str:
    return f"postgresql://{user}@127.0.0.1:{pool.port}/postgres"


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
