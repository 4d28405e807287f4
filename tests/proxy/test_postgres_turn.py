"""Where more of one party comes in the same turn of the loop than what may be noted for its end, whether turns are long
or short, so that all is dealt with at once."""

import asyncio
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from tests.conformance.pgwire_cases import message
from tests.core.pool_model import Settings

from forebay_core.balance import Endpoint, picker
from forebay_core.health import HealthGroup, HealthPolicy
from forebay_core.lease import CLOSING, IDLE, Connection, Waiter
from forebay_core.pool import Pool
from forebay_proxy.postgres.server import PgConnection
from forebay_proxy.turn import Turn

ANSWER = message(b"C", b"SELECT 1\0") + message(b"Z", b"I")


class Owner(Waiter):
    """Keeps what it is told."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.alone: list[bytes] = []
        self.said: list[bytes] = []

    def take(self, connection: Connection, now: float) -> bool:
        return True

    def answered_alone(self, connection: PgConnection, answer: bytes, now: float) -> None:
        self.alone.append(answer)
        self.pool.release(connection, self, now)

    def server_said(self, connection: PgConnection, data: bytes, ready: bytes, events: Any) -> None:
        self.said.append(data)


@pytest.fixture
async def leased() -> tuple[PgConnection, Owner]:
    """A connection that owes the answer to a lone statement, in a turn that is about to begin."""
    endpoint = Endpoint("db", 5432, 1, "127.0.0.1", HealthGroup(HealthPolicy()).add())
    upstream: Any = SimpleNamespace(turn=Turn(asyncio.get_running_loop()))
    pool = upstream.pool = Pool(
        Settings(size=1, max_overflow=0),
        [endpoint],
        lambda endpoints: picker("roundRobin", endpoints, 0),
        random=lambda: 0.5,
        make=lambda endpoint: PgConnection(endpoint, upstream),
    )
    owner = Owner(pool)
    pool.acquire(owner, monotonic())
    connection = pool.opens.pop()
    pool.opened(connection, monotonic())
    assert isinstance(connection, PgConnection)
    assert connection.owner is owner
    connection.lone = True
    return connection, owner


@pytest.fixture(params=["long", "short"])
async def either(request: pytest.FixtureRequest, leased: tuple[PgConnection, Owner]) -> tuple[PgConnection, Owner]:
    """The same; a short turn has been before this one, so that what comes now is dealt with at once."""
    connection, owner = leased
    if request.param == "short":
        connection.data_received(ANSWER)
        await asyncio.sleep(0)
        assert owner.pool.lend(owner, monotonic()) is connection
        connection.lone = True
        owner.alone.clear()
    return connection, owner


async def test_a_lone_answer_waits_for_the_end_of_the_turn(leased: tuple[PgConnection, Owner]) -> None:
    connection, owner = leased
    connection.data_received(ANSWER)
    assert owner.alone == owner.said == []
    await asyncio.sleep(0)
    assert (owner.alone, owner.said) == ([ANSWER], [])


async def test_behind_a_short_turn_it_does_not(leased: tuple[PgConnection, Owner]) -> None:
    connection, owner = leased
    connection.data_received(ANSWER)
    await asyncio.sleep(0)
    for answers in (2, 3):
        assert owner.pool.lend(owner, monotonic()) is connection
        connection.lone = True
        connection.data_received(ANSWER)
        assert (owner.alone, owner.said) == ([ANSWER] * answers, [])


@pytest.mark.parametrize("chunks", [2, 3, 4])
async def test_a_row_that_looks_like_an_answer_is_none(either: tuple[PgConnection, Owner], chunks: int) -> None:
    """Three reads of one turn: the third begins in the middle of a row, whose bytes are a client's choice."""
    connection, owner = either
    row = message(b"D", b"\0\1\0\1\0\0" + bytes(1000) + ANSWER * chunks)
    parts = [row[:600], row[600 : -len(ANSWER) * (chunks - 2)] if chunks > 2 else row[600:], *[ANSWER] * (chunks - 2)]
    assert b"".join(parts) == row
    for part in parts:
        connection.data_received(part)
    await asyncio.sleep(0)
    assert owner.alone == []
    connection.data_received(ANSWER)
    await asyncio.sleep(0)
    assert b"".join(owner.said) == row + ANSWER
    assert (connection.skip, connection.kept) == (0, b"")


async def test_what_ends_behind_its_answer_is_for_nobody_else(either: tuple[PgConnection, Owner]) -> None:
    connection, owner = either
    connection.data_received(ANSWER)
    assert connection.eof_received() is False
    await asyncio.sleep(0)
    assert owner.alone == [ANSWER], "and the answer is the client's"
    assert connection.state == CLOSING
    assert owner.pool.closed_total["upstream"] == 1


async def test_an_idle_connection_whose_end_has_been_read_is_lent_to_nobody(
    either: tuple[PgConnection, Owner],
) -> None:
    """Its transport tells of it in the loop's next turn, and a statement that came in this one is yet to be sent."""
    connection, owner = either
    connection.data_received(ANSWER)
    await asyncio.sleep(0)
    assert connection.state == IDLE
    assert connection.eof_received() is False
    assert owner.pool.lend(owner, monotonic()) is None
    assert connection.state == CLOSING
