"""A backend that hangs, goes away, comes back, resets, or vanishes from the network without a word."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from tests.support.certs import CA
from tests.support.criteria import marked, metric, own, serves, unharmed
from tests.support.forebay import Forebay, http_pool
from tests.support.load import Load, run_load
from tests.support.origin import Origin
from tests.support.process import Child, need
from tests.support.raw import Answer, Connection, fetch, request_bytes
from tests.support.waiting import until

Start = Callable[..., Awaitable[Forebay]]
Origins = Callable[..., Awaitable[Origin]]


async def timed(port: int, target: str = "/", method: str = "GET", within: float = 20.0) -> tuple[Answer, float]:
    """One request on a connection of its own, and how many seconds it took from being sent."""
    async with await Connection.open(port) as connection:
        began = monotonic()
        answer = await connection.ask(request_bytes(target, method), within)
        return answer, monotonic() - began


async def test_a_stopped_backend_costs_the_timeout_and_no_more(forebay: Start, origin: Origin) -> None:
    f = await forebay(
        http_pool(
            origin.port,
            pool={"size": 10, "maxOverflow": 0, "timeout": "900ms", "maxWaiting": 40},
            healthCheck={"passive": {"consecutiveErrors": 1, "baseEjectionTime": "200ms"}},
        )
    )
    async with unharmed(f, origin, limit=10, longest_wait=1.0):
        await run_load(f.port, clients=20, requests=20)
        origin.stop()
        leased = [asyncio.create_task(timed(f.port)) for _ in range(10)]
        await metric(f, "forebay_upstream_connections", lambda value: value == 10, state="leased")
        waiting = [asyncio.create_task(timed(f.port)) for _ in range(40)]
        await metric(f, "forebay_upstream_waiting", lambda value: value == 40)

        answer, seconds = await timed(f.port)  # the queue is full
        assert (answer.status, answer.get("Retry-After")) == (503, "1")
        assert b"queue" in answer.body
        assert seconds < 0.25

        for answer, seconds in await asyncio.gather(*waiting):
            assert (answer.status, answer.get("Retry-After")) == (503, "1"), answer
            assert 0.9 <= seconds <= 0.99, seconds
        metrics = await f.metrics()
        assert metrics.value("forebay_upstream_wait_seconds_count", outcome="timeout") == 40
        assert metrics.value("forebay_upstream_wait_seconds_count", outcome="refused") == 1
        assert metrics.value("forebay_rejections_total", reason="timeout") == 40
        assert metrics.value("forebay_rejections_total", reason="queue_full") == 1
        assert metrics.value("forebay_requests_total", code="503") == 41
        assert metrics.value("forebay_upstream_lease_oldest_seconds") > 0.9

        origin.cont()
        for answer, _ in await asyncio.gather(*leased):
            assert answer.status == 200
        outcome = await run_load(f.port, clients=20, requests=20, request=marked, check=own)
        assert outcome.statuses == {200: 400}
        metrics = await f.metrics()
        held = metrics.value("forebay_upstream_hold_seconds_count")
        assert held - metrics.value("forebay_upstream_hold_seconds_bucket", le="0.5") >= 10  # those ten show it


async def test_a_stopped_backend_is_ejected_by_response_timeouts(forebay: Start, origin: Origin) -> None:
    """Leases end at `responseTimeout` with 504; their places stay taken until the backend lets go, or `linger`."""
    f = await forebay(
        http_pool(
            origin.port,
            spec={"http": {"responseTimeout": "300ms"}},
            pool={"size": 4, "maxOverflow": 0, "timeout": "400ms"},
            healthCheck={"passive": {"consecutiveErrors": 4, "baseEjectionTime": "500ms"}},
            budget={"maxConnections": 8, "linger": "20s"},
        )
    )
    async with unharmed(f, origin, limit=4, longest_wait=0.5):
        await run_load(f.port, clients=4, requests=5)
        origin.stop()
        answers = await asyncio.gather(*(timed(f.port) for _ in range(4)))
        assert {answer.status for answer, _ in answers} == {504}
        assert (await f.metrics()).value("forebay_upstream_endpoint_healthy") == 0
        answer, seconds = await timed(f.port)
        assert (answer.status, answer.get("Retry-After")) == (503, "1")
        assert seconds < 0.25  # the only endpoint is out: at once
        metrics = await f.metrics()
        assert metrics.value("forebay_rejections_total", reason="response_timeout") == 4
        assert metrics.value("forebay_rejections_total", reason="no_endpoint") >= 1
        assert metrics.value("forebay_upstream_connections", state="closing") == 4
        origin.cont()
        await metric(f, "forebay_upstream_connections", lambda value: value == 0, state="closing")
        # Traffic is the probe that brings it back.
        await serves(f)
        assert (await f.metrics()).value("forebay_upstream_endpoint_healthy") == 1


async def test_a_backend_that_is_away_is_ejected_and_comes_back(forebay: Start, origin: Origin) -> None:
    f = await forebay(
        http_pool(
            origin.port,
            pool={"size": 10, "timeout": "1900ms"},
            healthCheck={"passive": {"consecutiveErrors": 3, "baseEjectionTime": "500ms"}},
        )
    )
    async with unharmed(f, limit=15, longest_wait=2.0):
        assert (await fetch(f.port)).status == 200
        await origin.kill()
        seen = []
        for _ in range(10):
            answer, seconds = await timed(f.port)
            assert seconds < 0.25
            seen.append(answer.status)
            if answer.status == 503:
                assert answer.get("Retry-After") == "1"
        # The connections that were idle have ended; connecting is refused; after three errors the endpoint is out.
        assert seen == sorted(seen), seen
        assert seen.count(502) in (2, 3)
        assert seen[-1] == 503
        metrics = await f.metrics()
        assert metrics.value("forebay_upstream_endpoint_healthy") == 0
        assert metrics.value("forebay_upstream_connect_errors_total", reason="connect_refused") >= 2
        assert f.stderr.count(f"127.0.0.1:{origin.port}: the upstream refused the connection") == 1, (
            "once, for whoever looks"
        )
        assert metrics.value("forebay_rejections_total", reason="no_endpoint") == seen.count(503)

        await origin.start()
        async with asyncio.timeout(10):
            while (answer := await fetch(f.port)).status != 200:
                assert answer.status in (502, 503)
                await asyncio.sleep(0.02)
        assert (await f.metrics()).value("forebay_upstream_endpoint_healthy") == 1
        assert (await run_load(f.port, clients=10, requests=10)).statuses == {200: 100}


async def test_active_checks_find_an_endpoint_out_and_in_again(forebay: Start, origins: Origins) -> None:
    one, two = await origins(), await origins()
    f = await forebay(
        http_pool(
            one.port,
            two.port,
            pool={"size": 4, "maxOverflow": 0},
            healthCheck={
                "active": {"interval": "30ms", "timeout": "500ms", "healthyThreshold": 2, "unhealthyThreshold": 2},
                "passive": {"baseEjectionTime": "5m"},
            },
        )
    )
    label = f"127.0.0.1:{two.port}"
    async with unharmed(f, one, two, limit=4):
        await two.until(lambda stats: stats["targets"].get("/healthz", 0) > 1)
        await two.set(health=503)
        await metric(f, "forebay_upstream_endpoint_healthy", lambda value: value == 0, endpoint=label)
        await two.reset()
        assert (await run_load(f.port, clients=5, requests=10)).statuses == {200: 50}
        stats = await two.stats()
        assert set(stats["targets"]) <= {"/healthz"}, stats  # no traffic, but further checks
        await two.set(health=200)
        await metric(f, "forebay_upstream_endpoint_healthy", lambda value: value == 1, endpoint=label)
        await run_load(f.port, clients=10, requests=10)
        assert (await two.stats())["targets"]["/"] > 0


async def test_without_its_checks_an_endpoint_that_they_put_out_is_tried_at_once(
    forebay: Start, origin: Origin
) -> None:
    """They may be what was wrong."""
    passive = {"passive": {"baseEjectionTime": "5m"}}
    await origin.set(health=503)
    f = await forebay(http_pool(origin.port, healthCheck={"active": {"interval": "30ms"}, **passive}))
    await metric(f, "forebay_upstream_endpoint_healthy", lambda value: value == 0)
    assert (await fetch(f.port)).status == 503
    seen = len(f.child.lines)
    f.write(http_pool(origin.port, healthCheck=passive))
    f.reload()
    await f.child.line("is in force", after=seen)
    assert (await fetch(f.port)).status == 200


async def test_a_check_gives_back_what_opens_too_late(forebay: Start, origins: Origins, ca: CA) -> None:
    """A check's time is over while its connection is still in the handshake: nobody else knows of that one."""
    origin = await origins(tls=ca.server())
    f = await forebay(
        http_pool(
            origin.port,
            pool={"size": 3, "maxOverflow": 0, "connectTimeout": "10s"},
            tls={"mode": "verify-ca", "caFile": str(ca.cert)},
            healthCheck={
                "active": {"interval": "20ms", "timeout": "100ms"},
                "passive": {"maxEjectionPercent": 0},
            },
        )
    )
    async with unharmed(f, origin, limit=3):
        origin.stop()
        # A check each, until no place is free: the first one had a connection, and holds it until the origin closes.
        await metric(f, "forebay_upstream_connections", lambda value: value == 2, state="opening")
        await metric(f, "forebay_upstream_endpoint_healthy", lambda value: value == 0)
        origin.cont()
        await metric(f, "forebay_upstream_endpoint_healthy", lambda value: value == 1)
    assert (await run_load(f.port, clients=3, requests=10)).statuses == {200: 30}


async def test_a_certificate_that_is_refused_is_told_with_its_fault(
    forebay: Start, origins: Origins, ca: CA, tmp_path: Path
) -> None:
    origin = await origins(tls=ca.server())
    (tmp_path / "other").mkdir()
    other = CA(tmp_path / "other", "other-ca")
    f = await forebay(http_pool(origin.port, tls={"mode": "verify-ca", "caFile": str(other.cert)}))
    assert (await fetch(f.port)).status == 502
    await f.child.line(r"CERTIFICATE_VERIFY_FAILED \(unable to get local issuer certificate\)")


async def test_a_restarted_backend_meets_no_herd(forebay: Start, origin: Origin) -> None:
    """Connections are opened for requests, not because there were some: clients that ask little reopen few."""
    f = await forebay(
        http_pool(
            origin.port,
            pool={"size": 30, "maxOverflow": 0, "minIdle": 2, "timeout": "1900ms"},
            healthCheck={"passive": {"consecutiveErrors": 3, "baseEjectionTime": "200ms"}},
        )
    )
    async with unharmed(f, limit=30, longest_wait=2.0):
        await run_load(f.port, clients=100, requests=5)
        assert (await origin.stats())["high_water"] == 30
        async with Load(f.port, clients=2, request=marked, check=own) as load:
            await load.answered(20)
            await origin.restart()
            seen = load.outcome.statuses[200]
            await until(lambda: load.outcome.statuses[200] >= seen + 100, within=20)
        assert not load.outcome.errors
        stats = await origin.stats()
        # Two clients, two kept ready beside them, and one that may be opened while another is given back.
        assert stats["high_water"] <= 5, stats


async def test_a_backend_that_resets_and_cuts_in_mid_answer(forebay: Start, origin: Origin) -> None:
    """What has begun is cut visibly, what has not is a 502, and neighbours notice nothing."""
    targets = ["/reset?after=-1", "/reset?after=100", "/cut?after=-1", "/cut?after=100", "/cut?after=64&chunked=1"]
    f = await forebay(
        http_pool(
            origin.port,
            pool={"size": 10, "maxOverflow": 0},
            healthCheck={"passive": {"maxEjectionPercent": 0}},
        )
    )
    async with unharmed(f, origin, limit=10):
        async with Load(f.port, clients=8, request=marked, check=own) as load:
            bad = await run_load(
                f.port,
                clients=5,
                requests=20,
                request=lambda client, number: request_bytes(targets[client], "POST", body=b"x"),
            )
            load.stop()
            await load.done()
        assert bad.statuses == {502: 40}
        assert bad.errors == {"answer cut": 60}
        assert load.outcome.statuses == {200: load.outcome.answered}
        assert not load.outcome.errors
        stats = await origin.stats()
        for target in targets:
            assert stats["targets"][target] == 20, stats["targets"]
    metrics = await f.metrics()
    assert metrics.value("forebay_rejections_total", reason="upstream_reset") == 100


async def test_a_tls_handshake_that_hangs_keeps_its_place(forebay: Start, origins: Origins, ca: CA) -> None:
    """Connected but never answered: the backend's kernel has accepted, so it counts until the backend lets go."""
    origin = await origins(tls=ca.server())
    f = await forebay(
        http_pool(
            origin.port,
            pool={"size": 3, "maxOverflow": 0, "connectTimeout": "200ms", "timeout": "900ms"},
            budget={"maxConnections": 6, "linger": "20s"},
            tls={"mode": "verify-ca", "caFile": str(ca.cert)},
            healthCheck={"passive": {"maxEjectionPercent": 0}},
        )
    )
    async with unharmed(f, origin, limit=3, longest_wait=1.0):
        assert (await fetch(f.port, "/close")).status == 200
        origin.stop()
        bad = await run_load(f.port, clients=6, requests=3)
        assert set(bad.statuses) <= {503, 504}, bad
        origin.cont()
        await serves(f)


# Answers every request, but those to /hang; ends with its stdin.
FAR = """
import asyncio, os, sys

async def serve(reader, writer):
    while head := await reader.readuntil(b"\\r\\n\\r\\n"):
        if b"/hang" not in head:
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")

async def main():
    server = await asyncio.start_server(serve, "{address}", 0)
    print("at", server.sockets[0].getsockname()[1], file=sys.stderr, flush=True)
    asyncio.get_running_loop().add_reader(0, os._exit, 0)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def island() -> Iterator[tuple[str, str, str]]:
    """A network namespace with a wire to it: (its name, its address, our end's device)."""
    ip = need("ip")
    tag = secrets.token_hex(3)
    name, here, there, number = f"fb-{tag}", f"fb{tag}a", f"fb{tag}b", secrets.randbelow(250) + 2
    commands = [
        f"netns add {name}",
        f"link add {here} type veth peer name {there} netns {name}",
        f"addr add 10.213.{number}.1/24 dev {here}",
        f"link set {here} up",
        f"-n {name} addr add 10.213.{number}.2/24 dev {there}",
        f"-n {name} link set {there} up",
        f"-n {name} link set lo up",
    ]
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    try:
        for command in commands:
            done = subprocess.run([ip, *command.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no network namespace here: ip {command}: {done.stderr.strip()}")
        yield name, f"10.213.{number}.2", here
    finally:
        subprocess.run([ip, "link", "del", here], capture_output=True, check=False)
        subprocess.run([ip, "netns", "del", name], capture_output=True, check=False)


@pytest.mark.slow
async def test_a_half_open_connection_is_found_within_30_seconds(forebay: Start, island: tuple[str, str, str]) -> None:
    """The wire is cut: neither side hears of it. Requests under way and idle connections both end within 30 s."""
    name, address, device = island
    ip = need("ip")
    child = await Child.start([ip, "netns", "exec", name, sys.executable, "-c", FAR.format(address=address)])
    try:
        port = int((await child.line(r"at (\d+)"))[1])
        document = http_pool(port, pool={"size": 4, "maxOverflow": 0, "timeout": "900ms", "connectTimeout": "500ms"})
        document["spec"]["upstreams"][0]["endpoints"] = [{"host": address, "port": port}]
        document["spec"]["upstreams"][0]["healthCheck"] = {"passive": {"maxEjectionPercent": 0}}
        f = await forebay(document)
        async with unharmed(f, limit=4, longest_wait=1.0):
            assert (await run_load(f.port, clients=4, requests=5)).statuses == {200: 20}
            hanging = [asyncio.create_task(timed(f.port, "/hang", within=40)) for _ in range(2)]
            await metric(f, "forebay_upstream_connections", lambda value: value == 2, state="leased")
            await metric(f, "forebay_upstream_connections", lambda value: value == 2, state="idle")
            await asyncio.to_thread(subprocess.run, [ip, "link", "set", device, "down"], check=True)
            cut = monotonic()
            # A request that meets an idle connection waits for its answer no longer than for the others to be found.
            lost = asyncio.create_task(timed(f.port, within=40))
            for answer, _ in await asyncio.gather(*hanging, lost):
                assert answer.status == 502, answer
            await metric(f, "forebay_upstream_connections", lambda value: value == 0, within=15, state="idle")
            assert monotonic() - cut < 32
            metrics = await f.metrics()
            assert metrics.value("forebay_upstream_connections_closed_total", reason="upstream") >= 4
            await asyncio.to_thread(subprocess.run, [ip, "link", "set", device, "up"], check=True)
            await serves(f)
    finally:
        await child.end()
