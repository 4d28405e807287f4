"""A server that is restarted, hung, lost or failed over: who waits survives up to the timeout, nobody hangs, and what
failed has the SQLSTATE that it deserves."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from operator import not_
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from tests.integration.postgres.server import Postgres
from tests.support.criteria import metric
from tests.support.forebay import Forebay, postgres_pool
from tests.support.waiting import until

Start = Callable[..., Awaitable[Forebay]]
Connection = psycopg.AsyncConnection[tuple[object, ...]]
MONITOR = {"monitor": {"user": "postgres"}}
POOL = {"size": 5, "maxOverflow": 0, "timeout": "20s"}


async def connect(pool: Forebay, dbname: str = "postgres") -> Connection:
    return await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user="postgres", dbname=dbname, autocommit=True, connect_timeout=30
    )


async def one(connection: Connection, query: str) -> object:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


async def test_a_restart(forebay: Start, server: Postgres) -> None:
    pool = await forebay(postgres_pool(server.port, pool=POOL, postgres=MONITOR))
    idle, busy, transacting = [await connect(pool) for _ in range(3)]
    await transacting.execute("BEGIN")
    running = asyncio.create_task(busy.execute("SELECT pg_sleep(60)"))
    await metric(pool, "forebay_upstream_connections", lambda value: value >= 2, state="leased")
    server.stop()
    with pytest.raises(psycopg.errors.AdminShutdown):  # the server's own reason
        await running
    waiting = asyncio.create_task(one(idle, "SELECT 1"))
    arriving = asyncio.create_task(connect(pool))
    server.start()
    assert await asyncio.wait_for(waiting, 15) == 1
    assert await one(busy, "SELECT 2") == 2  # its session has stayed
    with pytest.raises(psycopg.OperationalError):  # its transaction has not
        await transacting.execute("SELECT 1")
    assert transacting.closed
    await (await asyncio.wait_for(arriving, 15)).close()
    await idle.close()
    await busy.close()


async def test_a_hung_server(forebay: Start, server: Postgres) -> None:
    pool = await forebay(postgres_pool(server.port, pool=POOL | {"timeout": "1s", "connectTimeout": "500ms"}))
    connection = await connect(pool)
    assert await one(connection, "SELECT 1") == 1
    await asyncio.sleep(1.1)  # so that the connection is looked at before it is used again
    server.everyone(signal.SIGSTOP)
    try:
        started = monotonic()
        with pytest.raises(psycopg.OperationalError) as told:
            await connection.execute("SELECT 2")
        assert monotonic() - started < 3
        assert told.value.sqlstate in ("53300", "57P03")
    finally:
        server.everyone(signal.SIGCONT)
    async with asyncio.timeout(20):
        while True:
            try:
                assert await one(connection, "SELECT 3") == 3
                break
            except psycopg.OperationalError:
                assert not connection.closed
    await connection.close()


async def test_a_crash_in_the_middle_of_a_row(forebay: Start, server: Postgres) -> None:
    pool = await forebay(postgres_pool(server.port, pool=POOL))
    connection = await connect(pool)
    pid = await one(connection, "SELECT pg_backend_pid()")
    task = asyncio.create_task(
        connection.execute("SELECT repeat('x', 10000000), pg_sleep(0.1) FROM generate_series(1, 100)")
    )
    await asyncio.sleep(0.5)
    async with await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=server.port, user="postgres", autocommit=True
    ) as direct:
        await direct.execute(f"SELECT pg_terminate_backend({pid})")
    with pytest.raises(psycopg.OperationalError):
        await asyncio.wait_for(task, 20)
    await connection.close()


async def test_a_failover(forebay: Start, server: Postgres) -> None:
    with Postgres(replica_of=server) as replica:
        databases = [
            {"name": "postgres"},
            {"name": "replicas", "database": "postgres", "access": "readOnly"},
            {"name": "either", "database": "postgres", "access": "preferReplica"},
        ]
        pool = await forebay(
            postgres_pool(server.port, replica.port, pool=POOL, postgres={**MONITOR, "databases": databases})
        )
        writer, reader, either = await connect(pool), await connect(pool, "replicas"), await connect(pool, "either")
        standby = "SELECT pg_is_in_recovery()"
        assert [await one(each, standby) for each in (writer, reader, either)] == [False, True, True]
        server.stop(signal.SIGQUIT)
        waiting = asyncio.create_task(one(writer, standby))
        async with await psycopg.AsyncConnection.connect(
            host="127.0.0.1", port=replica.port, user="postgres", autocommit=True
        ) as direct:
            await direct.execute("SELECT pg_promote()")
        assert await asyncio.wait_for(waiting, 15) is False
        await writer.execute("CREATE TABLE after_failover (n int)")
        # The watch has to notice that there is no replica.
        await until(lambda: one(either, standby), 10, 0.05, wanted=not_)
        for each in (writer, reader, either):
            await each.close()


async def test_pause_and_resume(forebay: Start, server: Postgres, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    arguments = ("--admin", "127.0.0.1:0", "--token-file", str(token))
    pool = await forebay(postgres_pool(server.port, pool=POOL), command="worker", arguments=arguments)
    connection = await connect(pool)
    assert await one(connection, "SELECT 1") == 1
    headers = [("Authorization", "Bearer t")]
    assert (await pool.admin("/pause", "POST", headers=headers)).status == 202
    held = asyncio.create_task(one(connection, "SELECT 2"))
    await metric(pool, "forebay_upstream_waiting", lambda value: value == 1)
    server.stop()
    server.start()
    assert (await pool.admin("/resume", "POST", headers=headers)).status == 202
    assert await asyncio.wait_for(held, 15) == 2
    await connection.close()


async def test_roles_are_watched_while_clients_queue(forebay: Start) -> None:
    with Postgres({"log_statement": "all"}) as server:
        pool = await forebay(postgres_pool(server.port, pool={"size": 1, "maxOverflow": 0}, postgres=MONITOR))
        holder, waiter = await connect(pool), await connect(pool)
        await holder.execute("BEGIN")
        waiting = asyncio.create_task(one(waiter, "SELECT 1"))
        await metric(pool, "forebay_upstream_waiting", lambda value: value == 1)
        for _ in range(2):
            await asyncio.to_thread(server.line, r"pg_is_in_recovery\(\)", after=len(server.lines), within=10.0)
        assert not waiting.done()
        await holder.execute("COMMIT")
        assert await waiting == 1
        await holder.close()
        await waiter.close()


DESERVED = {"57P01", "57P02", "57P03", "08006"}  # shut down, crashed, starting up, lost


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=["fast", "crash", "kill"])
async def test_many_clients_through_a_restart(forebay: Start, server: Postgres, how: signal.Signals) -> None:
    """Who was in the middle of something is told so, who was not waits; nobody hangs, and all go on with their
    sessions but those whose transaction is lost."""
    pool = await forebay(postgres_pool(server.port, pool=POOL, postgres=MONITOR))
    clients = [await connect(pool) for _ in range(30)]
    down, up = asyncio.Event(), asyncio.Event()
    codes: list[str | None] = []

    async def work(connection: Connection, transacts: bool) -> None:
        seen = 0
        while not (up.is_set() and seen > 3):
            try:
                if transacts:
                    await connection.execute("BEGIN")
                await asyncio.wait_for(one(connection, "SELECT pg_sleep(0.01)"), 25)
                if transacts:
                    await connection.execute("COMMIT")
                seen += up.is_set()
            except psycopg.OperationalError as error:
                assert down.is_set()
                if connection.closed and transacts and error.sqlstate is None:
                    return  # libpq does not tell what was said between two of its queries
                codes.append(error.sqlstate)
                if connection.closed:
                    return

    working = [asyncio.create_task(work(each, number % 2 == 1)) for number, each in enumerate(clients)]
    await metric(pool, "forebay_upstream_connections", lambda value: value >= 5, state="leased")
    down.set()
    await asyncio.to_thread(server.stop, how)
    await asyncio.to_thread(server.start)
    up.set()
    await asyncio.wait_for(asyncio.gather(*working), 40)
    assert set(codes) <= DESERVED
    assert len(codes) <= 30
    for each in clients:
        await each.close()


async def test_a_server_that_hangs_in_a_query(forebay: Start, server: Postgres) -> None:
    """`queryTimeout` ends what has been sent; others get their error at `pool.timeout`; then all is as before."""
    fields = {"pool": POOL | {"size": 2, "timeout": "1s"}, "postgres": {"queryTimeout": "3s"}}
    pool = await forebay(postgres_pool(server.port, **fields))
    first, second, third = [await connect(pool) for _ in range(3)]
    sleeping = [asyncio.create_task(each.execute("SELECT pg_sleep(60)")) for each in (first, second)]
    await metric(pool, "forebay_upstream_connections", lambda value: value >= 2, state="leased")
    server.everyone(signal.SIGSTOP)
    try:
        started = monotonic()
        for task in sleeping:
            with pytest.raises(psycopg.OperationalError) as told:
                await asyncio.wait_for(task, 20)
            assert told.value.sqlstate == "57014"
        with pytest.raises(psycopg.OperationalError) as told:
            await third.execute("SELECT 1")
        assert told.value.sqlstate in ("53300", "57P03")
        assert monotonic() - started < 15
    finally:
        server.everyone(signal.SIGCONT)
    async with asyncio.timeout(20):
        while True:
            try:
                assert await one(third, "SELECT 3") == 3
                break
            except psycopg.OperationalError:
                assert not third.closed
    await third.close()
