"""Name resolution that never blocks the loop."""

import asyncio
import logging
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from forebay_proxy.resolver import LOOKUPS, Address, ResolveError, Resolver, Watcher, is_literal


def answer(*ips: str) -> list[Any]:
    """As getaddrinfo answers."""
    families = [socket.AF_INET6 if ":" in ip else socket.AF_INET for ip in ips]
    return [(family, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip, family in zip(ips, families, strict=True)]


def resolver_of(result: list[Any] | Exception, time_limit: float = 5.0) -> Resolver:
    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        if isinstance(result, Exception):
            raise result
        return result

    return Resolver(time_limit, getaddrinfo)


@pytest.fixture
def silence() -> Iterator[Callable[..., list[Any]]]:
    """A name server that says nothing until the test is over."""
    over = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        over.wait(60)
        return answer("10.0.0.1")

    yield getaddrinfo
    over.set()
    for thread in threading.enumerate():
        if thread.name.startswith("resolve "):
            thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_literal_needs_no_thread(host: str) -> None:
    assert await resolver_of(AssertionError("it was looked up")).resolve(host, 80) == (Address(host, 80),)


@pytest.mark.parametrize(("host", "literal"), [("10.0.0.1", True), ("::1", True), ("orders", False), ("", False)])
def test_is_literal(host: str, literal: bool) -> None:
    assert is_literal(host) == literal


async def test_the_systems_resolver_knows_localhost() -> None:
    addresses = await Resolver().resolve("localhost", 8080)
    assert addresses in ((Address("127.0.0.1", 8080),), (Address("::1", 8080),))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (("10.0.0.2", "10.0.0.1", "10.0.0.2"), ("10.0.0.1", "10.0.0.2")),
        (("fd00::1", "10.0.0.1"), ("10.0.0.1",)),
        (("fd00::2", "fd00::1"), ("fd00::1", "fd00::2")),
    ],
)
async def test_addresses_are_sorted_unique_and_of_one_family(found: tuple[str, ...], expected: tuple[str, ...]) -> None:
    addresses = await resolver_of(answer(*found)).resolve("orders", 80)
    assert tuple(address.ip for address in addresses) == expected


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (socket.gaierror(-2, "Name or service not known"), "can't resolve orders: Name or service not known"),
        (OSError("out of descriptors"), "can't resolve orders: out of descriptors"),
        (UnicodeError("label too long"), "can't resolve orders: this is not a valid host name"),
        ([], "can't resolve orders: it has no address"),
    ],
)
async def test_a_failure_is_one_sentence(result: list[Any] | Exception, message: str) -> None:
    with pytest.raises(ResolveError) as error:
        await resolver_of(result).resolve("orders", 80)
    assert str(error.value) == message


async def test_a_bad_name_is_refused_by_the_real_codec() -> None:
    with pytest.raises(ResolveError, match="not a valid host name"):
        await Resolver().resolve("a" * 64 + ".example", 80)


async def test_a_silent_name_server_stops_neither_the_loop_nor_others(silence: Callable[..., list[Any]]) -> None:
    resolver = Resolver(0.01, silence)
    for _ in range(LOOKUPS):
        with pytest.raises(ResolveError, match=r"can't resolve orders: no answer within 0.01 s"):
            await resolver.resolve("orders", 80)
    with pytest.raises(ResolveError, match="32 look-ups are hanging already"):
        await resolver.resolve("orders", 80)
    assert await resolver.resolve("10.0.0.1", 80)


async def test_the_hanging_look_ups_of_one_client_leave_some_for_others(silence: Callable[..., list[Any]]) -> None:
    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        return silence() if host.endswith(".dead") else answer("10.0.0.1")

    resolver = Resolver(0.01, getaddrinfo)
    for _ in range(LOOKUPS * 3 // 4):
        with pytest.raises(ResolveError, match="no answer within"):
            await resolver.resolve("orders.dead", 80, "192.0.2.1")
    with pytest.raises(ResolveError, match="24 look-ups of one client are hanging already"):
        await resolver.resolve("orders", 80, "192.0.2.1")
    for _ in range(3):
        assert await resolver.resolve("orders", 80, "192.0.2.2")
        assert await resolver.resolve("orders", 80)


async def test_an_ended_lookup_gives_its_place_back() -> None:
    resolver = resolver_of(answer("10.0.0.1"))
    for asker in "", "192.0.2.1":
        for _ in range(LOOKUPS + 1):
            assert await resolver.resolve("orders", 80, asker)


class Rounds:
    """A watcher's sleep: each `next` lets one round run and waits for its end."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._wake = asyncio.Semaphore(0)
        self._asleep = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asleep.release()
        await self._wake.acquire()

    async def next(self) -> None:
        await self._asleep.acquire()
        self._wake.release()
        await self._asleep.acquire()
        self._asleep.release()


async def test_a_watcher_tells_only_changes_and_keeps_the_last_good_answer() -> None:
    results = [
        answer("10.0.0.1"),
        answer("10.0.0.2", "10.0.0.1"),
        answer("10.0.0.1", "10.0.0.2"),
        socket.gaierror(-3, "Temporary failure in name resolution"),
        socket.gaierror(-3, "Temporary failure in name resolution"),
        answer("10.0.0.3"),
    ]

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    told: list[tuple[Address, ...]] = []
    rounds = Rounds()
    known = (Address("10.0.0.1", 80),)
    watcher = Watcher(Resolver(5.0, getaddrinfo), "orders", 80, told.append, random.Random(1), known, 5.0, rounds.sleep)
    task = asyncio.create_task(watcher.run())
    await rounds.next()
    assert told == [], "what was known already is no change"
    await rounds.next()
    assert told.pop() == (Address("10.0.0.1", 80), Address("10.0.0.2", 80))
    await rounds.next()
    assert told == [], "another order is no change"
    for _ in range(2):
        await rounds.next()
        assert told == []
        assert "Temporary failure" in watcher.error
        assert len(watcher.addresses) == 2
    await rounds.next()
    assert told == [(Address("10.0.0.3", 80),)]
    assert watcher.error == ""
    assert all(4.5 <= seconds <= 5.5 for seconds in rounds.slept)
    assert len(set(rounds.slept)) == len(rounds.slept), "jittered"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("known", "said"),
    [((), "there is no address to connect to"), ((Address("10.0.0.1", 80),), "its last addresses stay in use")],
)
async def test_what_a_failure_leaves(known: tuple[Address, ...], said: str, caplog: pytest.LogCaptureFixture) -> None:
    resolver = resolver_of(socket.gaierror(-3, "Temporary failure in name resolution"))
    watcher = Watcher(resolver, "orders", 80, lambda _: None, random.Random(1), known)
    with caplog.at_level(logging.WARNING):
        await watcher.refresh()
        await watcher.refresh()
    (record,) = caplog.records
    assert said in record.getMessage()


async def test_a_literal_is_not_watched() -> None:
    watcher = Watcher(Resolver(), "10.0.0.1", 80, lambda _: None, random.Random(1))
    await asyncio.wait_for(watcher.run(), 5)
