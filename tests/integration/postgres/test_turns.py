"""What happens to a session between two leases: to what the server did not take, to timers, to a second try."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest
from tests.conformance.pgwire_cases import message
from tests.integration.postgres.scripted import READY, ROW, ScriptedServer
from tests.integration.postgres.server import Postgres
from tests.support.criteria import metric
from tests.support.forebay import Forebay, postgres_pool
from tests.support.waiting import until

from forebay_core.pgwire import backend, frontend, startup

Start = Callable[..., Awaitable[Forebay]]
ONE = {"size": 1, "maxOverflow": 0, "timeout": "10s"}


class Client:
    """Says one thing after the other."""

    def __init__(self, port: int, **settings: str) -> None:
        self._port = port
        self._who = {"user": "postgres", "database": "postgres", **settings}

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.writer.write(startup.write_startup(0, self._who))
        await self.answer()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def answer(self, within: float = 10) -> bytes:
        """Up to ReadyForQuery."""
        return await asyncio.wait_for(self.reader.readuntil(READY), within)

    async def ask(self, text: str) -> bytes:
        self.writer.write(frontend.query(text))
        return await self.answer()


async def reload(pool: Forebay, document: dict[str, Any]) -> None:
    """Returns when the worker has taken it."""
    before = (await pool.state())["workers"][0]["document"]
    pool.write(document)
    pool.reload()
    await until(pool.state, wanted=lambda state: state["workers"][0]["document"] != before)


async def test_what_a_client_goes_on_to_copy_after_an_error_is_taken(forebay: Start, postgres: Postgres) -> None:
    """The server does not read on at once, so that the client is not read either when its lease ends."""
    pool = await forebay(postgres_pool(postgres.port, pool=ONE))
    good = message(b"d", b"1\n" * 30_000)
    async with Client(pool.port) as client:
        await client.ask("CREATE TABLE IF NOT EXISTS copied (n int)")
        for _ in range(3):
            client.writer.write(frontend.query("COPY copied FROM STDIN"))
            assert (await client.reader.readexactly(5))[:1] == b"G"
            client.writer.write(good * 40 + message(b"d", b"x\n") + good * 80)
            assert b"C22P02\0" in await client.answer()
            client.writer.write(frontend.COPY_DONE)
            assert b"SELECT 1\0" in await client.ask("SELECT 1")
        assert b"\0\0\0\x010" in await client.ask("SELECT count(*) FROM copied")


EXTENDED_COPY = message(b"P", b"\0COPY halves FROM STDIN\0\0\0") + message(b"B", b"\0" * 8) + message(b"E", b"\0" * 5)
ROW_IN = message(b"d", b"1\n")
TERMINATE = message(b"X", b"")


@pytest.mark.parametrize("at_once", [False, True], ids=["behind the answer", "before it"])
@pytest.mark.parametrize(
    "begin", [frontend.query("COPY halves FROM STDIN"), EXTENDED_COPY + message(b"S", b"")], ids=["simple", "extended"]
)
async def test_a_client_that_terminates_in_the_middle_of_a_copy_leaves_no_locks(
    forebay: Start, postgres: Postgres, begin: bytes, at_once: bool
) -> None:
    """Though it never closes its socket."""
    pool = await forebay(postgres_pool(postgres.port, pool=ONE))
    async with Client(pool.port) as client, Client(pool.port) as other:
        await client.ask("CREATE TABLE IF NOT EXISTS halves (n int)")
        client.writer.write(begin + (ROW_IN + TERMINATE if at_once else b""))
        if not at_once:
            await asyncio.wait_for(client.reader.readuntil(b"G"), 10)
            client.writer.write(ROW_IN + TERMINATE)
        await asyncio.wait_for(client.reader.read(), 10)
        assert b"TRUNCATE TABLE\0" in await other.ask("SET lock_timeout TO '5s'; TRUNCATE halves")
        assert b"\0\0\0\x010" in await other.ask("SELECT count(*) FROM halves")


async def test_a_copy_that_is_whole_when_its_client_terminates_is_carried_out(
    forebay: Start, postgres: Postgres
) -> None:
    pool = await forebay(postgres_pool(postgres.port, pool=ONE))
    async with Client(pool.port) as client, Client(pool.port) as other:
        await client.ask("CREATE TABLE IF NOT EXISTS wholes (n int); TRUNCATE wholes")
        copy = frontend.query("COPY wholes FROM STDIN")
        client.writer.write(copy + ROW_IN + frontend.COPY_DONE + TERMINATE)
        assert b"COPY 1\0" in await client.answer()
        assert b"\0\0\0\x011" in await other.ask("SELECT count(*) FROM wholes")


@pytest.mark.parametrize("name", ["one", ""])
async def test_a_statement_has_a_second_try_where_the_connection_is_lost_before_it(forebay: Start, name: str) -> None:
    """Without a name the second connection needs nothing sent before it."""
    async with ScriptedServer() as server:
        pool = await forebay(postgres_pool(server.port, pool=ONE | {"timeout": "500ms", "connectTimeout": "1s"}))

        async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.answers[named[name]] = done[name]
            raise ConnectionResetError

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(1.5)  # longer than connectTimeout, whose timer has nothing to say of it
            writer.write(ROW + READY)

        named = {each: b"SET application_name TO '%b'" % each.encode() for each in (name, "two")}
        done = {
            each: backend.parameter_status("application_name", each) + backend.command_complete("SET") + READY
            for each in named
        }
        server.answers = {named[each]: done[each] for each in named} | {b"SELECT slow": slow}
        settings = {"application_name": name} if name else {}
        async with Client(pool.port, **settings) as one, Client(pool.port, application_name="two") as two:
            for client in (one, two, one, two):
                await client.ask("SELECT 1")
            await asyncio.sleep(0.6)  # what it asked before has no time left
            server.answers[named[name]] = die
            assert await one.ask("SELECT slow") == ROW + READY
            assert server.answers[named[name]] is not die


async def test_timeouts_that_a_document_no_longer_has_end_nobody(forebay: Start) -> None:
    def document(**postgres: Any) -> dict[str, Any]:
        return postgres_pool(server.port, pool=ONE, postgres=postgres)

    async with ScriptedServer() as server:
        pool = await forebay(document(queryTimeout="3s", clientIdleTimeout="3s"))
        async with Client(pool.port) as idle, Client(pool.port) as asking:
            await asking.ask("SELECT 1")
            await reload(pool, document())
            await asyncio.sleep(3.5)  # what was armed has passed
            for client in (idle, asking):
                assert await client.ask("SELECT 1") == ROW + READY


async def test_a_query_timeout_that_comes_while_a_statement_waits_holds_for_it(forebay: Start) -> None:
    def document(**postgres: Any) -> dict[str, Any]:
        return postgres_pool(server.port, pool=ONE, postgres=postgres)

    async with ScriptedServer() as server:
        go = asyncio.Event()

        async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go.wait()
            writer.write(ROW + READY)

        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        server.answers |= {b"SELECT held": held, b"SELECT never": never}
        pool = await forebay(document())
        async with Client(pool.port) as one, Client(pool.port) as other:
            for client in (one, other):
                await client.ask("SELECT 1")
            holding = asyncio.create_task(one.ask("SELECT held"))
            await until(lambda: any(b"SELECT held" in heard for heard in server.heard))
            other.writer.write(frontend.query("SELECT never"))
            await metric(pool, "forebay_upstream_waiting", lambda value: value == 1)
            await reload(pool, document(queryTimeout="500ms"))
            go.set()
            assert await holding == ROW + READY
            said = await asyncio.wait_for(other.reader.read(), 5)
            assert backend.read_error(said, 0, len(said)).sqlstate == "57014"
