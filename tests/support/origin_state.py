"""What the test origin counts. It counts itself, from inside: a sampled figure could miss a peak."""

import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class State:
    """Counters since the start or the last reset, and the switches that the control port sets."""

    open: int = 0  # connections from accept() until our close()
    high_water: int = 0  # the most that were open at once
    accepts: int = 0
    refused: int = 0  # closed at once, over `limit`; they count in open and high_water too
    requests: int = 0  # heads received
    methods: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)  # how often each target was asked for
    statuses: Counter[int] = field(default_factory=Counter)  # final answers begun
    active: int = 0  # requests between their head and the end of their answer
    active_high_water: int = 0
    aborted: int = 0  # connections lost within a request or answer
    malformed: int = 0  # requests refused with 400: what a proxy must never send
    complaints: list[str] = field(default_factory=list)  # why, at most 20
    bytes_in: int = 0  # body bytes, or in mode tcp all bytes
    tls_failed: int = 0
    limit: int | None = None
    health: int = 200  # what /healthz answers

    def opened(self) -> bool:
        """Count an accepted connection; False when it is over the limit."""
        self.accepts += 1
        self.open += 1
        self.high_water = max(self.high_water, self.open)
        if self.limit is not None and self.open > self.limit:
            self.refused += 1
            return False
        return True

    def request(self, method: str, target: str) -> None:
        self.requests += 1
        self.methods[method] += 1
        self.targets[target] += 1
        self.active += 1
        self.active_high_water = max(self.active_high_water, self.active)

    def complain(self, why: str) -> None:
        self.malformed += 1
        if len(self.complaints) < 20:
            self.complaints.append(why)

    def reset(self) -> None:
        """Forget what was counted; what is open stays open, and is where the high-water marks begin again."""
        fresh = State(
            open=self.open,
            high_water=self.open,
            active=self.active,
            active_high_water=self.active,
            limit=self.limit,
            health=self.health,
        )
        self.__dict__.update(fresh.__dict__)

    def snapshot(self) -> dict[str, Any]:
        return dict(self.__dict__)


def close_with_reset(sock: socket.socket) -> None:
    """Make the coming close() send a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
