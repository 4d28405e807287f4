"""What an earlier run has left on disk: found by memory, and kept until nothing of it can be open any more."""

from pathlib import Path

import pytest

from forebay_proxy.memory import Memory
from forebay_proxy.state_directory import StateDirectory


@pytest.fixture
async def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDirectory:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = StateDirectory(tmp_path / "pool.yaml")
    await made.acquire()
    return made


def died(path: Path, **held: int) -> Path:
    """A memory as a process leaves it that was killed."""
    memory = Memory.at(path)
    for name, count in held.items():
        memory.set_held(name, count)
    memory.close()
    return path


async def test_what_was_left_is_told_by_memory(directory: StateDirectory) -> None:
    one, two = died(directory.memory(), orders=3, mail=1), died(directory.memory(), orders=2)
    nothing = died(directory.memory(), orders=0)
    assert await directory.inherit() == {one.stem: {"orders": (3, []), "mail": (1, [])}, two.stem: {"orders": (2, [])}}
    assert not nothing.exists()
    assert one.exists()
    directory.release()


async def test_a_memory_is_kept_until_it_is_forgotten(directory: StateDirectory) -> None:
    one, two = died(directory.memory(), orders=3), died(directory.memory(), orders=2)
    assert directory.bury(one) == {"orders": (3, [])}
    assert directory.bury(two) == {"orders": (2, [])}
    directory.forget(but={two.stem})
    assert (one.exists(), two.exists()) == (False, True)
    directory.forget(but=())
    assert not two.exists()
    directory.release()
