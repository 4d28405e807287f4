"""Faults of other kinds: clients that are slow or race away, DNS, descriptors."""

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.criteria import descriptors, marked, own, serves, unharmed
from tests.support.forebay import Forebay, http_pool
from tests.support.load import Load, run_load
from tests.support.origin import Origin
from tests.support.origin_routes import content
from tests.support.raw import Connection, fetch, request_bytes

Start = Callable[..., Awaitable[Forebay]]
Origins = Callable[..., Awaitable[Origin]]


async def test_slow_readers_and_writers_keep_no_connection(forebay: Start, origin: Origin) -> None:
    """Twice as many as the pool has connections dribble their bodies or do not read their answers; ordinary clients
    wait for none of them."""
    f = await forebay(
        http_pool(
            origin.port,
            spec={"http": {"bodyTimeout": "1s", "streamIdleTimeout": "5s"}},
            pool={"size": 5, "maxOverflow": 0, "timeout": "900ms"},
        )
    )
    async with unharmed(f, origin, limit=5, longest_wait=1.0):
        readers = [await Connection.open(f.port, receive_buffer=4096) for _ in range(10)]
        for reader in readers:
            reader.stop_reading()
            await reader.send(request_bytes("/bytes/60000"))
        writers = [await Connection.open(f.port) for _ in range(10)]
        for writer in writers:
            await writer.send(request_bytes("/upload", "POST", [("Content-Length", "20000")]) + b"x" * 100)
        outcome = await run_load(f.port, clients=10, requests=20, request=marked, check=own)
        assert outcome.statuses == {200: 200}
        assert max(outcome.latencies) < 0.9
        for writer in writers:
            async with writer:
                assert (await writer.answer()).status == 408
        for reader in readers:
            async with reader:
                reader.writer.transport.resume_reading()  # type: ignore[attr-defined]
                assert (await reader.answer()).body == content(60000)
    metrics = await f.metrics()
    assert metrics.value("forebay_rejections_total", reason="body_timeout") == 10
    assert metrics.value("forebay_requests_total", code="408") == 10


@pytest.mark.slow
async def test_ten_thousand_racing_cancels(forebay: Start, origin: Origin) -> None:
    """Clients that connect, ask, and reset at any moment: in the queue, while a connection is opened, in the answer."""
    rng = random.Random(7)
    asks = [
        request_bytes("/slow/0.002"),
        request_bytes("/"),
        request_bytes("/bytes/300000"),
        request_bytes("/echo", "POST", body=b"x" * 2000)[:-1000],
        request_bytes("/chunked/50000"),
        request_bytes("/")[:-2],
        request_bytes("/close"),
    ]
    f = await forebay(
        http_pool(
            origin.port,
            pool={"size": 5, "maxOverflow": 2, "timeout": "4900ms", "maxUses": 20},
            healthCheck={"passive": {"maxEjectionPercent": 0}},
        )
    )
    left = 10_000

    async def racer() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            connection = await Connection.open(f.port)
            await connection.send(rng.choice(asks))
            for _ in range(rng.randrange(6)):
                await asyncio.sleep(0)
            if rng.random() < 0.3:
                await asyncio.sleep(rng.random() * 0.01)
            if rng.random() < 0.5:
                connection.reset()
            await connection.close()

    async with unharmed(f, origin, limit=7, longest_wait=5.0):
        async with Load(f.port, clients=12, request=marked, check=own) as load:
            await asyncio.gather(*(racer() for _ in range(60)))
        assert load.outcome.statuses == {200: load.outcome.answered}, load.outcome
        assert not load.outcome.errors
        assert load.outcome.answered > 100
    assert (await f.metrics()).value("forebay_requests_total", code="499") > 1000  # the client left before an answer


def with_prefix(f: Forebay, *prefix: str) -> Forebay:
    f.argv = [*prefix, *f.argv]
    return f


async def test_out_of_descriptors_is_a_503(origin: Origin, tmp_path: Path) -> None:
    """With few descriptors fewer clients are let in: some are left for refusing the others, and for the pool."""
    document = http_pool(origin.port, pool={"size": 5, "maxOverflow": 0, "timeout": "900ms"})
    f = with_prefix(Forebay(tmp_path, document), "sh", "-c", 'ulimit -n 128; exec "$@"', "sh")
    async with f, unharmed(f, origin, limit=5, longest_wait=1.0):
        assert "the limit of 128 file descriptors allows for" in f.stderr
        clients = [await Connection.open(f.port) for _ in range(1)]
        statuses = [(await clients[0].ask(request_bytes())).status]
        while statuses.count(503) < 20:
            client = await Connection.open(f.port)
            answer = await client.ask(request_bytes())
            statuses.append(answer.status)
            if answer.status == 503:
                assert answer.get("Retry-After") == "1"
                await client.close()
            else:
                clients.append(client)
            assert len(statuses) < 200
        assert statuses == sorted(statuses)
        assert len(clients) > 40
        metrics = await f.metrics()
        assert metrics.value("forebay_rejections_total", reason="max_clients") == 20
        for client in clients:  # those who are in are served on
            assert (await client.ask(request_bytes())).status == 200
            await client.close()
    assert not f.tracebacks(), f.stderr


async def test_a_rush_beyond_the_descriptors_crashes_nothing(origin: Origin, tmp_path: Path) -> None:
    """More come at once than can be accepted even to be refused: some find the connection closed, none hangs."""
    document = http_pool(origin.port, pool={"size": 5, "maxOverflow": 0, "timeout": "900ms"})
    f = with_prefix(Forebay(tmp_path, document), "sh", "-c", 'ulimit -n 100; exec "$@"', "sh")
    async with f, unharmed(f, origin, limit=5, longest_wait=1.0):
        outcome = await run_load(f.port, clients=300, requests=3, timeout=8)
        assert set(outcome.statuses) <= {200, 503}
        assert set(outcome.errors) <= {"closed unanswered (fresh)"}
        assert (await run_load(f.port, clients=10, requests=10)).statuses == {200: 100}
        assert (await f.metrics()).value("forebay_worker_restarts_total") == 0
    assert not f.tracebacks(), f.stderr


async def test_refused_clients_that_trickle_take_no_descriptors_from_those_who_are_in(
    origin: Origin, tmp_path: Path
) -> None:
    """Each byte after the answer makes the proxy wait for more, so that closing does not reset the client."""
    document = http_pool(origin.port, spec={"maxClientConnections": 1}, pool={"size": 1, "maxOverflow": 0})
    f = with_prefix(Forebay(tmp_path, document), "sh", "-c", 'ulimit -n 100; exec "$@"', "sh")
    async with f, AsyncExitStack() as stack:
        client = await stack.enter_async_context(await Connection.open(f.port))
        (worker,) = (await f.state())["workers"]
        refused = [await stack.enter_async_context(await Connection.open(f.port)) for _ in range(120)]
        for _ in range(5):
            for one in refused:
                with suppress(ConnectionError):
                    await one.send(b"x")
            assert (await client.ask(request_bytes("/close"))).status == 200  # the next needs another connection
            await asyncio.sleep(0.2)
        assert descriptors(worker["pid"]) < 50
        async with await Connection.open(f.port) as last:
            assert (await last.answer()).status == 503
    assert not f.tracebacks(), f.stderr


@pytest.fixture
def names(tmp_path: Path) -> tuple[Path, list[str]]:
    """A hosts file, and what to put before a command so that it is /etc/hosts there."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a file of host names needs a mount namespace: root and unshare")
    prefix = ["unshare", "-m", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    return hosts, prefix


@pytest.mark.slow
async def test_a_name_moves_to_another_address(origins: Origins, names: tuple[Path, list[str]], tmp_path: Path) -> None:
    """No request fails as it moves; a name that is gone keeps its last addresses; one that comes late is waited for."""
    hosts, prefix = names
    one = await origins()
    two = await origins(host="127.0.0.2", port=one.port)
    document: dict[str, Any] = http_pool(one.port, pool={"size": 5, "maxOverflow": 0, "timeout": "900ms"})
    document["spec"]["upstreams"][0].pop("endpoints")
    document["spec"]["upstreams"][0] |= {"dns": {"host": "backend.example", "port": one.port}}
    f = with_prefix(Forebay(tmp_path, document), *prefix)
    async with f:
        assert (answer := await fetch(f.port)).status == 503  # it does not resolve: no endpoint, said at once
        assert answer.get("Retry-After") == "1"
        await f.child.line("can't resolve backend.example", within=5)
        hosts.write_text("127.0.0.1 localhost\n127.0.0.1 backend.example\n")
        await serves(f)
        async with unharmed(f, one, two, limit=5, longest_wait=1.0):
            async with Load(f.port, clients=10, request=marked, check=own) as load:
                await load.answered(100)
                hosts.write_text("127.0.0.1 localhost\n127.0.0.2 backend.example\n")
                await two.until(lambda stats: stats["requests"] > 50)
                await one.until(lambda stats: stats["open"] == 0)
                seen = len(f.child.lines)
                hosts.write_text("127.0.0.1 localhost\n")
                await f.child.line("its last addresses stay in use", after=seen, within=10)
                await load.answered(load.outcome.answered + 100)
            assert load.outcome.statuses == {200: load.outcome.answered}
            assert not load.outcome.errors
        metrics = await f.metrics()
        assert metrics.value("forebay_upstream_connections_closed_total", reason="drain") >= 5
    assert not f.tracebacks(), f.stderr
