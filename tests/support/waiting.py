"""To wait for what happens elsewhere and tells nobody: in another process, or in a loop of its own."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def until(
    condition: Callable[[], Any], within: float = 10.0, step: float = 0.01, *, wanted: Callable[[Any], Any] = bool
) -> Any:
    """Ask every `step` seconds, until the answer (awaited, where it has to be) is as wanted; returns it. Raises
    TimeoutError after `within` seconds, with the last answer."""
    found: Any = "none"
    limit = asyncio.timeout(within)
    try:
        async with limit:
            while True:
                asked = condition()
                found = await asked if inspect.isawaitable(asked) else asked
                if wanted(found):
                    return found
                await asyncio.sleep(step)
    except TimeoutError:
        if not limit.expired():  # it is the condition's own
            raise
        raise TimeoutError(f"not in {within} s; the last answer: {found!r}") from None
