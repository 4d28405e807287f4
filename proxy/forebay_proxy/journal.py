"""Where a replica's connections go: a record each, in its memory, so that what it leaves when killed can be found.

A record tells a connection from all others in the kernel's table, by its port and the far end; of a PostgreSQL server
it has what ends it as well: the backend's process ID and cancel key. It is written when a connection is made, and when
it has logged in, and erased when its end is seen: not once per request. Where all records are taken a connection has
none; then it is counted only.
"""

import ipaddress
import mmap
import socket
import struct
from typing import Any, Final, NamedTuple

RECORD: Final = struct.Struct("<BBHH16sIB32s5x")  # used, slot, far port, own port, far address, pid, length of key, key
RECORDS: Final = 4096
SIZE: Final = RECORDS * RECORD.size
KEY: Final = 32  # bytes; PostgreSQL has 4, since protocol 3.2 it has 32


class Record(NamedTuple):
    """One connection. `pid` 0: there is none to ask for."""

    number: int  # in its journal
    slot: int  # of the upstream, in the memory
    address: str  # the far end's literal IP, and
    port: int
    own_port: int
    pid: int = 0
    key: bytes = b""

    def as_json(self) -> list[Any]:
        return [*self[:-1], self.key.hex()]

    @classmethod
    def of_json(cls, fields: list[Any]) -> "Record":
        number, slot, address, port, own_port, pid, key = fields
        return cls(number, slot, address, port, own_port, pid, bytes.fromhex(key))


class Journal:
    """The records in a mapped area, from `offset`."""

    def __init__(self, area: mmap.mmap, offset: int) -> None:
        self._area = area
        self._offset = offset
        used = [area[offset + index * RECORD.size] == 1 for index in range(RECORDS)]
        self.found = [self._read(index) for index, is_used in enumerate(used) if is_used]  # of dead processes
        self._free = [index for index in reversed(range(RECORDS)) if not used[index]]

    def note(self, slot: int, far: tuple[str, int], own_port: int) -> int:
        """Of a connection that has been made: its record's index; -1 where there is none."""
        if not self._free:
            return -1
        index = self._free.pop()
        at = self._offset + index * RECORD.size
        address = _packed(far[0])
        RECORD.pack_into(self._area, at, 0, slot, far[1], own_port, address, 0, 0, b"")
        self._area[at] = 1  # last: a record that is there is whole
        return index

    def identify(self, index: int, pid: int, key: bytes) -> None:
        """Of a connection that has logged in. A key that is too long is not kept."""
        if index < 0:
            return
        at = self._offset + index * RECORD.size
        record = self._read(index)
        kept = key if len(key) <= KEY else b""
        fields = (record.slot, record.port, record.own_port, _packed(record.address), pid, len(kept), kept)
        RECORD.pack_into(self._area, at, 1, *fields)

    def erase(self, index: int) -> None:
        """Its connection has gone, at both ends."""
        if index >= 0 and self._area[self._offset + index * RECORD.size]:
            self._area[self._offset + index * RECORD.size] = 0
            self._free.append(index)

    def _read(self, index: int) -> Record:
        fields = RECORD.unpack_from(self._area, self._offset + index * RECORD.size)
        _, slot, port, own_port, address, pid, length, key = fields
        far = ipaddress.IPv6Address(address)
        return Record(index, slot, str(far.ipv4_mapped or far), port, own_port, pid, key[:length])


def _packed(address: str) -> bytes:
    """16 bytes; IPv4 mapped (RFC 4291 section 2.5.5.2)."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return b"\0" * 10 + b"\xff\xff" + socket.inet_aton(address)
