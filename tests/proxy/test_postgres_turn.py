"""Where more of one party comes in the same turn of the loop than it has noted."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from tests.conformance.pgwire_cases import message

from forebay_core.balance import Endpoint
from forebay_core.health import HealthGroup, HealthPolicy
from forebay_core.lease import LEASED
from forebay_proxy.postgres.server import PgConnection
from forebay_proxy.turn import Turn

ANSWER = message(b"C", b"SELECT 1\0") + message(b"Z", b"I")


class Owner:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.alone: list[bytes] = []
        self.said: list[bytes] = []

    def answered_alone(self, connection: PgConnection, answer: bytes, now: float) -> None:
        self.alone.append(answer)

    def server_said(self, connection: PgConnection, data: bytes, ready: bytes, events: Any) -> None:
        self.said.append(data)


@pytest.fixture
async def leased() -> tuple[PgConnection, Owner]:
    turn = Turn(asyncio.get_running_loop())
    endpoint = Endpoint("db", 5432, 1, "127.0.0.1", HealthGroup(HealthPolicy()).add())
    upstream: Any = SimpleNamespace(turn=turn)
    connection, owner = PgConnection(endpoint, upstream), Owner()
    connection.state, connection.owner, connection.lone = LEASED, owner, True
    return connection, owner


async def test_a_lone_answer_waits_for_the_end_of_the_turn(leased: tuple[PgConnection, Owner]) -> None:
    connection, owner = leased
    connection.data_received(ANSWER)
    assert owner.alone == owner.said == []
    await asyncio.sleep(0)
    assert (owner.alone, owner.said) == ([ANSWER], [])


@pytest.mark.parametrize("chunks", [2, 3, 4])
async def test_a_row_that_looks_like_an_answer_is_none(leased: tuple[PgConnection, Owner], chunks: int) -> None:
    """Three reads of one turn: the third begins in the middle of a row, whose bytes are a client's choice."""
    connection, owner = leased
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


async def test_what_ends_behind_its_answer_is_for_nobody_else(leased: tuple[PgConnection, Owner]) -> None:
    connection, owner = leased
    connection.data_received(ANSWER)
    assert connection.eof_received() is False
    assert connection.retire == "error", "the lease's end closes it"
    await asyncio.sleep(0)
    assert owner.alone == [ANSWER], "and the answer is the client's"
