"""What a replica must not forget when its process dies: the memory of docs/explanation/ledger.md.

A small mapped file, locked while its process lives. It keeps the life (the replica's identity towards the budget), the
highest sequence seen, whether the life drains, for each upstream the grant and the number of connections held, which
is raised before `connect()`, and where they go (`journal`). Writes go to the mapping, so they survive kill -9 of the
process (not of the machine, which ends the connections as well).
"""

import fcntl
import mmap
import os
import secrets
import socket
import struct
from pathlib import Path

from forebay_proxy import journal
from forebay_proxy.files import FileError
from forebay_proxy.journal import Journal, Record

MAGIC = b"forebay2"
HEADER = struct.Struct("<8s16sQ?7x")  # magic, life, sequence, draining
SLOT = struct.Struct("<64sII")  # upstream's name, grant, held
SLOTS = 64  # a document has at most 16 upstreams; the others are of those that it had, and that still hold something
RECORDS = HEADER.size + SLOTS * SLOT.size  # where they begin
SIZE = RECORDS + journal.SIZE


class NotAMemory(FileError):
    """The file holds something else."""


class MemoryLocked(OSError):
    """Another process lives with this memory."""


class Memory:
    """An open memory. `fresh` says that a new life has begun; `left` is what a dead predecessor held, by upstream."""

    def __init__(self, fd: int) -> None:
        """Take the file behind `fd` (and own it). Raises OSError, MemoryLocked."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise MemoryLocked("another process holds this replica's memory") from None
        self._fd = fd
        if os.fstat(fd).st_size != SIZE or os.pread(fd, len(MAGIC), 0) != MAGIC:
            os.ftruncate(fd, 0)
        try:
            os.posix_fallocate(fd, 0, SIZE)  # a write to the mapping that finds the disk full would be SIGBUS
        except OSError:
            os.close(fd)
            raise
        self._map = mmap.mmap(fd, SIZE)
        magic: bytes
        life: bytes
        sequence: int
        draining: bool
        magic, life, sequence, draining = HEADER.unpack_from(self._map, 0)
        # The memory of a draining life belongs to a process that has ended for good: whoever finds it is new.
        self.fresh = magic != MAGIC or draining
        self.left: dict[str, int] = {}
        self._slots: dict[str, int] = {}
        grants: dict[str, int] = {}
        if magic == MAGIC:
            for index in range(SLOTS):
                name, grant, held = SLOT.unpack_from(self._map, HEADER.size + index * SLOT.size)
                if name[0]:
                    self._slots[name.rstrip(b"\0").decode()] = index
                    grants[name.rstrip(b"\0").decode()] = grant
                    self.left[name.rstrip(b"\0").decode()] = held
        if self.fresh:
            life, sequence, draining, grants = secrets.token_bytes(16), 0, False, {}
        self._life, self._sequence, self._draining = life, sequence, draining
        self._grants = grants
        self._held = dict.fromkeys(self._slots, 0)
        self._journal = Journal(self._map, RECORDS)
        self._write_header()
        for name in self._slots:
            self._write_slot(name)

    @classmethod
    def at(cls, path: Path) -> "Memory":
        """The memory in this file, made if absent. Raises OSError, MemoryLocked; NotAMemory where it is somebody's."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not ours(os.pread(fd, len(MAGIC), 0)):
            os.close(fd)
            raise NotAMemory(f"{path} is no replica's memory: expected one, an empty file, or none")
        return cls(fd)

    @property
    def life(self) -> str:
        return self._life.hex()

    @property
    def sequence(self) -> int:
        return self._sequence

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def grants(self) -> dict[str, int]:
        """The last grant taken, by upstream."""
        return dict(self._grants)

    def drain(self) -> None:
        """Final for this life."""
        self._draining = True
        self._write_header()

    def take(self, sequence: int, grants: dict[str, int]) -> None:
        """Write down a push that has been accepted, before it is acted on or answered."""
        self._grants.update(grants)
        for name in grants:
            self._write_slot(name)
        self._sequence = sequence
        self._write_header()

    def set_held(self, upstream: str, held: int) -> None:
        """How many connections this process has open, opening or closing (what `left` counts comes on top)."""
        self._held[upstream] = held
        self._write_slot(upstream)

    def set_left(self, upstream: str, left: int) -> None:
        """How many connections of the dead may still be open."""
        self.left[upstream] = left
        self._write_slot(upstream)

    def records(self, upstream: str) -> list[Record]:
        """Of the connections that `left` counts, those that are known."""
        slot = self._slots.get(upstream)
        return [record for record in self._journal.found if record.slot == slot]

    def note(self, upstream: str, sock: socket.socket) -> int:
        """A connection that has been made, and counted before: its record, for `identify` and `erase`."""
        return self._journal.note(self._slots[upstream], sock.getpeername()[:2], sock.getsockname()[1])

    def identify(self, record: int, pid: int, key: bytes) -> None:
        """The server's process at a connection's far end, and what cancels its queries."""
        self._journal.identify(record, pid, key)

    def erase(self, record: int) -> None:
        """A connection has gone, and is about to be counted no more."""
        self._journal.erase(record)

    def close(self) -> None:
        """Let go of the lock and the mapping; the file stays."""
        self._map.close()
        os.close(self._fd)

    def _write_header(self) -> None:
        HEADER.pack_into(self._map, 0, MAGIC, self._life, self._sequence, self._draining)

    def _write_slot(self, name: str) -> None:
        index = self._slots.get(name)
        if index is None:
            index = self._slots[name] = self._free_slot()
        SLOT.pack_into(
            self._map, HEADER.size + index * SLOT.size, name.encode(), self._grants.get(name, 0), self._counted(name)
        )

    def _counted(self, name: str) -> int:
        return self._held.get(name, 0) + self.left.get(name, 0)

    def _free_slot(self) -> int:
        """A slot that is empty, or whose upstream holds nothing: that a grant is forgotten is never too much.
        Raises OverflowError where there is none."""
        free = set(range(SLOTS)) - set(self._slots.values())
        if free:
            return min(free)
        for name, index in self._slots.items():
            if not self._counted(name):
                del self._slots[name]
                self._grants.pop(name, None)
                return index
        raise OverflowError(f"connections to more than {SLOTS} upstreams are still open")


def ours(beginning: bytes) -> bool:
    """Whether a file that begins so is a memory, of whichever version, or one whose making was cut short."""
    return not beginning.strip(b"\0") or (beginning.startswith(MAGIC[:-1]) and beginning[len(MAGIC) - 1 :].isdigit())
