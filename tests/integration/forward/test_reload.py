"""Documents that change while tunnels are open, and workers that leave with some."""

import asyncio
from pathlib import Path
from typing import Any

from tests.integration.forward.harness import connect, document, get, tunnel
from tests.integration.forward.test_tunnels import hold
from tests.integration.http.backend import Backend
from tests.integration.http.harness import running
from tests.integration.test_reload import take
from tests.support.origin import Origin
from tests.support.raw import Connection


async def status(port: int, request: bytes) -> int:
    async with await Connection.open(port) as client:
        return (await client.ask(request)).status


async def echoes(client: Connection) -> bool:
    """Whether the tunnel is still there: what ends with its worker is reset."""
    try:
        await client.send(b"still")
        return await client.reader.read(5) == b"still"
    except ConnectionResetError:
        return False


async def test_other_rules_hold_from_the_next_request_on(tmp_path: Path) -> None:
    async with Origin() as origin, Backend(hold) as backend:
        ports = {"ports": [origin.port, backend.port]}
        async with running(tmp_path, document(ports)) as forebay:
            request = get(f"http://localhost:{origin.port}/")
            open_one = await tunnel(forebay.port, f"localhost:{backend.port}")
            asking = await Connection.open(forebay.port)
            assert (await asking.ask(request)).status == 200
            for change, wanted in (
                ({"denyHosts": ["localhost"]}, 403),
                ({"denyHosts": ["127.0.0.1", "::1"]}, 403),  # what has been looked up is judged again
                ({"ports": [1]}, 403),
                ({"clientNetworks": ["10.0.0.0/8"]}, 403),
                ({"perOrigin": {"maxConnections": 2, "requestsPerSecond": 100}}, 200),
            ):
                await take(forebay, document({**ports, **change}))
                assert await status(forebay.port, request) == wanted, change
                assert (await asking.ask(request)).status == wanted, change  # who is connected already
                assert await echoes(open_one)
            await asking.close()
            await open_one.close()


async def test_another_upstream_for_the_same_origins(tmp_path: Path) -> None:
    """The old one's tunnels go on, and its idle connections are closed; the new one keeps its own no longer than idle
    connections may be kept."""
    async with Origin() as origin, Backend(hold) as backend:
        before = document({"ports": [origin.port, backend.port]})
        after = document({"ports": [origin.port, backend.port]}, pool={"idleTimeout": "2s"})
        after["spec"]["upstreams"][0]["name"] = "other"
        async with running(tmp_path, before) as forebay:
            request = get(f"http://127.0.0.1:{origin.port}/")
            open_ones = []
            for pool in (after, before, after):
                open_ones.append(await tunnel(forebay.port, f"127.0.0.1:{backend.port}"))
                assert await status(forebay.port, request) == 200
                await take(forebay, pool)
                assert await status(forebay.port, request) == 200
                await origin.until(lambda stats: stats["open"] == 1)
            await origin.until(lambda stats: stats["open"] == 0)
            for client in open_ones:
                assert await echoes(client)
                await client.close()


async def test_parents_that_come_and_go(tmp_path: Path) -> None:
    async with Origin() as origin, Backend(hold) as backend:
        ports = {"ports": [origin.port, backend.port]}
        async with running(tmp_path / "parent", document(ports)) as above:
            direct = document(ports)
            through = document({**ports, "parents": [{"host": "127.0.0.1", "port": above.port}]})
            async with running(tmp_path / "child", direct) as forebay:
                open_ones = []
                for pool, passed_on in ((through, 2), (direct, 2), (through, 4)):
                    await take(forebay, pool)
                    open_ones.append(await tunnel(forebay.port, f"127.0.0.1:{backend.port}"))
                    assert await status(forebay.port, get(f"http://127.0.0.1:{origin.port}/")) == 200
                    counted = (await above.metrics()).get("forebay_requests_total", code="200")
                    tunnels = sum(1 for other in (through, direct, through)[: len(open_ones)] if other is through)
                    assert counted + tunnels == passed_on
                for client in open_ones:
                    assert await echoes(client)
                    await client.close()


async def test_a_worker_that_leaves_takes_its_tunnels_along_at_the_deadline(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"replicas": 3, "drain": {"delay": "0s", "timeout": "2s"}}
    async with Backend(hold) as backend:
        forward = {"ports": [backend.port], "perOrigin": {"maxConnections": 50}}
        async with running(tmp_path, document(forward, spec=spec, pool={"size": 30})) as forebay:
            where = f"127.0.0.1:{backend.port}"
            clients = [await tunnel(forebay.port, where) for _ in range(24)]
            held = {w["pid"]: w["upstreams"]["out"]["held"] for w in (await forebay.state())["workers"]}
            assert sum(held.values()) == 24
            await take(forebay, document(forward, spec={**spec, "replicas": 1}, pool={"size": 30}))
            assert all([await echoes(client) for client in clients])
            async with asyncio.timeout(10):
                while len(pids := await forebay.worker_pids()) > 1:
                    await asyncio.sleep(0.05)
                    assert await status(forebay.port, connect(where)) == 200
            left = [client for client in clients if await echoes(client)]
            assert len(left) == held[pids[0]]
            assert await status(forebay.port, connect(where)) == 200
            for client in clients:
                await client.close()
