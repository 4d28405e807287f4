"""SIGTERM under load: whoever was accepted is answered, whoever comes later is refused, and the exit is 0."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.integration.http.backend import Backend, read_head
from tests.integration.http.test_access_log import logged, parsed
from tests.support.criteria import metric, not_ready
from tests.support.forebay import Forebay, http_pool
from tests.support.origin import Origin
from tests.support.raw import Connection, CutAnswer, fetch, request_bytes
from tests.support.waiting import until

Start = Callable[..., Awaitable[Forebay]]

# The supervisor with its workers, or the one worker of a pod.
MODES = pytest.mark.parametrize("mode", ["run", "worker"])


def draining(origin: Origin, delay: str = "0s", timeout: str = "8s", **upstream: Any) -> dict[str, Any]:
    upstream.setdefault("pool", {"size": 5, "maxOverflow": 0})
    return http_pool(origin.port, spec={"replicas": 2, "drain": {"delay": delay, "timeout": timeout}}, **upstream)


class Stubborn:
    """Keep-alive clients that go on until they can't connect any more; what became of each request is counted."""

    def __init__(self, port: int, clients: int) -> None:
        self.port = port
        self.answers: Counter[int] = Counter()
        self.unanswered: list[str] = []  # on a connection that had been answered before
        self.refused = 0
        self.tasks = [asyncio.create_task(self._go_on(), name="client") for _ in range(clients)]

    async def _go_on(self) -> None:
        while True:
            try:
                connection = await Connection.open(self.port)
            except ConnectionError:
                self.refused += 1
                return
            async with connection:
                count = 0
                while True:
                    try:
                        answer = await connection.ask(request_bytes())
                    except CutAnswer as error:
                        # Never accepted: it stood in the queue of a listener that closed.
                        if count or error.begun:
                            self.unanswered.append(str(error))
                        self.refused += 1
                        return
                    self.answers[answer.status] += 1
                    count += 1
                    if answer.closes:
                        break

    async def answered(self, count: int) -> None:
        await until(lambda: self.answers.total() >= count, within=20)


@MODES
async def test_every_accepted_request_is_answered(forebay: Start, origin: Origin, mode: str) -> None:
    f = await forebay(draining(origin), command=mode)
    load = Stubborn(f.port, 50)
    # Accepted, but silent so far; and in the middle of a long answer.
    silent = [await Connection.open(f.port) for _ in range(20)]
    slow = [asyncio.create_task(fetch(f.port, "/slow/0.7")) for _ in range(3)]
    await metric(f, "forebay_downstream_connections", lambda value: value >= 73)
    await load.answered(500)
    f.terminate()
    for connection in silent:
        async with connection:
            closes = False
            while not closes:  # it is told with an answer, once the drain has begun
                answer = await connection.ask(request_bytes())
                assert answer.status == 200
                closes = answer.closes
    for task in slow:
        assert (await task).status == 200
    assert await f.wait() == 0
    await asyncio.gather(*load.tasks)
    assert set(load.answers) == {200}
    assert load.refused == 50
    assert not load.unanswered


@MODES
async def test_who_waits_for_a_connection_gets_it(forebay: Start, origin: Origin, mode: str) -> None:
    document = draining(origin, pool={"size": 2, "maxOverflow": 0, "timeout": "5s"})
    document["spec"]["replicas"] = 1
    f = await forebay(document, command=mode)
    tasks = [asyncio.create_task(fetch(f.port, "/slow/0.2")) for _ in range(10)]
    await metric(f, "forebay_upstream_waiting", lambda value: value == 8)
    f.terminate()
    assert [(await task).status for task in tasks] == [200] * 10
    assert await f.wait() == 0


@pytest.mark.slow
@MODES
async def test_the_order_of_a_drain(forebay: Start, origin: Origin, mode: str) -> None:
    """Not ready at once, serving on for `delay`, then refusing; idle clients are closed after 5 s; nobody is cut."""
    f = await forebay(draining(origin, delay="1s", timeout="20s"), command=mode)
    idle = await Connection.open(f.port)
    assert (await idle.ask(request_bytes())).status == 200
    hanging = asyncio.create_task(fetch(f.port, "/slow/2.5"))
    await origin.until(lambda stats: stats["active"] == 1)
    f.terminate()
    began = monotonic()
    await not_ready(f, within=0.9)
    answer = await fetch(f.port)  # a new client, during the delay
    assert answer.status == 200
    async with asyncio.timeout(5):
        while True:
            try:
                await fetch(f.port)
            except (ConnectionError, CutAnswer):
                break
            await asyncio.sleep(0.02)
    assert 0.9 < monotonic() - began < 3
    assert (await f.admin("/livez")).status == 200
    assert (await hanging).status == 200
    async with idle:
        assert await idle.rest(within=10) == b""  # closed without having asked
    assert 5.5 < monotonic() - began < 8
    assert await f.wait() == 0


@MODES
async def test_the_deadline_cuts_visibly(forebay: Start, origin: Origin, mode: str) -> None:
    f = await forebay(draining(origin, timeout="500ms"), command=mode)
    async with await Connection.open(f.port) as begun, await Connection.open(f.port) as unbegun:
        await begun.send(request_bytes("/stall?after=10"))
        await unbegun.send(request_bytes("/hang"))
        await origin.until(lambda stats: stats["active"] == 2)
        f.terminate()
        with pytest.raises(CutAnswer) as cut:
            await begun.answer()
        assert cut.value.begun
        answer = await unbegun.answer()
        assert (answer.status, answer.get("Retry-After"), answer.closes) == (503, "1", True)
    assert await f.wait() == 0
    await origin.until(lambda stats: stats["open"] == 0)


@MODES
@pytest.mark.parametrize("what", ["an answer that its end ends", "a tunnel"])
async def test_what_the_deadline_cuts_looks_cut(forebay: Start, mode: str, what: str) -> None:
    """Both have no other mark of their end than the connection's."""
    end: asyncio.Future[ConnectionError | bytes] = asyncio.get_running_loop().create_future()

    async def half(peer: Connection) -> None:
        switched = b"HTTP/1.1 101 Switched\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n\r\n"
        upgrade = b"Upgrade: test/1" in await read_head(peer)
        await peer.send((switched if upgrade else b"HTTP/1.1 200 OK\r\n\r\n") + b"half")
        try:
            end.set_result(await peer.reader.read())
        except ConnectionError as error:
            end.set_result(error)

    async with Backend(half) as backend:
        f = await forebay(http_pool(backend.port, spec={"drain": {"delay": "0s", "timeout": "500ms"}}), command=mode)
        async with await Connection.open(f.port) as client:
            if what == "a tunnel":
                await client.send(request_bytes(headers=[("Connection", "Upgrade"), ("Upgrade", "test/1")]))
            else:
                await client.send(b"GET / HTTP/1.0\r\n\r\n")
            async with asyncio.timeout(10):
                await client.reader.readuntil(b"half")
                f.terminate()
                with pytest.raises(ConnectionResetError):
                    await client.reader.read()
                if what == "a tunnel":
                    assert isinstance(await end, ConnectionResetError)
        assert await f.wait() == 0


@MODES
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(forebay: Start, origin: Origin, mode: str, number: int) -> None:
    f = await forebay(draining(origin, delay="20s", timeout="20s"), command=mode)
    hanging = asyncio.create_task(fetch(f.port, "/hang"))
    await origin.until(lambda stats: stats["active"] == 1)
    f.child.send(number)
    await not_ready(f)
    began = monotonic()
    f.child.send(number)
    await f.wait()
    assert monotonic() - began < 2
    with pytest.raises(CutAnswer):
        await hanging


async def test_a_drain_by_command(forebay: Start, origin: Origin) -> None:
    f = await forebay(draining(origin), env={"FOREBAY_ADMIN_TOKEN": "secret"})
    assert (await f.admin("/drain", "POST")).status == 401
    assert (await f.admin("/drain", "POST", headers=[("Authorization", "Bearer secret")])).status == 202
    assert await f.wait() == 0


async def test_a_backend_that_closes_after_every_answer_is_no_reason_to_refuse(forebay: Start, origin: Origin) -> None:
    """Without a budget nothing forbids the drained to open what those who wait, and those still connected, need."""
    f = await forebay(draining(origin, pool={"size": 2, "maxOverflow": 0, "maxUses": 1}))
    clients = [await Connection.open(f.port) for _ in range(10)]
    await metric(f, "forebay_downstream_connections", lambda value: value >= 10)
    tasks = [asyncio.create_task(client.ask(request_bytes("/slow/0.1"))) for client in clients]
    await origin.until(lambda stats: stats["active"] >= 2)
    f.terminate()
    assert [(await task).status for task in tasks] == [200] * 10
    for client in clients:
        await client.close()
    assert await f.wait() == 0


@pytest.mark.parametrize(("path", "status"), [("/slow/0.5", 200), ("/hang", 503)])
async def test_the_last_lines_of_the_access_log_are_written(
    tmp_path: Path, origin: Origin, path: str, status: int
) -> None:
    """Of what ends just before the worker does, and of what it cuts."""
    document = draining(origin, timeout="1s")
    document["spec"]["telemetry"] = {"accessLog": "json"}
    f, log = logged(tmp_path, document)
    async with f:
        tasks = [asyncio.create_task(fetch(f.port, path)) for _ in range(5)]
        await origin.until(lambda stats: stats["active"] == 5)
        f.terminate()
        assert await f.wait() == 0
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [line["status"] for line in parsed(log)] == [status] * 5


async def test_a_replaced_worker_writes_its_last_lines_and_counts_those_that_nobody_takes(
    tmp_path: Path, origin: Origin
) -> None:
    document = draining(origin, timeout="1s")
    document["spec"] |= {"replicas": 1, "telemetry": {"accessLog": "json"}}
    f, log = logged(tmp_path, document)
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)  # and nobody reads
    try:
        async with f:
            before = await f.worker_pids()
            load = [fetch(f.port, f"/bytes/1?{'x' * 1900}") for _ in range(100)]
            await asyncio.gather(*load)
            began = monotonic()
            f.child.send(signal.SIGUSR2)
            async with asyncio.timeout(15):
                while before[0] in await f.worker_pids():
                    await asyncio.sleep(0.05)
            assert monotonic() - began < 10
            taken = 65_536 // 2000  # what a pipe holds
            wanted = range(100 - 2 * taken, 100)
            await metric(f, "forebay_access_log_lost_total", lambda value: value in wanted, within=5, reason="full")
    finally:
        os.close(reader)
