"""The opaque relay: one client, one connection; it waits in the same queue, under the same limits."""

import asyncio
import hashlib
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.integration.test_workers import token
from tests.support.certs import CA
from tests.support.criteria import metric, ready_workers, settled, unharmed
from tests.support.forebay import Forebay, http_pool
from tests.support.origin import Origin
from tests.support.raw import Connection, unverified
from tests.support.waiting import until

from forebay_core.spec.load import parse
from forebay_proxy.memory import Memory
from forebay_proxy.worker import Worker

Start = Callable[..., Awaitable[Forebay]]
Origins = Callable[..., Awaitable[Origin]]


def tcp_pool(*ports: int, **options: Any) -> dict[str, Any]:
    document = http_pool(*ports, **options)
    document["spec"]["protocol"] = "tcp"
    return document


async def echoed(connection: Connection, data: bytes) -> bytes:
    await connection.send(data)
    async with asyncio.timeout(10):
        return await connection.reader.readexactly(len(data))


async def is_refused(port: int) -> bool:
    """Whether a new connection is reset; that may come before it is known to be open."""
    try:
        connection = await Connection.open(port)
    except ConnectionResetError:
        return True
    async with connection:
        return await is_reset(connection)


async def is_reset(connection: Connection, within: float = 5.0) -> bool:
    """Wait for the end; True where it is a reset."""
    try:
        async with asyncio.timeout(within):
            assert await connection.reader.read() == b""
    except ConnectionResetError:
        return True
    return False


@asynccontextmanager
async def server(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """A backend of the test's own; yields its port."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]


async def test_bytes_go_both_ways(forebay: Start, origins: Origins) -> None:
    origin = await origins(mode="tcp")
    f = await forebay(tcp_pool(origin.port, pool={"size": 10, "maxOverflow": 0}))
    data = os.urandom(3_000_000)
    async with unharmed(f, origin, limit=10):

        async def client() -> None:
            async with await Connection.open(f.port) as connection:
                sending = asyncio.create_task(connection.send(data))
                async with asyncio.timeout(20):
                    back = await connection.reader.readexactly(len(data))
                await sending
                assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()

        await asyncio.gather(*(client() for _ in range(5)))
    assert (await origin.stats())["bytes_in"] == 5 * len(data)
    metrics = await f.metrics()
    assert metrics.value("forebay_requests_total", outcome="ok") == 5
    assert metrics.value("forebay_upstream_hold_seconds_count") == 5


async def test_half_closes_are_kept_and_leak_nothing(forebay: Start, origins: Origins) -> None:
    """The client ends its side first; or the server does; either way both ends come through, and the place is free."""
    ends: list[str] = []

    async def ends_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        ends.append((await reader.read()).decode())
        writer.close()

    origin = await origins(mode="tcp")
    f = await forebay(tcp_pool(origin.port, pool={"size": 2, "maxOverflow": 0}))
    async with unharmed(f, origin, limit=2):
        for _ in range(6):
            async with await Connection.open(f.port) as connection:
                await connection.send(b"x" * 100_000)
                connection.half_close()
                async with asyncio.timeout(5):
                    assert len(await connection.reader.read()) == 100_000
    async with server(ends_first) as port:
        g = await forebay(tcp_pool(port, pool={"size": 2, "maxOverflow": 0}))
        async with unharmed(g, limit=2):
            for _ in range(6):
                async with await Connection.open(g.port) as connection:
                    async with asyncio.timeout(5):
                        assert await connection.reader.read() == b"bye"
                    await connection.send(b"and you")
                    connection.half_close()
        assert ends == ["and you"] * 6


async def test_a_server_that_speaks_first_is_heard(forebay: Start) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await reader.read()
        writer.close()

    async with server(greet) as port:
        f = await forebay(tcp_pool(port, pool={"size": 4, "maxOverflow": 0}))
        async with unharmed(f, limit=4):
            for _ in range(30):
                async with await Connection.open(f.port) as connection:
                    async with asyncio.timeout(5):
                        assert await connection.reader.readline() == b"220 ready\r\n"


async def test_nothing_is_reused(forebay: Start, origins: Origins) -> None:
    origin = await origins(mode="tcp")
    f = await forebay(tcp_pool(origin.port, pool={"size": 3, "maxOverflow": 0}))
    async with unharmed(f, origin, limit=3):
        for number in range(10):
            async with await Connection.open(f.port) as connection:
                assert await echoed(connection, b"%d" % number) == b"%d" % number
    assert (await origin.stats())["accepts"] == 10


async def test_the_queue_its_timeout_and_its_limit(forebay: Start, origins: Origins) -> None:
    origin = await origins(mode="tcp")
    f = await forebay(tcp_pool(origin.port, pool={"size": 2, "maxOverflow": 0, "timeout": "900ms", "maxWaiting": 3}))
    async with unharmed(f, origin, limit=2, longest_wait=1.0):
        first, second = [await Connection.open(f.port) for _ in range(2)]
        await echoed(first, b"a")
        await echoed(second, b"b")
        waiting = [await Connection.open(f.port) for _ in range(3)]
        for connection in waiting:
            await connection.send(b"said while waiting")
        await metric(f, "forebay_upstream_waiting", lambda value: value == 3)
        began = monotonic()
        assert await is_refused(f.port)
        assert monotonic() - began < 0.25
        await first.close()  # the first in the queue has its place now
        async with asyncio.timeout(5):
            assert await waiting[0].reader.readexactly(18) == b"said while waiting"
        for connection in waiting[1:]:
            assert await is_reset(connection)
        assert 0.6 < monotonic() - began < 1.0
        for connection in (second, *waiting):
            await connection.close()
    metrics = await f.metrics()
    assert metrics.value("forebay_rejections_total", reason="queue_full") == 1
    assert metrics.value("forebay_rejections_total", reason="timeout") == 2
    assert metrics.value("forebay_requests_total", outcome="timeout") == 2


async def test_a_client_that_leaves_the_queue_costs_nobody_a_place(forebay: Start, origins: Origins) -> None:
    origin = await origins(mode="tcp")
    f = await forebay(tcp_pool(origin.port, pool={"size": 1, "maxOverflow": 0, "timeout": "4900ms"}))
    async with unharmed(f, origin, limit=1, longest_wait=5.0):
        first = await Connection.open(f.port)
        await echoed(first, b"a")
        gone = [await Connection.open(f.port) for _ in range(5)]
        await metric(f, "forebay_upstream_waiting", lambda value: value == 5)
        for connection in gone:
            connection.reset()
            await connection.close()
        last = await Connection.open(f.port)
        await first.close()
        assert await echoed(last, b"still here") == b"still here"
        await last.close()


async def test_a_backend_that_is_away_or_resets(forebay: Start, origins: Origins) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SOL_SOCKET, SO_LINGER: a close is a reset
        writer.transport.abort()

    health = {"passive": {"consecutiveErrors": 2, "baseEjectionTime": "300ms"}}
    origin = await origins(mode="tcp")
    f = await forebay(tcp_pool(origin.port, pool={"size": 2, "maxOverflow": 0}, healthCheck=health))
    async with unharmed(f, limit=2):
        await origin.kill()
        for _ in range(4):
            began = monotonic()
            assert await is_refused(f.port)
            assert monotonic() - began < 0.25
        metrics = await f.metrics()
        assert metrics.value("forebay_upstream_endpoint_healthy") == 0
        assert metrics.value("forebay_rejections_total", reason="connect_refused") == 2
        assert metrics.value("forebay_rejections_total", reason="no_endpoint") == 2
        await origin.start()

        async def is_back() -> bool:
            try:
                async with await Connection.open(f.port) as connection:
                    return await echoed(connection, b"back") == b"back"
            except (ConnectionError, asyncio.IncompleteReadError):
                return False

        await until(is_back)
        assert (await f.metrics()).value("forebay_upstream_endpoint_healthy") == 1
    async with server(cut) as port:
        g = await forebay(tcp_pool(port, pool={"size": 2, "maxOverflow": 0}))
        async with unharmed(g, limit=2), await Connection.open(g.port) as connection:
            await connection.send(b"x")
            assert await is_reset(connection)
        assert (await g.metrics()).value("forebay_requests_total", outcome="upstream_reset") == 1


async def test_active_checks_are_connections_within_the_limit(forebay: Start, origins: Origins) -> None:
    origin = await origins(mode="tcp")
    f = await forebay(
        tcp_pool(
            origin.port,
            pool={"size": 1, "maxOverflow": 0},
            healthCheck={"active": {"interval": "20ms", "timeout": "1s", "unhealthyThreshold": 2}},
        )
    )
    await origin.until(lambda stats: stats["accepts"] > 5)
    async with await Connection.open(f.port) as connection:
        assert await echoed(connection, b"x") == b"x"
    await origin.kill()
    await metric(f, "forebay_upstream_endpoint_healthy", lambda value: value == 0)
    await origin.start()
    await metric(f, "forebay_upstream_endpoint_healthy", lambda value: value == 1)
    assert (await origin.stats())["high_water"] == 1


@pytest.mark.slow
async def test_a_budget_over_workers_that_are_killed(forebay: Start, origins: Origins) -> None:
    origin = await origins(mode="tcp")
    f = await forebay(
        tcp_pool(
            origin.port,
            spec={"replicas": 3},
            pool={"size": 10, "maxOverflow": 0, "timeout": "900ms"},
            budget={"maxConnections": 8, "linger": "500ms"},
        )
    )
    stop = False
    answered = 0

    async def client() -> None:
        nonlocal answered
        while not stop:
            async with await Connection.open(f.port) as connection:
                try:
                    for _ in range(5):
                        await echoed(connection, b"ping")
                        answered += 1
                except (ConnectionError, asyncio.IncompleteReadError):
                    pass  # refused at the timeout, or its worker was killed

    async with unharmed(f, origin, limit=8, longest_wait=1.0, workers=3):
        tasks = [asyncio.create_task(client()) for _ in range(30)]
        for _ in range(3):
            enough = answered + 200
            await until(lambda: answered >= enough, within=20)  # noqa: B023 - it is awaited here
            victim = (await f.worker_pids())[0]
            os.kill(victim, signal.SIGKILL)
            await ready_workers(f, lambda pids: len(pids) == 3 and victim not in pids)  # noqa: B023
        stop = True
        await asyncio.gather(*tasks)
    assert answered > 600


async def test_tls_on_both_sides(forebay: Start, origins: Origins, ca: CA) -> None:
    pair = ca.server()
    origin = await origins(mode="tcp", tls=pair)
    f = await forebay(
        tcp_pool(
            origin.port,
            spec={"listen": {"port": 0, "tls": {"certFile": str(pair.cert), "keyFile": str(pair.key)}}},
            tls={"mode": "verify-full", "caFile": str(ca.cert)},
            pool={"size": 2, "maxOverflow": 0},
        )
    )
    data = os.urandom(300_000)
    async with unharmed(f, origin, limit=2):
        for _ in range(4):
            async with await Connection.open(f.port, tls=unverified()) as connection:
                assert await echoed(connection, data) == data


async def test_clients_that_end_without_a_word_cost_no_place_at_a_tls_upstream(
    forebay: Start, origins: Origins, ca: CA
) -> None:
    """As a balancer's probes do."""
    origin = await origins(mode="tcp", tls=ca.server())
    tls = {"mode": "verify-full", "caFile": str(ca.cert)}
    f = await forebay(tcp_pool(origin.port, pool={"size": 2, "maxOverflow": 0}, tls=tls))
    async with unharmed(f, origin, limit=2):
        for _ in range(5):
            await (await Connection.open(f.port)).close()
        async with await Connection.open(f.port) as connection:
            assert await echoed(connection, b"hello") == b"hello"


def say_and_end(port: int, data: bytes) -> None:
    """Over TLS, with the end in the same packet."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = unverified().wrap_bio(incoming, outgoing)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(1 << 16))
        sock.sendall(outgoing.read())
        tls.write(data)
        with suppress(ssl.SSLWantReadError):
            tls.unwrap()
        sock.sendall(outgoing.read())
        while sock.recv(1 << 16):
            pass


async def test_what_a_tls_client_says_before_its_end_arrives(forebay: Start, ca: CA) -> None:
    """Also where it has said all, and ended, before there was a connection."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.put_nowait(await reader.read())
        writer.close()

    pair = ca.server()
    listen = {"port": 0, "tls": {"certFile": str(pair.cert), "keyFile": str(pair.key)}}
    lines = [f"line {number}".encode() for number in range(20)]
    async with server(listens) as port:
        f = await forebay(tcp_pool(port, spec={"listen": listen}, pool={"size": 3, "maxOverflow": 0}))
        async with unharmed(f, limit=3):
            authorized = [("Authorization", f"Bearer {token(f)}")]
            assert (await f.admin("/pause", "POST", headers=authorized)).status == 202
            ends = [asyncio.create_task(asyncio.to_thread(say_and_end, f.port, line)) for line in lines]
            await until(
                f.state, wanted=lambda state: state["workers"][0]["upstreams"]["origin"]["waiting"] >= len(lines)
            )
            assert (await f.admin("/resume", "POST", headers=authorized)).status == 202
            async with asyncio.timeout(10):
                assert sorted([await heard.get() for _ in lines]) == sorted(lines)
            await asyncio.gather(*ends)
        assert not [line for line in f.child.lines if "eof_received" in line]


async def test_what_was_said_before_a_reset_of_ours_is_not_passed_on(tmp_path: Path) -> None:
    """The client has been told that nothing was."""
    heard: list[bytes] = []

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    async with server(listens) as port:
        pool = parse(tcp_pool(port, pool={"size": 1, "maxOverflow": 0}), form="local")
        worker = Worker(pool, Memory.at(tmp_path / "memory"), "test", b"")
        await worker.apply(pool)
        (upstream,) = worker.upstreams.values()
        with socket.create_server(("127.0.0.1", 0)) as sock:
            await worker.listen(sock)
            clients = [await asyncio.open_connection(*sock.getsockname()) for _ in range(2)]
            for number, (_, writer) in enumerate(clients):
                writer.write(b"%d" % number)
            (waiter,) = await until(lambda: [w for w in upstream.pool.waiters if w.early])  # type: ignore[attr-defined]
            waiter.reset()
            assert not upstream.pool.waiters
            for _, writer in clients:
                writer.close()
            await until(lambda: not worker.proxy.clients and not upstream.pool.total)
            await worker.drain(0, 0)
        await worker.close()
    assert len(heard) == 1


@pytest.mark.parametrize("who", ["client", "drain"])
async def test_a_reset_is_no_end_to_the_far_side(forebay: Start, who: str) -> None:
    """It would take what it has got for all. What the drain cuts is no whole upload either."""
    heard = asyncio.Event()
    end: asyncio.Future[ConnectionError | bytes] = asyncio.get_running_loop().create_future()

    async def reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(300)
        heard.set()
        try:
            end.set_result(await reader.read())
        except ConnectionError as error:
            end.set_result(error)
        writer.close()

    async with server(reads) as port:
        f = await forebay(tcp_pool(port, spec={"drain": {"delay": "0s", "timeout": "100ms"}}))
        client = await Connection.open(f.port)
        await client.send(b"x" * 300)
        async with asyncio.timeout(10):
            await heard.wait()
            if who == "client":
                client.reset()
            else:
                f.terminate()
            assert isinstance(await end, ConnectionResetError)
        await client.close()
        if who == "client":
            await settled(f, 1)
            metrics = await f.metrics()
            assert metrics.value("forebay_requests_total", outcome="client_gone") == 1
            assert metrics.value("forebay_requests_total", outcome="ok") == 0
            assert metrics.get("forebay_rejections_total", reason="client_gone") == 0


async def test_who_resets_after_its_end_has_said_all(tmp_path: Path) -> None:
    """As one does that takes no answer. What is on its way to a far side that reads late must arrive."""
    answer, read_on = asyncio.Event(), asyncio.Event()
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer.wait()
        writer.write(b"y")
        await read_on.wait()
        try:
            heard.set_result(await reader.read())
        except ConnectionError as error:
            heard.set_exception(error)
        writer.close()

    said = os.urandom(400_000)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.bind(("127.0.0.1", 0))
    async with await asyncio.start_server(late, sock=narrow):
        pool = parse(tcp_pool(narrow.getsockname()[1]), form="local")
        worker = Worker(pool, Memory.at(tmp_path / "memory"), "test", b"")
        await worker.apply(pool)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            await worker.listen(sock)
            client = await Connection.open(sock.getsockname()[1])
            async with asyncio.timeout(10):
                await client.send(said)
                client.writer.write_eof()
                await until(lambda: any(each.whole for each in worker.proxy.clients))  # type: ignore[attr-defined, union-attr]
                client.reset()
                answer.set()
                await until(lambda: not worker.proxy.clients)
                read_on.set()
                assert await heard == said
            await client.close()
            await worker.drain(0, 0)
        await worker.close()


async def test_under_a_budget_a_reset_keeps_its_place_until_the_server_has_let_go(forebay: Start) -> None:
    """One that is busy does not notice a reset: another connection beside it would be one too many."""
    open_, most, done = 0, 0, asyncio.Event()
    busy = asyncio.Event()

    async def works(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_, most
        open_ += 1
        most = max(most, open_)
        await reader.readexactly(1)
        busy.set()
        await done.wait()
        writer.write(b"y")
        writer.close()
        open_ -= 1

    async with server(works) as port:
        budget = {"maxConnections": 2, "reserved": 0, "linger": "20s"}
        f = await forebay(tcp_pool(port, pool={"size": 1, "maxOverflow": 0}, budget=budget))
        gone = await Connection.open(f.port)
        async with asyncio.timeout(10):
            await gone.send(b"x")
            await busy.wait()
            gone.reset()
            await metric(f, "forebay_upstream_connections", lambda value: value == 1, state="closing")
            stays = await Connection.open(f.port)
            await stays.send(b"x")
            await metric(f, "forebay_upstream_waiting", lambda value: value == 1)
            done.set()
            assert await stays.reader.readexactly(1) == b"y"
        assert most == 1
        await gone.close()
        await stays.close()


async def test_clients_beyond_the_limit_are_reset(forebay: Start, origins: Origins) -> None:
    origin = await origins(mode="tcp")
    f = await forebay(tcp_pool(origin.port, spec={"maxClientConnections": 2}))
    async with unharmed(f, origin, limit=15):
        clients = [await Connection.open(f.port) for _ in range(2)]
        for client in clients:
            await echoed(client, b"x")
        assert await is_refused(f.port)
        for client in clients:
            await client.close()
    assert (await f.metrics()).value("forebay_rejections_total", reason="max_clients") == 1


async def test_a_drain_lets_them_end_and_cuts_at_the_deadline(forebay: Start, origins: Origins) -> None:
    origin = await origins(mode="tcp")
    f = await forebay(tcp_pool(origin.port, spec={"drain": {"delay": "0s", "timeout": "1s"}}))
    ends, stays = [await Connection.open(f.port) for _ in range(2)]
    await echoed(ends, b"x")
    await echoed(stays, b"x")
    f.terminate()
    async with asyncio.timeout(5):
        while True:
            try:
                await (await Connection.open(f.port)).close()
            except ConnectionError:
                break
            await asyncio.sleep(0.01)
    assert await echoed(ends, b"y") == b"y"
    await ends.close()
    assert await is_reset(stays)
    await stays.close()
    assert await f.wait() == 0
    await origin.until(lambda stats: stats["open"] == 0)


async def test_a_reload_under_another_name_leaves_the_connected_alone(forebay: Start, origins: Origins) -> None:
    origin = await origins(mode="tcp")
    document = tcp_pool(origin.port)
    f = await forebay(document)
    await settled(f, 1)
    async with await Connection.open(f.port) as connection:
        await echoed(connection, b"x")
        document["spec"]["upstreams"][0]["name"] = "renamed"
        f.write(document)
        f.reload()
        await f.child.line("is in force")
        assert await echoed(connection, b"y") == b"y"
        async with await Connection.open(f.port) as another:
            assert await echoed(another, b"z") == b"z"
    await settled(f, 1)
    await origin.until(lambda stats: stats["open"] == 0)
