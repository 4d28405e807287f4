"""The one place that creates asyncio tasks: each has a name and an owner, and its failure is reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


class Tasks:
    """The tasks of one owner, which closes them when it ends."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        names = sorted(task.get_name() for task in self._tasks)
        return f"<Tasks of {self._owner}: {', '.join(names) or 'none'}>"

    def spawn(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run ``coro`` as a task. A failure is logged in one line, whether or not somebody awaits the task.
        Raises RuntimeError once the owner has closed.
        """
        if self._closed:
            coro.close()
            raise RuntimeError(f"{self._owner} has closed and starts no task {name}")
        task = asyncio.create_task(coro, name=f"{self._owner}/{name}")  # noqa: TID251 - this is that helper
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended. One of them may call this, and goes on."""
        self._closed = True
        others = self._tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed: %s: %s", task.get_name(), type(error).__name__, error)
            log.debug("task %s failed", task.get_name(), exc_info=error)
