"""What is said of an upstream changes while connections to it are open and in use: its TLS, its policy, its names."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.integration.test_reload import take
from tests.support.certs import CA
from tests.support.forebay import Forebay, http_pool
from tests.support.origin import Origin
from tests.support.raw import fetch

Start = Callable[..., Awaitable[Forebay]]
Origins = Callable[..., Awaitable[Origin]]


async def connections(f: Forebay, name: str = "origin") -> dict[str, Any]:
    """The one worker's, by state."""
    (worker,) = (await f.state())["workers"]
    counts: dict[str, Any] = worker["upstreams"][name]["connections"]
    return counts


async def test_an_upstream_moves_from_its_tls_port_to_its_plain_one(
    forebay: Start, origins: Origins, origin: Origin, ca: CA
) -> None:
    """What speaks TLS ends as TLS does, idle or in use, and its place is free again."""
    secure = await origins(tls=ca.server())
    pool = {"size": 3, "maxOverflow": 0, "timeout": "5s"}
    f = await forebay(http_pool(secure.port, pool=pool, tls={"mode": "require"}))
    both = [asyncio.create_task(fetch(f.port, path)) for path in ("/slow/0.01", "/slow/1.5")]
    assert (await both[0]).status == 200
    await secure.until(lambda stats: stats["open"] == 2 and stats["active"] == 1)
    await take(f, http_pool(origin.port, pool=pool))
    assert (await both[1]).status == 200
    await secure.until(lambda stats: stats["open"] == 0)
    assert [a.status for a in await asyncio.gather(*(fetch(f.port, "/slow/0.1") for _ in range(3)))] == [200] * 3
    await origin.until(lambda stats: stats["open"] == 3)
    counts = await connections(f)
    assert (counts["idle"], counts["closing"]) == (3, 0)
