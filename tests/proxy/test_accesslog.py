"""The access log."""

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay_proxy.accesslog import LONGEST, AccessLog, nothing_lost
from forebay_proxy.lines import ATOMIC

FIELDS: dict[str, Any] = {
    "client": "10.1.2.3",
    "method": b"GET",
    "target": b"/orders?id=1",
    "host": b"shop.example",
    "status": 200,
    "upstream": "orders",
    "endpoint": "orders:80",
    "bytes_in": 0,
    "bytes_out": 1024,
    "wait": 0.0015,
    "connect": None,
    "upstream_time": 0.02,
    "total": 0.025,
    "attempts": 1,
    "reused": True,
}


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:  # the test has closed it
            continue


def lines_of(reader: int) -> list[dict[str, Any]]:
    """What is in a pipe whose writer has been closed, or is idle."""
    return [json.loads(line) for line in os.read(reader, 1 << 20).splitlines()]


async def read_lines(reader: int, count: int) -> list[bytes]:
    """Wait until so many lines have come."""
    data = b""
    while data.count(b"\n") < count:
        data += await asyncio.to_thread(os.read, reader, 1 << 16)
    return data.splitlines()


async def test_a_line_has_all_fields_in_their_units(pipe: tuple[int, int]) -> None:
    log = AccessLog(asyncio.get_running_loop(), pipe[1], lambda: 1_700_000_000.25)
    log.write(**FIELDS, error="timeout", trace="ab" * 16)
    log.close()
    assert lines_of(pipe[0]) == [
        {
            "time": "2023-11-14T22:13:20.250Z",
            "client": "10.1.2.3",
            "method": "GET",
            "target": "/orders?id=1",
            "host": "shop.example",
            "status": 200,
            "upstream": "orders",
            "endpoint": "orders:80",
            "bytes_in": 0,
            "bytes_out": 1024,
            "wait_ms": 1.5,
            "connect_ms": None,
            "upstream_ms": 20.0,
            "total_ms": 25.0,
            "attempts": 1,
            "reused": True,
            "error": "timeout",
            "trace": "ab" * 16,
        }
    ]


async def test_a_slow_request_and_one_that_got_nowhere(pipe: tuple[int, int]) -> None:
    log = AccessLog(asyncio.get_running_loop(), pipe[1])
    nowhere: dict[str, Any] = {"upstream": None, "endpoint": None, "wait": None, "upstream_time": None, "reused": False}
    log.write(**FIELDS | nowhere, slow=True)
    log.close()
    (line,) = lines_of(pipe[0])
    assert line["slow"] is True
    assert [line[key] for key in ("upstream", "endpoint", "wait_ms", "error", "trace")] == [None] * 5


async def test_hostile_bytes_stay_one_json_line_of_bounded_length(pipe: tuple[int, int]) -> None:
    log = AccessLog(asyncio.get_running_loop(), pipe[1])
    log.write(**FIELDS | {"target": b'/"\\\n\x00\xff\xe2\x80\xa8', "host": b"a" * 100_000})
    log.close()
    (line,) = lines_of(pipe[0])
    assert line["target"].encode("latin-1") == b'/"\\\n\x00\xff\xe2\x80\xa8'
    assert len(line["host"]) == LONGEST


async def test_the_clock_goes_on(pipe: tuple[int, int]) -> None:
    times = iter([0.9996, 1.0, 1.0014])
    log = AccessLog(asyncio.get_running_loop(), pipe[1], lambda: next(times))
    for _ in range(3):
        log.write(**FIELDS)
    log.close()
    seconds = [line["time"][-7:] for line in lines_of(pipe[0])]
    assert seconds == ["00.999Z", "01.000Z", "01.001Z"]


async def test_a_single_line_comes_without_a_flush_or_others(pipe: tuple[int, int]) -> None:
    log = AccessLog(asyncio.get_running_loop(), pipe[1])
    log.write(**FIELDS)
    assert len(await asyncio.wait_for(read_lines(pipe[0], 1), 10)) == 1
    log.close()


async def test_a_stuck_reader_costs_lines_but_never_stops_the_loop_or_the_exit(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    lost = nothing_lost()
    log = AccessLog(asyncio.get_running_loop(), writer, waiting=100_000, lost=lost)
    for _ in range(1000):
        log.write(**FIELDS)
    assert log.lines_total + lost["full"] == 1000
    assert 0 < log.lines_total < 500
    log.close(timeout=0.01)
    # Once it is read again, every line that was taken comes whole.
    lines = await asyncio.wait_for(read_lines(reader, log.lines_total), 10)
    assert len([json.loads(line) for line in lines]) == log.lines_total


async def test_what_is_not_written_when_the_log_is_closed_counts_as_lost(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    lost = nothing_lost()
    log = AccessLog(asyncio.get_running_loop(), writer, lost=lost)
    for _ in range(100):
        log.write(**FIELDS)
    log.close(timeout=0.2)
    taken = os.read(reader, 4096).count(b"\n")
    assert taken > 0
    assert lost == {"full": 100 - taken, "error": 0}
    await asyncio.wait_for(read_lines(reader, 100 - taken), 10)  # the thread is not left to whose descriptor comes next


async def test_a_log_that_is_wanted_no_longer_leaves_its_lines_to_a_reader_that_is_slow(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    log = AccessLog(asyncio.get_running_loop(), writer)
    for _ in range(100):
        log.write(**FIELDS)
    log.end()  # at once: nobody has read anything
    assert len(await asyncio.wait_for(read_lines(reader, 100), 10)) == 100


async def test_room_returns_when_the_reader_does(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lost = nothing_lost()
    log = AccessLog(asyncio.get_running_loop(), writer, waiting=2000, lost=lost)
    while not lost["full"]:
        log.write(**FIELDS)
    accepted = log.lines_total
    log.flush()
    await asyncio.wait_for(read_lines(reader, accepted), 10)
    async with asyncio.timeout(10):
        while log.lines_total == accepted:  # the thread counts just after its write, which is when we read
            log.write(**FIELDS)
            await asyncio.sleep(0)
    log.close()


async def test_a_closed_pipe_is_counted_and_the_proxy_goes_on(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    lost = nothing_lost()
    log = AccessLog(asyncio.get_running_loop(), pipe[1], lost=lost)
    for _ in range(2):
        log.write(**FIELDS)
        log.flush()
    log.close(timeout=10)
    assert lost == {"full": 0, "error": 2}


async def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    log = AccessLog(asyncio.get_running_loop(), writer)
    for _ in range(500):
        log.write(**FIELDS)
    log.flush()
    assert len(await asyncio.wait_for(read_lines(reader, 500), 10)) == 500
    log.close()


async def test_lines_of_several_workers_do_not_mix(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    loop = asyncio.get_running_loop()
    logs = [AccessLog(loop, writer) for _ in range(4)]
    reading = asyncio.gather(asyncio.wait_for(read_lines(reader, 4000), 30))
    for number in range(1000):
        for worker, log in enumerate(logs):
            log.write(**FIELDS | {"target": b"/%d" % worker * (number % 50)})
        await asyncio.sleep(0)
    for log in logs:
        log.flush()
    (lines,) = await reading
    assert all(json.loads(line)["status"] == 200 for line in lines)
    for log in logs:
        log.close()


async def test_a_file_takes_all(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with path.open("wb") as stream:
        log = AccessLog(asyncio.get_running_loop(), stream.fileno())
        for _ in range(1000):
            log.write(**FIELDS)
        log.close(timeout=30)
    assert len(path.read_bytes().splitlines()) == 1000


def test_an_ordinary_line_fits_into_an_atomic_write() -> None:
    assert LONGEST < ATOMIC
