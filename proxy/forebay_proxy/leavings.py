"""What a dead predecessor's connections still hold at the upstream, asked of the kernel.

After kill -9 a connection with nothing unread stays in this network namespace's table without an owner (FIN_WAIT1,
FIN_WAIT2, CLOSING, LAST_ACK) until the upstream has closed too, at most `tcp_fin_timeout` (60 s), so its end before
that is proof. Then it is in TIME_WAIT for a minute, which is proof for who looks late: a successor takes its time to
start. One with unread bytes is reset and leaves no trace, and one that reaches the 60 s leaves too: those count until
the upstream itself says that they have gone, or `linger` is over, the one assumption that the budget makes
(docs/explanation/ledger.md).
"""

import socket
import struct
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from forebay_proxy.journal import Record

GOING = frozenset(("04", "05", "09", "0B"))  # FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING; include/net/tcp_states.h
CLOSED = "06"  # TIME_WAIT
TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
FORGETS = 55.0  # seconds after which the kernel may drop one that is still open: a little less than its 60
Trace = tuple[int, str]  # our port, and the far end as `encoded`


class Ownerless(NamedTuple):
    """Connections that no process owns: those that the other end has not closed yet, and those that it has."""

    going: Set[Trace]
    closed: Set[Trace]


class Leavings:
    """Of `count` connections of the dead, `records` of which are known: those that may still be open. Times are
    monotonic seconds."""

    def __init__(self, count: int, records: Sequence[Record], linger: float, now: float) -> None:
        self._unknown = max(0, count - len(records))
        self._traces = {record: (record.own_port, encoded(record.address, record.port)) for record in records}
        self._shown: set[Record] = set()
        self._believed_until = now + FORGETS
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
                self._shown.add(record)
            elif over or trace in seen.closed or (record in self._shown and now < self._believed_until):
                self.gone(record)

    def gone(self, record: Record) -> None:
        """It is known to be closed."""
        self._traces.pop(record, None)


def ownerless(tables: Iterable[Path] = TABLES) -> Ownerless:
    """As the kernel's tables say now."""
    going, closed = set[Trace](), set[Trace]()
    for table in tables:
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except FileNotFoundError:  # no IPv6 in this kernel
            continue
        for line in lines:
            fields = line.split()
            if (fields[3] in GOING or fields[3] == CLOSED) and fields[9] == "0":
                trace = int(fields[1].rpartition(":")[2], 16), fields[2]
                (closed if fields[3] == CLOSED else going).add(trace)
    return Ownerless(going, closed)


def encoded(ip: str, port: int) -> str:
    """As /proc/net/tcp writes it: 32-bit words in the machine's byte order, hexadecimal."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    packed = socket.inet_pton(family, ip)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
