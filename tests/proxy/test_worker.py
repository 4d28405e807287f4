"""A worker, on the test's own loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio
from tests.support.forebay import http_pool
from tests.support.names import Names

from forebay_core.spec.load import parse
from forebay_proxy.memory import Memory
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


async def test_an_upstream_that_comes_back_has_its_endpoints(start: Start) -> None:
    """Its name may take its time to be looked up again."""
    document = http_pool()
    document["spec"]["upstreams"][0]["endpoints"] = [{"host": "localhost", "port": 1}]
    worker = await start(document)
    upstream = worker.upstreams["origin"]
    async with asyncio.timeout(5):
        while not upstream.pool.endpoints:
            await asyncio.sleep(0.01)
    worker.resolver = Names()  # type: ignore[assignment] - it says nothing
    gone = http_pool(1)
    gone["spec"]["upstreams"][0]["name"] = "other"
    await worker.apply(parse(gone, form="local"))
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
