"""Connecting, on the loop that workers run."""

import asyncio
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from forebay_proxy.dial import connect


@contextmanager
def listener(backlog: int) -> Iterator[tuple[str, int]]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(backlog)
        yield sock.getsockname()


def threads() -> set[Path]:
    """Those of the process that Python does not know too."""
    return set(Path("/proc/self/task").iterdir())


def dialing() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def test_it_connects_without_a_thread() -> None:
    async def main() -> None:
        before = threads()
        with listener(5) as (address, port), dialing() as sock:
            await connect(sock, address, port)
            assert sock.getpeername() == (address, port)
        assert threads() == before

    run(main())


def test_a_refusal_is_raised() -> None:
    async def main() -> None:
        with listener(5) as (address, port):
            pass
        with dialing() as sock, pytest.raises(ConnectionRefusedError):
            await connect(sock, address, port)

    run(main())


def test_a_refusal_that_comes_late_is_raised() -> None:
    async def main() -> None:
        with dialing() as first, dialing() as second:
            with listener(0) as (address, port):
                await connect(first, address, port)  # the queue is full: the next one is not answered
                waiting = asyncio.create_task(connect(second, address, port))
                await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):  # when the kernel asks again, a second later
                await waiting

    run(main())


def test_who_waits_for_an_answer_can_be_cancelled() -> None:
    async def main() -> None:
        with listener(0) as (address, port), dialing() as first, dialing() as second:
            await connect(first, address, port)  # the queue is full: the next one is not answered
            waiting = asyncio.create_task(connect(second, address, port))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await asyncio.shield(waiting)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not asyncio.get_running_loop().remove_writer(second.fileno())

    run(main())
