"""Large things: heads of many fields, and bodies far larger than any buffer, in bounded memory."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.integration.http.harness import Pair, document, running, worker_rss
from tests.support.origin import Origin
from tests.support.origin_routes import content
from tests.support.raw import Connection, request_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")

GIB = 1 << 30
MAY_GROW = 32 << 20  # bytes
MAX_HEAD = 32 << 10  # bytes; the default of maxHeaderBytes
MAX_FIELDS = 256


async def peak_rss(forebay: object, until: asyncio.Task[None]) -> int:
    """The largest RSS of the worker that was seen while the task ran."""
    peak = 0
    while not until.done():
        await asyncio.wait([until], timeout=0.05)
        peak = max(peak, await worker_rss(forebay))  # type: ignore[arg-type]
    await until
    return peak


async def discard(client: Connection, size: int) -> None:
    """Read so many bytes."""
    while size:
        data = await client.reader.read(min(size, 1 << 20))
        assert data, f"{size} bytes are missing"
        size -= len(data)


# ---------------------------------------------------------------------- heads


async def test_many_fields_arrive_in_order(pair: Pair) -> None:
    fields = [(f"X-Field-{i}", f"value {i}") for i in range(MAX_FIELDS - 1)]  # and Host
    async with await pair.connect() as client:
        answer = await client.ask(request_bytes("/headers", headers=fields))
        assert json.loads(answer.body)["headers"][1:MAX_FIELDS] == [list(field) for field in fields]
        answer = await client.ask(request_bytes("/headers", headers=[*fields, ("X-More", "one")]))
        assert (answer.status, answer.get("connection")) == (431, "close")


async def test_a_head_up_to_the_limit_passes(pair: Pair) -> None:
    plain = request_bytes("/headers", headers=[("X-Fill", "")])
    async with await pair.connect() as client:
        for _ in range(2):
            filling = "f" * (MAX_HEAD - len(plain))
            assert (await client.ask(request_bytes("/headers", headers=[("X-Fill", filling)]))).status == 200
        answer = await client.ask(request_bytes("/headers", headers=[("X-Fill", filling + "f")]))
        assert answer.status == 431
    async with await pair.connect() as client:
        assert (await client.ask(request_bytes("/" + "p" * MAX_HEAD))).status == 414


async def test_an_endless_head_is_refused_before_it_ends(pair: Pair) -> None:
    async with await pair.connect() as client:
        answer = await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 40_000)
        assert answer.status == 431


@pytest.mark.parametrize(
    ("query", "status"), [("n=200&size=100", 200), ("n=100&size=300", 200), ("n=2&size=20000", 502)]
)
async def test_large_heads_of_answers(pair: Pair, query: str, status: int) -> None:
    async with await pair.connect() as client:
        answer = await client.ask(request_bytes(f"/huge-headers?{query}"))
        assert answer.status == status
        if status == 200:
            assert len([name for name, _ in answer.headers if name.startswith("X-Field-")]) == int(query[2:5])


# ---------------------------------------------------------------------- bodies


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 300_000, 5_000_000])
async def test_answers_of_any_size_arrive_whole(pair: Pair, size: int) -> None:
    async with await pair.connect() as client:
        for target in (f"/bytes/{size}", f"/chunked/{size}?size=60000"):
            assert (await client.ask(request_bytes(target))).body == content(size)


@pytest.mark.slow
@pytest.mark.parametrize("route", ["bytes", "chunked"])
async def test_a_gibibyte_down(tmp_path: Path, route: str) -> None:
    size = GIB if route == "bytes" else GIB // 8  # the origin makes all chunks in memory
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        await client.ask(request_bytes("/bytes/1000000"))
        before = await worker_rss(forebay)
        await client.send(request_bytes(f"/{route}/{size}?size=65536"))
        await client.reader.readuntil(b"\r\n\r\n")
        framing = 0 if route == "bytes" else (size // 65_536) * len(b"10000\r\n\r\n") + len(b"0\r\n\r\n")
        if route == "chunked":
            reading = asyncio.create_task(until_last_chunk(client))
        else:
            reading = asyncio.create_task(discard(client, size + framing))
        peak = await peak_rss(forebay, reading)
        assert peak - before < MAY_GROW, f"{(peak - before) >> 20} MiB"
        assert (await client.ask(request_bytes())).body == b"ok\n"


async def until_last_chunk(client: Connection) -> None:
    """Read chunks, as they may be cut anew on the way, to the end of the body."""
    while size := int(await client.reader.readuntil(b"\r\n"), 16):
        await discard(client, size + 2)
    assert await client.reader.readexactly(2) == b"\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_gibibyte_up(tmp_path: Path, framing: str) -> None:
    piece = content(1 << 20)
    frame = b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece
    fields = [("Transfer-Encoding", "chunked")] if framing == "chunked" else [("Content-Length", str(GIB))]

    async def send(client: Connection) -> None:
        for _ in range(GIB // len(piece)):
            await client.send(frame)
        if framing == "chunked":
            await client.send(b"0\r\n\r\n")

    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        await client.ask(request_bytes("/upload", "POST", body=content(1_000_000)))
        before = await worker_rss(forebay)
        await client.send(request_bytes("/upload", "POST", fields))
        peak = await peak_rss(forebay, asyncio.create_task(send(client)))
        assert json.loads((await client.answer("POST")).body)["length"] == GIB
        assert peak - before < MAY_GROW, f"{(peak - before) >> 20} MiB"
