"""Many tunnels at once: what they cost, how they end, and that nothing of them stays."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
from tests.integration.forward.harness import connect, document, tunnel
from tests.integration.http.backend import Backend
from tests.integration.http.harness import running, upstream_state, worker_rss
from tests.support.certs import CA
from tests.support.forebay import Forebay
from tests.support.raw import Connection, unverified

MANY = 2000
KIB = 1024


async def hold(peer: Connection) -> None:
    """Echo; our end comes after the other's."""
    while data := await peer.reader.read(4096):
        await peer.send(data)


def limits(port: int, **forward: object) -> dict[str, object]:
    return {"ports": [port], "perOrigin": {"maxConnections": MANY + 100}, **forward}


async def descriptors(forebay: Forebay) -> int:
    (pid,) = await forebay.worker_pids()
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def send_and_close(port: int, authority: str, count: int) -> None:
    """Through a tunnel over TLS, as the ssl module does: without close_notify."""
    with socket.create_connection(("127.0.0.1", port)) as sock, unverified().wrap_socket(sock) as client:
        client.sendall(connect(authority))
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        client.sendall(b"x" * count)


async def until_closed(forebay: Forebay, within: float = 10.0) -> dict[str, object]:
    """The upstream's state once no connection is open, at either side."""
    async with asyncio.timeout(within):
        while True:
            (worker,) = (await forebay.state())["workers"]
            state: dict[str, object] = worker["upstreams"]["out"]
            if state["held"] == 0 and not worker["clients"]:
                return state
            await asyncio.sleep(0.05)


async def open_many(forebay: Forebay, port: int, count: int) -> list[Connection]:
    gate = asyncio.Semaphore(100)

    async def one() -> Connection:
        async with gate:
            return await tunnel(forebay.port, f"127.0.0.1:{port}")

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def test_two_thousand_tunnels(tmp_path: Path) -> None:
    pool = {"size": 10, "maxOverflow": MANY + 90, "maxWaiting": MANY}
    async with (
        Backend(hold) as backend,
        running(tmp_path, document(limits(backend.port), pool=pool)) as forebay,
    ):
        for client in await open_many(forebay, backend.port, 100):  # what is made once is not of one tunnel
            await client.close()
        await until_closed(forebay)
        before, files = await worker_rss(forebay), await descriptors(forebay)
        clients = await open_many(forebay, backend.port, MANY)
        for client in clients:
            await client.send(b"x" * 2000)
        for client in clients:
            assert await client.reader.readexactly(2000) == b"x" * 2000
        cost = (await worker_rss(forebay) - before) / MANY
        print(f"{cost:.0f} bytes a tunnel")
        assert cost < 16 * KIB
        assert (await upstream_state(forebay, "out"))["connections"]["leased"] == MANY
        for number, client in enumerate(clients):
            if number % 3 == 0:
                client.half_close()
            elif number % 3 == 1:
                client.reset()
        for client in clients[::3]:
            assert await client.rest() == b""
        for client in clients:
            await client.close()
        state = await until_closed(forebay)
        assert state["hold"][1] == 0  # a tunnel's length says nothing of the upstream
        assert await descriptors(forebay) == files
        (worker,) = (await forebay.state())["workers"]
        assert sum(worker["upstreams"]["out"]["codes"].values()) == MANY + 100


async def test_an_idle_tunnel_ends(tmp_path: Path) -> None:
    async with (
        Backend(hold) as backend,
        running(tmp_path, document(limits(backend.port), http={"streamIdleTimeout": "500ms"})) as forebay,
    ):
        client = await tunnel(forebay.port, f"127.0.0.1:{backend.port}")
        for _ in range(4):
            await asyncio.sleep(0.3)  # it is not idle
            await client.send(b"a")
            assert await client.reader.readexactly(1) == b"a"
        assert await client.rest() == b""
        await client.close()
        await until_closed(forebay)


@pytest.mark.parametrize("half_closed", [False, True])
async def test_a_reset_is_passed_on(tmp_path: Path, half_closed: bool) -> None:
    ends: asyncio.Queue[ConnectionError] = asyncio.Queue()

    async def flood(peer: Connection) -> None:
        if half_closed:
            assert await peer.reader.read() == b""
        try:
            while True:
                await peer.send(b"x" * 65536)
        except ConnectionError as error:
            ends.put_nowait(error)
            raise

    async with Backend(flood) as backend, running(tmp_path, document(limits(backend.port))) as forebay:
        client = await tunnel(forebay.port, f"127.0.0.1:{backend.port}", receive_buffer=4096)
        if half_closed:
            client.half_close()
        assert await client.reader.read(1)
        client.reset()
        assert await asyncio.wait_for(ends.get(), 5)
        await until_closed(forebay)


async def test_a_reset_in_the_middle_of_an_upload_is_no_end(tmp_path: Path) -> None:
    """To a far side that only reads, it would be a whole one."""
    heard: asyncio.Queue[bool] = asyncio.Queue()
    end: asyncio.Queue[ConnectionError | bytes] = asyncio.Queue()

    async def reads(peer: Connection) -> None:
        heard.put_nowait(bool(await peer.reader.readexactly(300)))
        try:
            end.put_nowait(await peer.reader.read())
        except ConnectionError as error:
            end.put_nowait(error)

    async with Backend(reads) as backend, running(tmp_path, document(limits(backend.port))) as forebay:
        client = await tunnel(forebay.port, f"127.0.0.1:{backend.port}")
        await client.send(b"x" * 300)
        assert await asyncio.wait_for(heard.get(), 5)
        client.reset()
        assert isinstance(await asyncio.wait_for(end.get(), 5), ConnectionResetError)
        await until_closed(forebay)


@pytest.mark.parametrize("notified", [True, False])
async def test_the_end_of_a_tunnel_over_tls_is_no_reset(tmp_path: Path, ca: CA, notified: bool) -> None:
    """TLS has no half-close, so both ways end; what the client has said before arrives, though the far side is slow."""
    heard: asyncio.Queue[int] = asyncio.Queue()
    gone = asyncio.Event()

    async def reads_late(peer: Connection) -> None:
        await gone.wait()
        heard.put_nowait(len(await peer.reader.read()))

    pair = ca.server()
    listen = {"port": 0, "tls": {"certFile": str(pair.cert), "keyFile": str(pair.key)}}
    async with (
        Backend(reads_late) as backend,
        running(tmp_path, document(limits(backend.port), spec={"listen": listen})) as forebay,
    ):
        for _ in range(3):
            if notified:
                client = await tunnel(forebay.port, f"127.0.0.1:{backend.port}", tls=unverified())
                await client.send(b"x" * 1_000_000)
                await client.close()
            else:
                await asyncio.to_thread(send_and_close, forebay.port, f"127.0.0.1:{backend.port}", 1_000_000)
            gone.set()
            assert await asyncio.wait_for(heard.get(), 10) == 1_000_000
            gone.clear()


async def test_a_reset_of_the_far_side_is_passed_on(tmp_path: Path) -> None:
    async def reset(peer: Connection) -> None:
        await peer.reader.read(1)
        peer.reset()

    async with Backend(reset) as backend, running(tmp_path, document(limits(backend.port))) as forebay:
        client = await tunnel(forebay.port, f"127.0.0.1:{backend.port}")
        await client.send(b"?")
        with pytest.raises(ConnectionResetError):
            await client.reader.read(1)
        await client.close()
        await until_closed(forebay)


async def test_a_client_that_does_not_read_is_not_read_for(tmp_path: Path) -> None:
    sent = 0

    async def flood(peer: Connection) -> None:
        nonlocal sent
        while True:
            await peer.send(b"x" * 65536)
            sent += 65536

    async with Backend(flood) as backend, running(tmp_path, document(limits(backend.port))) as forebay:
        client = await tunnel(forebay.port, f"127.0.0.1:{backend.port}", receive_buffer=4096)
        before = -1
        async with asyncio.timeout(10):
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
        assert sent < 32 << 20  # the kernel's buffers, and ours
        assert len(await client.reader.readexactly(8 << 20)) == 8 << 20
        await client.close()


async def test_a_drain_ends_tunnels_at_its_deadline(tmp_path: Path) -> None:
    spec = {"drain": {"delay": "0s", "timeout": "1s"}}
    async with (
        Backend(hold) as backend,
        running(tmp_path, document(limits(backend.port), spec=spec, pool={"size": 30})) as forebay,
    ):
        clients = await open_many(forebay, backend.port, 20)
        began = asyncio.get_running_loop().time()
        forebay.terminate()
        await clients[0].send(b"still")
        assert await clients[0].reader.readexactly(5) == b"still"
        assert await forebay.wait(10) == 0
        assert 0.9 < asyncio.get_running_loop().time() - began < 5
        for client in clients:
            assert await client.rest() == b""
            await client.close()


async def test_a_connect_that_nobody_waits_for_any_more(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:  # its queue is full: connecting hangs
        port = silent.getsockname()[1]
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        async with running(tmp_path, document(limits(port), pool={"connectTimeout": "1s"})) as forebay:
            client = await Connection.open(forebay.port)
            await client.send(connect(f"127.0.0.1:{port}"))
            await asyncio.sleep(0.1)
            await client.close()
            await until_closed(forebay)
            patient = await Connection.open(forebay.port)
            answer = await patient.ask(connect(f"127.0.0.1:{port}"))
            assert answer.status == 504
            await patient.close()
        for filler in fillers:
            filler.close()
