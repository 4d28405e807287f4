"""The line between supervisor and worker, over a real socket pair."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from forebay_proxy.control import LONGEST, Link


class End:
    """One end, with what it was told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.news = asyncio.Event()
        self.ended = asyncio.Event()
        self.link = Link(self._told, self.ended.set)

    def _told(self, message: dict[str, Any]) -> None:
        self.told.append(message)
        self.news.set()


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    a, b = socket.socketpair()
    one, two = End(), End()
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: one.link, sock=a)
    await loop.create_connection(lambda: two.link, sock=b)
    yield one, two
    one.link.close()
    two.link.close()
    await one.ended.wait()
    await two.ended.wait()


async def answering(end: End) -> None:
    """Answer every question with its double, the later ones first."""
    while len([m for m in end.told if "id" in m]) < 3:
        end.news.clear()
        await end.news.wait()
    for message in reversed(end.told):
        end.link.tell(to=message["id"], double=2 * message["number"])


async def test_answers_find_their_questions_in_any_order(ends: tuple[End, End]) -> None:
    one, two = ends
    helper = asyncio.create_task(answering(two))
    answers = await asyncio.gather(*(one.link.ask(5, do="double", number=n) for n in (1, 2, 3)))
    assert [answer["double"] for answer in answers] == [2, 4, 6]
    await helper


async def test_what_is_too_long_is_not_sent(ends: tuple[End, End], caplog: pytest.LogCaptureFixture) -> None:
    """The other end would take it for a fault, and end."""
    one, two = ends
    one.link.tell(text="x" * LONGEST)
    one.link.tell(text="short")
    await asyncio.wait_for(two.news.wait(), 5)
    assert two.told == [{"text": "short"}]
    assert "is not sent" in caplog.text


async def test_what_is_told_unasked_comes_in_order_and_whole(ends: tuple[End, End]) -> None:
    one, two = ends
    document = "name: \u00e4\u20ac\n" * 20_000
    for number in range(50):
        two.link.tell(beat=number)
    two.link.tell(document=document)
    async with asyncio.timeout(5):
        while len(one.told) < 51:
            one.news.clear()
            await one.news.wait()
    assert [m["beat"] for m in one.told[:50]] == list(range(50))
    assert one.told[50]["document"] == document


async def test_no_answer_is_a_timeout_and_a_late_one_is_nobodys(ends: tuple[End, End]) -> None:
    one, two = ends
    with pytest.raises(TimeoutError):
        await one.link.ask(0.02, do="nothing")
    two.link.tell(to=1, late=True)
    two.link.tell(beat=True)
    async with asyncio.timeout(5):
        while {"beat": True} not in one.told:
            one.news.clear()
            await one.news.wait()
    assert one.told[0] == {"to": 1, "late": True}  # not taken for an answer to the next question
    ask = asyncio.create_task(one.link.ask(5, do="something"))
    async with asyncio.timeout(5):
        while len(two.told) < 2:
            two.news.clear()
            await two.news.wait()
    two.link.tell(to=two.told[1]["id"], now=True)
    assert (await ask)["now"] is True


async def test_the_end_of_the_line_ends_what_is_asked(ends: tuple[End, End]) -> None:
    one, two = ends
    asking = asyncio.create_task(one.link.ask(5, do="die"))
    async with asyncio.timeout(5):
        await two.news.wait()
    two.link.close()
    with pytest.raises(ConnectionResetError):
        await asking
    await one.ended.wait()
    with pytest.raises(ConnectionResetError):
        await one.link.ask(5, do="anything")
    one.link.tell(beat=True)  # told to nobody, and no error


async def test_a_message_without_end_is_not_buffered_for_ever() -> None:
    a, b = socket.socketpair()
    end = End()
    await asyncio.get_running_loop().create_connection(lambda: end.link, sock=a)
    b.setblocking(False)
    with b, contextlib.suppress(ConnectionError):
        for _ in range(LONGEST // (1 << 16) + 10):
            await asyncio.get_running_loop().sock_sendall(b, b"x" * (1 << 16))
    async with asyncio.timeout(5):
        await end.ended.wait()
    assert end.told == []
