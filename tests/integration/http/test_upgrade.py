"""Upgrades: after a 101 that was asked for, bytes both ways as they come, and each direction ends apart."""

import asyncio
from pathlib import Path

import pytest
from tests.integration.http.backend import Backend, read_head
from tests.integration.http.harness import Pair, document, running, upstream_state
from tests.support.origin_routes import content
from tests.support.raw import Connection, request_bytes
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

UPGRADE = (("Connection", "keep-alive, Upgrade"), ("Upgrade", "test/1"))
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n\r\n"


async def leased(forebay: object, count: int) -> None:
    """Wait until so many connections are leased."""
    await until(
        lambda: upstream_state(forebay), 5,  # type: ignore[arg-type]
        wanted=lambda state: state["connections"]["leased"] == count,
    )  # fmt: skip


async def test_an_upgrade_is_a_tunnel(pair: Pair) -> None:
    async with await pair.connect() as client:
        answer = await client.ask(request_bytes("/upgrade", headers=UPGRADE))
        assert answer.status == 101
        assert (answer.get("upgrade"), answer.get("connection")) == ("test/1", "Upgrade")
        for data in (b"\x00", b"GET / HTTP/1.1\r\n\r\n", content(100_000)):
            await client.send(data)
            assert await client.reader.readexactly(len(data)) == data
        client.half_close()
        assert await client.rest() == b""
    await leased(pair.forebay, 0)


async def test_how_long_a_tunnel_lasts_says_nothing_of_the_upstream(pair: Pair) -> None:
    """Else the autoscaler would take open tunnels for a backend that has stopped to answer."""
    before = (await upstream_state(pair.forebay))["hold"][1]
    async with await pair.connect() as client:
        assert (await client.ask(request_bytes("/upgrade", headers=UPGRADE))).status == 101
        await asyncio.sleep(0.3)
        assert (await upstream_state(pair.forebay))["lease_oldest"] == 0
    await leased(pair.forebay, 0)
    assert (await upstream_state(pair.forebay))["hold"][1] - before < 0.1


async def test_a_refused_upgrade_is_an_ordinary_answer(pair: Pair) -> None:
    async with await pair.connect() as client:
        for _ in range(2):
            answer = await client.ask(request_bytes("/upgrade/refuse", headers=UPGRADE))
            assert (answer.status, answer.body, answer.get("connection")) == (200, b"ok\n", None)


async def test_what_a_client_sends_ahead_of_the_101_arrives(pair: Pair) -> None:
    """More than the proxy buffers behind a request, so that it has stopped reading before the switch."""
    ahead = content(500_000)
    async with await pair.connect() as client:
        sending = asyncio.create_task(client.send(request_bytes("/upgrade?delay=0.2", headers=UPGRADE) + ahead))
        assert (await client.answer()).status == 101
        assert await client.reader.readexactly(len(ahead)) == ahead
        await sending
        await client.send(b"and on")
        assert await client.reader.readexactly(6) == b"and on"


async def test_what_an_upstream_sends_with_the_101_arrives(tmp_path: Path) -> None:
    async def speak_first(peer: Connection) -> None:
        await read_head(peer)
        await peer.send(SWITCHED + b"hello")
        assert await peer.rest() == b"goodbye"

    async with Backend(speak_first) as backend, running(tmp_path, document(backend.port)) as forebay:
        async with await Connection.open(forebay.port) as client:
            assert (await client.ask(request_bytes(headers=UPGRADE))).status == 101
            assert await client.reader.readexactly(5) == b"hello"
            await client.send(b"goodbye")
            client.half_close()
            assert await client.rest() == b""
        await leased(forebay, 0)


async def test_each_direction_ends_apart(tmp_path: Path) -> None:
    """The upstream ends its direction and goes on listening; then the other way round."""
    heard = []

    async def end_first(peer: Connection) -> None:
        head = await read_head(peer)
        await peer.send(SWITCHED)
        if b"upstream-first" in head:
            await peer.send(b"last words")
            peer.half_close()
            heard.append(await peer.rest())
        else:
            heard.append(await peer.rest())
            await peer.send(content(200_000))

    async with Backend(end_first) as backend, running(tmp_path, document(backend.port)) as forebay:
        async with await Connection.open(forebay.port) as client:
            assert (await client.ask(request_bytes("/upstream-first", headers=UPGRADE))).status == 101
            assert await client.rest() == b"last words"
            await client.send(content(200_000))
            client.half_close()
            await leased(forebay, 0)
        async with await Connection.open(forebay.port) as client:
            assert (await client.ask(request_bytes("/client-first", headers=UPGRADE))).status == 101
            await client.send(b"question")
            client.half_close()
            assert await client.rest() == content(200_000)
        await leased(forebay, 0)
    assert heard == [content(200_000), b"question"]


async def test_an_upstream_that_closes_ends_the_tunnel(tmp_path: Path) -> None:
    """As WebSocket servers do. The client answers with its own end; then the lease must be over."""

    async def hang_up(peer: Connection) -> None:
        await read_head(peer)
        await peer.send(SWITCHED + b"bye")

    async with Backend(hang_up) as backend, running(tmp_path, document(backend.port)) as forebay:
        async with await Connection.open(forebay.port) as client:
            assert (await client.ask(request_bytes(headers=UPGRADE))).status == 101
            assert await client.rest() == b"bye"
        await leased(forebay, 0)
        assert (await upstream_state(forebay))["held"] == 0


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_reset_goes_through_a_tunnel(tmp_path: Path, who: str) -> None:
    heard = asyncio.Event()
    ended: asyncio.Future[ConnectionError | bytes] = asyncio.get_running_loop().create_future()

    async def reset(peer: Connection) -> None:
        await read_head(peer)
        await peer.send(SWITCHED)
        await peer.reader.readexactly(1)
        if who == "upstream":
            peer.reset()
        heard.set()
        try:
            ended.set_result(await peer.reader.read())
        except ConnectionError as error:
            ended.set_result(error)

    async with Backend(reset) as backend, running(tmp_path, document(backend.port)) as forebay:
        async with await Connection.open(forebay.port) as client:
            assert (await client.ask(request_bytes(headers=UPGRADE))).status == 101
            await client.send(b"x")
            if who == "upstream":
                with pytest.raises(ConnectionResetError):
                    async with asyncio.timeout(5):
                        await client.reader.read()
            else:
                async with asyncio.timeout(5):
                    await heard.wait()
                    client.reset()
                    assert isinstance(await ended, ConnectionResetError)
        await leased(forebay, 0)


async def test_an_idle_tunnel_ends(tmp_path: Path) -> None:
    async def switch(peer: Connection) -> None:
        await read_head(peer)
        await peer.send(SWITCHED)
        await peer.rest()

    http = {"streamIdleTimeout": "300ms"}
    async with Backend(switch) as backend, running(tmp_path, document(backend.port, http=http)) as forebay:
        async with await Connection.open(forebay.port) as client:
            assert (await client.ask(request_bytes(headers=UPGRADE))).status == 101
            assert await client.rest(within=3) == b""
        await leased(forebay, 0)


async def test_a_tunnel_stops_reading_for_a_peer_that_does_not_read(tmp_path: Path) -> None:
    """Bytes are not heaped up: a sender is stopped, and all arrives once its peer reads on."""
    size = 48 << 20
    read_on = asyncio.Event()
    got = asyncio.get_running_loop().create_future()

    async def late(peer: Connection) -> None:
        await read_head(peer)
        peer.stop_reading()
        await peer.send(SWITCHED)
        await read_on.wait()
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        count = 0
        while data := await peer.reader.read(1 << 18):
            count += len(data)
        got.set_result(count)

    async with (
        Backend(late) as backend,
        running(tmp_path, document(backend.port)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        assert (await client.ask(request_bytes(headers=UPGRADE))).status == 101
        before = (await forebay.state())["workers"][0]["rss"]
        sending = asyncio.create_task(client.send(bytes(size)))
        await asyncio.wait([sending], timeout=0.5)
        assert not sending.done()
        assert (await forebay.state())["workers"][0]["rss"] - before < 8 << 20
        read_on.set()
        await sending
        client.half_close()
        async with asyncio.timeout(20):
            assert await got == size


@pytest.mark.parametrize("fields", [(), (("Upgrade", "test/1"),), (("Connection", "Upgrade"),)])
async def test_a_101_that_was_not_asked_for_is_a_502(tmp_path: Path, fields: tuple[tuple[str, str], ...]) -> None:
    async def switch(peer: Connection) -> None:
        await read_head(peer)
        await peer.send(SWITCHED + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await peer.rest()

    async with Backend(switch) as backend, running(tmp_path, document(backend.port)) as forebay:
        async with await Connection.open(forebay.port) as client:
            assert (await client.ask(request_bytes(headers=fields))).status == 502
        await leased(forebay, 0)


async def test_h2c_is_not_tunnelled(pair: Pair) -> None:
    async with await pair.connect() as client:
        h2c = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")]
        answer = await client.ask(request_bytes("/headers", headers=h2c))
        names = answer.body.lower()
        assert answer.status == 200
        assert b"upgrade" not in names
        assert b"http2" not in names
