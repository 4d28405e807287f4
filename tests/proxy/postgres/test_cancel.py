"""Cancel requests to a server: over TLS or not at all, how long they may take, and how long they hold their place."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest
from tests.proxy.postgres.harness import Rig
from tests.support.waiting import until

from forebay_core.pgwire import backend, frontend
from forebay_core.pgwire.startup import CancelRequest, write_cancel
from forebay_proxy.postgres.aside import Asides, NoPlace
from forebay_proxy.postgres.cancel import Cancels

Start = Callable[..., Awaitable[Rig]]
REQUEST = CancelRequest(7, b"abcd")


async def test_a_server_that_takes_one_and_does_not_close(rig: Start) -> None:
    """Who waits for the request is not kept; the place is, until the server's end."""
    r = await rig()
    asides = Asides(r.worker.tasks)
    cancels = Cancels(r.worker.tasks, asides)
    (endpoint,) = r.upstream.pool.endpoints
    r.server.cancel_ends.clear()
    assert not await cancels.request(r.upstream, endpoint, REQUEST, 0.2)
    assert r.upstream.rejections == {"cancel": 1}
    assert r.server.cancels == 1
    with pytest.raises(NoPlace):
        async with asides.place(r.upstream, endpoint, 0.05):
            pass
    r.server.cancel_ends.set()
    assert await cancels.request(r.upstream, endpoint, REQUEST, 5.0)
    assert r.server.cancels == 2


@pytest.mark.parametrize(("minor", "size"), [(0, 4), (2, 32)])
async def test_the_key_of_a_console_is_forgotten_with_it(rig: Start, minor: int, size: int) -> None:
    r = await rig(postgres={"adminUsers": ["admin"]})
    client = await r.client()
    client.start("admin", minor, database="pgbouncer")
    pid, key = backend.read_backend_key_data(dict(await client.until(b"Z"))[b"K"])
    assert len(key) == size

    async def rejected() -> int:
        asks = await r.client()
        asks.send(write_cancel(CancelRequest(pid, key)))
        await asks.ended()
        return sum(r.proxy.rejections.values())

    assert await rejected() == 0
    await client.close()
    await until(lambda: not r.proxy.clients)
    assert await rejected() == 1


async def test_a_server_that_has_no_tls_any_more(rig: Start) -> None:
    """It does not get the key in the clear."""
    r = await rig(tls={"mode": "require"})
    cancels = Cancels(r.worker.tasks, Asides(r.worker.tasks))
    (endpoint,) = r.upstream.pool.endpoints
    assert not await cancels.request(r.upstream, endpoint, REQUEST, 5.0)
    assert r.server.cancels == 0
    assert r.upstream.rejections == {"cancel": 1}


async def test_a_server_that_hangs_as_it_is_asked_for_tls(rig: Start) -> None:
    """It may take the connection up yet: the place is held until its end."""
    over = asyncio.Event()

    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async with await asyncio.start_server(hangs, "127.0.0.1", 0) as server:
        endpoint = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}
        r = await rig(tls={"mode": "require"}, endpoints=[endpoint])
        asides = Asides(r.worker.tasks)
        (there,) = r.upstream.pool.endpoints
        assert not await Cancels(r.worker.tasks, asides).request(r.upstream, there, REQUEST, 0.2)
        with pytest.raises(NoPlace):
            async with asides.place(r.upstream, there, 0.05):
                pass
        over.set()
        async with asides.place(r.upstream, there, 5.0):
            pass


async def test_in_a_drain_the_place_is_counted_as_held(rig: Start) -> None:
    """The ledger gives away what a draining life does not hold: it may open nothing above what it has said."""
    r = await rig()
    pool = r.upstream.pool
    pool.set_grant(4, monotonic(), per_endpoint=True)
    client = await r.session()
    r.server.answers[b"SELECT slow"] = b""
    client.send(frontend.query("SELECT slow"))
    await until(lambda: pool.leased)
    assert r.upstream.held == 1
    pool.drain(monotonic(), keep=1)
    assert r.upstream.held == 2
    r.server.cancel_ends.clear()
    asides = Asides(r.worker.tasks)
    cancels = Cancels(r.worker.tasks, asides)
    (endpoint,) = pool.endpoints
    assert not await cancels.request(r.upstream, endpoint, REQUEST, 0.1)
    assert (r.server.open, r.upstream.held) == (2, 2)
    r.server.cancel_ends.set()
    await client.close()
    await until(lambda: not pool.open)
    assert r.upstream.held == 0
    with pytest.raises(NoPlace):
        async with asides.place(r.upstream, endpoint, 0.05):
            pass
