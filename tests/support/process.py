"""Child processes of a test: started, read line by line, ended, and found again if one is left behind."""

import asyncio
import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def need(program: str) -> str:
    """Return the path of `program`, or skip the test; with FOREBAY_NO_SKIP=1 fail it instead."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is not None:
        return path
    reason = f"needs {program}, which is not installed"
    if os.environ.get("FOREBAY_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


class Child:
    """One started program. Its stderr is collected in `lines`; its stdin is a pipe that ends with us."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.process = process
        self.name = name
        self.lines: list[str] = []
        self._news = asyncio.Event()
        self._ended = False
        self._reader = asyncio.create_task(self._collect(), name=f"stderr of {name}")

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> "Child":
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            pass_fds=pass_fds,
        )
        return cls(process, Path(argv[0]).name)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        return "\n".join(self.lines)

    async def line(self, pattern: str, *, after: int = 0, within: float = 20.0) -> re.Match[str]:
        """Wait until a line of stderr (from number `after` on) matches `pattern`, and return the match.

        Raises AssertionError, with what was printed, when the program ends or `within` seconds pass before.
        """
        try:
            async with asyncio.timeout(within):
                while True:
                    for text in self.lines[after:]:
                        if found := re.search(pattern, text):
                            return found
                    if self._ended:
                        code = await self.process.wait()
                        raise AssertionError(f"{self.name} ended with {code} before {pattern!r}:\n{self.stderr}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name}: no {pattern!r} in {within} s:\n{self.stderr}") from None

    def send(self, number: int) -> None:
        """Send a signal; a program that has already ended is no error."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def wait(self, within: float = 20.0) -> int:
        """Wait for the end and return the exit code (negative: the signal)."""
        async with asyncio.timeout(within):
            code = await self.process.wait()
            await self._reader
        if self.process.stdin is not None:
            self.process.stdin.close()
        return code

    async def end(self, number: int = signal.SIGTERM, within: float = 20.0) -> int:
        """Ask it to end; kill it when it has not after `within` seconds. Returns the exit code."""
        self.send(number)
        self.send(signal.SIGCONT)
        try:
            return await self.wait(within)
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.wait()

    async def _collect(self) -> None:
        stream = self.process.stderr
        assert stream is not None
        while line := await stream.readline():
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
            self._news.set()
        self._ended = True
        self._news.set()


def adopt_orphans() -> None:
    """Make this process the parent of what its dead children leave, so that leftovers can be found."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> dict[int, str]:
    """This process's direct children that still run, as pid -> command line; the finished are reaped."""
    found: dict[int, str] = {}
    pids: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            pids += map(int, (thread / "children").read_text().split())
    for pid in pids:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if command:
                found[pid] = command
            else:  # a zombie: an orphan that we adopted
                os.waitpid(pid, os.WNOHANG)
    return found


def leftovers(before: Mapping[int, str], grace: float = 5.0) -> dict[int, str]:
    """Children that are not in `before` and still run after `grace` seconds. They are killed."""
    deadline = time.monotonic() + grace
    left: dict[int, str] = {}
    for pid, command in children().items():
        if pid in before:
            continue
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                left[pid] = command
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                poll.poll(5000)
        finally:
            os.close(handle)
    children()  # reaps what ended meanwhile
    return left
