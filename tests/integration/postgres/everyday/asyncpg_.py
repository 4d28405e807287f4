"""A day with asyncpg: `python -m tests.integration.postgres.everyday.asyncpg_ URL`, in an empty database."""

import asyncio
import datetime
import decimal
import io
import ipaddress
import json
import uuid
from typing import Any

import asyncpg
from tests.integration.postgres.everyday.diary import run, tell

SCHEMA = """
CREATE TYPE colour AS ENUM ('red', 'green', 'blue');
CREATE TYPE place AS (x int, y int, label text);
CREATE TABLE accounts (id int PRIMARY KEY, owner text NOT NULL, balance numeric(10, 2) CHECK (balance >= 0));
CREATE TABLE transfers (
    id bigserial PRIMARY KEY, source int REFERENCES accounts, target int REFERENCES accounts,
    amount numeric(10, 2) NOT NULL, note jsonb);
CREATE TABLE things (id int PRIMARY KEY, colour colour, at place, parts place[], during tstzrange, tags text[]);
CREATE TABLE tasks (id serial PRIMARY KEY, payload jsonb NOT NULL, taken_by int);
CREATE TABLE measured (sensor int NOT NULL, at timestamptz NOT NULL, value float8) PARTITION BY RANGE (at);
CREATE TABLE measured_2026 PARTITION OF measured FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE MATERIALIZED VIEW totals AS SELECT owner, sum(balance) AS total FROM accounts GROUP BY owner;
"""


def refusal(label: str, error: asyncpg.PostgresError) -> None:
    more = (getattr(error, name, None) for name in ("detail", "hint", "constraint_name", "position", "context"))
    tell(label, type(error).__name__, error.sqlstate, error.args[0], *more)


async def schema(url: str) -> None:
    connection = await asyncpg.connect(url)
    tell("status", await connection.execute(SCHEMA))
    tell("server", connection.get_server_version().major, connection.get_settings().server_encoding)
    columns = await connection.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute "
        "WHERE attrelid = 'things'::regclass AND attnum > 0 ORDER BY attnum"
    )
    tell("columns", [tuple(row) for row in columns])
    await connection.close()
    tell("closed", connection.is_closed())


async def crud(url: str) -> None:
    connection = await asyncpg.connect(url)
    people = [(n, f"owner {n % 7}", decimal.Decimal(100 + n)) for n in range(200)]
    await connection.executemany("INSERT INTO accounts VALUES ($1, $2, $3)", people)
    inserted = await connection.fetchmany(
        "INSERT INTO tasks (payload) VALUES ($1) RETURNING id", [(json.dumps({"n": n}),) for n in range(5)]
    )
    tell("inserted", [row["id"] for row in inserted])
    row = await connection.fetchrow("SELECT * FROM accounts WHERE id = $1", 7)
    assert row is not None
    tell("row", dict(row), row.get("owner"), list(row.keys()))
    tell("nothing", await connection.fetchrow("SELECT * FROM accounts WHERE id = $1", -1))
    tell("value", await connection.fetchval("SELECT id, owner FROM accounts WHERE id = $1", 8, column=1))
    tell("update", await connection.execute("UPDATE accounts SET balance = balance + 1 WHERE id < $1", 50))
    tell("delete", await connection.execute("DELETE FROM accounts WHERE id >= 190"))
    upsert = """INSERT INTO accounts VALUES ($1, $2, $3)
                ON CONFLICT (id) DO UPDATE SET balance = accounts.balance + EXCLUDED.balance RETURNING *"""
    tell("upsert", await connection.fetchrow(upsert, 3, "x", decimal.Decimal("0.5")))
    tell("upsert", await connection.fetchrow(upsert, 500, "new", decimal.Decimal("0.5")))
    tell("any", await connection.fetchval("SELECT count(*) FROM accounts WHERE id = ANY($1::int[])", [1, 2, 999]))
    unnested = (
        "INSERT INTO things (id, tags) SELECT * FROM unnest($1::int[], $2::text[]) AS t(id, tag), LATERAL (SELECT) x"
    )
    try:
        await connection.execute(unnested, [1, 2], ["a", "b"])
    except asyncpg.PostgresError as error:
        refusal("types", error)
    ranked = """SELECT owner, id, balance, row_number() OVER w, lag(balance) OVER w
                FROM accounts WINDOW w AS (PARTITION BY owner ORDER BY balance DESC) ORDER BY owner, 4 LIMIT 4"""
    tell("ranked", [tuple(row) for row in await connection.fetch(ranked)])
    await connection.execute("REFRESH MATERIALIZED VIEW totals")
    tell("totals", [tuple(row) for row in await connection.fetch("SELECT * FROM totals ORDER BY owner LIMIT 2")])
    start = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
    readings = [(n % 3, start + datetime.timedelta(minutes=n), n / 8) for n in range(300)]
    await connection.executemany("INSERT INTO measured VALUES ($1, $2, $3)", readings)
    daily = """SELECT sensor, date_trunc('hour', at) AS hour, avg(value),
                      percentile_cont(0.9) WITHIN GROUP (ORDER BY value)
               FROM measured WHERE at >= $1 GROUP BY 1, 2 HAVING count(*) > 5 ORDER BY 1, 2 LIMIT 3"""
    tell("hourly", [tuple(row) for row in await connection.fetch(daily, start)])
    try:
        await connection.execute("INSERT INTO measured VALUES (1, '2031-01-01', 1)")
    except asyncpg.CheckViolationError as error:
        refusal("no partition", error)
    await connection.close()


async def types(url: str) -> None:
    connection = await asyncpg.connect(url)
    at = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)
    for name, value in (
        ("int2", -7), ("int8", 2**62), ("float4", 1.5), ("float8", float("-inf")), ("numeric", decimal.Decimal("1e40")),
        ("text", "é\u20ac\\'\"\n"), ("bytea", bytes(range(256))), ("bool", False), ("date", at.date()),
        ("timestamptz", at), ("timestamp", at.replace(tzinfo=None)), ("time", datetime.time(23, 59, 59, 5)),
        ("timetz", datetime.time(1, 2, tzinfo=datetime.UTC)), ("interval", datetime.timedelta(days=3, seconds=-4)),
        ("uuid", uuid.UUID(int=9)), ("json", '{"a": [1]}'), ("jsonb", '{"a": [1]}'), ("int[]", [1, None, 3]),
        ("text[]", [["a", "b"], ['"', "{,}"]]), ("inet", ipaddress.ip_interface("10.0.0.1/8")),
        ("cidr", ipaddress.ip_network("fe80::/10")), ("macaddr", "08:00:2b:01:02:03"),
        ("bit(5)", asyncpg.BitString("10110")),
        ("int4range", asyncpg.Range(1, 9)), ("tstzrange", asyncpg.Range(at, None)), ("tsvector", "'a':1 'b':2"),
        ("int4multirange", [asyncpg.Range(1, 3), asyncpg.Range(7, 9)]), ("point", asyncpg.Point(1, 2)),
        ("circle", asyncpg.Circle((1, 2), 3)), ("box", asyncpg.Box((3, 4), (1, 2))),
        ("name", "x"), ("xml", "<a/>"), ("money", "12"), ("colour", "green"), ("place", (1, 2, "here")),
        ("place[]", [(1, 2, "a"), (3, None, None)]), ("oid", 7), ('"char"', b"x"), ("pg_lsn", 77), ("int", None),
    ):  # fmt: skip
        try:
            tell(name, await connection.fetchval(f"SELECT $1::{name}", value))
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            tell(name, type(error).__name__, str(error))
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await connection.set_type_codec("numeric", encoder=str, decoder=float, schema="pg_catalog", format="text")
    tell("codecs", await connection.fetchrow("SELECT $1::jsonb, '{\"b\": null}'::json, 1.25::numeric", {"a": [1, 2]}))
    await connection.reset_type_codec("numeric", schema="pg_catalog")
    await connection.execute(
        "INSERT INTO things VALUES ($1, $2, $3, $4, $5, $6)",
        *(9, "blue", (1, 2, "p"), [(3, 4, None)], asyncpg.Range(at, at.replace(year=2027)), ["t"]),
    )
    row = await connection.fetchrow("SELECT *, (at).label, parts[1].y FROM things WHERE during @> $1::timestamptz", at)
    assert row is not None
    tell("thing", tuple(row), row["at"]["label"])
    records = await connection.fetchval("SELECT array_agg(a) FROM (SELECT 1 AS n, 'x'::text AS v) a")
    tell("record", [tuple(record) for record in records])
    try:
        await connection.fetchval("SELECT $1::int", "x")
    except asyncpg.DataError as error:
        tell("not encoded", str(error))
    await connection.close()


async def transactions(url: str) -> None:
    connection = await asyncpg.connect(url)
    for label, statement in (
        ("unique", "INSERT INTO accounts VALUES (3, 'x', 1)"),
        ("check", "UPDATE accounts SET balance = -1"),
        ("foreign", "INSERT INTO transfers (source, target, amount) VALUES (1, -1, 1)"),
        ("null", "INSERT INTO accounts (id) VALUES (7777)"),
        ("syntax", "SELECT FROM WHERE"),
        ("table", "TABLE nowhere"),
        ("function", "SELECT nothing(1)"),
        ("cast", "SELECT 'furious'::colour"),
        ("division", "SELECT 1/0"),
        ("overflow", "SELECT 2147483647 + 1"),
        ("raise", "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'P0042', HINT = 'none'; END $$"),
        ("no transaction", "SAVEPOINT a"),
    ):
        for call in (connection.execute, connection.fetch):
            try:
                await call(statement)
            except asyncpg.PostgresError as error:
                refusal(label, error)
    async with connection.transaction():
        await connection.execute("UPDATE accounts SET balance = balance - 5 WHERE id = 1")
        try:
            async with connection.transaction():
                await connection.execute("UPDATE accounts SET balance = balance + 5 WHERE id = 2")
                await connection.execute("UPDATE accounts SET balance = -1 WHERE id = 2")
        except asyncpg.CheckViolationError as error:
            refusal("inner", error)
        tell("within", connection.is_in_transaction())
        await connection.execute("UPDATE accounts SET balance = balance + 5 WHERE id = 3")
    tell("balances", await connection.fetch("SELECT id, balance FROM accounts WHERE id < 4 ORDER BY id"))
    transaction = connection.transaction(isolation="serializable", readonly=True, deferrable=True)
    await transaction.start()
    tell(
        "level",
        await connection.fetchval("SHOW transaction_isolation"),
        await connection.fetchval("SHOW transaction_read_only"),
    )
    try:
        await connection.execute("DELETE FROM accounts")
    except asyncpg.ReadOnlySQLTransactionError as error:
        refusal("read only", error)
    try:
        await connection.fetch("SELECT 1")
    except asyncpg.InFailedSQLTransactionError as error:
        refusal("failed", error)
    await transaction.rollback()
    await connection.execute("BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL work_mem = '3MB'")
    tell("local", await connection.fetchrow("SELECT current_setting('TimeZone'), current_setting('work_mem')"))
    await connection.execute("COMMIT")
    tell("after", await connection.fetchval("SELECT current_setting('TimeZone')"))
    await connection.close()


async def retries(url: str) -> None:
    """Transfers between few accounts by many at once, serializable: those that fail are tried again; none is lost."""
    async with asyncpg.create_pool(url, min_size=0, max_size=8) as clients:
        before = await clients.fetchval("SELECT sum(balance) FROM accounts WHERE id < 4")

        async def transfer(number: int) -> None:
            source, target = number % 4, (number + 1) % 4
            while True:
                try:
                    async with clients.acquire() as connection, connection.transaction(isolation="serializable"):
                        for account in sorted((source, target)):  # in one order, so that none waits for another in turn
                            have = await connection.fetchval("SELECT balance FROM accounts WHERE id = $1", account)
                            have += 1 if account == target else -1
                            await connection.execute("UPDATE accounts SET balance = $2 WHERE id = $1", account, have)
                        await connection.execute(
                            "INSERT INTO transfers (source, target, amount) VALUES ($1, $2, 1)", source, target
                        )
                    return
                except asyncpg.SerializationError:
                    continue

        await asyncio.gather(*(transfer(number) for number in range(40)))
        tell("kept", before == await clients.fetchval("SELECT sum(balance) FROM accounts WHERE id < 4"))
        tell("transfers", await clients.fetch("SELECT source, count(*) FROM transfers GROUP BY 1 ORDER BY 1"))


async def statements(url: str) -> None:
    connection = await asyncpg.connect(url, statement_cache_size=20)
    statement = await connection.prepare("SELECT id, balance FROM accounts WHERE id = $1")
    tell("parameters", [each.name for each in statement.get_parameters()])
    tell("attributes", [(each.name, each.type.name) for each in statement.get_attributes()])
    tell("found", [await statement.fetchval(n, column=1) for n in range(5)], statement.get_statusmsg())
    tell("many", len(await statement.fetchmany([(n,) for n in range(30)])))
    for again in range(3):
        for n in range(50):  # more than the cache has places
            assert await connection.fetchval(f"SELECT $1::int + {n}", again) == again + n
    other = await asyncpg.connect(url)
    await other.execute("ALTER TABLE accounts ADD COLUMN opened date")
    tell("new column", await connection.fetchrow("SELECT * FROM accounts WHERE id = 5"))
    await other.execute("ALTER TABLE accounts DROP COLUMN opened")
    tell("old columns", await connection.fetchrow("SELECT * FROM accounts WHERE id = 5"))
    await other.execute("CREATE TYPE late AS (n int)")
    tell("late", await connection.fetchval("SELECT ROW(5)::late"))
    await other.execute("ALTER TYPE late ADD ATTRIBUTE v text")
    await connection.reload_schema_state()
    tell("later", await connection.fetchval("SELECT ROW(5, 'x')::late"))
    try:
        await connection.prepare("SELECT nothing FROM accounts")
    except asyncpg.UndefinedColumnError as error:
        refusal("unprepared", error)
    uncached = await asyncpg.connect(url, statement_cache_size=0)
    tell("uncached", [await uncached.fetchval("SELECT $1::int", n) for n in range(3)])
    await asyncio.gather(connection.close(), other.close(), uncached.close())


async def cursors(url: str) -> None:
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        numbers = [row["n"] async for row in connection.cursor("SELECT n FROM generate_series(1, 1000) n", prefetch=64)]
        tell("all", len(numbers), sum(numbers))
        cursor = await connection.cursor("SELECT n FROM generate_series($1::int, 100) n", 10)
        tell("some", await cursor.fetch(3), await cursor.forward(10), await cursor.fetchrow())
        one = await connection.cursor("SELECT generate_series(1, 9)")
        two = await connection.cursor("SELECT generate_series(11, 19)")
        tell("in turns", [(await one.fetchrow(), await two.fetchrow()) for _ in range(3)])
        prepared = await connection.prepare("SELECT id FROM accounts WHERE id < $1 ORDER BY id")
        tell("prepared", [row["id"] async for row in prepared.cursor(6, prefetch=2)])
    try:
        await connection.cursor("SELECT 1")
    except asyncpg.NoActiveSQLTransactionError as error:
        tell("outside", str(error))
    rows = await connection.fetch("SELECT n, repeat(chr(65 + n % 26), 1000) v FROM generate_series(1, 20000) n")
    tell("long", sum(row["n"] + len(row["v"]) for row in rows))
    tell("large", len(await connection.fetchval("SELECT $1::bytea || $1::bytea", b"\0\1" * 1_500_000)))
    await connection.close()


async def copying(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE copied (n int, v text, at timestamptz)")
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    records = [(n, None if n % 5 == 0 else f"é {n}\t\n", at) for n in range(5000)]
    tell("records", await connection.copy_records_to_table("copied", records=records))

    async def made() -> Any:
        for n in range(100):
            yield (n, "made")

    tell("made", await connection.copy_records_to_table("copied", records=made(), columns=["n", "v"]))
    source = io.BytesIO("".join(f'{n},"quoted, {n}"\n' for n in range(3000)).encode())
    tell("file", await connection.copy_to_table("copied", source=source, columns=["n", "v"], format="csv"))
    for format_ in ("text", "csv", "binary"):
        output = io.BytesIO()
        query = "SELECT * FROM copied WHERE n < $1 ORDER BY n, v"
        said = await connection.copy_from_query(query, 2500, output=output, format=format_)
        tell(format_, said, len(output.getvalue()), output.getvalue()[:50])
    try:
        await connection.copy_to_table("copied", source=io.BytesIO(b"1\t2\n" * 5000), columns=["n"])
    except asyncpg.BadCopyFileFormatError as error:
        refusal("broken", error)

    async def breaks() -> Any:
        yield (1, "x")
        raise ZeroDivisionError

    try:
        await connection.copy_records_to_table("copied", records=breaks(), columns=["n", "v"])
    except (ZeroDivisionError, asyncpg.QueryCanceledError) as error:
        tell("given up", type(error).__name__)
    tell("rows", await connection.fetchrow("SELECT count(*), count(v), sum(n) FROM copied"))
    await connection.close()


async def queue(url: str) -> None:
    async with asyncpg.create_pool(url, min_size=2, max_size=10, statement_cache_size=10) as clients:
        await clients.executemany("INSERT INTO tasks (payload) VALUES ($1)", [('{"x": 1}',)] * 95)
        take = """UPDATE tasks SET taken_by = $1 WHERE id = (
                  SELECT id FROM tasks WHERE taken_by IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
                  RETURNING id"""

        async def worker(number: int) -> list[int]:
            mine = []
            while (found := await clients.fetchval(take, number)) is not None:
                mine.append(found)
            return mine

        taken = [each for mine in await asyncio.gather(*map(worker, range(10))) for each in mine]
        tell("taken", len(taken), sorted(taken) == list(range(1, 101)))


async def pooled(url: str) -> None:
    """Its pool resets connections in its own way, runs its own hooks, and expires what is idle."""
    made = []

    async def setup(connection: asyncpg.Connection) -> None:
        await connection.execute("SET application_name = 'from the pool'")

    async def init(connection: asyncpg.Connection) -> None:
        made.append(connection)
        await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")

    async with asyncpg.create_pool(
        url, min_size=1, max_size=12, max_queries=20, max_inactive_connection_lifetime=0.5, setup=setup, init=init
    ) as clients:

        async def one(number: int) -> int:
            async with clients.acquire() as connection, connection.transaction(isolation="repeatable_read"):
                for n in range(10):
                    query = f"SELECT $1::int + {n}, current_setting('application_name')"
                    assert tuple(await connection.fetchrow(query, number)) == (number + n, "from the pool")
                assert await connection.fetchval("SELECT $1::jsonb", {"n": number}) == {"n": number}
            return number

        tell("all", await asyncio.gather(*(one(number) for number in range(60))))
        async with clients.acquire() as connection:
            await connection.execute("SET work_mem = '7MB'; CREATE TEMP TABLE mine (n int)")
            tell("within", await connection.fetchval("SHOW work_mem"))
        async with clients.acquire() as connection:
            tell("reset", await connection.fetchval("SHOW work_mem"))
        await clients.expire_connections()
        tell("expired", await clients.fetchval("SELECT 1"), len(made) > 1)


async def sessions(url: str) -> None:
    """Two with their own settings, in turns; what the server says and tells; advisory locks."""
    one = await asyncpg.connect(url, server_settings={"application_name": "one", "TimeZone": "Asia/Tokyo"})
    two = await asyncpg.connect(url, server_settings={"application_name": "two", "work_mem": "5MB", "jit": "off"})
    await two.execute("SET IntervalStyle = 'iso_8601'; SET DateStyle = 'SQL, DMY'; SET search_path = pg_temp, public")
    query = "SELECT " + ", ".join(
        f"current_setting('{name}')"
        for name in ("application_name", "TimeZone", "work_mem", "IntervalStyle", "DateStyle", "search_path", "jit")
    )
    for _ in range(3):
        for connection in (one, two):
            tell("settings", tuple(await connection.fetchrow(query)))
            tell("text", await connection.fetchval("SELECT '2026-03-01T12:00Z'::timestamptz::text"))
    said: asyncio.Queue[Any] = asyncio.Queue()
    one.add_log_listener(lambda connection, message: said.put_nowait((message.severity, message.message)))
    await one.execute("DO $$ BEGIN RAISE WARNING 'careful'; RAISE NOTICE 'well'; END $$; DROP TABLE IF EXISTS nowhere")
    tell("said", [await asyncio.wait_for(said.get(), 20) for _ in range(3)])
    heard: asyncio.Queue[Any] = asyncio.Queue()
    await one.add_listener("news", lambda connection, pid, channel, payload: heard.put_nowait((channel, payload)))
    async with two.transaction():
        await two.execute("NOTIFY news, 'first'")
        await two.execute("SELECT pg_notify('news', $1)", "é" * 1000)
    tell("heard", [await asyncio.wait_for(heard.get(), 20) for _ in range(2)])
    tell(
        "locks",
        await two.fetchval("SELECT pg_try_advisory_lock(7)"),
        await one.fetchval("SELECT pg_try_advisory_lock(7)"),
    )
    await two.reset()
    tell("after reset", await one.fetchval("SELECT pg_try_advisory_lock(7)"), tuple(await two.fetchrow(query))[1:])
    await one.close()
    await two.close()


async def interruptions(url: str) -> None:
    connection = await asyncpg.connect(url, command_timeout=20)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 50; SELECT pg_sleep(20)")
    except asyncpg.QueryCanceledError as error:
        refusal("server's timeout", error)
    try:
        await connection.fetchval("SELECT pg_sleep(20)", timeout=0.2)
    except TimeoutError:
        tell("own timeout", await connection.fetchval("SELECT 1"))
    task = asyncio.create_task(connection.fetchval("SELECT pg_sleep(20)"))
    await asyncio.sleep(0.1)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        tell("cancelled", await connection.fetchval("SELECT 2"))
    busy = asyncio.create_task(connection.fetchval("SELECT pg_sleep(0.2)"))
    await asyncio.sleep(0.05)
    try:
        await connection.fetchval("SELECT 3")
    except asyncpg.InterfaceError as error:
        tell("busy", str(error))
    await busy
    try:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    except (asyncpg.PostgresError, ConnectionError):
        tell("terminated")
    connection.terminate()
    try:
        await asyncpg.connect(url.replace("postgres@", "nobody@"))
    except asyncpg.PostgresError as error:
        tell("nobody", error.sqlstate[:2])


if __name__ == "__main__":
    run(
        *(schema, crud, types, transactions, retries, statements, cursors, copying, queue, pooled, sessions),
        interruptions,
    )
