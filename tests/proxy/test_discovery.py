"""Endpoints by name, while the document and the name server's answers change."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio
from tests.support.names import Names

from forebay_proxy.discovery import Discovery, Place, Target

A, B, LITERAL = Target("a.test", 80, 1), Target("b.test", 80, 1), Target("10.0.0.9", 80, 1)


class Rig:
    """A discovery, its name server, and what it has reported last."""

    def __init__(self, places: Sequence[Place] = ()) -> None:
        self.names = Names()
        self.reported: Sequence[Place] | None = None
        self._news = asyncio.Event()
        self.discovery = Discovery(self.names, self._changed, "test", places)  # type: ignore[arg-type]

    def _changed(self, places: Sequence[Place]) -> None:
        self.reported = places
        self._news.set()

    async def said(self, host: str, *ips: str) -> list[tuple[str, int, str]]:
        """The name server answers. What is reported then, as (host, weight, address)."""
        self._news.clear()
        self.names.say(host, *ips)
        async with asyncio.timeout(5):
            await self._news.wait()
        return self.known

    def follow(self, *targets: Target) -> list[tuple[str, int, str]]:
        """What is reported at once."""
        self.discovery.follow(targets)
        return self.known

    @property
    def known(self) -> list[tuple[str, int, str]]:
        return sorted((place.host, place.weight, place.address) for place in self.reported or ())


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.discovery.close()


async def test_a_name_that_is_silent_keeps_no_other_waiting(rig: Rig) -> None:
    assert rig.follow(A, B, LITERAL) == [("10.0.0.9", 1, "10.0.0.9")]
    assert await rig.said("a.test", "10.0.0.1") == [("10.0.0.9", 1, "10.0.0.9"), ("a.test", 1, "10.0.0.1")]
    assert len(await rig.said("b.test", "10.0.0.2", "10.0.0.3")) == 4


async def test_another_weight_needs_no_look_up(rig: Rig) -> None:
    rig.follow(A, B)
    await rig.said("a.test", "10.0.0.1")
    await rig.said("b.test", "10.0.0.2")
    assert rig.follow(A._replace(weight=5), B) == [("a.test", 5, "10.0.0.1"), ("b.test", 1, "10.0.0.2")]
    assert sorted(rig.names.asked) == ["a.test", "b.test"]


@pytest.mark.parametrize("ips", [("10.0.0.2",), ()])
async def test_former_endpoints_stay_until_a_new_name_has_an_answer_or_none(rig: Rig, ips: tuple[str, ...]) -> None:
    rig.follow(A, LITERAL)
    former = await rig.said("a.test", "10.0.0.1")
    assert rig.follow(B) == former
    assert await rig.said("b.test", *ips) == [("b.test", 1, ip) for ip in ips]


async def test_what_has_left_goes_at_once_where_nothing_is_waited_for(rig: Rig) -> None:
    rig.follow(A, B)
    await rig.said("b.test", "10.0.0.2")
    await rig.said("a.test", "10.0.0.1")
    assert rig.follow(B) == [("b.test", 1, "10.0.0.2")]
    rig.names.say("a.test", "10.0.0.7")
    assert rig.follow(B, LITERAL) == [("10.0.0.9", 1, "10.0.0.9"), ("b.test", 1, "10.0.0.2")]


async def test_the_answer_for_a_name_that_has_left_is_not_taken(rig: Rig) -> None:
    rig.follow(A)
    rig.follow(B)
    rig.names.say("a.test", "10.0.0.1")
    assert await rig.said("b.test", "10.0.0.2") == [("b.test", 1, "10.0.0.2")]


async def test_who_comes_back_begins_with_what_it_had() -> None:
    had = [Place("a.test", 80, 1, "10.0.0.1"), Place("b.test", 80, 1, "10.0.0.2")]
    rig = Rig(had)
    assert rig.follow(A) == [("a.test", 1, "10.0.0.1"), ("b.test", 1, "10.0.0.2")]
    assert await rig.said("a.test", "10.0.0.3") == [("a.test", 1, "10.0.0.3")]
    await rig.discovery.close()
