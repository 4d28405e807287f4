"""The machine under a worker: its wall clock is moved, and its memory ends."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.support.criteria import marked, own, ready_workers, serves, unharmed
from tests.support.forebay import Forebay, http_pool
from tests.support.load import Load
from tests.support.origin import Origin
from tests.support.process import need
from tests.support.raw import Connection, request_bytes

Start = Callable[..., Awaitable[Forebay]]

CGROUPS = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))


@pytest.fixture
def libfaketime() -> Path:
    need("faketime")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return library


async def test_the_clock_is_moved_by_an_hour(forebay: Start, origin: Origin, tmp_path: Path, libfaketime: Path) -> None:
    """Back and forth under load: every deadline, age and timeout goes by the monotonic clock, so nothing happens."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    fake = {
        "LD_PRELOAD": str(libfaketime),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    pool = {"size": 5, "maxOverflow": 0, "timeout": "1900ms", "recycle": "30m", "idleTimeout": "5m"}
    f = await forebay(http_pool(origin.port, pool=pool), env=fake)

    async def their_clock() -> float:
        (worker,) = (await f.state())["workers"]
        return float(worker["time"])

    async with unharmed(f, origin, limit=5, longest_wait=2.0):
        async with Load(f.port, clients=10, request=marked, check=own) as load:
            await load.answered(100)
            opened = (await f.metrics()).value("forebay_upstream_connections_opened_total")
            for offset in ("+3600", "-3600", "+0"):
                before = await their_clock()
                clock.write_text(offset)
                assert abs(await their_clock() - before) > 1800, "the worker's wall clock has not moved"
                await load.answered(load.outcome.answered + 300)
            assert (await f.metrics()).value("forebay_upstream_connections_opened_total") == opened
        assert load.outcome.statuses == {200: load.outcome.answered}, load.outcome
        assert not load.outcome.errors


@pytest.fixture
def scarce_memory() -> Iterator[Callable[[int, int], None]]:
    """`scarce_memory(pid, size)`: what the process takes from now on is bounded; beyond it the kernel kills it."""
    found = [(root, limit) for root, limit in CGROUPS if (root / "cgroup.procs").exists() and os.access(root, os.W_OK)]
    if not found:
        pytest.skip("needs the memory cgroup, and to be root")
    root, limit = found[0]
    group = root / f"forebay-test-{os.getpid()}"
    group.mkdir()

    def bound(pid: int, size: int) -> None:
        (group / limit).write_text(str(size))
        (group / "cgroup.procs").write_text(str(pid))

    yield bound
    for pid in (group / "cgroup.procs").read_text().split():
        (root / "cgroup.procs").write_text(pid)
    group.rmdir()


@pytest.mark.slow
async def test_a_worker_that_runs_out_of_memory_is_a_worker_that_crashed(
    forebay: Start, origin: Origin, scarce_memory: Callable[[int, int], None]
) -> None:
    """Its clients lose what was in flight on it; the others' are served, and it comes back within the budget."""
    budget = {"maxConnections": 9, "linger": "500ms"}
    f = await forebay(http_pool(origin.port, spec={"replicas": 2}, pool={"size": 5, "maxOverflow": 0}, budget=budget))
    async with unharmed(f, origin, limit=9, workers=2):
        before = await ready_workers(f, lambda pids: len(pids) == 2)
        victim = min(before)
        scarce_memory(victim, 8 << 20)
        unfinished = request_bytes("/upload", "POST", [("Content-Length", "65536")])
        clients = [await Connection.open(f.port) for _ in range(600)]
        try:
            for client in clients:  # bodies that are all but complete: buffered, without a lease
                await client.send(unfinished + bytes(65_000))
            await ready_workers(f, lambda pids: len(pids) == 2 and victim not in pids)
            await serves(f)
        finally:
            await asyncio.gather(*(client.close() for client in clients))
    assert f"worker {victim} ended with signal SIGKILL" in f.stderr
