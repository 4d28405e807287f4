"""The access log and the slow-request log: a JSON line on standard output for each request, and nothing else there."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.integration.http.backend import Backend, read_head
from tests.integration.http.harness import document
from tests.integration.http.test_tls import listening
from tests.support.certs import CA
from tests.support.forebay import Forebay
from tests.support.origin import Origin
from tests.support.origin_routes import content
from tests.support.raw import Connection, fetch, request_bytes, unverified
from tests.support.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"


def logged(directory: Path, pool: Mapping[str, Any], **options: Any) -> tuple[Forebay, Path]:
    """A proxy (not yet started) whose standard output goes to a file."""
    forebay = Forebay(directory, pool, **options)
    log = directory / "stdout"
    forebay.argv = ["/bin/sh", "-c", 'exec "$@" > "$0"', str(log), *forebay.argv]
    return forebay, log


def parsed(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def lines(log: Path, count: int) -> list[dict[str, Any]]:
    """Wait for so many lines of the log, and return all."""
    found: list[dict[str, Any]] = await until(lambda: parsed(log), 5, wanted=lambda found: len(found) >= count)
    return found


async def test_a_line_for_every_request(tmp_path: Path) -> None:
    async with Origin() as origin:
        pool = document(
            origin.port,
            http={"maxBodyBytes": 100_000},
            spec={"telemetry": {"accessLog": "json"}, "routes": [{"host": "test.example", "upstream": "origin"}]},
        )
        forebay, log = logged(tmp_path, pool)
        async with forebay:
            async with await Connection.open(forebay.port) as client:
                trace = [("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")]
                await client.ask(request_bytes("/bytes/1000?a=b", headers=trace))
                await client.ask(request_bytes("/upload", "POST", body=content(70_000)))
                await client.ask(request_bytes("/status/404", "HEAD"))
                await client.ask(request_bytes("/", host="nowhere.example"))
                await client.ask(request_bytes('/"\\%22', headers=[("X-A", "b")]))
                await client.ask(request_bytes("/reset?after=-1", "POST"))
                await client.ask(request_bytes("/upload", "POST", [("Content-Length", "100001")]))
            first, second, third, fourth, fifth, sixth, seventh = await lines(log, 7)
        assert not forebay.tracebacks()
    assert first["client"] == "127.0.0.1"
    assert (first["method"], first["target"], first["host"]) == ("GET", "/bytes/1000?a=b", "test.example")
    assert (first["status"], first["bytes_in"], first["bytes_out"]) == (200, 0, 1000)
    assert (first["upstream"], first["endpoint"]) == ("origin", f"127.0.0.1:{origin.port}")
    assert (first["trace"], first["error"], first["attempts"], first["reused"]) == (TRACE, None, 1, False)
    assert first["connect_ms"] > 0
    assert first["upstream_ms"] > 0
    assert first["total_ms"] > first["upstream_ms"] + first["connect_ms"] - 0.01  # rounded
    assert "slow" not in first
    assert (second["bytes_in"], second["reused"], second["connect_ms"], second["trace"]) == (70_000, True, None, None)
    assert (third["method"], third["status"], third["bytes_out"]) == ("HEAD", 404, 0)
    assert (fourth["status"], fourth["error"], fourth["upstream"], fourth["endpoint"]) == (404, "no_route", None, None)
    assert fifth["target"] == '/"\\%22'
    assert (sixth["status"], sixth["error"]) == (502, "upstream_reset")
    assert (seventh["status"], seventh["error"], seventh["attempts"]) == (413, "body_too_large", 0)


async def test_what_was_cut_and_what_was_switched(tmp_path: Path) -> None:
    async with Origin() as origin:
        forebay, log = logged(tmp_path, document(origin.port, spec={"telemetry": {"accessLog": "json"}}))
        async with forebay:
            async with await Connection.open(forebay.port) as client:
                await client.send(request_bytes("/cut?after=10"))
                await client.rest()
            async with await Connection.open(forebay.port) as client:
                await client.send(request_bytes("/hang"))
                await origin.until(lambda stats: stats["active"] == 1)
                client.reset()  # a mere close could be a half-close, and the answer still be wanted
            await lines(log, 2)
            async with await Connection.open(forebay.port) as client:
                upgrade = [("Connection", "Upgrade"), ("Upgrade", "test/1")]
                await client.ask(request_bytes("/upgrade", headers=upgrade))
                await client.send(b"12345")
                await client.reader.readexactly(5)
                client.half_close()
                await client.rest()
            cut, gone, tunnel = await lines(log, 3)
        assert not forebay.tracebacks()
    assert (cut["status"], cut["error"], cut["bytes_out"]) == (200, "upstream_reset", 10)
    assert (gone["target"], gone["error"]) == ("/hang", "client_gone")
    assert (tunnel["status"], tunnel["error"], tunnel["bytes_in"], tunnel["bytes_out"]) == (101, None, 5, 5)


async def test_a_traceparent_that_is_none_is_no_trace(tmp_path: Path) -> None:
    async with Origin() as origin:
        forebay, log = logged(tmp_path, document(origin.port, spec={"telemetry": {"accessLog": "json"}}))
        async with forebay:
            span = "b7ad6b7169203331"
            shapes = "00-xyz", "ff-{}-{}-01", "00-{}-{}-01-more", "01-{}-{}-00-more"
            for value in (shape.format(TRACE, span) for shape in shapes):
                await fetch(forebay.port, headers=[("traceparent", value)])
            found = await lines(log, 4)
    assert [line["trace"] for line in found] == [None, None, None, TRACE]


async def test_a_trace_that_is_begun_here_is_named(tmp_path: Path) -> None:
    async with Origin() as origin:
        tracing = {"endpoint": "http://127.0.0.1:9", "sampleRatio": 1}
        spec = {"telemetry": {"accessLog": "json", "tracing": tracing}}
        forebay, log = logged(tmp_path, document(origin.port, spec=spec))
        async with forebay:
            headers = dict(json.loads((await fetch(forebay.port, "/headers")).body)["headers"])
            (line,) = await lines(log, 1)
    assert line["trace"] == headers["traceparent"].split("-")[1]


async def test_clients_beyond_the_limit_are_told_of(tmp_path: Path) -> None:
    async with Origin() as origin:
        spec = {"telemetry": {"accessLog": "json"}, "maxClientConnections": 1}
        forebay, log = logged(tmp_path, document(origin.port, spec=spec))
        async with forebay:
            async with await Connection.open(forebay.port) as client:
                await client.ask(request_bytes())
                async with await Connection.open(forebay.port) as other:
                    refused = await other.answer()
                _, line = await lines(log, 2)
            metrics = await forebay.metrics()
    assert refused.status == 503
    assert (line["status"], line["error"], line["upstream"], line["client"]) == (503, "max_clients", None, "127.0.0.1")
    assert line["bytes_out"] == len(refused.body)
    assert metrics.value("forebay_requests_total", code="503") == 1
    assert metrics.value("forebay_rejections_total", reason="max_clients") == 1


async def test_answers_of_our_own_have_a_size_and_a_time(tmp_path: Path) -> None:
    async with Origin() as origin:
        spec = {"telemetry": {"accessLog": "json"}, "routes": [{"host": "test.example", "upstream": "origin"}]}
        forebay, log = logged(tmp_path, document(origin.port, spec=spec, http={"headerTimeout": "300ms"}))
        async with forebay:
            async with await Connection.open(forebay.port) as client:
                answers = [await client.ask(request_bytes(host="nowhere.example"))]
            async with await Connection.open(forebay.port) as client:
                answers.append(await client.ask(b"nonsense\r\n\r\n"))
            async with await Connection.open(forebay.port) as client:
                answers.append(await client.ask(b"GET /"))
            async with await Connection.open(forebay.port) as client:
                await client.ask(request_bytes("/", host="nowhere.example"))
                await asyncio.sleep(0.2)  # of a request's own time
                answers.append(await client.ask(b"GET /"))
            async with await Connection.open(forebay.port) as client:
                await client.send(request_bytes("/", "HEAD", host="nowhere.example"))
                await client.answer("HEAD")
            no_route, bad, late, later, head = [line for n, line in enumerate(await lines(log, 6)) if n != 3]
    told = [line["bytes_out"] for line in (no_route, bad, late, later, head)]
    assert told == [*(len(answer.body) for answer in answers), 0]
    assert [answer.status for answer in answers] == [404, 400, 408, 408]
    assert bad["total_ms"] < 100
    for line in (late, later):
        assert 299 <= line["total_ms"] < 450


async def switch(peer: Connection) -> None:
    """A tunnel; told to, the far side resets it, or ends it and goes without a look at what still comes."""
    await read_head(peer)
    await peer.send(b"HTTP/1.1 101 Switched\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n\r\n")
    while data := await peer.reader.read(100):
        if data == b"reset":
            peer.reset()
            return
        if data == b"end":
            peer.half_close()
            await peer.reader.read(100)
            peer.reset()
            return
        await peer.send(data)


async def open_tunnel(port: int, **options: Any) -> Connection:
    client = await Connection.open(port, **options)
    await client.send(request_bytes("/", headers=[("Connection", "Upgrade"), ("Upgrade", "test/1")]))
    assert (await client.answer()).status == 101
    return client


async def test_how_a_tunnel_has_ended(tmp_path: Path) -> None:
    async with Backend(switch) as backend:
        forebay, log = logged(tmp_path, document(backend.port, spec={"telemetry": {"accessLog": "json"}}))
        async with forebay:
            for number, word in enumerate((b"reset", b"end", b"client resets", b"client ends")):
                client = await open_tunnel(forebay.port)
                await client.send(word)
                if word == b"reset":
                    with pytest.raises(ConnectionResetError):
                        await client.reader.read()
                elif word == b"end":
                    assert await client.rest() == b""
                    await client.send(b"too late")
                else:
                    await client.reader.readexactly(len(word))
                if word == b"client resets":
                    client.reset()
                await client.close()
                await lines(log, number + 1)
            metrics = await forebay.metrics()
            assert metrics.value("forebay_rejections_total", reason="upstream_reset") == 1
            assert metrics.value("forebay_requests_total", code="101") == 4
        assert not forebay.tracebacks()
    assert [line["error"] for line in parsed(log)] == ["upstream_reset", None, "client_gone", None]


async def test_a_tunnel_over_tls_that_its_client_has_ended_has_ended_well(tmp_path: Path, ca: CA) -> None:
    async with Backend(switch) as backend:
        spec = {"telemetry": {"accessLog": "json"}, **listening(ca.server())}
        forebay, log = logged(tmp_path, document(backend.port, spec=spec))
        async with forebay:
            async with await open_tunnel(forebay.port, tls=unverified()) as client:
                await client.send(b"x")
                assert await client.reader.readexactly(1) == b"x"
            await lines(log, 1)
            async with await Connection.open(forebay.port, tls=unverified()) as client:
                await client.send(b"POST / HTTP/1.1\r\nHost: test.example\r\nContent-Length: 5\r\n\r\nhal")
                async with asyncio.timeout(5):
                    while (await forebay.state())["workers"][0]["clients"] != 1:
                        await asyncio.sleep(0.01)
            tunnel, request = await lines(log, 2)
    assert (tunnel["status"], tunnel["error"]) == (101, None)
    assert (request["status"], request["error"]) == (0, "client_gone")


async def test_only_slow_requests_are_logged_where_only_they_are_asked_for(tmp_path: Path) -> None:
    async with Origin() as origin:
        forebay, log = logged(tmp_path, document(origin.port, spec={"telemetry": {"slowRequest": "200ms"}}))
        async with forebay:
            for target in ("/", "/slow/0.4", "/"):
                await fetch(forebay.port, target)
            (line,) = await lines(log, 1)
        assert not forebay.tracebacks()
        assert len(parsed(log)) == 1
    assert (line["target"], line["slow"]) == ("/slow/0.4", True)
    assert line["total_ms"] >= 400


async def test_a_slow_request_is_told_by_its_own_times_though_another_waits_for_its_connection(tmp_path: Path) -> None:
    async with Origin() as origin:
        spec = {"telemetry": {"slowRequest": "200ms"}}
        forebay, log = logged(tmp_path, document(origin.port, spec=spec, pool={"size": 1, "maxOverflow": 0}))
        async with forebay:
            async with await Connection.open(forebay.port) as one, await Connection.open(forebay.port) as other:
                for client in (one, other):  # from now on neither opens a connection
                    assert (await client.ask(request_bytes())).status == 200
                first = asyncio.create_task(one.ask(request_bytes("/slow/0.4")))
                await origin.until(lambda stats: stats["active"] == 1)
                await asyncio.gather(first, other.ask(request_bytes("/slow/0.3")))
            ahead, behind = await lines(log, 2)
    assert (ahead["target"], behind["target"]) == ("/slow/0.4", "/slow/0.3")
    assert ahead["upstream_ms"] >= 399
    assert behind["upstream_ms"] >= 299
    assert ahead["wait_ms"] < behind["wait_ms"]


async def test_both_logs_are_one_line(tmp_path: Path) -> None:
    async with Origin() as origin:
        telemetry = {"accessLog": "json", "slowRequest": "200ms"}
        forebay, log = logged(tmp_path, document(origin.port, spec={"telemetry": telemetry}))
        async with forebay:
            for target in ("/", "/slow/0.4"):
                await fetch(forebay.port, target)
            quick, slow = await lines(log, 2)
    assert "slow" not in quick
    assert slow["slow"] is True


async def test_without_a_log_there_is_nothing(tmp_path: Path) -> None:
    async with Origin() as origin:
        forebay, log = logged(tmp_path, document(origin.port))
        async with forebay:
            await fetch(forebay.port)
        assert parsed(log) == []
