"""`forebay demo`, run as a user runs it, and its backend. That no process is left behind is checked for every test."""

import asyncio
import json
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.support.forebay import PYTHONPATH
from tests.support.raw import fetch

from forebay_core.spec.load import load
from forebay_proxy import demo

WITHIN = 60.0  # seconds; a guard against a hang, not an expectation


@asynccontextmanager
async def program(*arguments: str, directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdin=pipe, stdout=pipe, stderr=pipe,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "TMPDIR": str(directory)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(WITHIN):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


# ---------------------------------------------------------------------- the backend


async def count(process: asyncio.subprocess.Process, command: bytes = b"\n") -> dict[str, int]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(command)
    counts: dict[str, int] = json.loads(await process.stdout.readline())
    return counts


async def test_the_backend_bears_its_limit_and_counts_those_above(tmp_path: Path) -> None:
    async with program("forebay_proxy.demo_backend", "2", directory=tmp_path) as process:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        ends = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await ends[2][0].read() == b""
        assert await demo.ask(*ends[0]) == 200
        assert await demo.ask(*ends[1]) == 200
        assert await demo.ask(*ends[0]) == 200
        assert await count(process, b"reset\n") == {"open": 2, "peak": 3, "refused": 1, "answered": 3}
        assert await count(process) == {"open": 2, "peak": 2, "refused": 0, "answered": 0}
        for _, writer in ends:
            writer.close()
            await writer.wait_closed()
        answer = await fetch(port, "/")  # a place that was given back can be taken
        assert (answer.status, answer.body) == (200, b"ok\n")
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0


# ---------------------------------------------------------------------- clients


async def test_a_client_counts_what_it_meets() -> None:
    """Answered twice, then cut off: one failure, and it comes back."""
    came = asyncio.Queue[None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(None)
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    tally = demo.Tally()
    one = asyncio.create_task(demo.client(server.sockets[0].getsockname()[1], tally))
    try:
        async with asyncio.timeout(WITHIN):
            await came.get()
            await came.get()
        assert (tally.answered, tally.failed) == (2, 1)
        assert tally.slowest > 0
    finally:
        one.cancel()
        await asyncio.wait([one])
        server.close()
        await server.wait_closed()


async def test_an_answer_other_than_200_is_a_failure() -> None:
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        with suppress(ConnectionResetError):
            await reader.read()  # until the client has gone: it has counted by then
        served.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    tally = demo.Tally()
    one = asyncio.create_task(demo.client(server.sockets[0].getsockname()[1], tally))
    try:
        async with asyncio.timeout(WITHIN):
            await served.wait()
        assert (tally.answered, tally.failed) == (0, 1)
    finally:
        one.cancel()
        await asyncio.wait([one])
        server.close()
        await server.wait_closed()


# ---------------------------------------------------------------------- the whole

WAY = re.compile(
    r"^(straight|pooled): +(\d+) requests, (\d+) answered, (\d+) failed; slowest answer \S+\n"
    r" +connections, by the backend's count: (\d+) at most, (\d+) refused$",
    re.MULTILINE,
)


def test_its_document_is_valid_and_has_the_backends_limit_as_budget() -> None:
    spec = load(demo.DOCUMENT.format(port=80, limit=demo.LIMIT), form="local").spec
    assert spec.upstreams[0].budget is not None
    assert spec.upstreams[0].budget.max_connections == demo.LIMIT
    assert spec.upstreams[0].pool.size * spec.maximum_replicas > demo.LIMIT  # or there would be nothing to hold


def test_the_phases_take_the_whole_time() -> None:
    assert sum(phase.share for phase in demo.PHASES) == pytest.approx(1.0)


async def test_it_ends_by_itself_with_what_it_has_measured(tmp_path: Path) -> None:
    async with program("forebay_proxy.cli", "demo", "--seconds", "6", directory=tmp_path) as process:
        out, err = (text.decode() for text in await process.communicate())
        assert (process.returncode, err) == (0, "")
    ways = {name: [int(number) for number in numbers] for name, *numbers in WAY.findall(out)}
    requests, answered, failed, peak, refused = ways["straight"]
    assert requests == answered + failed
    assert peak > demo.LIMIT
    assert 0 < refused <= failed + 60  # a client that was cut off at the end has counted nothing
    requests, answered, failed, peak, refused = ways["pooled"]
    assert requests == answered > 0
    assert 0 < peak <= demo.LIMIT
    assert (failed, refused) == (0, 0)
    assert " req/s" in out
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240


async def test_an_interrupt_ends_it_with_a_summary(tmp_path: Path) -> None:
    async with program("forebay_proxy.cli", "demo", "--seconds", "600", directory=tmp_path) as process:
        assert process.stdout is not None
        first = await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = (text.decode() for text in await process.communicate())
        assert (process.returncode, err) == (0, "")
    assert first.startswith(b"60 clients straight at the backend: ")
    assert [name for name, *_ in WAY.findall(out)] == ["straight"]
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240


async def test_a_pool_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.yaml")
    async with program("forebay_proxy.cli", "run", "-f", missing, directory=tmp_path) as process:
        with pytest.raises(demo.DemoError, match=f"the pool did not start: forebay: {missing}: No such file"):
            await demo.pool_ready(process, deque())
