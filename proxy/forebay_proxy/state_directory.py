"""What local mode keeps on disk for the pool in one file: the lock, the admin token, the workers' memories and sockets.

The lock is inherited by the workers, so a successor waits until the last of them has ended. A memory whose process is
dead is kept until nothing that it left can be open any more: a successor that is killed as well must not lose count.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Container
from hashlib import sha256
from pathlib import Path

from forebay_proxy.files import reason
from forebay_proxy.journal import Record
from forebay_proxy.memory import Memory, MemoryLocked, NotAMemory

Remains = dict[str, tuple[int, list[Record]]]  # by upstream: how many, and those of them that are known

PATIENCE = 10.0  # seconds that workers of an earlier run may take to end
RETRY = 0.1


class StartError(Exception):
    """The pool can't be run; the message is one line for the user."""


class StateDirectory:
    """One pool's directory. Use `acquire` before anything else; `token` opens the admin port."""

    def __init__(self, document: Path) -> None:
        self._document = document
        given = os.environ.get("XDG_RUNTIME_DIR")
        base = given or f"{tempfile.gettempdir()}/forebay-{os.getuid()}"
        self._own = None if given else Path(base)  # where anybody may have made it before us
        # The path as it is given: what it leads to may be another file tomorrow (a release, a ConfigMap).
        name = sha256(os.path.normpath(document.absolute()).encode()).hexdigest()[:16]
        self.path = Path(base) / "forebay" / name
        self.token = os.environ.get("FOREBAY_ADMIN_TOKEN") or secrets.token_hex(16)
        self.lock = -1
        self._kept: set[Path] = set()

    async def acquire(self) -> None:
        """Take the lock, and leave the token where only this user can read it. Raises StartError."""
        try:
            self.restore()
            self.lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            await self._lock()
            token = self.path / "token"
            token.touch(mode=0o600)
            token.write_text(self.token, "utf-8")
        except OSError as error:
            raise StartError(f"{error.filename or self.path}: {reason(error)}") from None

    async def _lock(self) -> None:
        """Workers of a dead supervisor are waited for."""
        os.set_inheritable(self.lock, True)
        for _ in range(round(PATIENCE / RETRY)):
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = int(os.pread(self.lock, 20, 0) or b"0")
                if pid and alive(pid):
                    raise StartError(f"{self._document} is already being run, by process {pid}") from None
                await asyncio.sleep(RETRY)
            else:
                os.ftruncate(self.lock, 0)
                os.pwrite(self.lock, str(os.getpid()).encode(), 0)
                return
        raise StartError(f"workers of an earlier run of {self._document} have not ended")

    async def inherit(self) -> dict[str, Remains]:
        """What the workers of an earlier supervisor left open, by memory. Raises StartError."""
        left: dict[str, Remains] = {}
        for path in list(self.path.glob("*.memory")):
            for _ in range(round(PATIENCE / RETRY)):
                try:
                    left[path.stem] = self.bury(path)
                except NotAMemory as error:
                    raise StartError(str(error)) from None
                except MemoryLocked:  # its process has let go of the directory's lock, and ends just now
                    await asyncio.sleep(RETRY)
                else:
                    break
            else:
                raise StartError(f"a worker of an earlier run of {self._document} has not ended")
        return {memory: found for memory, found in left.items() if found}

    def restore(self) -> None:
        """Somebody may have cleaned up, and workers need the directory to start. Raises OSError, StartError."""
        if self._own is not None:
            take_over(self._own)
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def memory(self) -> Path:
        """Where a new worker keeps its memory."""
        return self.path / f"{secrets.token_hex(8)}.memory"

    def bury(self, path: Path) -> Remains:
        """What a dead worker has left open; its memory is kept until `forget`. Raises MemoryLocked, NotAMemory."""
        if not path.exists() or not path.stat().st_size:  # it has not begun
            path.unlink(missing_ok=True)
            return {}
        memory = Memory.at(path)
        cancel_socket(path).unlink(missing_ok=True)
        left = {name: (count, memory.records(name)) for name, count in memory.left.items() if count}
        memory.close()
        if left:
            self._kept.add(path)
        else:
            path.unlink()
        return left

    def forget(self, but: Container[str]) -> None:
        """Nothing that the dead have left is open any more, but of these memories."""
        for path in [path for path in self._kept if path.stem not in but]:
            path.unlink()
            self._kept.discard(path)

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self.lock)


def cancel_socket(memory: Path) -> Path:
    """Where the worker with this memory hears of cancel requests that have come to another."""
    return memory.with_suffix(".cancel")


def take_over(path: Path) -> None:
    """Make a directory that is nobody else's, or find that it is. Raises OSError, StartError."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & stat.S_IWOTH:
        raise StartError(
            f"{path}: expected a directory of this user's that not everybody can write to; or set XDG_RUNTIME_DIR"
        )
    path.chmod(0o700)


def file_state(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
