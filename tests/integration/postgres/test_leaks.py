"""Nothing crosses from one client to another: many clients of different users and settings on few connections, each
checking that it sees only its own, through random disconnects and kills."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from tests.conformance.pgwire_cases import message
from tests.integration.postgres.server import Postgres
from tests.integration.postgres.test_lone import Raw, unnamed
from tests.support.forebay import Forebay, postgres_pool

from forebay_core.pgwire import frontend
from forebay_core.pgwire.fields import counted, int16, int32

Start = Callable[..., Awaitable[Forebay]]
USERS = ("postgres", "trusting")
ZONES = ("UTC", "Asia/Tokyo", "America/New_York")
CLIENTS = 1000
AT_ONCE = 60


class Crossing(AssertionError):
    """A client has seen what is another's."""


def check(what: str, seen: object, expected: object) -> None:
    if seen != expected:
        raise Crossing(f"{what}: {seen!r}, expected {expected!r}")


class Client:
    """One client with a mind of its own."""

    def __init__(self, number: int, port: int, *, hides: bool = False) -> None:
        """`hides`: it also changes its session from within a function."""
        self.dice = random.Random(number)
        self.number = number
        self.port = port
        self.user = self.dice.choice(USERS)
        self.zone = self.dice.choice(ZONES)
        self.name = f"client {number}"
        self.done = 0
        self.steps = STEPS + HIDING if hides else STEPS

    async def run(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            f"postgresql://{self.user}@127.0.0.1:{self.port}/postgres?application_name=client%20{self.number}"
            f"&options=-c%20TimeZone%3D{self.zone}&connect_timeout=30",
            autocommit=True,
        )
        connection.prepare_threshold = 1
        try:
            for step in self.dice.choices(self.steps, k=4):
                await step(self, connection)
                self.done += 1
        finally:
            if self.dice.random() < 0.3:  # without a word, in the middle of whatever it is
                with contextlib.suppress(psycopg.Error):
                    if self.dice.random() < 0.5:
                        connection.pgconn.send_query(b"BEGIN; SELECT pg_sleep(0.2)")
                        connection.pgconn.flush()
                connection.pgconn.finish()
            else:
                await connection.close()

    async def value(self, connection: psycopg.AsyncConnection, query: str, *values: object) -> object:
        row = await (await connection.execute(query, values or None)).fetchone()
        return row[0] if row else None

    async def settings(self, connection: psycopg.AsyncConnection) -> None:
        check("user", await self.value(connection, "SELECT current_user::text"), self.user)
        check("name", await self.value(connection, "SHOW application_name"), self.name)
        check("zone", await self.value(connection, "SHOW TimeZone"), self.zone)
        check("work_mem", await self.value(connection, "SHOW work_mem"), "4MB")

    async def sets(self, connection: psycopg.AsyncConnection) -> None:
        self.zone = self.dice.choice(ZONES)
        await connection.execute(f"SET TimeZone = '{self.zone}'")
        await connection.execute(f"SET work_mem = '{self.number % 60 + 5}MB'")
        check("work_mem", await self.value(connection, "SHOW work_mem"), f"{self.number % 60 + 5}MB")
        await connection.execute("RESET work_mem")
        check("zone", await self.value(connection, "SHOW TimeZone"), self.zone)

    async def temp(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute("CREATE TEMP TABLE IF NOT EXISTS mine (n int)")
        await connection.execute("DELETE FROM mine WHERE n = %s", (self.number,))
        check("temp table", await self.value(connection, "SELECT count(*) FROM mine"), 0)
        await connection.execute("INSERT INTO mine VALUES (%s)", (self.number,))
        check("temp table", await self.value(connection, "SELECT min(n) FROM mine"), self.number)

    async def prepared(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute(f"PREPARE p{self.number} AS SELECT {self.number}")
        check("prepared", await self.value(connection, f"EXECUTE p{self.number}"), self.number)
        names = await self.value(
            connection, "SELECT array_agg(name::text) FROM pg_prepared_statements WHERE name NOT LIKE 'forebay%'"
        )
        check("prepared statements", names, [f"p{self.number}"])
        await connection.execute(f"DEALLOCATE p{self.number}")

    async def locks(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute("SELECT pg_advisory_lock(%s)", (self.number,))
        mine = (
            "SELECT array_agg(objid::int) FROM pg_locks "
            "WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = 0"
        )
        check("locks", await self.value(connection, mine), [self.number])
        await connection.execute("SELECT pg_advisory_unlock(%s)", (self.number,))

    async def listens(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute(f"LISTEN c{self.number}")
        channels = await self.value(connection, "SELECT array_agg(c) FROM pg_listening_channels() c WHERE c LIKE 'c%'")
        check("channels", channels, [f"c{self.number}"])
        await connection.execute(f"NOTIFY c{self.number}, 'x'")
        async for heard in connection.notifies(timeout=10, stop_after=1):
            check("notification", heard.channel, f"c{self.number}")

    async def transacts(self, connection: psycopg.AsyncConnection) -> None:
        async with connection.transaction():
            first = await self.value(connection, "SELECT txid_current()")
            await asyncio.sleep(0)
            check("transaction", await self.value(connection, "SELECT txid_current()"), first)

    async def hides(self, connection: psycopg.AsyncConnection) -> None:
        """What a function has left is at most this client's own, and that is not seen in the text."""
        await self.hidden(connection)
        await connection.execute("SELECT hide(%s)", (self.number,))
        await self.hidden(connection)

    async def hidden(self, connection: psycopg.AsyncConnection) -> None:
        for what, query in HIDDEN.items():
            seen = await self.value(connection, query)
            if seen not in (None, "", str(self.number)):
                raise Crossing(f"hidden {what} of {seen}, seen by {self.number}")

    async def cancels(self, connection: psycopg.AsyncConnection) -> None:
        async def soon() -> None:
            await self.value(connection, "SELECT 1")

        await soon()
        task = asyncio.create_task(self.value(connection, "SELECT pg_sleep(20)"))
        await asyncio.sleep(0.02)
        await connection.cancel_safe(timeout=15)
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            await task
        await soon()


STEPS = (
    *(Client.settings, Client.settings, Client.settings, Client.sets, Client.temp, Client.prepared, Client.locks),
    *(Client.listens, Client.transacts, Client.transacts, Client.cancels),
)


HIDING = (Client.hides, Client.hidden, Client.hides)
HIDDEN = {
    "setting": "SELECT current_setting('hidden.number', true)",
    "table": "SELECT obj_description(to_regclass('hidden'))",
    "lock": "SELECT max(objid)::text FROM pg_locks WHERE pid = pg_backend_pid() AND classid = 77",
    "channel": "SELECT max(substr(c, 8)) FROM pg_listening_channels() c WHERE c LIKE 'hidden_%'",
}
FUNCTION = """
CREATE OR REPLACE FUNCTION hide(number int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('hidden.number', number::text, false);
    PERFORM pg_advisory_lock(77, number);
    EXECUTE format('LISTEN hidden_%s', number);
    DROP TABLE IF EXISTS pg_temp.hidden;
    CREATE TEMP TABLE hidden (n int);
    EXECUTE format('COMMENT ON TABLE hidden IS %L', number);
END $$
"""


async def make_function(postgres: Postgres) -> None:
    address = f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres"
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        await connection.execute(FUNCTION)


async def test_what_functions_leave_crosses_without_a_reset(forebay: Start, postgres: Postgres) -> None:
    """As the documentation says; and so the other test would see it."""
    await make_function(postgres)
    proxy = await forebay(postgres_pool(postgres.port, pool={"size": 1, "maxOverflow": 0, "resetOnReturn": "auto"}))

    async def hides(number: int) -> None:
        client = Client(number, proxy.port)
        client.steps = (Client.hides,)
        await client.run()

    await hides(1)
    with pytest.raises(Crossing, match="hidden setting of 1, seen by 2"):
        await hides(2)


@pytest.mark.parametrize(
    ("left", "asked", "expected"),
    [
        (("SET ROLE trusting", "RESET ALL"), "SELECT current_user", "postgres"),
        (("SET SESSION AUTHORIZATION trusting", "RESET ALL"), "SELECT session_user", "postgres"),
        (
            (
                *("PREPARE becomes AS SELECT set_config('role', 'trusting', false)", "RESET ROLE"),
                *("EXECUTE becomes", "DEALLOCATE ALL"),
            ),
            "SELECT current_user",
            "postgres",
        ),
        (
            (
                *("PREPARE locks AS SELECT pg_advisory_lock(4711)", "SELECT pg_advisory_unlock_all()"),
                *("EXECUTE locks", "DEALLOCATE ALL"),
            ),
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            0,
        ),
    ],
)
async def test_what_seems_to_be_reset_and_is_not_does_not_cross(
    forebay: Start, postgres: Postgres, left: tuple[str, ...], asked: str, expected: object
) -> None:
    """Who has left it is still there, and has not asked for anything since."""
    proxy = await forebay(postgres_pool(postgres.port, pool={"size": 2, "maxOverflow": 0}))
    address = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
    async with (
        await psycopg.AsyncConnection.connect(address, autocommit=True) as one,
        await psycopg.AsyncConnection.connect(address, autocommit=True) as other,
    ):
        for statement in left:
            await one.execute(statement)
        row = await (await other.execute(asked)).fetchone()
        assert row is not None
        assert row[0] == expected


def call(function: int, *arguments: bytes) -> bytes:
    """A FunctionCall with its arguments as text."""
    values = int16(len(arguments)) + b"".join(map(counted, arguments))
    return message(b"F", int32(function) + int16(0) + values + int16(0))


SET_CONFIG = call(2078, b"role", b"trusting", b"f")
PARSED = frontend.parse(frontend.Statement(b"", b"SELECT 1", frontend.NO_TYPES)) + frontend.bind(b"", b"")


BEGIN, COMMIT = frontend.query("BEGIN"), frontend.query("COMMIT")
OFF = frontend.query("SET standard_conforming_strings = off")
HIDDEN_IN_STRINGS = frontend.query(r"SELECT 'a\' || '; SET ROLE trusting; SELECT 'x\'y'")

OWN_SCHEMA = frontend.query("BEGIN; SET LOCAL search_path = pg_temp; CREATE TABLE mine (n int); COMMIT")
FOLLOWED, MADE = frontend.query("SET search_path = pg_temp"), frontend.query("CREATE TABLE mine (n int)")


def named(text: bytes) -> bytes:
    parsed = frontend.parse(frontend.Statement(b"s", text, frontend.NO_TYPES))
    return parsed + frontend.bind(b"", b"s") + frontend.execute() + frontend.SYNC


@pytest.mark.parametrize(
    ("answers", "left"),
    [
        pytest.param(1, (SET_CONFIG,), id="a role, by a FunctionCall"),
        pytest.param(1, (call(2880, b"4711"),), id="a lock, by a FunctionCall"),
        pytest.param(2, (frontend.query("SELECT 1") + SET_CONFIG,), id="by a FunctionCall behind a Query"),
        pytest.param(2, (PARSED + frontend.FLUSH, frontend.SYNC + SET_CONFIG), id="by a FunctionCall behind a Sync"),
        pytest.param(2, (OFF + HIDDEN_IN_STRINGS,), id="by a Query behind one that changes how it is read"),
        pytest.param(4, (BEGIN + OFF + HIDDEN_IN_STRINGS + COMMIT,), id="the same in a transaction"),
        pytest.param(2, (unnamed(OFF[5:-1]) + HIDDEN_IN_STRINGS,), id="by a Query behind a Parse that does"),
        pytest.param(2, (named(OFF[5:-1]) + HIDDEN_IN_STRINGS,), id="by a Query behind a Parse with a name that does"),
        pytest.param(1, (OWN_SCHEMA,), id="a table in a schema that is temporary"),
        pytest.param(3, (FOLLOWED, frontend.query("DISCARD TEMP"), MADE), id="the same behind DISCARD TEMP"),
    ],
)
async def test_what_a_client_leaves_is_not_there_for_the_next_one(
    forebay: Start, postgres: Postgres, answers: int, left: tuple[bytes, ...]
) -> None:
    """Of the same user, on the same connection. `answers`: how many there are to what it says."""
    proxy = await forebay(postgres_pool(postgres.port, pool={"size": 1, "maxOverflow": 0}))
    raw = Raw(proxy, *await asyncio.open_connection("127.0.0.1", proxy.port))
    await raw.start()
    for chunk in left:
        raw.writer.write(chunk)
        await asyncio.sleep(0.01)
    await raw.answers(answers)
    raw.writer.close()
    address = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as other:
        for what, (asked, expected) in LEFT.items():
            row = await (await other.execute(asked)).fetchone()
            assert row == (expected,), what


LEFT = {
    "the role": ("SELECT current_user::text", "postgres"),
    "locks": ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", 0),
    "tables": ("SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'", 0),
}


async def test_large_objects_by_function_calls_pin_nothing(forebay: Start, postgres: Postgres) -> None:
    """As libpq has them opened, read and closed."""
    proxy = await forebay(postgres_pool(postgres.port, pool={"size": 1, "maxOverflow": 0}))
    raw = Raw(proxy, *await asyncio.open_connection("127.0.0.1", proxy.port))
    await raw.start()
    (number, *_) = await raw.ask(frontend.query("SELECT lo_from_bytea(0, 'x')"))
    for chunk in (frontend.query("BEGIN"), call(952, number, b"262144"), call(954, b"0", b"1"), call(953, b"0")):
        await raw.ask(chunk)
    await raw.ask(frontend.query("COMMIT"))
    assert "unclear" not in (await proxy.state())["workers"][0]["upstreams"]["db"].get("pinned", {})
    await raw.ask(frontend.query(f"SELECT lo_unlink({number.decode()})"))
    raw.writer.close()


NULLS = b"SELECT count(*) FROM (VALUES (1), (NULL)) v (x) WHERE x = NULL"


async def test_a_statement_is_not_shared_that_was_analysed_under_what_the_proxy_does_not_follow(
    forebay: Start, postgres: Postgres
) -> None:
    proxy = await forebay(postgres_pool(postgres.port, pool={"size": 1, "maxOverflow": 0}))
    address = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"

    async def client() -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(address, autocommit=True)

    async def prepared(connection: psycopg.AsyncConnection, text: bytes) -> bytes | None:
        def run() -> bytes | None:
            assert not connection.pgconn.prepare(b"mine", text).error_message
            result = connection.pgconn.exec_prepared(b"mine", [])
            assert not result.error_message
            return result.get_value(0, 0)

        return await asyncio.to_thread(run)

    async with await client() as one, await client() as other:
        await one.execute("SET transform_null_equals = on")
        assert await prepared(one, NULLS) == b"1"
        await one.execute("RESET transform_null_equals")
        assert await prepared(other, NULLS) == b"0"
        assert await asyncio.to_thread(one.pgconn.exec_prepared, b"mine", []), "and it goes on"
    async with await client() as one:
        await one.execute("CREATE TABLE shadowed (n int)")
        await one.execute("INSERT INTO shadowed VALUES (7)")
        await one.execute("CREATE TEMP TABLE shadowed (a int, b int)")
        await one.execute("INSERT INTO shadowed VALUES (1, 2)")
        assert await prepared(one, b"SELECT * FROM shadowed") == b"1"
    async with await client() as other:
        assert await prepared(other, b"SELECT * FROM shadowed") == b"7"
        await other.execute("DROP TABLE shadowed")


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_with_never_a_connection_with_state_is_closed_instead(
    forebay: Start, postgres: Postgres, mode: str
) -> None:
    pool = {"size": 1, "maxOverflow": 0, "resetOnReturn": "never"}
    proxy = await forebay(postgres_pool(postgres.port, postgres={"poolMode": mode}, pool=pool))
    address = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"

    async def asked(*statements: str) -> list[object]:
        async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
            found = [await (await connection.execute(statement)).fetchone() for statement in statements]
        return [row[0] for row in found if row is not None]

    (first, _) = await asked("SELECT pg_backend_pid()", "SELECT set_config('work_mem', '77MB', false)")
    (second, left) = await asked("SELECT pg_backend_pid()", "SHOW work_mem")
    assert left != "77MB"
    assert second != first
    if mode == "transaction":
        assert await asked("SELECT pg_backend_pid()") == [second], "one without state is kept"


@pytest.mark.parametrize("reset", ["auto", "always"])
@pytest.mark.timeout(170)
async def test_nothing_crosses(forebay: Start, postgres: Postgres, reset: str) -> None:
    clients_wanted = CLIENTS if reset == "auto" else CLIENTS // 5
    pool = {"size": 20, "maxOverflow": 0, "timeout": "60s", "resetOnReturn": reset}
    proxy = await forebay(postgres_pool(postgres.port, pool=pool))
    gate = asyncio.Semaphore(AT_ONCE)
    await make_function(postgres)
    clients = [Client(number, proxy.port, hides=reset == "always") for number in range(clients_wanted)]

    async def one(client: Client) -> None:
        async with gate:
            await client.run()

    killer = asyncio.create_task(kills(postgres))
    results = await asyncio.gather(*(one(client) for client in clients), return_exceptions=True)
    killer.cancel()
    assert not [result for result in results if isinstance(result, Crossing)]
    # What else a client may meet is that its server connection was killed, or that it was cancelled.
    strange = [r for r in results if isinstance(r, BaseException) and not isinstance(r, psycopg.OperationalError)]
    assert not strange, strange[:5]
    unhurt = [client for client, result in zip(clients, results, strict=True) if result is None]
    assert len(unhurt) > clients_wanted * 0.8, [r for r in results if r is not None][:5]
    async with asyncio.timeout(10):  # what the last ones left may still be being reset
        while (state := (await proxy.state())["workers"][0]["upstreams"]["db"])["connections"]["leased"]:
            await asyncio.sleep(0.02)
    assert state["waiting"] == 0


async def kills(postgres: Postgres) -> None:
    """Ends a random server process every now and then."""
    address = f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres"
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        while True:
            await asyncio.sleep(0.5)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                "AND application_name LIKE 'client%' ORDER BY random() LIMIT 1"
            )
