"""Clients that do all kinds of things at once, and go at any moment: whatever they do, nothing is left behind, and no
answer reaches another request."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.integration.http.harness import document, running, upstream_state
from tests.support.certs import CA
from tests.support.forebay import Forebay
from tests.support.origin import Origin
from tests.support.origin_routes import content
from tests.support.raw import Connection, CutAnswer, chunked, fetch, request_bytes, unverified

POOL = {"size": 4, "maxOverflow": 2, "timeout": "300ms", "maxWaiting": 20, "recycle": "1s", "maxUses": 20}
HTTP = {
    "headerTimeout": "300ms", "bodyTimeout": "200ms", "responseTimeout": "300ms", "streamIdleTimeout": "400ms",
    "requestBuffer": "8Ki", "responseBuffer": "16Ki", "maxBodyBytes": 400_000,
}  # fmt: skip
OWN = {400, 408, 413, 502, 503, 504}  # answers of the proxy itself, each of which some of these must get
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "test/1"))


async def ask(client: Connection, rng: random.Random) -> None:
    """An answer is the one that was asked for, or one of the proxy's own."""
    size = rng.choice((0, 1, 5000, 70_000, 300_000))
    answer = await client.ask(request_bytes(f"/{rng.choice(('bytes', 'chunked'))}/{size}"), within=5)
    assert answer.status in OWN or answer.body == content(size)


async def upload(client: Connection, rng: random.Random) -> None:
    body = rng.randbytes(rng.choice((1, 5000, 100_000, 390_000)))
    if rng.random() < 0.5:
        request = request_bytes("/echo", "POST", body=body)
    else:
        request = request_bytes("/echo", "POST", [("Transfer-Encoding", "chunked")]) + chunked([body])
    answer = await client.ask(request, within=5)
    assert answer.status in OWN or answer.body == body


async def pipeline(client: Connection, rng: random.Random) -> None:
    sizes = [rng.randrange(3000) for _ in range(rng.randrange(1, 8))]
    await client.send(b"".join(request_bytes(f"/bytes/{size}") for size in sizes))
    for size in sizes[: rng.randrange(len(sizes) + 1)]:
        answer = await client.answer(within=5)
        assert answer.status in OWN or answer.body == content(size)


async def misbehaving_upstream(client: Connection, rng: random.Random) -> None:
    targets = (
        "/cut",
        "/reset?after=-1",
        "/hang",
        "/stall",
        "/garbage",
        "/bad/cut-head",
        "/bad/chunk-size-0x",
        "/close",
    )
    await client.ask(request_bytes(rng.choice((*targets, "/close-on-reuse", "/close-idle/1", "/1xx"))), within=5)


async def stop_in_the_middle(client: Connection, rng: random.Random) -> None:
    requests = (
        request_bytes("/upload", "POST", [("Content-Length", "100000")]) + bytes(rng.randrange(100_000)),
        request_bytes("/upload", "POST", [("Transfer-Encoding", "chunked")]) + b"ff\r\n",
        request_bytes("/early/200", "POST", [("Content-Length", "300000")]) + bytes(rng.randrange(300_000)),
        request_bytes("/")[: rng.randrange(1, 40)],
        request_bytes("/bytes/300000"),
        request_bytes("/slow/0.1"),
    )
    await client.send(rng.choice(requests))
    match rng.randrange(4):
        case 0:
            client.reset()
        case 1 if client.writer.can_write_eof():
            client.half_close()
            await client.rest(within=5)
        case 2:
            client.stop_reading()
            await asyncio.sleep(rng.random())


async def bad(client: Connection, rng: random.Random) -> None:
    await client.send(rng.choice((b"BAD\r\n\r\n", b"\x00", request_bytes("/", "POST", [("Content-Length", "500000")]))))
    await client.rest(within=5)


async def tunnel(client: Connection, rng: random.Random) -> None:
    answer = await client.ask(request_bytes("/upgrade", headers=UPGRADE), within=5)
    if answer.status != 101:
        assert answer.status in OWN
        return
    data = rng.randbytes(rng.randrange(1, 200_000))
    sending = asyncio.create_task(client.send(data))
    got = await client.reader.readexactly(len(data) // rng.choice((1, 2)))
    assert data.startswith(got)
    if rng.random() < 0.5 and client.writer.can_write_eof():
        await sending
        client.half_close()
        await client.rest(within=5)
    elif rng.random() < 0.5:
        client.reset()
    with contextlib.suppress(ConnectionError):
        await sending


Deed = Callable[[Connection, random.Random], Awaitable[None]]
DEEDS: list[Deed] = [ask, ask, upload, misbehaving_upstream]
LAST: list[Deed] = [ask, pipeline, stop_in_the_middle, bad, tunnel]  # after some of these the connection is done with


async def live(forebay: Forebay, seed: int, tls: ssl.SSLContext | None, until: float) -> None:
    """One client after the other, each of which does a few things."""
    rng = random.Random(seed)
    while asyncio.get_running_loop().time() < until:
        # Its end by the other side is expected at any moment; a wrong answer is not.
        with contextlib.suppress(CutAnswer, ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            async with await Connection.open(forebay.port, tls=tls) as client:
                for deed in [*rng.choices(DEEDS, k=rng.randrange(3)), rng.choice(LAST)]:
                    await deed(client, rng)


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True])
async def test_nothing_is_left_behind(tmp_path: Path, ca: CA, tls: bool) -> None:
    server = ca.server()
    listen = {"listen": {"port": 0, "tls": {"certFile": str(server.cert), "keyFile": str(server.key)}}} if tls else {}
    context = unverified() if tls else None
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, http=HTTP, spec=listen, pool=POOL)) as forebay,
    ):
        until = asyncio.get_running_loop().time() + 8
        async with asyncio.TaskGroup() as group:
            for seed in range(30):
                group.create_task(live(forebay, seed, context, until))
        async with asyncio.timeout(5):
            # It happens in another process: there is no event to wait for.
            while True:
                state = await upstream_state(forebay)
                busy = state["waiting"] + sum(n for name, n in state["connections"].items() if name != "idle")
                (worker,) = (await forebay.state())["workers"]
                if not busy and not worker["clients"]:
                    break
                await asyncio.sleep(0.05)
        stats = await origin.stats()
        assert stats["malformed"] == 0, stats["complaints"]
        assert stats["high_water"] <= 6
        assert stats["requests"] > 100
        for _ in range(10):
            assert (await fetch(forebay.port, tls=context)).body == b"ok\n"
