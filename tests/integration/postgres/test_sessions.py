"""What stays with a client and what does not: prepared statements, long messages, pins and how they end."""

from collections.abc import Awaitable, Callable

import asyncpg
import psycopg
import pytest
from tests.integration.postgres.server import Postgres
from tests.support.forebay import Forebay, postgres_pool

Start = Callable[..., Awaitable[Forebay]]
Connection = psycopg.AsyncConnection[tuple[object, ...]]


@pytest.fixture
async def pool(forebay: Start, postgres: Postgres) -> Forebay:
    return await forebay(postgres_pool(postgres.port, pool={"size": 1, "maxOverflow": 0, "timeout": "1s"}))


async def connect(pool: Forebay) -> Connection:
    return await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user="postgres", dbname="postgres", autocommit=True
    )


async def one(connection: Connection, query: str, *values: object) -> object:
    row = await (await connection.execute(query, values or None)).fetchone()
    assert row is not None
    return row[0]


async def pinned(pool: Forebay, reason: str) -> float:
    return (await pool.metrics()).get("forebay_upstream_pinned", reason=reason)


async def test_two_clients_take_turns_on_one_connection(pool: Forebay) -> None:
    async with await connect(pool) as first, await connect(pool) as second:
        for each in (first, second):
            each.prepare_threshold = 0
        for number in range(10):
            assert await one(first, "SELECT %s::int", number) == number
            assert await one(second, "SELECT %s::text", str(number)) == str(number)
        await first.execute("DEALLOCATE ALL")
        assert await one(second, "SELECT %s::text", "again") == "again"


async def test_a_statement_of_the_protocol_is_deallocated_by_sql(pool: Forebay) -> None:
    async with await connect(pool) as first, await connect(pool) as second:
        first.pgconn.prepare(b"mine", b"SELECT 1")
        result = first.pgconn.exec_(b'DEALLOCATE "mine"')
        assert result.command_status == b"DEALLOCATE"
        assert first.pgconn.exec_prepared(b"mine", []).error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"26000"
        assert first.pgconn.exec_(b"DEALLOCATE mine").error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"26000"
        assert await one(second, "SELECT 2") == 2


@pytest.mark.parametrize("parameter", [False, True])
async def test_long_texts(pool: Forebay, parameter: bool) -> None:
    """Longer than what is waited for: streamed, and nothing of it is left with the connection."""
    async with await connect(pool) as first, await connect(pool) as second:
        text = "SELECT length('" + "x" * 1_500_000 + "')"
        for _ in range(3):
            if parameter:
                assert await one(first, text + " + %s::int", 1) == 1_500_001
            else:
                assert await one(first, text) == 1_500_000
            assert await one(first, "SELECT %s::int", 7) == 7
            assert await one(second, "SELECT %s::int", 8) == 8
        with pytest.raises(psycopg.errors.SyntaxError):
            await first.execute(text + " nonsense nonsense")
        assert await one(second, "SELECT 9") == 9


async def test_a_mark_at_the_end_of_a_long_text_pins(pool: Forebay) -> None:
    async with await connect(pool) as first:
        await first.execute("SELECT length('" + "x" * 1_500_000 + "'); SET work_mem = '9MB'")
        assert await pinned(pool, "unclear") == 1
        assert await one(first, "SHOW work_mem") == "9MB"
    async with await connect(pool) as second:
        assert await one(second, "SHOW work_mem") == "4MB"


async def test_a_pin_ends_when_what_it_is_for_does(pool: Forebay) -> None:
    async with await connect(pool) as first, await connect(pool) as second:
        await first.execute("LISTEN here")
        assert await pinned(pool, "listen") == 1
        with pytest.raises(psycopg.errors.TooManyConnections):
            await second.execute("SELECT 1")
        await first.execute("BEGIN")
        await first.execute("UNLISTEN *")
        await first.execute("ROLLBACK")
        assert await pinned(pool, "listen") == 1  # it still listens
        await first.execute("UNLISTEN *")
        assert await pinned(pool, "listen") == 0
        assert await one(second, "SELECT 1") == 1
        await first.execute("LISTEN here")
        first.pgconn.exec_params(b"UNLISTEN *", [])
        assert await pinned(pool, "listen") == 0


async def test_what_is_pipelined_behind_a_refusal_is_served(pool: Forebay) -> None:
    async with await connect(pool) as first, await connect(pool) as second:
        await first.execute("BEGIN")
        second.pgconn.enter_pipeline_mode()
        for _ in range(2):
            second.pgconn.send_query_params(b"SELECT 1", [])
            second.pgconn.pipeline_sync()
        results = []
        await first.execute("SELECT pg_sleep(0)")
        while len(results) < 4:
            if (result := second.pgconn.get_result()) is not None:
                results.append(result.status)
        status = psycopg.pq.ExecStatus
        assert results == [status.FATAL_ERROR, status.PIPELINE_SYNC] * 2
        second.pgconn.exit_pipeline_mode()
        await first.execute("COMMIT")
        assert await one(second, "SELECT 3") == 3


@pytest.mark.parametrize(
    "how", ["RESET ALL", "SELECT 1; RESET ALL", "RESET TimeZone", "DISCARD ALL", "SET TimeZone TO DEFAULT"]
)
async def test_what_is_reset_is_what_the_client_began_with(pool: Forebay, how: str) -> None:
    began = "-c TimeZone=Asia/Tokyo -c application_name=reports"
    async with await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user="postgres", dbname="postgres", autocommit=True, options=began
    ) as client, await connect(pool) as other:  # fmt: skip
        client.prepare_threshold = None  # DISCARD ALL does away with what the driver has prepared
        for _ in range(2):
            assert await one(client, "SHOW TimeZone") == "Asia/Tokyo"
            await client.execute("SET TimeZone TO 'Europe/Berlin'")
            assert await one(client, "SHOW TimeZone") == "Europe/Berlin"
            await client.execute(how)
            assert client.info.timezone.key == "Asia/Tokyo"
            assert await one(client, "SHOW TimeZone") == "Asia/Tokyo"
            assert await one(client, "SHOW application_name") == "reports"
            assert await one(other, "SHOW TimeZone") != "Asia/Tokyo"
            assert await pinned(pool, "set") == 0
            await client.execute("SET work_mem TO '9MB'")
            assert await pinned(pool, "set") == 1
            await client.execute("SET TimeZone TO 'Europe/Berlin'")
            await client.execute("RESET ALL")
            assert await one(client, "SHOW TimeZone") == "Asia/Tokyo"


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("how", ["RESET TIME ZONE", "RESET ALL", "DISCARD ALL", "SET TIME ZONE LOCAL"])
async def test_a_reset_where_nothing_changes_at_the_server(pool: Forebay, how: str, extended: bool) -> None:
    """What the client has is its server's default: the server resets it without a word."""
    async with await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user="postgres", dbname="postgres", autocommit=True,
        options="-c TimeZone=Asia/Tokyo",
    ) as client:  # fmt: skip
        client.prepare_threshold = None
        server = await one(client, "SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")
        await client.execute(f"SET TimeZone TO '{server}'")
        assert await one(client, "SHOW TimeZone") == server
        if extended:
            client.pgconn.exec_params(how.encode(), [])
        else:
            await client.execute(how)
        assert client.info.timezone.key == "Asia/Tokyo"
        assert await one(client, "SHOW TimeZone") == "Asia/Tokyo"


async def test_a_reset_that_fails_leaves_what_was_set(pool: Forebay) -> None:
    async with await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user="postgres", dbname="postgres", autocommit=True,
        options="-c TimeZone=Asia/Tokyo",
    ) as client:  # fmt: skip
        server = await one(client, "SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")
        await client.execute(f"SET TimeZone TO '{server}'")
        with pytest.raises(psycopg.errors.DivisionByZero):
            await client.execute("RESET TimeZone; SELECT 1/0")
        assert await one(client, "SHOW TimeZone") == server


async def test_a_reset_of_something_else_leaves_what_was_set(pool: Forebay) -> None:
    async with await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user="postgres", dbname="postgres", autocommit=True,
        options="-c TimeZone=Asia/Tokyo",
    ) as client:  # fmt: skip
        server = await one(client, "SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")
        await client.execute(f"SET TimeZone TO '{server}'")
        await client.execute("RESET statement_timeout")
        assert await one(client, "SHOW TimeZone") == server


async def test_asyncpgs_pool_resets_at_each_release(pool: Forebay) -> None:
    began = {"TimeZone": "Asia/Tokyo", "application_name": "reports"}
    url = f"postgres://postgres@127.0.0.1:{pool.port}/postgres"
    async with asyncpg.create_pool(url, min_size=2, max_size=2, server_settings=began) as clients:
        for _ in range(6):
            async with clients.acquire() as client:
                assert await client.fetchval("SHOW TimeZone") == "Asia/Tokyo"
                assert await client.fetchval("SELECT current_setting('application_name')") == "reports"
                await client.execute("SET work_mem TO '9MB'")
                await client.execute("SET TimeZone TO 'Europe/Berlin'")
                assert await pinned(pool, "set") == 1
            async with clients.acquire() as client:
                server = await client.fetchval("SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")
                await client.execute(f"SET TimeZone TO '{server}'")
            assert await pinned(pool, "set") == 0
