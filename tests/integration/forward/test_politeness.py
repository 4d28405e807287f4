"""How hard an origin is asked: connections at once, requests in a second; and one limit over all origins."""

import asyncio
import time
from pathlib import Path

from tests.integration.forward.harness import document, get, tunnel
from tests.integration.forward.test_tunnels import hold, until_closed
from tests.integration.http.backend import Backend
from tests.integration.http.harness import running, upstream_state
from tests.integration.http.test_access_log import lines, logged
from tests.support.origin import Origin
from tests.support.raw import Connection
from tests.support.waiting import until


async def fetch(port: int, url: str) -> int:
    client = await Connection.open(port)
    try:
        return (await client.ask(get(url))).status
    finally:
        await client.close()


async def test_connections_to_one_origin_are_bounded_and_others_do_not_wait(tmp_path: Path) -> None:
    async with Origin() as slow, Origin() as other:
        forward = {"ports": [slow.port, other.port], "perOrigin": {"maxConnections": 2}}
        async with running(tmp_path, document(forward, pool={"size": 20})) as forebay:
            waiting = [
                asyncio.create_task(fetch(forebay.port, f"http://127.0.0.1:{slow.port}/?delay=0.3")) for _ in range(8)
            ]
            await until(lambda: upstream_state(forebay, "out"), 5, wanted=lambda state: state["gated"] >= 5)
            began = time.monotonic()
            assert await fetch(forebay.port, f"http://127.0.0.1:{other.port}/") == 200
            assert time.monotonic() - began < 0.25
            assert await asyncio.gather(*waiting) == [200] * 8
            assert (await slow.stats())["high_water"] <= 2
            state = await upstream_state(forebay, "out")
            assert (state["waiting"], state["gated"]) == (0, 0)
            assert sum(state["wait"]["served"][0]) == 9
            counts, total = state["wait"]["origin"]
            assert sum(counts) == 6
            assert total > 0.3  # the wait at the gate is a wait


async def test_a_crowd_at_the_gate_of_an_origin_is_refused_at_once_in_a_drain(tmp_path: Path) -> None:
    """A share of a budget opens nothing any more: each of them is told so, and none from within another's end."""
    crowd = 300
    go_on = asyncio.Event()

    async def last(peer: Connection) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with Backend(last) as backend:
        forward = {"ports": [backend.port], "perOrigin": {"maxConnections": 1}}
        pool = {"size": 4, "timeout": "60s", "maxWaiting": crowd + 10}
        spec = {"drain": {"delay": "0s", "timeout": "20s"}}
        document_ = document(forward, pool=pool, spec=spec, budget={"maxConnections": 8, "linger": "1s"})
        async with running(tmp_path, document_) as forebay:
            url = f"http://127.0.0.1:{backend.port}/"
            asking = [asyncio.create_task(fetch(forebay.port, url)) for _ in range(crowd)]
            await until(lambda: upstream_state(forebay, "out"), 5, wanted=lambda state: state["gated"] >= crowd - 1)
            forebay.terminate()
            await until(forebay.state, wanted=lambda state: state["workers"][0]["draining"])
            go_on.set()
            async with asyncio.timeout(10):
                statuses = await asyncio.gather(*asking)
            assert (statuses.count(200), statuses.count(503)) == (1, crowd - 1)


async def test_an_idle_connection_makes_room_for_a_tunnel_to_its_origin(tmp_path: Path) -> None:
    """It can't be used for one, and both would be more than the origin is to bear."""
    async with Origin() as origin:
        forward = {"ports": [origin.port], "perOrigin": {"maxConnections": 1}}
        async with running(tmp_path, document(forward, pool={"size": 8})) as forebay:
            for _ in range(3):
                assert await fetch(forebay.port, f"http://127.0.0.1:{origin.port}/") == 200
                client = await tunnel(forebay.port, f"127.0.0.1:{origin.port}")
                await client.close()
            assert (await origin.stats())["high_water"] == 1


async def test_the_log_tells_of_the_wait_at_a_gate(tmp_path: Path) -> None:
    async with Origin() as origin:
        forward = {"ports": [origin.port], "perOrigin": {"maxConnections": 1}}
        spec = {"telemetry": {"accessLog": "json"}}
        forebay, log = logged(tmp_path, document(forward, spec=spec))
        async with forebay:
            url = f"http://127.0.0.1:{origin.port}/slow/0.4"
            assert await asyncio.gather(*(fetch(forebay.port, url) for _ in range(2))) == [200] * 2
            first, second = await lines(log, 2)
    assert first["wait_ms"] < 100
    assert 300 < second["wait_ms"] <= second["total_ms"] - second["upstream_ms"] + 0.01  # rounded


async def test_who_waits_too_long_at_the_gate_is_refused(tmp_path: Path) -> None:
    async with Backend(hold) as backend:
        forward = {"ports": [backend.port], "perOrigin": {"maxConnections": 1}}
        async with running(tmp_path, document(forward, pool={"size": 20, "timeout": "500ms"})) as forebay:
            first = await tunnel(forebay.port, f"127.0.0.1:{backend.port}")
            second = await Connection.open(forebay.port)
            began = time.monotonic()
            answer = await second.ask(get(f"http://127.0.0.1:{backend.port}/"))
            assert (answer.status, answer.get("Retry-After")) == (503, "1")
            assert 0.45 < time.monotonic() - began < 0.9
            await first.close()
            await second.close()
            state = await until_closed(forebay)
            assert state["rejections"] == {"origin": 1}
            assert (state["waiting"], state["gated"]) == (0, 0)


async def test_requests_in_a_second(tmp_path: Path) -> None:
    async with Origin() as origin:
        forward = {"ports": [origin.port], "perOrigin": {"requestsPerSecond": 10}}
        async with running(tmp_path, document(forward)) as forebay:
            url = f"http://127.0.0.1:{origin.port}/"
            began = time.monotonic()
            assert set(await asyncio.gather(*(fetch(forebay.port, url) for _ in range(20)))) == {200}
            assert 0.85 < time.monotonic() - began < 3  # ten at once, the others one by one
            state = await upstream_state(forebay, "out")
            assert state["gated"] == 0
            assert state["wait"]["origin"][1] > 3
            codes = await asyncio.gather(*(fetch(forebay.port, url) for _ in range(70)))
            assert codes.count(503) >= 5  # pool.timeout is 5 s
            assert (await upstream_state(forebay, "out"))["rejections"]["rate"] == codes.count(503)


async def test_a_crowd_at_one_origin_does_not_take_every_place(tmp_path: Path) -> None:
    """Who comes through the gate stands behind those who wait for a connection already."""
    async with Origin() as crowded, Origin() as other:
        forward = {"ports": [crowded.port, other.port], "perOrigin": {"maxConnections": 6}}
        pool = {"size": 2, "maxOverflow": 0, "timeout": "3s"}
        async with running(tmp_path, document(forward, pool=pool)) as forebay:
            url = f"http://127.0.0.1:{crowded.port}/?delay=0.1"
            crowd = [asyncio.create_task(fetch(forebay.port, url)) for _ in range(40)]
            await until(lambda: upstream_state(forebay, "out"), 5, wanted=lambda state: state["gated"] >= 30)
            began = time.monotonic()
            assert await fetch(forebay.port, f"http://127.0.0.1:{other.port}/") == 200
            assert time.monotonic() - began < 1
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)


async def test_one_limit_holds_over_all_origins(tmp_path: Path) -> None:
    """Idle connections to some make room for others; tunnels and requests share the places."""
    many = [Origin() for _ in range(6)]
    for origin in many:
        await origin.__aenter__()
    try:
        forward = {"ports": [origin.port for origin in many]}
        async with running(tmp_path, document(forward, pool={"size": 3, "maxOverflow": 0})) as forebay:
            for _ in range(3):
                urls = [f"http://127.0.0.1:{origin.port}/?delay=0.02" for origin in many for _ in range(3)]
                assert set(await asyncio.gather(*(fetch(forebay.port, url) for url in urls))) == {200}
                state = await upstream_state(forebay, "out")
                assert state["held"] <= 3
            assert sum([(await origin.stats())["open"] for origin in many]) <= 3
    finally:
        for origin in many:
            await origin.__aexit__(None, None, None)
