"""A worker, on the test's own loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio
from tests.support.forebay import http_pool
from tests.support.names import Names
from tests.support.waiting import until

from forebay_core.lease import Connection, Refusal, Waiter
from forebay_core.spec.load import parse
from forebay_proxy.http.proxy import HttpProxy
from forebay_proxy.memory import Memory
from forebay_proxy.upstream import Upstream
from forebay_proxy.worker import Worker

Start = Callable[[dict[str, Any]], Awaitable[Worker]]


@pytest_asyncio.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Factory: `await start(document)`."""
    workers: list[Worker] = []

    async def begin(document: dict[str, Any]) -> Worker:
        workers.append(Worker(parse(document, form="local"), Memory.at(tmp_path / "memory"), "test", b""))
        await workers[-1].start()
        return workers[-1]

    yield begin
    for worker in workers:
        await worker.close()


def named(name: str, host: str) -> dict[str, Any]:
    document = http_pool()
    document["spec"]["upstreams"] = [{"name": name, "endpoints": [{"host": host, "port": 1}]}]
    return document


async def test_a_mistake_in_one_upstreams_tick_ends_no_others(start: Start) -> None:
    document = http_pool(1)
    document["spec"]["upstreams"].append({**document["spec"]["upstreams"][0], "name": "other"})
    document["spec"]["routes"] = [{"upstream": "origin"}]
    worker = await start(document)
    ticked = asyncio.Event()
    setattr(worker.upstreams["origin"], "tick", None)  # noqa: B010 - calling it is the mistake
    setattr(worker.upstreams["other"], "tick", ticked.set)  # noqa: B010
    async with asyncio.timeout(5):
        await ticked.wait()


async def test_an_upstream_that_comes_back_has_its_endpoints(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name may take its time to be looked up again."""
    document = named("origin", "localhost")
    worker = await start(document)
    upstream = worker.upstreams["origin"]
    worker.resolver = Names()  # type: ignore[assignment] - it says nothing
    monkeypatch.setattr("forebay_proxy.worker.FIRST_ANSWER", 0.01)
    await worker.apply(parse(named("other", "127.0.0.1"), form="local"))
    await worker.apply(parse(document, form="local"))
    assert worker.upstreams["origin"] is upstream
    assert [endpoint.host for endpoint in upstream.pool.endpoints] == ["localhost"]


async def test_of_two_documents_the_later_one_holds(start: Start) -> None:
    """A worker that hung may be told of both in one breath."""

    def checked(port: int) -> dict[str, Any]:
        return http_pool(port, healthCheck={"active": {"path": "/", "interval": f"{100 + port}s"}})

    worker = await start(checked(1))
    await asyncio.gather(*(worker.apply(parse(checked(port), form="local")) for port in (2, 3, 4)))
    upstream = worker.upstreams["origin"]
    assert [endpoint.port for endpoint in upstream.pool.endpoints] == [4]
    assert repr(worker.tasks).count("checks of origin") == 1


def routed_to(worker: Worker) -> Upstream | None:
    """The one upstream that all requests go to."""
    assert isinstance(worker.proxy, HttpProxy)
    return worker.proxy.router.only


@pytest.mark.parametrize("said", [("10.0.0.1",), ()])
async def test_nothing_is_routed_to_an_upstream_whose_name_is_being_looked_up(
    start: Start, said: tuple[str, ...]
) -> None:
    worker = await start(named("old", "127.0.0.1"))
    old, worker.resolver = worker.upstreams["old"], (names := Names())  # type: ignore[assignment]
    applying = asyncio.create_task(worker.apply(parse(named("new", "new.test"), form="local")))
    async with asyncio.timeout(5):
        await until(lambda: "new.test" in names.asked, step=0)
        assert routed_to(worker) is old
        names.say("new.test", *said)
        await applying
    new = worker.upstreams["new"]
    assert routed_to(worker) is new
    assert [endpoint.address for endpoint in new.pool.endpoints] == list(said)


async def test_a_worker_starts_with_a_silent_name_server(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves what else there is."""
    monkeypatch.setattr("forebay_proxy.worker.FIRST_ANSWER", 0.01)
    monkeypatch.setattr("forebay_proxy.worker.Resolver", Names)
    worker = await start(named("origin", "silent.test"))
    assert worker.ready
    assert routed_to(worker) is worker.upstreams["origin"]


async def test_a_worker_has_started_when_its_names_are_known(start: Start) -> None:
    worker = await start(named("origin", "localhost"))
    assert [endpoint.host for endpoint in worker.upstreams["origin"].pool.endpoints] == ["localhost"]


async def test_an_upstream_with_an_address_has_its_endpoints_before_it_is_routed_to(start: Start) -> None:
    """Even where the checks of another one have to be ended first."""
    document = named("first", "127.0.0.1")
    check = {"active": {"path": "/", "interval": "100s"}}
    document["spec"]["upstreams"][0]["healthCheck"] = check
    worker = await start(document)
    changed = named("second", "127.0.0.1")
    changed["spec"]["upstreams"].insert(0, named("first", "127.0.0.1")["spec"]["upstreams"][0])
    changed["spec"]["routes"] = [{"upstream": "second"}]
    applying = asyncio.create_task(worker.apply(parse(changed, form="local")))
    await until(lambda: "second" in worker.upstreams, step=0)
    assert worker.upstreams["second"].pool.endpoints
    await applying


class Waiting(Waiter):
    """Waits for a connection; `told` is why there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def take(self, connection: Connection, now: float) -> bool:
        raise AssertionError("nothing listens there")

    def refuse(self, refusal: Refusal, now: float) -> None:
        self.told.set_result(refusal.reason)


async def test_who_waits_in_a_pause_is_not_forgotten_with_the_upstream(start: Start) -> None:
    """The upstream goes when nobody waits for it, and the end of the pause is an end for those who do."""
    before, after = named("old", "127.0.0.1"), named("new", "127.0.0.1")
    before["spec"]["paused"] = after["spec"]["paused"] = True
    worker = await start(before)
    old, waiting, ticked = worker.upstreams["old"], Waiting(), asyncio.Event()
    assert old.pool.acquire(waiting, monotonic()) is None
    await worker.apply(parse(after, form="local"))
    setattr(worker.upstreams["new"], "tick", ticked.set)  # noqa: B010 - it comes after the old one's
    async with asyncio.timeout(5):
        await ticked.wait()
        assert worker.every_upstream["old"] is old
        after["spec"]["paused"] = False
        await worker.apply(parse(after, form="local"))
        assert await waiting.told == "connect_refused"
