"""The test origin counts rightly and behaves as its routes say: what the integration tests rest on."""

import asyncio
import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable

import pytest
from tests.support.certs import CA
from tests.support.origin import Origin
from tests.support.origin_routes import ROUTES, content
from tests.support.raw import Connection, CutAnswer, chunked, fetch, request_bytes

Origins = Callable[..., Awaitable[Origin]]


async def test_connections_are_counted_from_accept_to_close(origin: Origin) -> None:
    connections = [await Connection.open(origin.port) for _ in range(7)]
    for connection in connections:
        assert (await connection.ask(request_bytes("/"))).status == 200
    stats = await origin.stats()
    assert (stats["open"], stats["high_water"], stats["accepts"], stats["requests"]) == (7, 7, 7, 7)
    for connection in connections[:4]:
        connection.half_close()
        assert await connection.rest() == b""  # its FIN has come, so it has counted
        await connection.close()
    assert (await origin.reset())["open"] == 3
    await fetch(origin.port, "/status/503", "DELETE")
    stats = await origin.stats()
    assert (stats["high_water"], stats["accepts"], stats["methods"]) == (4, 1, {"DELETE": 1})
    assert stats["statuses"] == {"503": 1}
    assert stats["targets"] == {"/status/503": 1}
    for connection in connections[4:]:
        await connection.close()


async def test_the_next_connection_after_a_close_is_not_counted_twice(origin: Origin) -> None:
    for _ in range(200):
        async with await Connection.open(origin.port) as connection:
            await connection.ask(request_bytes("/close"))
            assert await connection.rest() == b""
    assert (await origin.stats())["high_water"] == 1


async def test_over_the_limit_a_connection_is_closed_at_once(origins: Origins) -> None:
    origin = await origins(limit=2)
    held = [await Connection.open(origin.port) for _ in range(2)]
    async with await Connection.open(origin.port) as third:
        assert await third.rest() == b""
    stats = await origin.set(limit=None)
    assert (stats["refused"], stats["high_water"]) == (1, 3)
    assert (await fetch(origin.port)).status == 200
    for connection in held:
        await connection.close()


async def test_an_aborted_exchange_is_counted(origin: Origin) -> None:
    async with await Connection.open(origin.port) as connection:
        await connection.send(request_bytes("/hang"))
        await origin.until(lambda stats: stats["active"] == 1)
        connection.reset()
        stats = await origin.until(lambda stats: stats["open"] == 0)
    assert (stats["aborted"], stats["active"], stats["active_high_water"]) == (1, 0, 1)


@pytest.mark.parametrize("size", [0, 1, 65_551, 65_552, 3_000_000])
async def test_bytes(origin: Origin, size: int) -> None:
    assert (await fetch(origin.port, f"/bytes/{size}")).body == content(size)
    assert (await fetch(origin.port, f"/bytes/{size}", "HEAD")).get("content-length") == str(size)


async def test_chunked_with_trailers(origin: Origin) -> None:
    answer = await fetch(origin.port, "/chunked/20000?size=999&trailer=1")
    assert (answer.body, answer.chunks) == (content(20_000), 21)
    assert answer.trailers == [("X-Digest", hashlib.sha256(answer.body).hexdigest()), ("X-Length", "20000")]


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
async def test_upload_however_it_is_cut(origin: Origin, piece: int) -> None:
    body = content(3000)
    expected = {"length": 3000, "sha256": hashlib.sha256(body).hexdigest()}
    coded = request_bytes("/upload", "POST", [("Transfer-Encoding", "chunked")])
    coded += chunked([body[:1000], body[1000:]], [("X-T", "v")])
    for data, trailers in ((request_bytes("/upload", "POST", body=body), []), (coded, [["X-T", "v"]])):
        async with await Connection.open(origin.port) as connection:
            for at in range(0, len(data), piece):
                await connection.send(data[at : at + piece])
            answer = await connection.answer("POST")
        assert json.loads(answer.body) == {**expected, "trailers": trailers}


async def test_echo_expect_and_headers(origin: Origin) -> None:
    answer = await fetch(origin.port, "/echo", "PUT", [("Expect", "100-continue")], b"hello")
    assert [one.status for one in answer.interim] == [100]
    assert answer.body == b"hello"
    seen = json.loads((await fetch(origin.port, "/headers?x=1", headers=[("X-A", "b")])).body)
    assert (seen["target"], seen["headers"]) == ("/headers?x=1", [["Host", "test.example"], ["X-A", "b"]])


async def test_keep_alive_and_pipelining(origin: Origin) -> None:
    async with await Connection.open(origin.port) as connection:
        await connection.send(request_bytes("/slow/0.05") + request_bytes("/bytes/3"))
        first, second = await connection.answer(), await connection.answer()
        assert [first.body, second.body] == [b"ok\n", content(3)]
        assert (first.get("x-connection"), second.get("x-number")) == ("1", "2")


async def test_an_early_answer_comes_before_the_body(origin: Origin) -> None:
    async with await Connection.open(origin.port) as connection:
        request = request_bytes("/early/413?close=1", "POST", [("Content-Length", "1000000")])
        assert (await connection.ask(request)).status == 413
        await connection.send(b"x" * 1000)  # no RST for it
        assert await connection.rest() == b""
    async with await Connection.open(origin.port) as connection:
        assert (await connection.ask(request_bytes("/early", "POST", [("Content-Length", "4")]))).status == 200
        assert (await connection.ask(b"body" + request_bytes("/"))).body == b"ok\n"


async def test_interim_answers_and_upgrade(origin: Origin) -> None:
    answer = await fetch(origin.port, "/1xx?n=2")
    assert [one.status for one in answer.interim] == [103, 103]
    async with await Connection.open(origin.port) as connection:
        upgrade = request_bytes("/upgrade", headers=[("Connection", "Upgrade"), ("Upgrade", "foo")])
        assert (await connection.ask(upgrade)).get("upgrade") == "foo"
        await connection.send(b"any bytes")
        assert await connection.reader.readexactly(9) == b"any bytes"


async def test_ways_to_close(origin: Origin) -> None:
    assert (await fetch(origin.port, "/until-close/70000")).body == content(70_000)
    for target, begun in (
        ("/reset", True),
        ("/reset?after=-1", False),
        ("/cut", True),
        ("/cut?after=-1", False),
    ):
        with pytest.raises(CutAnswer) as caught:
            await fetch(origin.port, target)
        assert caught.value.begun is begun, target
    for target in ("/close?silent=1", "/close-idle/10"):
        async with await Connection.open(origin.port) as connection:
            assert not (await connection.ask(request_bytes(target))).closes
            assert await connection.rest() == b""
    for option in ("", "?reset=1"):
        async with await Connection.open(origin.port) as connection:
            assert (await connection.ask(request_bytes("/close-on-reuse" + option))).body == b"ok\n"
            with pytest.raises(CutAnswer):
                await connection.ask(request_bytes("/never"))
    assert "/never" not in (await origin.stats())["targets"]


async def test_garbage_after_the_answer(origin: Origin) -> None:
    for target in ("/garbage", "/garbage?delay_garbage=0.02"):
        async with await Connection.open(origin.port) as connection:
            assert (await connection.ask(request_bytes(target))).body == b"ok\n"
            assert (await connection.answer()).body == b"poison\n"


async def test_huge_headers_and_further_fields(origin: Origin) -> None:
    answer = await fetch(origin.port, "/huge-headers?n=30&size=500&h=Keep-Alive:timeout=3&delay=0.01")
    assert [len(value) for name, value in answer.headers if name.startswith("X-Field-")] == [500] * 30
    assert answer.get("keep-alive") == "timeout=3"


async def test_health_is_switched_over_the_control_port(origin: Origin) -> None:
    assert (await fetch(origin.port, "/healthz")).status == 200
    await origin.set(health=503)
    assert (await fetch(origin.port, "/healthz")).status == 503


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /bytes/x HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_a_malformed_request_is_refused_and_counted(origin: Origin, request_text: bytes) -> None:
    async with await Connection.open(origin.port) as connection:
        assert (await connection.ask(request_text)).status == 400
        assert await connection.rest() == b""
    stats = await origin.stats()
    assert stats["malformed"] == len(stats["complaints"]) == 1


async def test_tls_with_client_certificates(origins: Origins, ca: CA) -> None:
    origin = await origins(tls=ca.server(), client_ca=ca.cert)
    client = ca.client()
    context = ssl.create_default_context(cafile=str(ca.cert))
    context.load_cert_chain(client.cert, client.key)
    async with await Connection.open(origin.port, tls=context) as connection:
        assert (await connection.ask(request_bytes("/bytes/100000"))).body == content(100_000)
        assert (await origin.stats())["open"] == 1
    without = ssl.create_default_context(cafile=str(ca.cert))
    with pytest.raises((CutAnswer, ssl.SSLError)):
        await fetch(origin.port, tls=without)
    stats = await origin.until(lambda stats: stats["open"] == 0)
    assert (stats["tls_failed"], stats["high_water"]) == (1, 1)


async def test_tcp_mode_echoes(origins: Origins) -> None:
    origin = await origins(mode="tcp")
    data = content(2_000_000)
    async with await Connection.open(origin.port) as connection:
        connection.writer.write(data)
        connection.half_close()
        assert await connection.rest() == data
    assert (await origin.stats())["bytes_in"] == len(data)


async def test_stop_continue_kill_and_restart(origin: Origin) -> None:
    origin.stop()
    async with await Connection.open(origin.port) as connection:
        await connection.send(request_bytes("/"))
        with pytest.raises(TimeoutError):
            await connection.answer(within=0.1)
        origin.cont()
        assert (await connection.answer()).status == 200
    port = origin.port
    await origin.kill()
    with pytest.raises(ConnectionRefusedError):
        await Connection.open(port)
    await origin.restart()
    assert origin.port == port
    assert (await fetch(port)).status == 200


async def test_every_route_answers_something(origin: Origin) -> None:
    arguments = {
        "bytes": "5",
        "chunked": "5",
        "slow": "0.01",
        "status": "204",
        "close-idle": "5",
        "bad": "two-lengths",
    }
    for route in ROUTES.keys() - {"hang", "stall", "reset", "cut"}:
        async with await Connection.open(origin.port) as connection:
            await connection.send(request_bytes(f"/{route}/{arguments.get(route, '')}".rstrip("/") or "/"))
            async with asyncio.timeout(10):
                assert (await connection.reader.readline()).startswith(b"HTTP/1.1 "), route
    assert (await origin.stats())["malformed"] == 0
