"""What waits for all others."""

import asyncio
from itertools import count

import pytest
from tests.support.waiting import until


async def test_the_first_answer_that_counts_as_true_is_returned() -> None:
    numbers = count()
    assert await until(lambda: next(numbers) // 3, step=0) == 1


async def test_an_answer_may_have_to_be_awaited_and_what_is_wanted_of_it_said() -> None:
    numbers = count()

    async def ask() -> int:
        return next(numbers)

    assert await until(ask, step=0, wanted=lambda number: number == 3) == 3


async def test_who_waits_in_vain_is_told_the_last_answer() -> None:
    with pytest.raises(TimeoutError, match=r"not in 0\.01 s; the last answer: \[\]"):
        await until(list, 0.01, 0.001)
    with pytest.raises(TimeoutError, match="the last answer: 'none'"):
        await until(asyncio.Event().wait, 0.01)


async def test_a_timeout_of_what_is_asked_is_not_taken_for_ours() -> None:
    async def late() -> None:
        raise TimeoutError("another's")

    with pytest.raises(TimeoutError, match="another's"):
        await until(late)
