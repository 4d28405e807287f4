"""Plain requests and tunnels through a forward proxy, byte for byte."""

import asyncio
from pathlib import Path

from tests.integration.forward.harness import connect, document, get, tunnel
from tests.integration.http.backend import Backend, read_request
from tests.integration.http.harness import running, upstream_state
from tests.support.origin import Origin
from tests.support.raw import Connection


async def test_plain_requests_share_the_connections_of_their_origin(tmp_path: Path) -> None:
    async with Origin() as one, Origin() as other:
        pool = document({"ports": [one.port, other.port]})
        async with running(tmp_path, pool) as forebay:
            client = await Connection.open(forebay.port)
            for _ in range(5):
                for origin in (one, other):
                    answer = await client.ask(get(f"http://127.0.0.1:{origin.port}/bytes/1000"))
                    assert (answer.status, len(answer.body)) == (200, 1000)
            await client.close()
            assert (await one.stats())["accepts"] == (await other.stats())["accepts"] == 1
            state = await upstream_state(forebay, "out")
            assert state["endpoints"] == {}  # origins come and go: no metric has their names
            assert state["connections"]["idle"] == 2


async def test_what_an_origin_sees(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def script(peer: Connection) -> None:
        while True:
            head, body = await read_request(peer)
            seen.append(head + body)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with Backend(script) as backend, running(tmp_path, document({"ports": [backend.port]})) as forebay:
        client = await Connection.open(forebay.port)
        url = f"http://127.0.0.1:{backend.port}/a?b=c"
        await client.ask(get(url, b"Proxy-Authorization: Basic eDp5", b"X-Forwarded-For: 1.2.3.4", b"Accept: */*"))
        await client.ask(get(url, b"Content-Length: 4", method=b"POST") + b"body")
        await client.close()
    host = b"127.0.0.1:%d" % backend.port
    assert seen[0] == b"GET /a?b=c HTTP/1.1\r\nHost: %b\r\nAccept: */*\r\nVia: 1.1 forebay\r\n\r\n" % host
    assert seen[1].startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert seen[1].endswith(b"\r\n\r\nbody")


async def echo(peer: Connection) -> None:
    while data := await peer.reader.read(65536):
        await peer.send(data)
    peer.half_close()


async def test_a_tunnel_carries_bytes_both_ways_and_its_half_closes(tmp_path: Path) -> None:
    async with Backend(echo) as backend, running(tmp_path, document({"ports": [backend.port]})) as forebay:
        client = await tunnel(forebay.port, f"127.0.0.1:{backend.port}")
        payload = bytes(range(256)) * 4096
        await client.send(payload[:1000])
        assert await client.reader.readexactly(1000) == payload[:1000]
        sending = asyncio.create_task(client.send(payload))
        assert await client.reader.readexactly(len(payload)) == payload
        await sending
        await client.send(b"last words")
        client.half_close()
        assert await client.rest() == b"last words"
        await client.close()


async def test_bytes_after_connects_head_are_the_tunnels(tmp_path: Path) -> None:
    async with Backend(echo) as backend, running(tmp_path, document({"ports": [backend.port]})) as forebay:
        client = await Connection.open(forebay.port)
        await client.send(connect(f"127.0.0.1:{backend.port}") + b"CONNECT is over, and " + b"this is for you")
        client.half_close()
        assert (await client.answer("CONNECT")).status == 200
        assert await client.rest() == b"CONNECT is over, and this is for you"
        await client.close()


async def test_a_far_side_may_speak_first(tmp_path: Path) -> None:
    async def greet(peer: Connection) -> None:
        await peer.send(b"220 hello\r\n")
        await echo(peer)

    async with Backend(greet) as backend, running(tmp_path, document({"ports": [backend.port]})) as forebay:
        for _ in range(20):
            client = await tunnel(forebay.port, f"127.0.0.1:{backend.port}")
            assert await client.reader.readline() == b"220 hello\r\n"
            await client.close()


async def test_nothing_is_opened_that_is_not_allowed(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        running(tmp_path, document({"ports": [origin.port], "allowHosts": ["example.com"]})) as forebay,
    ):
        for request in (connect(f"127.0.0.1:{origin.port}"), get(f"http://127.0.0.1:{origin.port}/")):
            client = await Connection.open(forebay.port)
            answer = await client.ask(request)
            assert answer.status == 403
            assert b"not among the hosts that are allowed" in answer.body
            assert (await client.ask(request)).status == 403  # the connection goes on
            await client.send(request + b"more")
            await client.close()
        assert (await origin.stats())["accepts"] == 0
        metrics = await forebay.metrics()
        assert metrics.value("forebay_rejections_total", reason="allowHosts") >= 4
        assert metrics.value("forebay_requests_total", code="403") >= 4


async def test_malformed_targets(tmp_path: Path) -> None:
    async with running(tmp_path, document()) as forebay:
        for request in (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET https://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"CONNECT example.com HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"CONNECT example.com:443 HTTP/1.1\r\nHost: \r\n\r\n",
            b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc",
            b"CONNECT http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
        ):
            client = await Connection.open(forebay.port)
            answer = await client.ask(request)
            assert answer.status == 400, request
            await client.close()
        assert (await forebay.metrics()).value("forebay_rejections_total", reason="bad_request") == 6
