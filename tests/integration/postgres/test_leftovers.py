"""What killed workers leave at the server is found, ended, and counted until it has gone."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.integration.postgres.server import Postgres
from tests.integration.postgres.test_budget import BUDGET, full_server, prepared, refused
from tests.support.forebay import Forebay, postgres_pool
from tests.support.waiting import until

from forebay_proxy.journal import RECORD
from forebay_proxy.memory import RECORDS as BEGIN

Start = Callable[..., Awaitable[Forebay]]
PLACES = BUDGET - 3  # for leases: a place is for cancelling, and two for a worker that comes
SOON = 20.0  # seconds, on a machine that is busy; `linger` is far longer, so that it is not what ends anything here
MONITOR = {"monitor": {"user": "trusting"}}
SLEEP = "SELECT pg_sleep(300)"
STUBBORN = """DO $$ BEGIN
    LOOP BEGIN PERFORM pg_sleep(300); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
END $$"""


def document(server: Postgres, workers: int, postgres: dict[str, Any]) -> dict[str, Any]:
    return postgres_pool(
        server.port,
        pool={"size": BUDGET, "maxOverflow": 0, "timeout": "30s"},
        budget={"maxConnections": BUDGET, "linger": "10m"},
        spec={"replicas": workers},
        postgres={"databases": [{"name": "one", "user": "trusting"}], **postgres},
    )


@pytest.fixture
def server() -> Any:
    with full_server() as made:
        prepared(made)
        yield made


async def connected(pool: Forebay) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user="anybody", dbname="one", autocommit=True, connect_timeout=30
    )


class Watch:
    """What the server is busy with, seen from a place of its own."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def busy(self) -> int:
        active = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'trusting' AND state = 'active'"
        row = await (await self._connection.execute(f"{active} AND query ~ 'pg_sleep'")).fetchone()
        assert row is not None
        return int(row[0])

    async def log_statements(self) -> None:
        await self._connection.execute("ALTER ROLE trusting SET log_statement = 'all'")


@asynccontextmanager
async def watching(server: Postgres) -> AsyncIterator[Watch]:
    async with await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=server.port, user="postgres", autocommit=True
    ) as connection:
        yield Watch(connection)


async def long_queries(
    pool: Forebay, watch: Watch, query: str, clients: int, under_way: int
) -> list[asyncio.Task[None]]:
    """Clients, so many of whose queries are under way at last."""

    async def run() -> None:
        with suppress(psycopg.OperationalError):
            async with await connected(pool) as connection:
                await connection.execute(query)

    async def enough() -> bool:
        return await watch.busy() >= under_way

    tasks = [asyncio.create_task(run()) for _ in range(clients)]
    await until(enough, within=30)
    return tasks


async def served(pool: Forebay, count: int) -> None:
    """So many clients, all in a transaction at the same time."""

    async def begun(stack: AsyncExitStack) -> None:
        while True:
            try:
                connection = await stack.enter_async_context(await connected(pool))
                await connection.execute("BEGIN")
            except psycopg.OperationalError:  # it was in the queue of a worker that has just been killed
                continue
            return

    async with AsyncExitStack() as stack:
        await asyncio.gather(*(begun(stack) for _ in range(count)))


@pytest.mark.parametrize(
    ("query", "postgres"), [(SLEEP, {}), (SLEEP, MONITOR), (STUBBORN, MONITOR)], ids=["cancel", "monitor", "terminate"]
)
async def test_long_queries_of_a_killed_worker_are_ended(
    forebay: Start, server: Postgres, query: str, postgres: dict[str, Any]
) -> None:
    pool = await forebay(document(server, 1, postgres))
    async with watching(server) as watch:
        clients = await long_queries(pool, watch, query, PLACES, PLACES)
        os.kill((await pool.worker_pids())[0], signal.SIGKILL)
        async with asyncio.timeout(SOON):
            await served(pool, PLACES)
        assert await watch.busy() == 0
        await asyncio.gather(*clients)
    assert not refused(server)


@pytest.mark.parametrize("postgres", [{}, MONITOR], ids=["client", "monitor"])
async def test_the_server_is_asked_what_the_kernel_does_not_show(
    forebay: Start, server: Postgres, postgres: dict[str, Any]
) -> None:
    """A connection with something unread is reset by its end, and leaves no trace."""
    pool = await forebay(document(server, 1, postgres))
    async with watching(server) as watch:
        clients = await long_queries(pool, watch, "SELECT pg_sleep(1)", PLACES, PLACES)
        (pid,) = await pool.worker_pids()
        os.kill(pid, signal.SIGSTOP)

        async def answered() -> bool:
            return await watch.busy() == 0

        await until(answered)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(SOON):
            await served(pool, PLACES)
        await asyncio.gather(*clients)
    assert not refused(server)


async def test_all_workers_are_killed(forebay: Start, server: Postgres) -> None:
    pool = await forebay(document(server, 3, MONITOR))
    async with watching(server) as watch:
        clients = await long_queries(pool, watch, SLEEP, 3 * BUDGET, 12)
        killed = set(await pool.worker_pids())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

        async def over() -> bool:
            workers = (await pool.state())["workers"]
            fresh = [worker["upstreams"]["db"] for worker in workers if worker["pid"] not in killed]
            return len(fresh) == 3 and not any(upstream["left"] for upstream in fresh)

        await until(over, within=SOON)
        await asyncio.gather(*clients)
        assert await watch.busy() == 0
        await served(pool, 1)
    assert not refused(server)


async def test_what_a_killed_supervisor_leaves_is_ended_by_the_next(server: Postgres, tmp_path: Path) -> None:
    first = await Forebay(tmp_path, document(server, 1, {})).start()
    async with watching(server) as watch:
        try:
            clients = await long_queries(first, watch, SLEEP, PLACES, PLACES)
            first.child.send(signal.SIGKILL)
            await first.wait()
        finally:
            await first.close()
        async with Forebay(tmp_path, document(server, 1, {})) as second, asyncio.timeout(SOON):
            await served(second, PLACES)
            assert await watch.busy() == 0
        await asyncio.gather(*clients)
    assert not second.tracebacks(), second.stderr
    assert not refused(server)


async def test_nobody_elses_backend_is_ended(forebay: Start, server: Postgres) -> None:
    """By now the process ID is another backend's: it has neither the key nor the port."""
    pool = await forebay(document(server, 1, MONITOR))
    async with watching(server) as watch, await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=server.port, user="trusting", dbname="two", autocommit=True
    ) as innocent:  # fmt: skip
        await watch.log_statements()
        clients = await long_queries(pool, watch, "SELECT pg_sleep(5)", 1, 1)
        (pid,) = await pool.worker_pids()
        memory = memory_of(pid)
        pool.child.send(signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        mislead(memory, innocent.info.backend_pid)
        pool.child.send(signal.SIGCONT)
        await asyncio.to_thread(server.line, f"wrong key in cancel request for process {innocent.info.backend_pid}")
        await asyncio.to_thread(server.line, rf"pg_terminate_backend.*VALUES \({innocent.info.backend_pid},")
        await innocent.execute("SELECT 1")
        await asyncio.gather(*clients)


def memory_of(worker: int) -> Path:
    """As it has been told in its command line."""
    words = Path(f"/proc/{worker}/cmdline").read_text().split("\0")
    return next(Path(word) for word in words if word.endswith(".memory"))


def mislead(memory: Path, pid: int) -> None:
    """Write another backend's process ID in the dead worker's records."""
    data = bytearray(memory.read_bytes())
    for at in range(BEGIN, len(data), RECORD.size):
        fields = list(RECORD.unpack_from(data, at))
        if fields[0]:
            fields[5] = pid
            RECORD.pack_into(data, at, *fields)
    memory.write_bytes(data)
