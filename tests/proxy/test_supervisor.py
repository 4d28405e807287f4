"""The supervisor, before workers that are played."""

from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import yaml
from tests.support import states
from tests.support.forebay import http_pool

from forebay_core.spec.load import load
from forebay_proxy.supervisor import Supervisor
from forebay_proxy.worker_process import SILENT, WorkerProcess


class Unwilling:
    """A worker's control line; it answers everything with an error."""

    async def ask(self, patience: float, **message: Any) -> dict[str, Any]:
        return {"error": "no"}


class Talkative:
    """One that tells its state."""

    async def ask(self, patience: float, **message: Any) -> dict[str, Any]:
        return {"state": states.worker()}


def supervising(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: Any) -> tuple[Supervisor, WorkerProcess]:
    """With one worker."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = tmp_path / "pool.yaml"
    path.write_text(text := yaml.safe_dump(http_pool(1)))
    supervisor = Supervisor(path, text, load(text, form="local"))
    worker = WorkerProcess(1, tmp_path / "memory")
    worker.life, worker.link = "life", link
    supervisor._workers.by_number[1] = worker
    return supervisor, worker


async def test_a_worker_that_hangs_is_marked_in_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said last is all that there is of it."""
    supervisor, worker = supervising(tmp_path, monkeypatch, Talkative())
    assert [told["silent"] for told in (await supervisor.state())["workers"]] == [False]
    worker.beat -= SILENT + 1
    [told] = (await supervisor.state())["workers"]
    assert (told["silent"], told["ready"]) == (True, True)


async def test_a_document_that_a_worker_could_not_take_is_not_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, _ = supervising(tmp_path, monkeypatch, Unwilling())
    path = tmp_path / "pool.yaml"
    monkeypatch.setattr(supervisor, "_control", AsyncMock())
    path.write_text(yaml.safe_dump(http_pool(2)))
    await supervisor._reload_if_changed()
    assert not supervisor.reload_success
