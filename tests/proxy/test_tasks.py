"""Owned tasks."""

import asyncio
import logging

import pytest

from forebay_proxy.tasks import Tasks


async def test_a_task_has_a_name_an_owner_and_a_result() -> None:
    async def answer() -> int:
        return 42

    tasks = Tasks("resolver")
    task = tasks.spawn(answer(), "orders")
    assert task.get_name() == "resolver/orders"
    assert "resolver/orders" in repr(tasks)
    assert await task == 42
    assert len(tasks) == 0


async def test_a_failure_is_reported_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise OSError("no route")

    tasks = Tasks("resolver")
    await asyncio.wait([tasks.spawn(fail(), "orders")])
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info is None
    assert len(tasks) == 0


async def test_close_cancels_all_and_waits_for_their_clean_up() -> None:
    ended = []

    async def forever(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    tasks = Tasks("worker")
    started = [tasks.spawn(forever(number), str(number)) for number in range(3)]
    await asyncio.sleep(0)
    await tasks.close()
    assert sorted(ended) == [0, 1, 2]
    assert all(task.cancelled() for task in started)


async def test_one_of_them_may_close_them_all_and_goes_on() -> None:
    tasks = Tasks("worker")

    async def closes() -> str:
        await tasks.close()
        return "went on"

    other = tasks.spawn(asyncio.Event().wait(), "other")
    assert await tasks.spawn(closes(), "closes") == "went on"
    assert other.cancelled()


async def test_a_closed_owner_starts_nothing() -> None:
    tasks = Tasks("worker")
    await tasks.close()
    with pytest.raises(RuntimeError, match="worker has closed and starts no task late"):
        tasks.spawn(asyncio.sleep(0), "late")
