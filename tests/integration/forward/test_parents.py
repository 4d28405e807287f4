"""Requests that go on through another proxy."""

import re
from pathlib import Path
from typing import Any

from tests.integration.forward.harness import connect, document, get, tunnel
from tests.integration.forward.test_access import htpasswd
from tests.integration.forward.test_tunnels import hold, until_closed
from tests.integration.http.backend import Backend, read_request
from tests.integration.http.harness import running, upstream_state
from tests.integration.test_reload import take
from tests.support.origin import Origin
from tests.support.raw import Connection


def parent(port: int, **more: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, **more}


async def test_through_a_parent_that_asks_for_a_password(tmp_path: Path) -> None:
    users = htpasswd(tmp_path, child="secret")
    shown = tmp_path / "shown"
    shown.write_text("child:secret\n")
    async with Origin() as origin, Backend(hold) as echo:
        ports = [origin.port, echo.port]
        upper = document({"ports": ports, "credentialsFile": str(users)})
        async with running(tmp_path / "parent", upper) as above:
            lower = document({"ports": ports, "parents": [parent(above.port, credentialsFile=str(shown))]})
            async with running(tmp_path / "child", lower) as forebay:
                client = await Connection.open(forebay.port)
                for _ in range(3):
                    answer = await client.ask(get(f"http://127.0.0.1:{origin.port}/bytes/100?a=b"))
                    assert (answer.status, len(answer.body)) == (200, 100)
                await client.close()
                client = await Connection.open(forebay.port)
                await client.send(connect(f"127.0.0.1:{echo.port}") + b"early")
                assert (await client.answer("CONNECT")).status == 200
                await client.send(b" and late")
                client.half_close()
                assert await client.rest() == b"early and late"
                await client.close()
                assert (await origin.stats())["accepts"] == 1
                assert list((await upstream_state(forebay, "out"))["endpoints"]) == [f"127.0.0.1:{above.port}"]


async def test_what_one_parent_refuses_the_next_may_not(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def refuse(peer: Connection) -> None:
        while True:
            head, _ = await read_request(peer)
            asked.append(head)
            status = b"403 Forbidden" if head.startswith(b"CONNECT") else b"407 Proxy Authentication Required"
            await peer.send(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)

    async with Origin() as origin, Backend(hold) as echo, Backend(refuse) as stubborn:
        ports = [origin.port, echo.port]
        async with running(tmp_path / "parent", document({"ports": ports})) as above:
            parents = [parent(stubborn.port), parent(above.port)]
            pool = document(
                {"ports": ports, "parents": parents}, loadBalancing={"policy": "roundRobin"}, pool={"size": 20}
            )
            async with running(tmp_path / "child", pool) as forebay:
                for _ in range(4):
                    client = await tunnel(forebay.port, f"127.0.0.1:{echo.port}")
                    await client.close()
                    client = await Connection.open(forebay.port)
                    assert (await client.ask(get(f"http://127.0.0.1:{origin.port}/"))).status == 200
                    await client.close()
                assert {head.split()[0] for head in asked} == {b"CONNECT", b"GET"}
                assert (await upstream_state(forebay, "out"))["retries"]["parent_refused"] == len(asked)


async def test_no_parent_will(tmp_path: Path) -> None:
    async def refuse(peer: Connection) -> None:
        while True:
            await read_request(peer)
            await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with Backend(refuse) as one:
        pool = document({"ports": [443], "allowHosts": ["example.com"], "parents": [parent(one.port)]})
        async with running(tmp_path, pool) as forebay:
            client = await Connection.open(forebay.port)
            answer = await client.ask(connect("example.com:443"))  # nothing is resolved here
            assert answer.status == 502
            assert b"answered 403" in answer.body
            assert (await client.ask(connect("example.org:443"))).status == 403
            await client.close()
            await until_closed(forebay)


async def test_parents_that_lead_in_a_circle(tmp_path: Path) -> None:
    """A request that comes back goes no further: one alone would take every connection of both."""
    forward = {"ports": [80], "allowHosts": ["example.com"]}
    async with running(tmp_path / "one", document({**forward, "parents": [parent(1)]}, pool={"size": 20})) as one:
        lower = document({**forward, "parents": [parent(one.port)]}, pool={"size": 20})
        async with running(tmp_path / "two", lower) as two:
            await take(one, document({**forward, "parents": [parent(two.port)]}, pool={"size": 20}))
            client = await Connection.open(one.port)
            for request in (get("http://example.com/", b"Via: 1.0 fred"), connect("example.com:80", b"Via: 1.0 fred")):
                assert (await client.ask(request)).status == 502
            await client.close()
            for forebay in (one, two):
                assert (await upstream_state(forebay, "out"))["opened"] <= 2
            assert (await one.metrics()).value("forebay_rejections_total", reason="loop") == 2


async def test_what_a_parent_sees(tmp_path: Path) -> None:
    """Who has passed the request on before, and nothing of what the client has shown us."""
    seen: list[bytes] = []

    async def script(peer: Connection) -> None:
        while True:
            head, _ = await read_request(peer)
            seen.append(head)
            await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with Backend(script) as above:
        pool = document({"ports": [80], "allowHosts": ["example.com"], "parents": [parent(above.port)]})
        fields = (b"Via: 1.0 fred", b"Proxy-Authorization: Basic eDp5", b"X-Forwarded-For: 1.2.3.4")
        async with running(tmp_path, pool) as forebay, await Connection.open(forebay.port) as client:
            assert (await client.ask(get("http://example.com/a", *fields))).status == 403
            assert (await client.ask(connect("example.com:80", *fields))).status == 502
    plain, tunnelled = (re.sub(rb"forebay-[0-9a-f]{8}", b"forebay-*", head) for head in seen)
    via = b"Via: 1.0 fred\r\nVia: 1.1 forebay-*\r\n\r\n"
    assert plain == b"GET http://example.com/a HTTP/1.1\r\nHost: example.com\r\n" + via
    assert tunnelled == b"CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n" + via


async def test_a_parent_that_is_down_is_ejected(tmp_path: Path) -> None:
    async with (
        Backend(hold) as echo,
        running(tmp_path / "parent", document({"ports": [echo.port]})) as above,
    ):
        async with Backend(hold) as gone:
            dead = gone.port
        pool = document(
            {"ports": [echo.port], "parents": [parent(dead), parent(above.port)]},
            loadBalancing={"policy": "roundRobin"},
            healthCheck={"passive": {"consecutiveErrors": 2}},
        )
        async with running(tmp_path / "child", pool) as forebay:
            for _ in range(6):  # each takes a new connection
                client = await tunnel(forebay.port, f"127.0.0.1:{echo.port}")
                await client.close()
            state = await upstream_state(forebay, "out")
            assert state["endpoints"][f"127.0.0.1:{dead}"]["healthy"] is False
            assert state["connect_errors"]["connect_refused"] == 2
