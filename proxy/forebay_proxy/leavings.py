"""What a dead predecessor's connections still hold at the upstream, asked of the kernel.

After kill -9 a connection with nothing unread stays in this network namespace's table without an owner (FIN_WAIT1,
FIN_WAIT2, CLOSING, LAST_ACK) until the upstream has closed too, at most `tcp_fin_timeout` (60 s), so its end before
that is proof. One with unread bytes is reset and leaves no trace, and one that reaches the 60 s leaves too: those count
until `linger` is over, the one assumption that the budget makes (design section 4).
"""

import socket
import struct
from collections.abc import Iterable
from pathlib import Path

GOING = frozenset(("04", "05", "09", "0B"))  # FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING; include/net/tcp_states.h
TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
FORGETS = 55.0  # seconds after which the kernel may drop one that is still open: a little less than its 60


class Leavings:
    """How many of `count` connections of the dead may still be open. Times are monotonic seconds."""

    def __init__(self, count: int, linger: float, now: float) -> None:
        self.left = count
        self._unseen: int | None = None  # those that the kernel never showed, or does not show any more
        self._believed_until = now + FORGETS
        self._until = now + linger
        self._addresses: set[tuple[str, int]] = set()

    def observe(self, addresses: set[tuple[str, int]], now: float) -> None:
        """Look at the kernel's table; `addresses` are the upstream's, as (literal IP, port). Those that it had before
        count too."""
        self._addresses |= addresses
        self.update(ownerless(self._addresses), now)

    def update(self, seen: int, now: float) -> None:
        """`seen` ownerless connections are there now. Never rises: others may leave ownerless connections too."""
        if self._unseen is None:
            self._unseen = max(0, self.left - seen)
        elif now >= self._believed_until:
            self._unseen = self.left
        unseen = self._unseen if now < self._until else 0
        self.left = min(self.left, seen + unseen)


def ownerless(addresses: set[tuple[str, int]], tables: Iterable[Path] = TABLES) -> int:
    """Connections to these addresses that no process owns and that the other end has not closed yet."""
    wanted = {encoded(*address) for address in addresses}
    count = 0
    for table in tables:
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except FileNotFoundError:  # no IPv6 in this kernel
            continue
        for line in lines:
            fields = line.split()
            if fields[3] in GOING and fields[9] == "0" and fields[2] in wanted:
                count += 1
    return count


def encoded(ip: str, port: int) -> str:
    """As /proc/net/tcp writes it: 32-bit words in the machine's byte order, hexadecimal."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    packed = socket.inet_pton(family, ip)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
