"""The admin database: PgBouncer's columns, as dashboards and psql read them."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from operator import not_
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.integration.postgres.server import Postgres
from tests.integration.postgres.test_programs import run
from tests.support.criteria import ready_workers
from tests.support.forebay import Forebay, postgres_pool
from tests.support.waiting import until

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
        await until(lambda: ask(pool, "SHOW POOLS"), 20, wanted=lambda rows: rows[0]["cl_waiting"] >= len(clients))
        await ask(pool, "RESUME", "admin")
        assert await asyncio.wait_for(asyncio.gather(*held), 20) == [1] * len(clients)
        await ask(pool, "KILL postgres", "admin")
        await until(lambda: ask(pool, "SHOW CLIENTS"), 20, wanted=not_)
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
        await until(lambda: waiting(pool, "orders"), 20, wanted=lambda count: count >= len(tasks))
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
        await until(lambda: asked >= before + 2 * len(tasks), 20)
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
    await until(lambda: waiting(pool, "postgres"), 20, wanted=lambda count: count >= 3)
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
    await until(lambda: waiting(pool, "postgres"), 20)
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
        await until(lambda: ask(pool, "SHOW DATABASES"), 20, wanted=lambda rows: rows[0]["paused"] != 0)
        await ask(pool, "RESUME postgres", "admin")
        with pytest.raises(psycopg.Error, match="database postgres was resumed before it was at rest"):
            await asyncio.wait_for(pausing, 20)
        await connection.execute("COMMIT")
        assert await one(connection, "SELECT 1") == 1


async def test_a_pause_that_is_cancelled(pool: Forebay) -> None:
    """Ctrl-C: what it has paused goes on."""
    async with await client(pool) as connection:
        for order in ("PAUSE postgres", "PAUSE"):
            await connection.execute("BEGIN")
            await connection.execute("SELECT 1")
            async with await psycopg.AsyncConnection.connect(
                host="127.0.0.1", port=pool.port, user="admin", dbname="pgbouncer", autocommit=True
            ) as console:
                pausing = asyncio.create_task(psycopg.AsyncClientCursor(console).execute(order))
                await until(lambda: ask(pool, "SHOW DATABASES"), 20, wanted=lambda rows: rows[0]["paused"] != 0)
                await console.cancel_safe()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    await asyncio.wait_for(pausing, 20)
                assert await paused(pool) == {"postgres": 0}
                await console.cancel_safe()  # nothing is under way
                await psycopg.AsyncClientCursor(console).execute("SHOW VERSION")
            await connection.execute("COMMIT")
            assert await one(connection, "SELECT 1") == 1


async def paused(pool: Forebay) -> dict[str, int]:
    return {row["name"]: row["paused"] for row in await ask(pool, "SHOW DATABASES")}


async def test_a_pause_of_all_waits_for_transactions(pool: Forebay) -> None:
    """What follows it, a promotion say, cuts none."""
    async with await client(pool) as connection:
        await connection.execute("BEGIN")
        await connection.execute("SELECT 1")
        pausing = asyncio.create_task(ask(pool, "PAUSE", "admin"))
        await until(lambda: ask(pool, "SHOW STATE"), 20, wanted=lambda rows: {"key": "paused", "value": "yes"} in rows)
        await connection.execute("SELECT 2")
        assert not pausing.done()
        await connection.execute("COMMIT")
        await asyncio.wait_for(pausing, 5)
        await ask(pool, "RESUME", "admin")
        await connection.execute("SELECT 3")


async def test_a_killed_database_waits_until_it_is_resumed(
    forebay: Start, postgres: Postgres, orders: psycopg.Connection[Any]
) -> None:
    """As in PgBouncer: whatever its clients do, they and their connections go, and those who come wait."""
    pool = await forebay(postgres_pool(postgres.port, postgres=USERS, spec={"replicas": 3}))
    idle, transacting, busy, other = [await client(pool, name) for name in ("orders", "orders", "orders", "postgres")]
    assert await one(idle, "SELECT 1") == 1
    await transacting.execute("BEGIN")
    await transacting.execute("SELECT 1")
    working = asyncio.create_task(busy.execute("SELECT pg_sleep(60)"))
    await until(
        lambda: ask(pool, "SHOW POOLS"), 20,
        wanted=lambda rows: sum(row["sv_active"] for row in rows if row["database"] == "orders") >= 2,
    )  # fmt: skip
    await ask(pool, "KILL orders", "admin")
    for each in (working, idle.execute("SELECT 2"), transacting.execute("SELECT 2")):
        with pytest.raises(psycopg.errors.AdminShutdown, match="KILL"):
            await asyncio.wait_for(each, 20)
    await until(
        lambda: ask(pool, "SHOW SERVERS"), 20, wanted=lambda rows: all(row["database"] != "orders" for row in rows)
    )
    orders.execute("ALTER DATABASE orders RENAME TO moved")
    assert await paused(pool) == {"orders": 1, "postgres": 0}
    assert await one(other, "SELECT 3") == 3
    arriving = [asyncio.create_task(ask_of(pool, "orders")) for _ in range(6)]
    await all_held(pool, arriving)
    orders.execute("ALTER DATABASE moved RENAME TO orders")
    await ask(pool, "RESUME orders", "admin")
    assert await asyncio.wait_for(asyncio.gather(*arriving), 20) == ["orders"] * len(arriving)
    await other.close()


async def test_all_databases_are_killed(forebay: Start, postgres: Postgres, orders: psycopg.Connection[Any]) -> None:
    """Each is paused by its name, also where only another worker has ever heard of it."""
    pool = await forebay(postgres_pool(postgres.port, postgres=USERS, spec={"replicas": 3}))
    clients = [await client(pool, name) for name in ("orders", "postgres")]
    await ask(pool, "KILL", "admin")
    for each in clients:
        with pytest.raises(psycopg.errors.AdminShutdown, match="KILL"):
            await each.execute("SELECT 1")
    assert await paused(pool) == {"orders": 1, "postgres": 1}
    with pytest.raises(psycopg.Error, match="pooler is not paused/suspended"):
        await ask(pool, "RESUME", "admin")
    arriving = [asyncio.create_task(ask_of(pool, "orders")) for _ in range(6)]
    await all_held(pool, arriving)
    for name in ("orders", "postgres"):
        await ask(pool, f"RESUME {name}", "admin")
    assert await asyncio.wait_for(asyncio.gather(*arriving), 20) == ["orders"] * len(arriving)
    assert await ask_of(pool, "postgres") == "postgres"


async def test_workers_that_start_later_are_paused_too(
    forebay: Start, postgres: Postgres, orders: psycopg.Connection[Any]
) -> None:
    """One that takes the place of a dead one, and one that is added."""
    document = postgres_pool(postgres.port, postgres=USERS, spec={"replicas": 2})
    pool = await forebay(document)
    before = await ready_workers(pool, lambda pids: len(pids) == 2)
    await (await client(pool, "orders")).close()  # a database is known when somebody has asked for it
    await ask(pool, "PAUSE orders", "admin")
    os.kill(min(before), signal.SIGKILL)
    await ready_workers(pool, lambda pids: len(pids) == 2 and min(before) not in pids)
    document["spec"]["replicas"] = 3
    pool.write(document)
    await ready_workers(pool, lambda pids: len(pids) == 3)
    arriving = [asyncio.create_task(ask_of(pool, "orders")) for _ in range(12)]
    await all_held(pool, arriving)
    assert await ask_of(pool, "postgres") == "postgres"
    await ask(pool, "RESUME orders", "admin")
    assert await asyncio.wait_for(asyncio.gather(*arriving), 20) == ["orders"] * len(arriving)


async def test_a_pause_of_all_outlives_a_worker(forebay: Start, postgres: Postgres) -> None:
    """Until it is resumed."""
    pool = await forebay(postgres_pool(postgres.port, postgres=USERS, spec={"replicas": 2}))
    workers = await ready_workers(pool, lambda pids: len(pids) == 2)
    for order, paused in (("PAUSE", True), ("RESUME", False)):
        await ask(pool, order, "admin")
        gone = min(workers)
        os.kill(gone, signal.SIGKILL)
        workers = await ready_workers(pool, lambda pids, gone=gone: len(pids) == 2 and gone not in pids)  # type: ignore[misc]
        told = (await pool.state())["workers"]
        assert [worker["upstreams"]["db"]["paused"] for worker in told] == [paused] * 2


async def all_held(pool: Forebay, arriving: list[asyncio.Task[Any]]) -> None:
    """Wait until all who arrive at `orders` wait: those whose worker has not yet seen what its server reports, in
    their logins."""

    async def held() -> int:
        (logins,) = [row["items"] for row in await ask(pool, "SHOW LISTS") if row["list"] == "login_clients"]
        return int(logins) + await waiting(pool, "orders")

    await until(held, 20, wanted=lambda count: count == len(arriving))
    assert not any(task.done() for task in arriving)


async def ask_of(pool: Forebay, database: str) -> Any:
    """What a client that comes and goes hears of its database."""
    async with await client(pool, database) as connection:
        return await one(connection, "SELECT current_database()::text")


async def one(connection: Any, query: str) -> Any:
    return (await (await connection.execute(query)).fetchone())[0]


async def test_after_reconnect_nobody_begins_with_what_another_has_set(forebay: Start, postgres: Postgres) -> None:
    """Where the first to log in gets a connection that a client has used."""
    pool = await forebay(postgres_pool(postgres.port, postgres=USERS, pool={"size": 1, "maxOverflow": 0}))
    async with await client(pool) as busy, await client(pool) as setter:
        await setter.execute("SET TimeZone = 'Asia/Tokyo'")
        await setter.execute("SET application_name = 'setter'")
        await busy.execute("BEGIN")
        waiting = asyncio.create_task(setter.execute("SELECT 1"))
        await until(lambda: waits(pool, 1))
        await ask(pool, "RECONNECT", "admin")

        async def begun_with() -> list[str]:
            async with await client(pool) as fresh:
                names = "TimeZone", "application_name"
                return [(await (await fresh.execute(f"SHOW {name}")).fetchone())[0] for name in names]

        first = asyncio.create_task(begun_with())
        await until(lambda: waits(pool, 2))
        await busy.execute("COMMIT")
        await waiting
        assert "Asia/Tokyo" not in await first
        assert "setter" not in await begun_with()


async def waits(pool: Forebay, count: int) -> bool:
    return (await pool.metrics()).value("forebay_upstream_waiting") == count
