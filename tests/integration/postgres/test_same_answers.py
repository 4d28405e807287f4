"""Through the pool a client is answered what the server itself would answer: chance messages in any order, errors, COPY
and half batches too, sent to both and compared."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator

import psycopg
import pytest
from tests.conformance.pgwire_cases import SYNC, message, packet
from tests.integration.postgres.server import Postgres
from tests.support.forebay import Forebay, postgres_pool

from forebay_core.pgwire import backend, frontend
from forebay_core.pgwire.fields import read_message

Start = Callable[..., Awaitable[Forebay]]
READY = backend.ready_for_query(b"I")
STARTUP = packet(0x30000, b"user\0postgres\0database\0postgres\0\0")
NAMES = (b"", b"", b"a", b"b")
PORTALS = (b"", b"", b"", b"p")
TEXTS = (
    *(
        b"SELECT 1",
        b"SELECT $1::int",
        b"SELECT n, repeat('x', n) FROM generate_series(1, 9) n",
        b"",
        b"x",
        b"SELECT 1/0",
    ),
    *(
        b"BEGIN",
        b"COMMIT",
        b"ROLLBACK",
        b"SAVEPOINT s",
        b"ROLLBACK TO s",
        b"DECLARE c CURSOR FOR SELECT 1",
        b"FETCH 2 FROM c",
    ),
    *(b"SET work_mem = '8MB'", b"SHOW work_mem", b"RESET work_mem", b"SHOW TimeZone", b"SET TimeZone = 'Asia/Tokyo'"),
    *(b"COPY same FROM STDIN", b"COPY (SELECT 1) TO STDOUT", b"DO $$ BEGIN RAISE NOTICE 'x'; END $$", b"DISCARD TEMP"),
)
QUERIES = (
    *TEXTS,
    *(b"SELECT 1; SELECT 2", b"SELECT 1; x; SELECT 2", b"BEGIN; SELECT 1", b"SELECT 1; COPY same FROM STDIN; SELECT 2"),
    *(b"PREPARE c AS SELECT 3", b"EXECUTE c", b"DEALLOCATE z", b"DEALLOCATE c", b"DEALLOCATE ALL", b"DISCARD ALL"),
)
SCRIPTS = (*range(150), 460)  # the last: a Sync while a Query's COPY is under way
END = message(b"c") + SYNC + frontend.query("ROLLBACK") + frontend.query("SELECT 'the end'")
LAST = backend.data_row(["the end"]) + backend.command_complete("SELECT 1") + READY


def script(dice: random.Random) -> Iterator[bytes]:
    """A client's messages."""
    for _ in range(dice.randrange(1, 25)):
        kind = dice.choice("PPPPBBBBBDDEEEECHSSSSSQQQQdcf")
        name, portal = dice.choice(NAMES), dice.choice(PORTALS)
        if kind == "P":
            yield frontend.parse(frontend.Statement(name, dice.choice(TEXTS), frontend.NO_TYPES))
        elif kind == "B":
            yield frontend.bind(portal, name, dice.choice(((), (), (b"7",), (b"x",))))
        elif kind == "D":
            yield dice.choice((frontend.describe_statement(name), frontend.describe_portal(portal)))
        elif kind == "C":
            yield dice.choice((frontend.close_statement(name), frontend.close_portal(portal)))
        elif kind == "E":
            yield frontend.execute(portal, dice.choice((0, 0, 0, 2)))
        elif kind == "Q":
            yield frontend.query(dice.choice(QUERIES))
        else:
            body = {"d": b"1\n", "f": b"no\0"}.get(kind, b"")
            yield message(kind.encode(), body)


def cut(data: bytes, dice: random.Random) -> list[bytes]:
    places = sorted(dice.randrange(len(data)) for _ in range(dice.randrange(4)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


async def answers(port: int, chunks: list[bytes], within: float) -> list[tuple[bytes, bytes]] | None:
    """What is answered after the login: types, and contents as far as they have to be the same. None: not up to the
    end, which some scripts never come to, and others make the server close its connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(within):
            writer.write(STARTUP)
            said = b""
            while not said.endswith(READY):
                said += await reader.read(65536)
            said = b""
            for chunk in chunks:
                writer.write(chunk)
                await asyncio.sleep(0)
            while not said.endswith(LAST):
                more = await reader.read(65536)
                if not more:
                    return None
                said += more
            return list(compared(said))
    except (OSError, TimeoutError):
        return None
    finally:
        writer.close()


def compared(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while (found := read_message(data, at, 1 << 20)) is not None:
        kind, body, end = found
        if kind in (b"E", b"N"):  # names of statements stand in the sentences
            yield kind, backend.read_error(data, at, end).sqlstate.encode()
        elif kind != b"S":  # at its own time
            yield kind, body
        at = end
    assert at == len(data)


@pytest.mark.parametrize("codec", ["compiled", "pure"])
@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
async def test_the_same_answers(forebay: Start, postgres: Postgres, codec: str, pool_mode: str) -> None:
    fields = {"postgres": {"poolMode": pool_mode}, "pool": {"size": 5, "maxOverflow": 0, "timeout": "20s"}}
    pool = await forebay(postgres_pool(postgres.port, **fields), env={"FOREBAY_CODEC": codec})
    async with await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=postgres.port, user="postgres", autocommit=True
    ) as direct:
        await direct.execute("CREATE TABLE IF NOT EXISTS same (n int)")

    compared_to: list[int] = []

    async def one(number: int) -> None:
        dice = random.Random(number)
        messages = list(script(dice))
        chunks = cut(b"".join(messages) + END, dice)
        expected = await answers(postgres.port, chunks, 2)
        if expected is not None:
            assert await answers(pool.port, chunks, 20) == expected, (number, messages)
            compared_to.append(number)

    gate = asyncio.Semaphore(8)

    async def gated(number: int) -> None:
        async with gate:
            await one(number)

    results = await asyncio.gather(*(gated(number) for number in SCRIPTS), return_exceptions=True)
    wrong = [result for result in results if result is not None]
    assert not wrong, f"{len(wrong)} of {len(SCRIPTS)}, the first: {wrong[0]}"
    assert len(compared_to) > len(SCRIPTS) / 2
