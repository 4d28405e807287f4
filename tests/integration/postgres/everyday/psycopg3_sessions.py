"""A day with psycopg 3, of sessions and streams: `python -m tests.integration.postgres.everyday.psycopg3_sessions
URL`."""

import asyncio
import threading

import psycopg
from psycopg import errors
from tests.integration.postgres.everyday.diary import at_once, run, tell
from tests.integration.postgres.everyday.psycopg3 import refusal


def streams(url: str) -> None:
    with psycopg.connect(url) as connection:
        with connection.cursor("walks", scrollable=True) as named:
            named.itersize = 100
            named.execute("SELECT n, n * n FROM generate_series(1, 1000) n")
            tell("some", named.fetchmany(3), named.fetchone())
            named.scroll(500)
            tell("further", named.fetchone())
            named.scroll(2, mode="absolute")
            tell("back", named.fetchone(), sum(1 for _ in named))
        with connection.cursor("held", withhold=True) as held:
            held.execute("SELECT generate_series(1, 300)")
            connection.commit()
            tell("held", len(held.fetchall()))
        connection.commit()
        with connection.cursor() as cursor:
            numbers = [row[0] for row in cursor.stream("SELECT generate_series(1, 5000)")]
            tell("streamed", len(numbers), sum(numbers))
            chunks = [row[0] for row in cursor.stream("SELECT generate_series(1, 5000)", size=500)]
            tell("in chunks", len(chunks), sum(chunks))
            cursor.execute("SELECT repeat('x', 5000000), %s", ("é" * 2_000_000,))
            row = cursor.fetchone() or ("", "")
            tell("large", len(row[0]), len(row[1]), set(row[1]))
            cursor.execute("SELECT n, repeat(chr(65 + n % 26), 1000) FROM generate_series(1, 20000) n")
            tell("long", sum(n + len(v) for n, v in cursor))
            cursor.execute("SELECT lo_from_bytea(0, %s)", (b"large" * 50_000,))
            (number,) = cursor.fetchone() or (0,)
            (file,) = cursor.execute("SELECT lo_open(%s, 262144)", (number,)).fetchone() or (0,)
            tell("object", cursor.execute("SELECT loread(%s, 9)", (file,)).fetchone())
            cursor.execute("SELECT lo_unlink(%s)", (number,))


def settings(url: str) -> None:
    """Two sessions with their own, one after the other statement by statement."""
    with (
        psycopg.connect(url, autocommit=True, application_name="one", client_encoding="latin1") as one,
        psycopg.connect(url, autocommit=True, options="-c work_mem=5MB -c search_path=public,pg_temp") as two,
    ):
        one.execute("SET TimeZone = 'Asia/Tokyo'")
        one.execute("SET DateStyle = 'German'")
        two.execute("SET TimeZone = 'America/Lima'")
        two.execute("SET IntervalStyle = 'iso_8601'")
        one.execute("SELECT set_config('search_path', 'pg_catalog, public', false)")
        for _ in range(3):
            for connection in (one, two):
                names = ("TimeZone", "DateStyle", "IntervalStyle", "application_name", "work_mem", "search_path")
                query = ", ".join(f"current_setting('{name}')" for name in names)
                tell("settings", connection.execute(f"SELECT {query}").fetchone(), connection.info.timezone)
                tell("text", connection.execute("SELECT 'é', '2026-03-01T12:00Z'::timestamptz::text").fetchone())
        tell("info", one.info.encoding, one.info.parameter_status("application_name"), two.info.encoding)
        one.execute("RESET ALL")
        two.execute("CREATE TEMP TABLE mine (n int); INSERT INTO mine VALUES (1)")
        tell("temporary", two.execute("SELECT * FROM mine").fetchone())
        try:
            one.execute("SELECT * FROM mine")
        except errors.UndefinedTable as error:
            refusal("not mine", error)
        tell("locks", two.execute("SELECT pg_try_advisory_lock(5)").fetchone())
        tell("locks", one.execute("SELECT pg_try_advisory_lock(5)").fetchone())
        two.execute("DISCARD ALL")
        tell("locks", one.execute("SELECT pg_try_advisory_xact_lock(5)").fetchone())


def notifications(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as hears, psycopg.connect(url, autocommit=True) as tells:
        hears.execute("LISTEN news")
        for n in range(3):
            tells.execute("SELECT pg_notify('news', %s)", (str(n),))
        tell("heard", [(each.channel, each.payload) for each in hears.notifies(timeout=20, stop_after=3)])
        hears.execute("UNLISTEN *")
        tells.execute("NOTIFY news, 'nobody'")
        tell("nothing", hears.execute("SELECT 1").fetchone(), list(hears.notifies(timeout=0.05)))


async def interruptions(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        async with connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 50")
            try:
                await connection.execute("SELECT pg_sleep(20)")
            except errors.QueryCanceled as error:
                refusal("timeout", error)
                raise psycopg.Rollback from None
        task = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.2)
        await connection.cancel_safe(timeout=15)
        try:
            await task
        except errors.QueryCanceled as error:
            refusal("cancelled", error)
        try:
            async with asyncio.timeout(0.2):
                await connection.execute("SELECT pg_sleep(60)")
        except TimeoutError:
            tell("given up", connection.closed)
        tell("goes on", await (await connection.execute("SELECT 1")).fetchone())
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 50")
        await asyncio.sleep(0.3)
        try:
            await connection.execute("SELECT 1")
        except psycopg.Error as error:
            tell("idle for too long", type(error).__name__, error.sqlstate, connection.closed)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        try:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        except psycopg.OperationalError as error:
            tell("terminated", type(error).__name__, error.sqlstate)


def several(url: str) -> None:
    """Many clients at once, threads and tasks, each with its own settings and statements."""
    gate = threading.Barrier(16)

    def one(number: int) -> tuple[int, int]:
        with psycopg.connect(url, application_name=f"thread {number}") as connection:
            gate.wait(30)
            total = 0
            for n in range(12):
                with connection.transaction():
                    query = "SELECT current_setting('application_name'), %s::int + count(*) FROM pg_am"
                    name, value = connection.execute(query, (n,)).fetchone() or ("", 0)
                    assert name == f"thread {number}"
                    total += value
        return number, total

    tell("threads", at_once(16, one))

    async def another(number: int) -> int:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            for n in range(10):
                async with connection.transaction(), connection.pipeline():
                    first = await connection.execute("SELECT %s::int", (number,))
                    second = await connection.execute(f"SELECT %s::int * {n}", (number,), prepare=True)
                    assert (await first.fetchone(), await second.fetchone()) == ((number,), (number * n,))
        return number

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(another(number) for number in range(12)))

    tell("tasks", asyncio.run(all_of_them()))


if __name__ == "__main__":
    run(streams, settings, notifications, interruptions, several)
