"""What a turn of the loop has read is dealt with behind it, answers first, whatever becomes of one of them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from forebay_proxy.turn import AT_ONCE, Turn


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
        for party in map(Party, names.split()):
            if parties or turn.begin(party):
                parties.append(party)


async def ended() -> None:
    """The callbacks of this turn of the loop have run."""
    await asyncio.sleep(0)


async def test_answers_come_before_requests_and_each_in_its_order(dealt: list[str]) -> None:
    turn = Turn(asyncio.get_running_loop())
    came(turn, requests="q1 q2", answers="a1 a2")
    assert dealt == [], "nothing is dealt with before the turn has ended"
    await ended()
    assert dealt == ["a1", "a2", "q1", "q2"]


async def turns(turn: Turn, count: int, reads: int) -> None:
    """So many turns of so many reads."""
    for _ in range(count):
        came(turn, requests="q " * reads)
        await ended()


async def waits(turn: Turn, dealt: list[str]) -> bool:
    """Whether what comes now waits for the end of the turn; that is awaited."""
    dealt.clear()
    came(turn, answers="a")
    waited = not dealt
    await ended()
    assert dealt == ["a"]
    return waited


async def test_while_turns_are_short_few_reads_wait_for_the_end(dealt: list[str]) -> None:
    turn = Turn(asyncio.get_running_loop())
    waited = [await waits(turn, dealt) for _ in range(3 * AT_ONCE)]
    at_once = [False] * AT_ONCE
    assert waited == [True, *at_once, True, True, *at_once, True, True, *at_once][: 3 * AT_ONCE]


async def test_while_turns_are_long_all_wait_for_the_end(dealt: list[str]) -> None:
    turn = Turn(asyncio.get_running_loop())
    await turns(turn, 100, 16)
    for _ in range(3):
        assert await waits(turn, dealt)
        await turns(turn, 3, 16)


async def test_turns_get_short_again(dealt: list[str]) -> None:
    turn = Turn(asyncio.get_running_loop())
    await turns(turn, 100, 16)
    await turns(turn, 30, 1)
    assert [await waits(turn, dealt) for _ in range(AT_ONCE)].count(True) <= 2


async def test_what_was_read_before_is_dealt_with_before(dealt: list[str]) -> None:
    """The end of a turn that a timer needs at once is a short one."""
    turn = Turn(asyncio.get_running_loop())
    came(turn, requests="q1")
    turn.end()
    came(turn, requests="q2", answers="a2")
    assert dealt == ["q1", "q2", "a2"]
    await ended()
    assert dealt == ["q1", "q2", "a2"], "the end that was to come has nothing left"


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
