"""For how long a pool's name had been free when the pool came: whether there may be connections of an earlier one.

Known to a process only that has watched since before; and only of a pool that it has never seen with a ledger (one that
was lost is not one that never was), and that has lost no pod yet.
"""

from collections.abc import Mapping
from typing import Any

Name = tuple[str, str]  # namespace and name of a pool


class Namesakes:
    """Times in seconds of a monotonic clock. `since`: when the watches began."""

    def __init__(self) -> None:
        self.since = float("inf")
        self._seen: dict[Name, float] = {}
        self._free: dict[Name, tuple[str, float]] = {}

    def see_pool(self, name: Name, raw: Mapping[str, Any], now: float) -> None:
        """A pool, also one that goes."""
        uid = raw["metadata"]["uid"]
        if self._free.get(name, ("", 0.0))[0] != uid:
            self._free[name] = uid, now - self._seen.get(name, self.since)
        if raw.get("status", {}).get("ledger") is not None:
            self._free[name] = uid, 0.0
        self._seen[name] = now

    def see_pod(self, name: Name, now: float, *, gone: bool) -> None:
        """A pod of a pool of this name. `gone`: nobody knows any more what it left."""
        self._seen[name] = now
        if gone and name in self._free:
            self._free[name] = self._free[name][0], 0.0

    def free(self, name: Name, uid: str) -> float:
        """For how many seconds, at least, nobody had this name before the pool of this UID."""
        known, seconds = self._free.get(name, ("", 0.0))
        return seconds if known == uid else 0.0
