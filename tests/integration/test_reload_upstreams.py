"""What is said of an upstream changes while connections to it are open and in use: its TLS, its policy, its names."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

from tests.integration.http.backend import OK, Backend, read_head
from tests.integration.test_reload import take
from tests.support.certs import CA
from tests.support.forebay import Forebay, http_pool
from tests.support.origin import Origin
from tests.support.raw import Connection, fetch, request_bytes
from tests.support.waiting import until

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


async def test_other_tls_is_asked_of_open_connections_too(forebay: Start, origins: Origins, ca: CA) -> None:
    """Nobody is served over what was opened in plain text, or unverified, once the document asks for more."""
    plain, secure = await origins(), await origins(tls=ca.server())
    stranger = CA(ca.directory / "stranger")
    pool = {"connectTimeout": "500ms"}
    for origin, before, after in (
        (plain, {}, {"tls": {"mode": "require"}}),
        (secure, {"tls": {"mode": "require"}}, {"tls": {"mode": "verify-ca", "caFile": str(stranger.cert)}}),
    ):
        f = await forebay(http_pool(origin.port, pool=pool, **before))
        slow = asyncio.create_task(fetch(f.port, "/slow/1"))
        await origin.until(lambda stats: stats["active"] == 1)
        assert (await fetch(f.port)).status == 200
        await origin.until(lambda stats: stats["open"] == 2)
        await take(f, http_pool(origin.port, pool=pool, **after))
        assert (await fetch(f.port)).status in (502, 504)
        assert (await slow).status == 200, "it was under way"
        await origin.until(lambda stats: stats["open"] == 0)
        assert (await fetch(f.port)).status != 200


async def test_what_was_opened_without_tls_counts_until_the_backend_has_closed(forebay: Start) -> None:
    """Also when TLS is asked for meanwhile: the budget is the backend's."""
    noticed = asyncio.Event()

    async def busy(peer: Connection) -> None:
        await read_head(peer)
        await noticed.wait()
        await peer.send(OK)

    async with Backend(busy) as backend:
        document = http_pool(backend.port, budget={"maxConnections": 2, "linger": "20s"})
        f = await forebay(document)
        secure = copy.deepcopy(document)
        secure["spec"]["upstreams"][0]["tls"] = {"mode": "require"}
        async with await Connection.open(f.port) as client:
            await client.send(request_bytes())
            await until(lambda: backend.accepted, 5)
            await take(f, secure)
            client.reset()
        counts = await until(
            lambda: connections(f), 5, wanted=lambda counts: not counts["leased"] and not counts["draining"]
        )
        assert counts["closing"] == 1
        noticed.set()
        await until(lambda: connections(f), 5, wanted=lambda counts: not counts["closing"])


async def test_another_policy_is_taken(forebay: Start, origins: Origins) -> None:
    """Each asks in turn, or by a key: to and fro, and what is open is used on."""
    both = [await origins(), await origins()]

    def by(policy: str) -> dict[str, Any]:
        balancing = {"policy": policy} | ({"consistentHash": {"header": "Host"}} if policy == "consistentHash" else {})
        return http_pool(*(origin.port for origin in both), loadBalancing=balancing)

    f = await forebay(by("roundRobin"))
    for policy, shares in (("roundRobin", [3, 3]), ("consistentHash", [0, 6]), ("roundRobin", [3, 3])):
        await take(f, by(policy))
        before = [(await origin.stats())["requests"] for origin in both]
        for _ in range(6):
            assert (await fetch(f.port)).status == 200
        after = [(await origin.stats())["requests"] for origin in both]
        assert sorted(b - a for a, b in zip(before, after, strict=True)) == shares, policy
    assert (await f.metrics()).value("forebay_upstream_connections_opened_total") == 2
