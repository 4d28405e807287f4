"""Lines to a file descriptor, from a thread of its own: whoever has something to say never waits for a reader.

A write to a pipe that nobody reads blocks, and making a standard stream non-blocking would do so for every process that
shares it. What waits is bounded. Lines go out in writes of at most PIPE_BUF bytes, which a pipe keeps whole, so the
lines of several processes don't mix.
"""

import os
import select
import threading
from collections.abc import Callable
from queue import SimpleQueue

ATOMIC = select.PIPE_BUF  # bytes: larger writes to a pipe may be mixed with another process's


class Lines:
    """A writer. Only one thread may call it at a time."""

    def __init__(self, fd: int, waiting: int, name: str, failed: Callable[[OSError, int], None]) -> None:
        """``waiting`` is the bound in bytes; ``failed`` is called in the thread, with the number of lines lost."""
        self.passed = 0  # lines, ever, written or lost for an error; only the thread counts here
        self._fd = fd
        self._limit = waiting
        self._failed = failed
        self._accepted = 0  # bytes, ever; only the caller counts here
        self._done = 0  # bytes, ever; only the thread counts here
        self._batches: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name=name, daemon=True)
        self._thread.start()

    def accept(self, size: int) -> bool:
        """Whether there is room for so many bytes; they are to be `put`."""
        if self._accepted - self._done + size > self._limit:
            return False
        self._accepted += size
        return True

    def put(self, lines: list[bytes]) -> None:
        """Hand what has been accepted to the thread."""
        self._batches.put(lines)

    def end(self) -> None:
        """No more lines come: the thread writes what is left, and ends."""
        self._batches.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, for so many seconds at most: no stuck reader holds an exit."""
        self._thread.join(timeout)

    def _write_all(self) -> None:
        while (lines := self._batches.get()) is not None:
            chunk: list[bytes] = []
            size = 0
            for line in lines:
                if size + len(line) > ATOMIC and chunk:
                    self._write_chunk(chunk)
                    chunk, size = [], 0
                chunk.append(line)
                size += len(line)
            self._write_chunk(chunk)

    def _write_chunk(self, lines: list[bytes]) -> None:
        data = rest = b"".join(lines)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody else has made it non-blocking
                select.select([], [self._fd], [])
            except OSError as error:  # a closed pipe, a full disk: the proxy goes on without
                self._failed(error, len(lines))
                break
        self._done += len(data)
        self.passed += len(lines)
