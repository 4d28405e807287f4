"""Leases of one chunk, which is passed on unread: what may come behind it, and what is remembered of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.integration.postgres.server import Postgres
from tests.support.criteria import metric
from tests.support.forebay import Forebay, postgres_pool

from forebay_core.pgwire import backend, frontend, reporting, scan_server, startup

Start = Callable[..., Awaitable[Forebay]]
Messages = list[tuple[bytes, bytes]]

EVERYTHING = reporting(b"TDCEZ12I", counts=True)
RUN = frontend.bind(b"", b"") + frontend.describe_portal(b"") + frontend.execute() + frontend.SYNC


def unnamed(text: bytes) -> bytes:
    return frontend.parse(frontend.Statement(b"", text, frontend.NO_TYPES)) + RUN


class Raw:
    """A client that sends what it is told to, as one chunk each."""

    def __init__(self, pool: Forebay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pool, self._reader, self.writer = pool, reader, writer
        self._data = b""
        self._key = startup.CancelRequest(0, b"")

    async def start(self) -> None:
        """Log in."""
        self.writer.write(startup.write_startup(0, {"user": "postgres", "database": "postgres"}))
        welcome = await self._reader.readuntil(backend.ready_for_query(b"I"))
        key = welcome[-14:-6]  # BackendKeyData stands before ReadyForQuery
        self._key = startup.CancelRequest(int.from_bytes(key[:4], "big"), key[4:])

    async def cancel(self) -> None:
        """As libpq does: on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.pool.port)
        writer.write(startup.write_cancel(self._key))
        await reader.read()
        writer.close()

    async def waits(self) -> None:
        """Until it waits for a connection."""
        await metric(self.pool, "forebay_upstream_waiting", lambda value: value == 1)

    async def answers(self, count: int) -> Messages:
        """Types and contents of what is said up to the `count`th ReadyForQuery."""
        while True:
            end, _, ready, events = scan_server(self._data, 0, 1 << 16, EVERYTHING)
            if len(ready) >= count:
                found = [(kind, self._data[start + 5 : stop]) for kind, start, stop in events]
                self._data = self._data[end:]
                return found
            self._data += await self._reader.read(1 << 16)

    async def ask(self, *chunks: bytes) -> list[bytes]:
        """First columns of rows, SQLSTATEs of errors, tags and statuses, as they come."""
        for chunk in chunks:
            self.writer.write(chunk)
            await asyncio.sleep(0)
        return [
            body[6:] if kind == b"D"
            else backend.read_error(b"E\0\0\0\0" + body, 0, len(body) + 5).sqlstate.encode() if kind == b"E"
            else body.rstrip(b"\0")
            for kind, body in await self.answers(len(chunks))
            if kind in b"DECZ"
        ]  # fmt: skip


@pytest.fixture(params=["compiled", "pure"])
async def clients(request: Any, forebay: Start, postgres: Postgres) -> AsyncIterator[tuple[Raw, Raw]]:
    """Two on one connection to the server."""
    document = postgres_pool(postgres.port, pool={"size": 1, "maxOverflow": 0, "timeout": "5s"})
    pool = await forebay(document, env={"FOREBAY_CODEC": request.param})
    made = []
    for _ in range(2):
        raw = Raw(pool, *await asyncio.open_connection("127.0.0.1", pool.port))
        await raw.start()
        made.append(raw)
    yield made[0], made[1]
    for raw in made:
        raw.writer.close()
        await raw.writer.wait_closed()


async def test_a_query_and_an_unnamed_statement(clients: tuple[Raw, Raw]) -> None:
    for client in clients:
        assert await client.ask(frontend.query("SELECT 1")) == [b"1", b"SELECT 1", b"I"]
        assert await client.ask(unnamed(b"SELECT 2")) == [b"2", b"SELECT 1", b"I"]


async def test_what_comes_behind_it_is_answered_in_order(clients: tuple[Raw, Raw]) -> None:
    first, second = clients
    texts = ("SELECT 1", "BEGIN", "SELECT 2", "ROLLBACK", "SELECT 3")
    both = await asyncio.gather(*(client.ask(*map(frontend.query, texts)) for client in (first, second)))
    expected = [b"1", b"SELECT 1", b"I", b"BEGIN", b"T", b"2", b"SELECT 1", b"T", b"ROLLBACK", b"I"]
    assert both == [[*expected, b"3", b"SELECT 1", b"I"]] * 2


async def test_one_that_begins_a_transaction_keeps_its_connection(clients: tuple[Raw, Raw]) -> None:
    first, second = clients
    assert await first.ask(frontend.query("BEGIN")) == [b"BEGIN", b"T"]
    waiting = asyncio.create_task(second.ask(frontend.query("SELECT 2")))
    assert await first.ask(frontend.query("SELECT txid_current() = txid_current()")) == [b"t", b"SELECT 1", b"T"]
    assert not waiting.done()
    assert await first.ask(frontend.query("COMMIT")) == [b"COMMIT", b"I"]
    assert await waiting == [b"2", b"SELECT 1", b"I"]


async def test_one_that_fails_ends_too(clients: tuple[Raw, Raw]) -> None:
    for chunk in (frontend.query("SELECT 1/0"), unnamed(b"SELECT 1/0")):
        for client in clients:
            assert await client.ask(chunk) == [b"22012", b"I"]
            assert await client.ask(frontend.query("SELECT 1")) == [b"1", b"SELECT 1", b"I"]


async def test_its_unnamed_statement_is_the_clients_wherever_it_is_bound_again(clients: tuple[Raw, Raw]) -> None:
    first, second = clients
    assert await first.ask(unnamed(b"SELECT 1")) == [b"1", b"SELECT 1", b"I"]
    assert await second.ask(unnamed(b"SELECT 2")) == [b"2", b"SELECT 1", b"I"]
    assert await first.ask(RUN) == [b"1", b"SELECT 1", b"I"]
    assert await second.ask(RUN) == [b"2", b"SELECT 1", b"I"]


BEGIN, COMMIT = frontend.query("BEGIN"), frontend.query("COMMIT")


@pytest.mark.parametrize("behind", [(), (frontend.query("SELECT 3"),), (unnamed(b"SELECT 3"), BEGIN, COMMIT)])
async def test_one_that_waits_is_served_in_turn(clients: tuple[Raw, Raw], behind: tuple[bytes, ...]) -> None:
    first, second = clients
    for chunk in (frontend.query("SELECT 2"), unnamed(b"SELECT 2")):
        assert await first.ask(BEGIN) == [b"BEGIN", b"T"]
        second.writer.write(chunk)
        await second.waits()
        for more in behind:
            second.writer.write(more)
        assert await first.ask(COMMIT, frontend.query("SELECT 1")) == [b"COMMIT", b"I", b"1", b"SELECT 1", b"I"]
        answers = [b"2", b"SELECT 1", b"I", b"3", b"SELECT 1", b"I", b"BEGIN", b"T", b"COMMIT", b"I"]
        assert await second.ask(*[b""] * (1 + len(behind))) == answers[: (3, 6, 6, 10)[len(behind)]]


async def test_one_that_waits_can_be_cancelled_and_asked_again(clients: tuple[Raw, Raw]) -> None:
    first, second = clients
    for again in (frontend.query("SELECT 2"), unnamed(b"SELECT 2"), frontend.query("SELECT '2'::char")):
        assert await first.ask(BEGIN) == [b"BEGIN", b"T"]
        second.writer.write(frontend.query("SELECT 1"))
        await second.waits()
        await second.cancel()
        assert await second.ask(b"") == [b"57014", b"I"]
        second.writer.write(again)
        await second.waits()
        assert await first.ask(COMMIT) == [b"COMMIT", b"I"]
        assert await second.ask(b"") == [b"2", b"SELECT 1", b"I"]


async def test_one_that_goes_while_it_waits_leaves_its_place(clients: tuple[Raw, Raw]) -> None:
    first, second = clients
    assert await first.ask(BEGIN) == [b"BEGIN", b"T"]
    second.writer.write(frontend.query("SELECT 1"))
    await second.waits()
    second.writer.transport.abort()
    await metric(second.pool, "forebay_upstream_waiting", lambda value: value == 0)
    assert await first.ask(COMMIT) == [b"COMMIT", b"I"]
    assert await first.ask(frontend.query("SELECT 1")) == [b"1", b"SELECT 1", b"I"]
    assert (await first.pool.metrics()).value("forebay_upstream_connections_closed_total") == 0


async def test_one_that_waits_gets_a_connection_with_its_settings(clients: tuple[Raw, Raw]) -> None:
    first, second = clients
    assert await second.ask(frontend.query("SET application_name = mine")) == [b"SET", b"I"]
    show = frontend.query("SELECT current_setting('application_name')")
    for _ in range(2):
        assert await first.ask(BEGIN) == [b"BEGIN", b"T"]
        second.writer.write(show)
        await second.waits()
        assert await first.ask(COMMIT) == [b"COMMIT", b"I"]
        assert await second.ask(b"") == [b"mine", b"SELECT 1", b"I"]
    assert await first.ask(show) == [b"", b"SELECT 1", b"I"]
