"""What a turn of the loop has read is dealt with behind it, answers first, whatever becomes of one of them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from forebay_proxy.turn import Turn


class Party:
    """Notes its name where it is dealt with; those that are named `bad` and `worse` raise."""

    dealt: list[str]

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    @staticmethod
    def deal(parties: Iterator[Any], now: float) -> None:
        assert now > 0
        for party in parties:
            Party.dealt.append(party.name)
            if party.name in ("bad", "worse"):
                raise ValueError("a mistake")

    def broke(self) -> None:
        Party.dealt.append(f"{self.name} broke")
        if self.name == "worse":
            raise ValueError("another")


@pytest.fixture(autouse=True)
def dealt() -> list[str]:
    Party.dealt = []
    return Party.dealt


def came(turn: Turn, *, answers: str = "", requests: str = "") -> None:
    for names, parties in ((requests, turn.requests), (answers, turn.answers)):
        for name in names.split():
            if not parties:
                turn.begin()
            parties.append(Party(name))


async def ended() -> None:
    """The callbacks of this turn of the loop have run."""
    await asyncio.sleep(0)


async def test_answers_come_before_requests_and_each_in_its_order(dealt: list[str]) -> None:
    turn = Turn(asyncio.get_running_loop())
    came(turn, requests="q1 q2", answers="a1 a2")
    assert dealt == [], "nothing is dealt with before the turn has ended"
    await ended()
    assert dealt == ["a1", "a2", "q1", "q2"]


async def test_every_turn_has_its_own_end(dealt: list[str]) -> None:
    turn = Turn(asyncio.get_running_loop())
    for name in ("q1", "q2", "q3"):
        came(turn, requests=name)
        await ended()
        assert dealt[-1] == name
    assert dealt == ["q1", "q2", "q3"]


@pytest.mark.parametrize("requests", ["bad", "bad q1", "q1 bad q2", "q1 bad bad q2", "q1 bad", "worse q1", "worse"])
async def test_one_that_fails_costs_nobody_else_anything(dealt: list[str], requests: str) -> None:
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    turn = Turn(loop)
    came(turn, requests=requests, answers="a1")
    await ended()
    expected = ["a1"]
    for name in requests.split():
        expected += [name, f"{name} broke"] if name in ("bad", "worse") else [name]
    assert dealt == expected
    assert len(told) == requests.count("bad") + 2 * requests.count("worse")
    came(turn, requests="later")
    await ended()
    assert dealt[-1] == "later", "the next turn ends as ever"


async def test_what_comes_at_the_end_of_a_turn_has_a_turn_of_its_own(
    dealt: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Turn(asyncio.get_running_loop())
    monkeypatch.setattr(Party, "broke", lambda self: came(turn, answers="late", requests="later"))
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    came(turn, requests="bad q1")
    await ended()
    assert dealt == ["bad", "q1"]
    await ended()
    assert dealt == ["bad", "q1", "late", "later"]
