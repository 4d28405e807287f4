"""What cannot be served is refused in PostgreSQL's words, at once or at its time; hostile bytes reach no server."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import psycopg
import pytest
from tests.conformance.pgwire_cases import HOSTILE_CLIENTS, HOSTILE_STARTS, Hostile, message, packet
from tests.integration.postgres.server import Postgres
from tests.support.forebay import Forebay, postgres_pool

Start = Callable[..., Awaitable[Forebay]]
Connection = psycopg.AsyncConnection[tuple[object, ...]]


async def connect(pool: Forebay, user: str = "postgres", **options: str) -> Connection:
    return await psycopg.AsyncConnection.connect(
        host="127.0.0.1",
        port=pool.port,
        user=user,
        dbname=options.pop("dbname", "postgres"),
        autocommit=True,
        **options,
    )


async def test_an_exhausted_pool(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port, pool={"size": 1, "maxOverflow": 0, "timeout": "300ms"}))
    holder, other = await connect(pool), await connect(pool)
    await holder.execute("BEGIN")
    started = monotonic()
    with pytest.raises(psycopg.errors.TooManyConnections, match="all 1 connections of this replica are in use") as told:
        await other.execute("SELECT 1")
    assert 0.25 < monotonic() - started < 2.0
    assert 'upstream "db"' in str(told.value)
    await holder.execute("COMMIT")
    assert await (await other.execute("SELECT 2")).fetchone() == (2,)  # the session has stayed
    assert (await pool.metrics()).value("forebay_rejections_total", reason="timeout") == 1
    await holder.close()
    await other.close()


async def test_an_unknown_database_in_the_servers_words(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port))
    with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
        await connect(pool, dbname="nowhere")
    with pytest.raises(psycopg.OperationalError, match="no password is known for user 'nobody'"):
        await connect(pool, user="nobody")


async def test_a_database_that_the_document_does_not_name(forebay: Start, postgres: Postgres) -> None:
    databases = [{"name": "main", "database": "postgres", "settings": {"work_mem": "7MB"}}]
    pool = await forebay(postgres_pool(postgres.port, postgres={"databases": databases}))
    with pytest.raises(psycopg.OperationalError, match='database "postgres" does not exist'):
        await connect(pool)
    connection = await connect(pool, dbname="main")
    assert await (await connection.execute("SHOW work_mem")).fetchone() == ("7MB",)
    await connection.close()


async def test_replication_is_refused(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port))
    with pytest.raises(psycopg.OperationalError, match="replication connections can't be pooled"):
        await connect(pool, replication="database")


async def test_too_many_clients(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port, spec={"maxClientConnections": 1}))
    first = await connect(pool)
    with pytest.raises(psycopg.OperationalError, match="maxClientConnections is 1"):
        await connect(pool)
    await first.close()


@pytest.mark.parametrize("mode", ["idleTransactionTimeout", "queryTimeout", "clientIdleTimeout"])
async def test_timeouts(forebay: Start, postgres: Postgres, mode: str) -> None:
    pool = await forebay(postgres_pool(postgres.port, postgres={mode: "200ms"}))
    connection = await connect(pool)
    if mode == "idleTransactionTimeout":
        await connection.execute("BEGIN")
        expected = "25P03"
    elif mode == "queryTimeout":
        expected = "57014"
    else:
        expected = "57P05"
    started = monotonic()
    if mode != "queryTimeout":
        await asyncio.wait_for(closed(connection), 5)
    with pytest.raises(psycopg.Error) as told:
        await connection.execute("SELECT pg_sleep(10)")
    assert told.value.sqlstate == expected
    assert monotonic() - started < 5
    other = await connect(pool)
    assert await (await other.execute("SELECT 1")).fetchone() == (1,)
    await other.close()


async def closed(connection: Connection) -> None:
    """The other end has said something, and closed."""
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection.fileno())


async def test_statement_mode_refuses_transaction_blocks(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port, postgres={"poolMode": "statement"}))
    connection = await connect(pool)
    assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    with pytest.raises(psycopg.Error, match="transaction blocks not allowed"):
        await connection.execute("BEGIN")
    await connection.close()


STARTUP = packet(0x30000, b"user\0postgres\0database\0postgres\0\0")


async def answer(pool: Forebay, first: bytes, then: bytes = b"") -> bytes:
    """Everything that the proxy says until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pool.port)
    try:
        writer.write(first)
        if then:
            said = b""
            while not said.endswith(message(b"Z", b"I")):
                said += await asyncio.wait_for(reader.read(4096), 10)
            writer.write(then)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_hostile_bytes(forebay: Start, postgres: Postgres) -> None:
    """Each is answered with its SQLSTATE and closed, and the server hears of none."""
    pool = await forebay(postgres_pool(postgres.port))
    before = len(postgres.lines)

    async def one(case: Hostile, *sent: bytes) -> None:
        said = await answer(pool, *sent)
        if not case.name.startswith("a CancelRequest"):
            assert case.sqlstate.encode() in said, (case.name, said)
        assert b"FATAL" in said or case.name.startswith("a CancelRequest"), (case.name, said)

    for case in HOSTILE_STARTS:
        await one(case, case.data)
    for case in HOSTILE_CLIENTS:
        await one(case, STARTUP, case.data)
    connection = await connect(pool)
    assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    await connection.close()
    assert not [line for line in postgres.lines[before:] if "protocol" in line or "invalid" in line]


async def test_bytes_behind_a_request_for_encryption(forebay: Start, postgres: Postgres) -> None:
    pool = await forebay(postgres_pool(postgres.port))
    assert b"08P01" in await answer(pool, packet(80877103) + STARTUP)
