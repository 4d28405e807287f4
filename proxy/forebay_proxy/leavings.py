"""What a dead predecessor's connections still hold at the upstream, asked of the kernel.

After kill -9 a connection with nothing unread stays in this network namespace's table without an owner (FIN_WAIT1,
FIN_WAIT2, CLOSING, LAST_ACK) until the upstream has closed too. Then it is in TIME_WAIT for a minute, which is proof
for who looks late: a successor takes its time to start. In FIN_WAIT2 the table says how long the kernel will keep it
(`tcp_fin_timeout` from its beginning): its end before that is proof too. One with unread bytes is reset and leaves no
trace, and one whose time is over leaves too: those count until the upstream itself says that they have gone, or
`linger` is over, the one assumption that the budget makes (docs/explanation/ledger.md).
"""

import socket
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from forebay_proxy.journal import Record

GOING = frozenset(("04", "05", "09", "0B"))  # FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING; include/net/tcp_states.h
KEPT = "05"  # FIN_WAIT2
CLOSED = "06"  # TIME_WAIT
TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
TICKS = 100  # a second, of times in these tables (USER_HZ)
MARGIN = 1.0  # seconds by which the kernel may be early
Trace = tuple[int, str]  # our port, and the far end as `encoded`


class Ownerless(NamedTuple):
    """Connections that no process owns: those that the other end has not closed yet, with the seconds for which the
    kernel keeps them all the same, and those that it has closed."""

    going: Mapping[Trace, float]
    closed: Set[Trace]


class Leavings:
    """Of `count` connections of the dead, `records` of which are known: those that may still be open. Times are
    monotonic seconds."""

    def __init__(self, count: int, records: Sequence[Record], linger: float, now: float) -> None:
        self._unknown = max(0, count - len(records))
        self._traces = {record: (record.own_port, encoded(record.address, record.port)) for record in records}
        self._kept_until: dict[Record, float] = {}  # by the kernel, as it has said
        self._until = now + linger

    @property
    def left(self) -> int:
        """How many may still be open."""
        return len(self._traces) + self._unknown

    @property
    def records(self) -> list[Record]:
        """Those of them that are known."""
        return list(self._traces)

    @property
    def most(self) -> int:
        """How many may still be open at the endpoint that has most."""
        return max(Counter((r.address, r.port) for r in self._traces).values(), default=0) + self._unknown

    def update(self, seen: Ownerless, now: float) -> None:
        """`seen` is what the kernel shows now."""
        over = now >= self._until
        if over:
            self._unknown = 0
        for record, trace in list(self._traces.items()):
            if trace in seen.going:
                self._kept_until[record] = now + seen.going[trace] - MARGIN
            elif over or trace in seen.closed or now < self._kept_until.get(record, 0.0):
                self.gone(record)

    def gone(self, record: Record) -> None:
        """It is known to be closed."""
        self._traces.pop(record, None)


def ownerless(tables: Iterable[Path] = TABLES) -> Ownerless:
    """As the kernel's tables say now."""
    going, closed = dict[Trace, float](), set[Trace]()
    for table in tables:
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except FileNotFoundError:  # no IPv6 in this kernel
            continue
        for line in lines:
            fields = line.split()
            if (fields[3] in GOING or fields[3] == CLOSED) and fields[9] == "0":
                trace = int(fields[1].rpartition(":")[2], 16), fields[2]
                if fields[3] == CLOSED:
                    closed.add(trace)
                else:
                    going[trace] = int(fields[5][3:], 16) / TICKS if fields[3] == KEPT else 0.0
    return Ownerless(going, closed)


def encoded(ip: str, port: int) -> str:
    """As /proc/net/tcp writes it: 32-bit words in the machine's byte order, hexadecimal."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    packed = socket.inet_pton(family, ip)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
