"""Peers that are slow or stand still: they cost themselves time, others nothing, and the proxy bounded memory."""

import asyncio
import time
from pathlib import Path

import pytest
from tests.integration.http.backend import OK, Backend, read_head, read_request
from tests.integration.http.harness import document, running, upstream_state, worker_rss
from tests.support.origin import Origin
from tests.support.origin_routes import content
from tests.support.raw import Connection, CutAnswer, fetch, request_bytes

TEN = {"size": 10, "maxOverflow": 0}
ONE = {"size": 1, "maxOverflow": 0}


# ---------------------------------------------------------------------- who dribbles


async def dribble(client: Connection, data: bytes, gap: float) -> None:
    """`data` again and again, with `gap` seconds between."""
    while True:
        await client.send(data)
        await asyncio.sleep(gap)


async def test_ten_that_dribble_a_body_don_t_make_an_eleventh_wait(tmp_path: Path) -> None:
    async with Origin() as origin, running(tmp_path, document(origin.port, pool=TEN)) as forebay:
        clients = [await Connection.open(forebay.port) for _ in range(20)]
        body = content(60_000)  # below requestBuffer
        for client in clients:
            await client.send(request_bytes("/upload", "POST", [("Content-Length", str(len(body)))]))
        for i in range(20):
            for client in clients:
                await client.send(body[i : i + 1])
            began = time.monotonic()
            assert (await fetch(forebay.port)).body == b"ok\n"
            assert time.monotonic() - began < 1
        state = await upstream_state(forebay)
        assert (state["connections"]["leased"], state["waiting"], state["held"]) == (0, 0, 1)
        assert sum(state["wait"]["served"][0][:1]) >= 1  # not a measurable wait for the ordinary ones
        for client in clients:
            await client.send(body[20:])
        for client in clients:
            assert (await client.answer("POST")).status == 200
            await client.close()
        assert (await origin.stats())["high_water"] <= 10


async def test_a_stalled_stream_gives_way_when_others_wait(tmp_path: Path) -> None:
    http = {"bodyTimeout": "300ms", "requestBuffer": "16Ki"}
    async with Origin() as origin, running(tmp_path, document(origin.port, pool=ONE, http=http)) as forebay:
        async with await Connection.open(forebay.port) as client:
            await client.send(request_bytes("/upload", "POST", [("Content-Length", "1000000")]) + content(100_000))
            await origin.until(lambda stats: stats["active"] == 1)
            assert (await fetch(forebay.port, within=5)).body == b"ok\n"
            answer = await client.answer("POST")
            assert (answer.status, answer.get("connection")) == (408, "close")
        await origin.until(lambda stats: stats["aborted"] == 1)


async def test_a_stalled_stream_may_take_longer_while_nobody_waits(tmp_path: Path) -> None:
    """And each stall is counted from its own beginning."""
    http = {"bodyTimeout": "200ms", "requestBuffer": "16Ki", "streamIdleTimeout": "1s"}
    async with Origin() as origin, running(tmp_path, document(origin.port, pool=ONE, http=http)) as forebay:
        async with await Connection.open(forebay.port) as client:
            head = request_bytes("/upload", "POST", [("Content-Length", "100004")])
            await client.send(head + content(100_000))
            for _ in range(3):
                await asyncio.sleep(0.6)  # the stall itself
                await client.send(b"x")
            with pytest.raises(TimeoutError):
                await client.answer("POST", within=0.6)
            await client.send(b"x")
            assert (await client.answer("POST")).status == 200
        async with await Connection.open(forebay.port) as client:
            await client.send(head + content(100_000))
            assert (await client.answer("POST", within=3)).status == 408


async def test_a_stream_that_dribbles_gives_way_when_others_wait(tmp_path: Path) -> None:
    """Each byte comes well before bodyTimeout: only what has come in all of it counts."""
    http = {"bodyTimeout": "300ms", "requestBuffer": "16Ki"}
    async with Origin() as origin, running(tmp_path, document(origin.port, pool=ONE, http=http)) as forebay:
        async with await Connection.open(forebay.port) as client:
            await client.send(request_bytes("/upload", "POST", [("Content-Length", "1000000")]) + content(100_000))
            await origin.until(lambda stats: stats["active"] == 1)
            dribbling = asyncio.create_task(dribble(client, b"x", 0.05))
            assert (await fetch(forebay.port, within=5)).body == b"ok\n"
            answer = await client.answer("POST")
            assert (answer.status, answer.get("connection")) == (408, "close")
            dribbling.cancel()
        await origin.until(lambda stats: stats["aborted"] == 1)


async def test_a_stream_that_dribbles_gives_way_when_others_have_waited_in_vain(tmp_path: Path) -> None:
    """Nobody waits when it is looked at."""
    http = {"bodyTimeout": "2s", "requestBuffer": "16Ki"}
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, pool=ONE | {"timeout": "100ms"}, http=http)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        await client.send(request_bytes("/upload", "POST", [("Content-Length", "1000000")]) + content(100_000))
        await origin.until(lambda stats: stats["active"] == 1)
        dribbling = asyncio.create_task(dribble(client, b"x", 0.1))
        assert (await fetch(forebay.port)).status == 503
        assert (await client.answer("POST")).status == 408
        dribbling.cancel()
        assert (await fetch(forebay.port)).status == 200


async def test_a_stream_that_dribbles_its_trailer_gives_way(tmp_path: Path) -> None:
    """What is no payload is no progress."""
    http = {"bodyTimeout": "300ms", "requestBuffer": "16Ki"}
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, pool=ONE, http=http)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        head = request_bytes("/upload", "POST", [("Transfer-Encoding", "chunked")])
        await client.send(head + b"186a0\r\n" + content(100_000) + b"\r\n0\r\n")
        await origin.until(lambda stats: stats["active"] == 1)
        dribbling = asyncio.create_task(dribble(client, b"X: trailing\r\n", 0.05))
        assert (await fetch(forebay.port, within=5)).body == b"ok\n"
        assert (await client.answer("POST")).status == 408
        dribbling.cancel()


async def test_a_slow_stream_goes_on_while_it_keeps_the_least_rate_or_nobody_waits(tmp_path: Path) -> None:
    http = {"bodyTimeout": "300ms", "requestBuffer": "16Ki"}
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, pool=ONE, http=http)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        await client.send(request_bytes("/upload", "POST", [("Content-Length", "110020")]) + content(100_000))
        for _ in range(20):  # 20 bytes a second, and nobody waits
            await client.send(b"x")
            await asyncio.sleep(0.05)
        waiting = asyncio.create_task(fetch(forebay.port, within=5))
        for _ in range(20):  # 10 KB a second, and somebody waits
            await client.send(500 * b"x")
            await asyncio.sleep(0.05)
        assert (await client.answer("POST")).status == 200
        assert (await waiting).body == b"ok\n"


async def test_a_body_that_stalls_below_the_buffer_is_a_408(tmp_path: Path) -> None:
    async with Origin() as origin, running(tmp_path, document(origin.port, http={"bodyTimeout": "200ms"})) as forebay:
        async with await Connection.open(forebay.port) as client:
            await client.send(request_bytes("/upload", "POST", [("Content-Length", "10")]) + b"hello")
            answer = await client.answer("POST", within=3)
            assert (answer.status, answer.get("connection")) == (408, "close")
        assert (await origin.stats())["accepts"] == 0


async def test_a_head_that_dribbles_is_a_408_at_the_timeout(tmp_path: Path) -> None:
    async with Origin() as origin, running(tmp_path, document(origin.port, http={"headerTimeout": "500ms"})) as forebay:
        async with await Connection.open(forebay.port) as client:
            began = time.monotonic()
            for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ":
                await client.send(bytes((byte,)))
                await asyncio.sleep(0.02)  # each byte comes well before the timeout: only the whole counts
            answer = await client.answer(within=3)
            assert (answer.status, answer.get("connection")) == (408, "close")
            assert time.monotonic() - began < 2
        async with await Connection.open(forebay.port) as client:
            assert await client.rest(within=3) == b""  # nothing sent, nothing answered
        async with await Connection.open(forebay.port) as client:
            assert (await client.ask(request_bytes())).status == 200
            await client.send(request_bytes()[:10])
            assert (await client.answer(within=3)).status == 408


async def test_an_idle_client_is_closed_at_the_timeout(tmp_path: Path) -> None:
    http = {"keepAliveTimeout": "300ms"}
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, http=http)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        for _ in range(3):
            assert (await client.ask(request_bytes())).status == 200
            await asyncio.sleep(0.15)  # idle, but not long enough
        assert await client.rest(within=3) == b""


# ---------------------------------------------------------------------- who does not read


async def test_clients_that_stop_reading_cost_bounded_memory(tmp_path: Path) -> None:
    async with Origin() as origin, running(tmp_path, document(origin.port, pool={"size": 20})) as forebay:
        await fetch(forebay.port, "/bytes/1000000")
        before = await worker_rss(forebay)
        clients = [await Connection.open(forebay.port, receive_buffer=4096) for _ in range(20)]
        for client in clients:
            client.stop_reading()
            await client.send(request_bytes(f"/bytes/{100 << 20}"))
        await origin.until(lambda stats: stats["active"] == 20)
        assert (await fetch(forebay.port)).body == b"ok\n"
        # 20 clients: at most responseBuffer and one read (256 KiB) for each.
        assert await worker_rss(forebay) - before < 16 << 20
        for client in clients:
            client.reset()
            await client.close()
        await origin.until(lambda stats: stats["active"] == 0)


async def test_a_lease_ends_before_a_slow_client_has_read(tmp_path: Path) -> None:
    """Up to responseBuffer is taken at once: the next one does not wait for this one's network."""
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, pool=ONE)) as forebay,
        await Connection.open(forebay.port, receive_buffer=4096) as client,
    ):
        client.stop_reading()
        await client.send(request_bytes("/bytes/60000"))
        await origin.until(lambda stats: stats["statuses"].get("200") == 1)
        assert (await fetch(forebay.port, within=2)).body == b"ok\n"
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await client.answer()).body == content(60_000)


async def test_a_client_that_stands_still_is_cut_at_the_timeout(tmp_path: Path) -> None:
    http = {"streamIdleTimeout": "400ms"}
    async with Origin() as origin, running(tmp_path, document(origin.port, http=http)) as forebay:
        async with await Connection.open(forebay.port, receive_buffer=4096) as client:
            client.stop_reading()
            await client.send(request_bytes(f"/bytes/{100 << 20}") + request_bytes("/never"))
            await origin.until(lambda stats: (stats["requests"], stats["active"]) == (1, 0))
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            with pytest.raises(CutAnswer):
                await client.answer()
        assert "/never" not in (await origin.stats())["targets"]


@pytest.mark.slow
async def test_a_slow_client_gets_the_whole_of_a_closing_answer(tmp_path: Path) -> None:
    """`Connection: close`, and the client takes longer than any linger to read what stands in our buffer."""
    http = {"responseBuffer": "16Mi"}
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, http=http)) as forebay,
        await Connection.open(forebay.port, receive_buffer=4096) as client,
    ):
        client.stop_reading()
        await client.send(request_bytes("/bytes/12000000", headers=[("Connection", "close")]))
        await origin.until(lambda stats: stats["statuses"].get("200") == 1)
        await asyncio.sleep(3)  # it stands still: longer than the linger of 2 s
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await client.answer()).body == content(12_000_000)


async def test_a_pipeline_of_one_that_does_not_read_is_not_worked_off(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port)) as forebay,
        await Connection.open(forebay.port, receive_buffer=4096) as client,
    ):
        client.stop_reading()
        await client.send(request_bytes("/bytes/1000000") * 40)
        await origin.until(lambda stats: stats["requests"] >= 1)
        await asyncio.sleep(0.3)  # nothing more may happen
        assert (await origin.stats())["requests"] < 10
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(40):
            assert len((await client.answer()).body) == 1_000_000


# ---------------------------------------------------------------------- upstreams that stand still


async def test_an_upstream_that_does_not_read_stops_the_client(tmp_path: Path) -> None:
    """What is buffered ahead of the lease fills the upstream's socket at once: the client must be stopped even so."""
    read_on = asyncio.Event()

    async def late(peer: Connection) -> None:
        peer.stop_reading()
        await read_on.wait()
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await read_request(peer)
        await peer.send(OK)

    size = 200 << 20
    http = {"requestBuffer": "16Mi", "responseTimeout": "20s"}
    async with Backend(late) as backend, running(tmp_path, document(backend.port, http=http)) as forebay:
        before = await worker_rss(forebay)
        async with await Connection.open(forebay.port) as client:
            await client.send(request_bytes("/", "POST", [("Content-Length", str(size))]))
            sending = asyncio.create_task(client.send(bytes(size)))
            await asyncio.wait([sending], timeout=1.5)
            assert not sending.done()
            assert await worker_rss(forebay) - before < 64 << 20  # requestBuffer, joined once
            read_on.set()
            await sending
            assert (await client.answer("POST")).body == b"ok"


@pytest.mark.slow
async def test_an_upstream_that_reads_late_has_responseTimeout_for_it(tmp_path: Path) -> None:
    """Not bodyTimeout: that is the client's, who would send if it could."""
    http = {"bodyTimeout": "200ms", "responseTimeout": "3s"}
    async with Origin() as origin, running(tmp_path, document(origin.port, http=http)) as forebay:
        body = content(20 << 20)
        async with await Connection.open(forebay.port) as client:
            answer = await client.ask(request_bytes("/upload?read_after=1", "POST", body=body))
            assert answer.status == 200
        http["responseTimeout"] = "300ms"
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, http=http)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        began = time.monotonic()
        answer = await client.ask(request_bytes("/upload?read_after=3", "POST", body=body))
        assert answer.status == 504
        assert time.monotonic() - began < 2


async def test_an_upstream_that_does_not_answer_is_a_504(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, http={"responseTimeout": "300ms"})) as forebay,
    ):
        async with await Connection.open(forebay.port) as client:
            for method in ("GET", "HEAD", "POST"):
                answer = await client.ask(request_bytes("/hang", method), within=3)
                assert (answer.status, answer.get("connection")) == (504, None)
            assert (await client.ask(request_bytes())).body == b"ok\n"
        assert (await origin.stats())["methods"] == {"GET": 2, "HEAD": 1, "POST": 1}  # none was sent twice


async def test_an_answer_that_has_begun_has_streamIdleTimeout(tmp_path: Path) -> None:
    """Head and first bytes come together, the rest after responseTimeout."""

    async def pause(peer: Connection) -> None:
        head = await read_head(peer)
        if b"/length" in head:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            last = b"cd"
        elif b"/chunked" in head:
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            last = b"4\r\nabcd\r\n0\r\n\r\n"
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nab")
            last = b"cd"
        await asyncio.sleep(0.7)  # longer than responseTimeout
        await peer.send(last)

    http = {"responseTimeout": "200ms", "streamIdleTimeout": "5s"}
    async with Backend(pause) as backend, running(tmp_path, document(backend.port, http=http)) as forebay:
        for target in ("/length", "/chunked", "/until-close"):
            assert (await fetch(forebay.port, target)).body == b"abcd"


@pytest.mark.parametrize("target", ["/stall", "/chunked/100?size=50&gap=30"])
async def test_an_answer_that_stands_still_is_cut(tmp_path: Path, target: str) -> None:
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, http={"streamIdleTimeout": "300ms"})) as forebay,
    ):
        async with await Connection.open(forebay.port) as client:
            with pytest.raises(CutAnswer) as cut:
                await client.ask(request_bytes(target), within=3)
            assert cut.value.begun
        assert (await upstream_state(forebay))["connections"]["leased"] == 0
