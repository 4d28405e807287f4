"""The worker's end of the control line."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from forebay_proxy import supervised as module
from forebay_proxy.supervised import Supervised


async def test_a_mistake_of_ours_is_answered_as_an_error(tmp_path: Path) -> None:
    """Else the supervisor would take the worker for one that hangs, and what it asked for as done."""
    supervised = Supervised(tmp_path / "memory", [])
    told: list[dict[str, Any]] = []
    supervised.link.tell = lambda **message: told.append(message)  # type: ignore[method-assign]
    await supervised._do({"do": "state", "id": 7})  # there is no worker yet
    assert told == [{"to": 7, "error": "AssertionError: the supervisor says `start` first"}]


class Drained:
    """A worker with nothing to drain; closing it takes as long as `closing` is not set."""

    def __init__(self) -> None:
        self.listeners = self  # it has none, and so hears nothing
        self.deaf = asyncio.Event()
        self.deaf.set()
        self.closing = threading.Event()
        self.closed = False

    async def drain(self, delay: float, timeout: float) -> None:
        """It is empty."""

    async def close(self) -> None:
        self.closed = self.closing.wait(1)

    def state(self) -> dict[str, Any]:
        return {"closed": self.closed}


def drained(memory: Path) -> tuple[Supervised, Drained, list[dict[str, Any]]]:
    supervised, worker = Supervised(memory, []), Drained()
    told: list[dict[str, Any]] = []
    supervised.link.tell = lambda **message: told.append(message)  # type: ignore[method-assign]
    supervised._worker = worker  # type: ignore[assignment]
    return supervised, worker, told


async def test_a_drained_worker_is_closed_before_it_ends(tmp_path: Path) -> None:
    """Its access log and its tracer have the last lines and spans."""
    supervised, worker, told = drained(tmp_path / "memory")
    worker.closing.set()
    await supervised.do_drain({"delay": 0, "timeout": 0})
    assert worker.closed
    assert supervised.over.result() == 0
    # At first in case closing takes too long; then again, as it may have lost lines.
    assert told == [{"last": {"closed": False}}, {"last": {"closed": True}}]


async def test_closing_a_drained_worker_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that takes nothing holds the event loop: a thread ends the process."""
    supervised, worker, told = drained(tmp_path / "memory")
    ended: list[int] = []
    monkeypatch.setattr(module, "LAST_WORDS", 0.05)
    monkeypatch.setattr(os, "_exit", lambda status: (ended.append(status), worker.closing.set()))
    await supervised.do_drain({"delay": 0, "timeout": 0})
    assert ended == [0]
    assert told[0] == {"last": {"closed": False}}
