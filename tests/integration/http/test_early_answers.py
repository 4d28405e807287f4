"""Answers that come before the request is complete: the client gets to read them, and nothing is left behind."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from tests.integration.http.backend import OK, Backend, read_head
from tests.integration.http.harness import Pair, document, running, upstream_state
from tests.support.origin import Origin
from tests.support.origin_routes import content
from tests.support.raw import Answer, Connection, chunked, fetch, request_bytes
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = 32 << 20  # bytes; more than all buffers on the way


async def upload_then_read(client: Connection, head: bytes, size: int) -> Answer:
    """As most clients do: send everything, whatever comes back meanwhile, and only then read."""
    client.stop_reading()
    with contextlib.suppress(ConnectionError):
        await client.send(head)
        for _ in range(size // len(PIECE)):
            await client.send(PIECE)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    return await client.answer("POST")


PIECE = bytes(1 << 16)


@pytest.mark.parametrize("target", ["/early/413", "/early/413?close=1", "/early/200", "/early/204"])
async def test_an_early_answer_to_a_long_upload(pair: Pair, target: str) -> None:
    async with await pair.connect() as client:
        head = request_bytes(target, "POST", [("Content-Length", str(LONG))])
        answer = await upload_then_read(client, head, LONG)
        assert str(answer.status) in target
        assert answer.get("connection") == "close"
        assert await client.rest(within=5) == b""


async def test_an_early_answer_is_passed_on_at_once(pair: Pair) -> None:
    """The client has not sent its body, and gets its answer all the same."""
    async with await pair.connect() as client:
        answer = await client.ask(request_bytes("/early/403", "POST", [("Content-Length", "70000")]) + content(66_000))
        assert (answer.status, answer.get("connection")) == (403, "close")
        await client.send(content(4000) + request_bytes("/never"))
        assert await client.rest(within=5) == b""
    assert "/never" not in (await pair.origin.stats())["targets"]


async def test_both_directions_at_once(pair: Pair) -> None:
    """The answer begins before the request is complete, and ends after it."""
    async with await pair.connect() as client:
        head = request_bytes("/chunked/200000?at=head&gap=0.01", "POST", [("Transfer-Encoding", "chunked")])
        await client.send(head + b"11170\r\n" + content(70_000) + b"\r\n")
        begun = await client.reader.readuntil(b"\r\n\r\n")
        assert begun.startswith(b"HTTP/1.1 200 ")
        await client.send(chunked([b"last"]))
        rest = await client.rest()
        assert rest.endswith(b"\r\n0\r\n\r\n")


async def test_an_early_answer_frees_the_place_of_its_connection(tmp_path: Path) -> None:
    pool = {"size": 1, "maxOverflow": 0}
    async with Origin(limit=1) as origin, running(tmp_path, document(origin.port, pool=pool)) as forebay:
        for _ in range(5):
            async with await Connection.open(forebay.port) as client:
                head = request_bytes("/early/413?close=1", "POST", [("Content-Length", str(LONG))])
                assert (await client.ask(head + content(100_000))).status == 413
                # It reads what came of the body before it sees our end, and would count a new connection before that.
                await until(origin.stats, wanted=lambda stats: stats["open"] == 0)
                answer = await fetch(forebay.port, "/")
                assert (answer.status, answer.body) == (200, b"ok\n")
        assert (await origin.stats())["refused"] == 0


async def test_an_upstream_that_has_not_read_the_body_is_not_used_again(tmp_path: Path) -> None:
    """It answers, keeps the connection, and never reads: the rest of the body stands in our buffer."""
    release = asyncio.Event()

    async def answer_unread(peer: Connection) -> None:
        head = await read_head(peer)
        if b"GET " in head:
            await peer.send(OK)
            return
        peer.stop_reading()
        await peer.send(OK)
        await release.wait()

    http = {"requestBuffer": 16 << 20}  # all of it is there when the connection is asked for
    async with Backend(answer_unread) as backend, running(tmp_path, document(backend.port, http=http)) as forebay:
        async with await Connection.open(forebay.port) as client:
            answer = await client.ask(request_bytes("/", "POST", body=bytes(12 << 20)))
            assert answer.body == b"ok"
            answer = await client.ask(request_bytes("/"), within=3)
            assert answer.body == b"ok"
        assert backend.accepted == 2
        release.set()


async def test_the_answer_of_an_upstream_that_hangs_up_on_an_upload_is_passed_on(tmp_path: Path) -> None:
    """It answers and closes, with most of the body unread: that is a reset, which must not overtake the answer."""

    async def hang_up(peer: Connection) -> None:
        await read_head(peer)
        peer.stop_reading()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")

    async with Backend(hang_up) as backend, running(tmp_path, document(backend.port)) as forebay:
        for _ in range(30):
            async with await Connection.open(forebay.port) as client:
                head = request_bytes("/", "POST", [("Content-Length", str(8 << 20))])
                answer = await upload_then_read(client, head, 8 << 20)
                assert (answer.status, answer.body) == (413, b"no")


async def test_a_body_over_the_limit_is_refused_as_soon_as_that_is_known(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, http={"maxBodyBytes": 100_000})) as forebay,
    ):
        async with await Connection.open(forebay.port) as client:
            answer = await client.ask(request_bytes("/upload", "POST", [("Content-Length", "100001")]))
            assert (answer.status, answer.get("connection")) == (413, "close")
        async with await Connection.open(forebay.port) as client:
            expect = [("Content-Length", "100001"), ("Expect", "100-continue")]
            answer = await client.ask(request_bytes("/upload", "POST", expect))
            assert (answer.status, answer.interim) == (413, [])
        async with await Connection.open(forebay.port) as client:
            head = request_bytes("/upload", "POST", [("Transfer-Encoding", "chunked")])
            answer = await upload_then_read(client, head + b"%x\r\n" % LONG, LONG)
            assert answer.status == 413
        async with await Connection.open(forebay.port) as client:
            assert (await client.ask(request_bytes("/upload", "POST", body=content(100_000)))).status == 200
        assert (await upstream_state(forebay))["rejections"] == {"body_too_large": 3}


async def test_a_bad_chunk_far_into_a_body(pair: Pair) -> None:
    async with await pair.connect() as client:
        await client.send(request_bytes("/upload", "POST", [("Transfer-Encoding", "chunked")]))
        answer = await client.ask(chunked([content(200_000)])[:-5] + b"-1\r\nhello\r\n0\r\n\r\n")
        assert (answer.status, answer.get("connection")) == (400, "close")
    await pair.origin.until(lambda stats: stats["active"] == 0)


async def test_an_upstream_that_resets_a_long_upload(pair: Pair) -> None:
    async with await pair.connect() as client:
        head = request_bytes("/reset?after=-1&at=head", "POST", [("Content-Length", str(LONG))])
        answer = await upload_then_read(client, head, LONG)
        assert (answer.status, answer.get("connection")) == (502, "close")


async def test_a_client_that_goes_in_the_middle_of_its_upload(pair: Pair) -> None:
    await pair.origin.reset()
    client = await pair.connect()
    await client.send(request_bytes("/upload", "POST", [("Content-Length", str(LONG))]) + content(1 << 20))
    await pair.origin.until(lambda stats: stats["active"] == 1)
    client.reset()
    await client.close()
    await pair.origin.until(lambda stats: (stats["active"], stats["aborted"]) == (0, 1))
