"""Second attempts: only where nothing can have been done with the first, and within the retry budget."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.http.backend import OK, Backend, read_head, read_request
from tests.integration.http.harness import document, running, upstream_state
from tests.integration.http.test_access_log import lines, logged
from tests.support.load import run_load
from tests.support.origin import Origin
from tests.support.origin_routes import content
from tests.support.raw import Connection, CutAnswer, fetch, request_bytes

ONE = {"size": 1, "maxOverflow": 0}


class ClosesOnReuse:
    """Answers the first request on each connection; finds out what comes second, and ends without a word."""

    def __init__(self, *, reset: bool = False, first_bytes: bytes = b"") -> None:
        self.seen: Counter[bytes] = Counter()
        self._reset = reset
        self._first_bytes = first_bytes

    async def __call__(self, peer: Connection) -> None:
        await self._note(peer)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await self._note(peer)
        if self._first_bytes:
            await peer.send(self._first_bytes)
            await asyncio.sleep(0.05)  # so that they arrive before the end
        if self._reset:
            peer.reset()

    async def _note(self, peer: Connection) -> None:
        head, body = await read_request(peer)
        self.seen[b" ".join((*head.split(b" ", 2)[:2], body[:10])).strip()] += 1


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses: bound, and nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.mark.parametrize("reset", [False, True])
async def test_get_survives_a_close_at_reuse_and_post_is_not_sent_twice(tmp_path: Path, reset: bool) -> None:
    script = ClosesOnReuse(reset=reset)
    async with Backend(script) as backend, running(tmp_path, document(backend.port, pool=ONE)) as forebay:
        async with await Connection.open(forebay.port) as client:
            for method, body in (
                ("GET", None), ("HEAD", None), ("OPTIONS", None), ("DELETE", None), ("PUT", b"body"),
            ):  # fmt: skip
                assert (await client.ask(request_bytes("/first"))).status == 200
                answer = await client.ask(request_bytes("/second", method, body=body))
                assert (answer.status, answer.get("connection")) == (200, None), method
                assert script.seen[b" ".join((method.encode(), b"/second", body or b"")).strip()] == 2
                await client.ask(request_bytes("/use-up", "POST"))  # the retry's connection has answered once
            for method, body in (("POST", None), ("POST", b"body"), ("PATCH", b"body"), ("PURGE", None)):
                assert (await client.ask(request_bytes("/first"))).status == 200
                answer = await client.ask(request_bytes("/once", method, body=body))
                assert (answer.status, answer.get("connection")) == (502, None), method
                assert script.seen[b" ".join((method.encode(), b"/once", body or b"")).strip()] == 1
        assert (await upstream_state(forebay))["retries"] == {"reused_connection_reset": 5}
        assert (await forebay.metrics()).value("forebay_retries_total", reason="reused_connection_reset") == 5


async def test_the_backends_time_before_a_retry_is_no_wait(tmp_path: Path) -> None:
    async def script(peer: Connection) -> None:
        await read_request(peer)
        await peer.send(OK)
        await read_request(peer)
        await asyncio.sleep(0.3)

    async with Backend(script) as backend:
        forebay, log = logged(tmp_path, document(backend.port, pool=ONE, spec={"telemetry": {"accessLog": "json"}}))
        async with forebay, await Connection.open(forebay.port) as client:
            assert (await client.ask(request_bytes("/first"))).status == 200
            assert (await client.ask(request_bytes("/second"))).status == 200
            metrics = await forebay.metrics()
            _, second = await lines(log, 2)
    assert metrics.value("forebay_retries_total") == 1
    assert metrics.value("forebay_upstream_wait_seconds_count", outcome="served") == 3
    assert metrics.value("forebay_upstream_wait_seconds_sum") < 0.1
    assert second["total_ms"] > 300
    assert (second["attempts"], second["wait_ms"] < 100, second["upstream_ms"] < 100) == (2, True, True)


async def test_a_retry_that_gets_no_connection_is_logged_with_its_own_times(tmp_path: Path) -> None:
    """Its first attempt had one: the times of two attempts are not mixed."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")
        server.close()
        await asyncio.sleep(0.3)
        writer.close()

    server = await asyncio.start_server(script, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    forebay, log = logged(tmp_path, document(port, pool=ONE, spec={"telemetry": {"accessLog": "json"}}))
    async with forebay, await Connection.open(forebay.port) as client:
        assert (await client.ask(request_bytes("/first"))).status == 200
        assert (await client.ask(request_bytes("/second"))).status == 502
        _, second = await lines(log, 2)
    assert second["total_ms"] > 300
    assert 0 <= second["wait_ms"] < 100
    assert 0 <= second["connect_ms"] < 100
    assert second["upstream_ms"] is None


@pytest.mark.parametrize("retries", [{"attempts": 0}, {"retryOn": []}, {"budgetPercent": 0, "minPerSecond": 0}])
async def test_no_retry_where_the_document_wants_none(tmp_path: Path, retries: dict[str, Any]) -> None:
    script = ClosesOnReuse()
    http = {"retries": retries}
    async with (
        Backend(script) as backend,
        running(tmp_path, document(backend.port, http=http, pool=ONE)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        assert (await client.ask(request_bytes("/first"))).status == 200
        assert (await client.ask(request_bytes("/second"))).status == 502
    assert script.seen[b"GET /second"] == 1


async def test_no_retry_once_a_byte_of_an_answer_has_come(tmp_path: Path) -> None:
    for first_bytes in (b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"):
        script = ClosesOnReuse(first_bytes=first_bytes)
        async with (
            Backend(script) as backend,
            running(tmp_path, document(backend.port, pool=ONE)) as forebay,
            await Connection.open(forebay.port) as client,
        ):
            assert (await client.ask(request_bytes("/first"))).status == 200
            assert (await client.ask(request_bytes("/second"))).status == 502
        assert script.seen[b"GET /second"] == 1


async def test_no_retry_once_an_answer_has_begun(tmp_path: Path) -> None:
    script = ClosesOnReuse(first_bytes=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
    async with (
        Backend(script) as backend,
        running(tmp_path, document(backend.port, pool=ONE)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        assert (await client.ask(request_bytes("/first"))).status == 200
        with pytest.raises(CutAnswer):
            await client.ask(request_bytes("/second"))
    assert script.seen[b"GET /second"] == 1


async def test_a_fresh_connection_that_ends_is_not_tried_again(tmp_path: Path) -> None:
    async def hang_up(peer: Connection) -> None:
        await read_head(peer)

    async with Backend(hang_up) as backend, running(tmp_path, document(backend.port)) as forebay:
        assert (await fetch(forebay.port)).status == 502
        assert backend.accepted == 1


async def test_a_body_that_has_streamed_is_not_sent_again(tmp_path: Path) -> None:
    """PUT is idempotent, but what has passed through is not there any more."""
    heads = []

    async def script(peer: Connection) -> None:
        await read_head(peer)
        await peer.send(OK)
        heads.append(await read_head(peer))
        await peer.reader.readexactly(300_000)

    async with (
        Backend(script) as backend,
        running(tmp_path, document(backend.port, pool=ONE)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        assert (await client.ask(request_bytes("/first"))).status == 200
        answer = await client.ask(request_bytes("/", "PUT", [("Content-Length", "400000")]) + content(350_000))
        assert (answer.status, answer.get("connection")) == (502, "close")
    assert len(heads) == 1


async def test_the_retry_budget_ends(tmp_path: Path) -> None:
    script = ClosesOnReuse()
    http = {"retries": {"budgetPercent": 0, "minPerSecond": 1}}  # ten in ten seconds
    async with Backend(script) as backend, running(tmp_path, document(backend.port, http=http, pool=ONE)) as forebay:
        async with await Connection.open(forebay.port) as client:
            statuses = Counter([(await client.ask(request_bytes(f"/{i}"))).status for i in range(41)])
        # Every retry leaves a connection that has answered once; a 502 leaves none.
        assert (await upstream_state(forebay))["retries"] == {"reused_connection_reset": 10}
    assert statuses[502] == 15
    assert statuses[200] == 26


async def test_a_reload_does_not_forget_what_the_budget_has_seen(tmp_path: Path) -> None:
    script = ClosesOnReuse()

    def allowing(timeout: str) -> dict[str, Any]:
        http = {"retries": {"budgetPercent": 70, "minPerSecond": 0}}  # of two requests one, of three two
        return document(backend.port, http=http, pool={**ONE, "timeout": timeout})

    async with Backend(script) as backend, running(tmp_path, allowing("5s")) as forebay:
        async with await Connection.open(forebay.port) as client:
            for _ in range(2):
                assert (await client.ask(request_bytes("/"))).status == 200
            seen = len(forebay.child.lines)
            forebay.write(allowing("6s"))
            forebay.reload()
            await forebay.child.line("is in force", after=seen)
            assert (await client.ask(request_bytes("/"))).status == 200
        assert (await upstream_state(forebay))["retries"] == {"reused_connection_reset": 2}


async def test_a_backend_that_closes_idle_connections_loses_no_get(tmp_path: Path) -> None:
    """The race itself, not arranged: it closes after 5 ms of idleness, and the client asks after as long."""
    async with Origin() as origin, running(tmp_path, document(origin.port, pool=ONE)) as forebay:
        async with await Connection.open(forebay.port) as client:
            for i in range(150):
                assert (await client.ask(request_bytes("/close-idle/5"))).status == 200
                await asyncio.sleep(0.004 + (i % 20) / 10_000)
        stats = await origin.stats()
        assert stats["accepts"] > 10  # it did close
        assert stats["malformed"] == 0


async def test_an_endpoint_that_refuses_costs_no_request(tmp_path: Path, closed_port: int) -> None:
    """A connect failure is retried elsewhere; with a sole endpoint there is no elsewhere."""
    async with Origin() as origin:
        for policy in ("roundRobin", "leastConnections"):
            pool = document(closed_port, origin.port, loadBalancing={"policy": policy})
            async with running(tmp_path / policy, pool) as forebay:
                for _ in range(20):
                    assert (await fetch(forebay.port, "/", "POST", body=b"x")).body == b"ok\n"
                state = await upstream_state(forebay)
                assert state["retries"]["connect_failure"] == state["connect_errors"]["connect_refused"]
        async with running(tmp_path / "sole", document(closed_port)) as forebay:
            answer = await fetch(forebay.port)
            assert answer.status == 502
            assert b"refused" in answer.body
            assert (await upstream_state(forebay))["retries"] == {}


async def test_an_endpoint_that_refuses_costs_no_request_under_load(tmp_path: Path, closed_port: int) -> None:
    """It has the fewest connections of all: balancing by them must not send the second attempt there, too."""
    pool = document(closed_port, healthCheck={"passive": {"consecutiveErrors": 5}})
    async with Origin() as origin:
        pool["spec"]["upstreams"][0]["endpoints"].append({"host": "127.0.0.1", "port": origin.port})
        async with running(tmp_path, pool) as forebay:
            outcome = await run_load(forebay.port, clients=20, requests=20, request=request_bytes("/slow/0.005"))
    assert outcome.statuses == {200: 400}, outcome
