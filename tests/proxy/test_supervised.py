"""The worker's end of the control line."""

from pathlib import Path
from typing import Any

from forebay_proxy.supervised import Supervised


async def test_a_mistake_of_ours_is_answered_as_an_error(tmp_path: Path) -> None:
    """Else the supervisor would take the worker for one that hangs, and what it asked for as done."""
    supervised = Supervised(tmp_path / "memory", [])
    told: list[dict[str, Any]] = []
    supervised.link.tell = lambda **message: told.append(message)  # type: ignore[method-assign]
    await supervised._do({"do": "state", "id": 7})  # there is no worker yet
    assert told == [{"to": 7, "error": "AssertionError: the supervisor says `start` first"}]
