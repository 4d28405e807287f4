"""What the programs here share: they run their parts in order, and print what these see, in lines to be compared."""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def tell(label: str, *seen: object) -> None:
    """One line. What a run can't repeat (process IDs, times, OIDs) is not told."""
    print(label, *map(repr, seen), sep="  ")


def at_once(clients: int, work: Callable[[int], Result]) -> list[Result]:
    """`work(0)` to `work(clients - 1)` in as many threads; the first error is raised."""
    with ThreadPoolExecutor(clients) as threads:
        return list(threads.map(work, range(clients)))


def run(*parts: Callable[[str], Awaitable[None] | None]) -> None:
    """Each part gets the URL that the program was given."""
    for part in parts:
        print("#", part.__name__)
        done = part(sys.argv[1])
        if inspect.iscoroutine(done):
            asyncio.run(done)
