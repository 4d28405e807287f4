"""What an earlier run has left on disk: found by memory, and kept until nothing of it can be open any more."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from forebay_proxy.memory import Memory
from forebay_proxy.state_directory import StartError, StateDirectory, cancel_socket


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


async def test_the_socket_of_a_worker_that_was_killed_goes(directory: StateDirectory) -> None:
    path = died(directory.memory(), orders=3)
    cancel_socket(path).touch()
    directory.bury(path)
    assert path.exists()
    assert not cancel_socket(path).exists()
    directory.release()


async def test_what_a_link_leads_to_may_change(tmp_path: Path, directory: StateDirectory) -> None:
    """A release, or a ConfigMap: what is left is found by the path that was given."""
    for number in (1, 2):
        (tmp_path / f"release-{number}").mkdir()
        (tmp_path / f"release-{number}" / "pool.yaml").touch()
    current = tmp_path / "current"
    current.symlink_to("release-1")
    first = StateDirectory(current / "pool.yaml")
    current.unlink()
    current.symlink_to("release-2")
    assert StateDirectory(current / "pool.yaml").path == first.path
    assert first.path != directory.path
    directory.release()


def test_a_memory_that_has_not_begun_has_left_nothing(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "pool.yaml")
    path = tmp_path / "one.memory"
    assert directory.bury(path) == {}
    path.touch()
    assert directory.bury(path) == {}
    assert not path.exists()


def test_a_full_disk_is_said_before_it_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Memory.at(tmp_path / "memory")


@pytest.mark.parametrize("how", ["link", "mode", "file"])
async def test_a_directory_that_others_can_use_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Where there is no XDG_RUNTIME_DIR, anybody may have made one before us."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    base = tmp_path / f"forebay-{os.getuid()}"
    if how == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        base.symlink_to("elsewhere")
    elif how == "mode":
        base.mkdir()
        base.chmod(0o777)
    else:
        base.touch()
    with pytest.raises(StartError, match="expected a directory of this user's"):
        await StateDirectory(tmp_path / "pool.yaml").acquire()
    base.rmdir() if base.is_dir() and not base.is_symlink() else base.unlink()
    mine = StateDirectory(tmp_path / "pool.yaml")
    await mine.acquire()
    mine.release()
    again = StateDirectory(tmp_path / "pool.yaml")
    await again.acquire()
    again.release()


async def test_a_directory_that_others_have_made_meanwhile_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    base = tmp_path / f"forebay-{os.getuid()}"
    directory = StateDirectory(tmp_path / "pool.yaml")
    await directory.acquire()
    shutil.rmtree(base)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    base.symlink_to("elsewhere")
    with pytest.raises(StartError, match="expected a directory of this user's"):
        directory.restore()
    base.unlink()
    directory.restore()
    assert directory.path.is_dir()
    directory.release()
