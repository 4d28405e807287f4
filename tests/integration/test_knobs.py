"""Each knob of a pool does what its name says, and a metric shows it."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from tests.support.certs import CA
from tests.support.criteria import metric, serves
from tests.support.forebay import Forebay, http_pool
from tests.support.load import Load, run_load
from tests.support.origin import Origin
from tests.support.raw import fetch, request_bytes

Start = Callable[..., Awaitable[Forebay]]
Origins = Callable[..., Awaitable[Origin]]

CONNECTIONS = "forebay_upstream_connections"
CLOSED = "forebay_upstream_connections_closed_total"


async def busy(f: Forebay, origin: Origin, count: int, seconds: float = 0.3) -> list[asyncio.Task[Any]]:
    """So many requests at once, under way at the origin."""
    tasks = [asyncio.create_task(fetch(f.port, f"/slow/{seconds}")) for _ in range(count)]
    await origin.until(lambda stats: stats["active"] == count)
    return tasks


async def test_size_and_max_overflow(forebay: Start, origin: Origin) -> None:
    """`size` stay open when idle, `maxOverflow` more under load, closed when their lease ends."""
    f = await forebay(http_pool(origin.port, pool={"size": 3, "maxOverflow": 2}))
    assert (await f.metrics()).value("forebay_upstream_connections_limit") == 5
    tasks = await busy(f, origin, 5)
    sixth = asyncio.create_task(fetch(f.port))
    await metric(f, "forebay_upstream_waiting", lambda value: value == 1)
    assert (await f.metrics()).value(CONNECTIONS, state="leased") == 5
    await asyncio.gather(*tasks, sixth)
    await origin.until(lambda stats: stats["open"] == 3)
    metrics = await f.metrics()
    assert metrics.value(CONNECTIONS, state="idle") == 3
    assert metrics.value(CLOSED, reason="overflow") == 2
    assert metrics.value("forebay_upstream_connections_opened_total") == 5


async def test_connections_are_opened_on_demand_and_min_idle_ahead_of_it(forebay: Start, origin: Origin) -> None:
    document = http_pool(origin.port, pool={"size": 10, "maxOverflow": 0})
    f = await forebay(document)
    await asyncio.gather(*(fetch(f.port) for _ in range(3)))
    assert (await origin.stats())["accepts"] <= 3
    document["spec"]["upstreams"][0]["pool"]["minIdle"] = 4
    g = await forebay(document)
    await metric(g, CONNECTIONS, lambda value: value == 4, state="idle")
    await origin.reset()
    tasks = await busy(g, origin, 4)
    assert (await g.metrics()).value("forebay_upstream_connect_seconds_count") >= 4
    await metric(g, CONNECTIONS, lambda value: value == 4, state="idle")  # four more, beside the leased
    await asyncio.gather(*tasks)


async def test_timeout(forebay: Start, origin: Origin) -> None:
    f = await forebay(http_pool(origin.port, pool={"size": 1, "maxOverflow": 0, "timeout": "500ms"}))
    tasks = await busy(f, origin, 1, 1.0)
    began = monotonic()
    assert (await fetch(f.port)).status == 503
    assert 0.5 <= monotonic() - began <= 0.6
    metrics = await f.metrics()
    assert metrics.value("forebay_rejections_total", reason="timeout") == 1
    assert metrics.value("forebay_upstream_wait_seconds_count", outcome="timeout") == 1
    await asyncio.gather(*tasks)


async def test_a_timeout_that_is_shortened_holds_for_those_who_wait(forebay: Start, origin: Origin) -> None:
    document = http_pool(origin.port, pool={"size": 1, "maxOverflow": 0, "timeout": "20s"})
    f = await forebay(document)
    tasks = await busy(f, origin, 1, 1.5)
    waiting = [asyncio.create_task(fetch(f.port)) for _ in range(3)]
    await metric(f, "forebay_upstream_waiting", lambda value: value == 3)
    document["spec"]["upstreams"][0]["pool"]["timeout"] = "300ms"
    f.write(document)
    f.reload()
    began = monotonic()
    assert {answer.status for answer in await asyncio.gather(*waiting)} == {503}
    assert monotonic() - began < 1.0
    await asyncio.gather(*tasks)


async def test_max_waiting(forebay: Start, origin: Origin) -> None:
    f = await forebay(http_pool(origin.port, pool={"size": 1, "maxOverflow": 0, "maxWaiting": 2}))
    tasks = await busy(f, origin, 1)
    waiting = [asyncio.create_task(fetch(f.port)) for _ in range(2)]
    await metric(f, "forebay_upstream_waiting", lambda value: value == 2)
    assert (await f.metrics()).value("forebay_upstream_wait_oldest_seconds") >= 0
    began = monotonic()
    assert (await fetch(f.port)).status == 503
    assert monotonic() - began < 0.2
    assert (await f.metrics()).value("forebay_rejections_total", reason="queue_full") == 1
    assert {answer.status for answer in await asyncio.gather(*tasks, *waiting)} == {200}


async def test_connect_timeout(forebay: Start, origins: Origins, ca: CA) -> None:
    """A backend that accepts and then says nothing: with TLS that is a part of opening."""
    origin = await origins(tls=ca.server())
    f = await forebay(
        http_pool(
            origin.port,
            pool={"size": 2, "maxOverflow": 0, "connectTimeout": "300ms", "timeout": "5s"},
            tls={"mode": "verify-ca", "caFile": str(ca.cert)},
        )
    )
    origin.stop()
    began = monotonic()
    answer = await fetch(f.port)
    assert answer.status == 504
    assert 0.3 <= monotonic() - began <= 0.5
    assert (await f.metrics()).value("forebay_upstream_connect_errors_total", reason="connect_timeout") == 1
    origin.cont()
    await serves(f)


async def test_recycle_with_jitter(forebay: Start, origin: Origin) -> None:
    """Opened together, ended apart, and never within a lease; idle ones too."""
    f = await forebay(http_pool(origin.port, pool={"size": 8, "maxOverflow": 0, "recycle": "2s", "recycleJitter": 50}))
    await asyncio.gather(*(await busy(f, origin, 8, 0.1)))
    long = asyncio.create_task(fetch(f.port, "/slow/3.5"))  # longer than any connection's life
    ends: list[float] = []
    began = monotonic()
    async with Load(f.port, clients=4) as load:
        while len(ends) < 6:
            seen = len(ends)
            closed = (await f.metrics()).value(CLOSED, reason="recycle")
            ends += [monotonic() - began] * int(closed - seen)
            await asyncio.sleep(0.02)
            assert monotonic() - began < 10
    assert load.outcome.statuses == {200: load.outcome.answered}
    assert ends[0] > 0.8
    assert max(ends[:6]) - min(ends[:6]) > 0.1, ends
    assert (await long).status == 200


async def test_a_recycle_that_is_shortened_holds_for_connections_that_are_open(forebay: Start, origin: Origin) -> None:
    document = http_pool(origin.port, pool={"size": 1, "maxOverflow": 0, "recycle": "1h"})
    f = await forebay(document)
    assert (await fetch(f.port)).status == 200
    document["spec"]["upstreams"][0]["pool"]["recycle"] = "300ms"
    f.write(document)
    f.reload()
    await metric(f, CLOSED, lambda value: value == 1, reason="recycle")


async def test_idle_timeout(forebay: Start, origin: Origin) -> None:
    f = await forebay(http_pool(origin.port, pool={"size": 5, "maxOverflow": 0, "idleTimeout": "1s", "minIdle": 2}))
    await asyncio.gather(*(await busy(f, origin, 5, 0.1)))
    await origin.until(lambda stats: stats["open"] == 2)  # down to minIdle
    metrics = await f.metrics()
    assert metrics.value(CLOSED, reason="idle") == 3
    assert metrics.value(CONNECTIONS, state="idle") == 2


async def test_a_backend_lowers_the_idle_timeout(forebay: Start, origin: Origin) -> None:
    """`Keep-Alive: timeout=2` of the answer means that one second is safe."""
    f = await forebay(http_pool(origin.port))
    assert (await fetch(f.port, "/bytes/1?h=Keep-Alive:timeout%3D600")).status == 200
    head = request_bytes("/?h=Keep-Alive:timeout=2")
    outcome = await run_load(f.port, clients=1, requests=1, request=head)
    assert outcome.statuses == {200: 1}
    assert (await origin.stats())["open"] == 1
    await origin.until(lambda stats: stats["open"] == 0, within=5)
    assert (await f.metrics()).value(CLOSED, reason="idle") == 1


async def test_max_uses(forebay: Start, origin: Origin) -> None:
    f = await forebay(http_pool(origin.port, pool={"size": 1, "maxOverflow": 0, "maxUses": 10}))
    assert (await run_load(f.port, clients=1, requests=95)).statuses == {200: 95}
    assert (await origin.stats())["accepts"] == 10
    assert (await f.metrics()).value(CLOSED, reason="uses") == 9


async def test_pre_ping(forebay: Start, origin: Origin) -> None:
    """A backend that closed an idle connection while the proxy was stopped: the test before its use finds that, and a
    POST, which could not be sent again, meets a live connection."""
    for mode in ("always", "auto"):
        f = await forebay(http_pool(origin.port, pool={"size": 1, "maxOverflow": 0, "prePing": mode}))
        (worker,) = await f.worker_pids()
        assert (await fetch(f.port, "/close-idle/300")).status == 200
        opened = (await origin.stats())["open"]
        os.kill(worker, signal.SIGSTOP)
        try:
            await origin.until(lambda stats, opened=opened: stats["open"] < opened)  # type: ignore[misc]
            asking = asyncio.create_task(fetch(f.port, "/echo", "POST", body=b"once"))
            if mode == "auto":
                await asyncio.sleep(1.0)  # what was used within a second is believed to be alive
        finally:
            os.kill(worker, signal.SIGCONT)
        assert (await asking).status == 200
    assert (await origin.stats())["targets"]["/echo"] == 2


async def test_keep_what_is_in_use_and_give_back_the_rest(forebay: Start, origin: Origin) -> None:
    """The youngest idle connection is used first, so what a lull does not need ages out."""
    f = await forebay(http_pool(origin.port, pool={"size": 5, "maxOverflow": 0, "idleTimeout": "1s"}))
    await asyncio.gather(*(await busy(f, origin, 5, 0.1)))
    async with Load(f.port, clients=1, request=request_bytes("/slow/0.02")):
        await origin.until(lambda stats: stats["open"] == 1)
    assert (await f.metrics()).value(CLOSED, reason="idle") == 4
