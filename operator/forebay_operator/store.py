"""What the watches have told: the latest of every object, by pool. It wakes the pools' loops, and decides nothing.

It may be behind the API server; nothing rests on its being up to date: a ledger written from an old view is refused
by its resourceVersion.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from forebay_operator.observed import of_pool

Raw = Mapping[str, Any]


class Key(NamedTuple):
    """A pool."""

    namespace: str
    name: str


class Store:
    """See the module's docstring. `departed`: pods whose objects have gone, as they were seen last, until `forget`."""

    def __init__(self) -> None:
        self.pools: dict[Key, Raw] = {}
        self.appeared: asyncio.Queue[Key] = asyncio.Queue()
        self._pods: dict[Key, dict[str, Raw]] = {}
        self._departed: dict[Key, dict[str, Raw]] = {}
        self._deployments: dict[Key, Raw] = {}
        self._wakes: dict[Key, asyncio.Event] = {}

    def wake(self, key: Key) -> asyncio.Event:
        """Set whenever something of this pool has changed."""
        return self._wakes.setdefault(key, asyncio.Event())

    def pods(self, key: Key) -> list[Raw]:
        return list(self._pods.get(key, {}).values())

    def departed(self, key: Key) -> list[Raw]:
        return list(self._departed.get(key, {}).values())

    def deployment(self, key: Key) -> Raw | None:
        return self._deployments.get(key)

    def see_pool(self, raw: Raw, *, deleted: bool = False) -> None:
        key = Key(raw["metadata"]["namespace"], raw["metadata"]["name"])
        if not deleted:
            self.pools[key] = raw
            self.appeared.put_nowait(key)
        elif self.pools.get(key, raw)["metadata"]["uid"] == raw["metadata"]["uid"]:  # else its successor is there
            self.pools.pop(key, None)
        self.wake(key).set()

    def see_pod(self, raw: Raw, *, deleted: bool = False) -> None:
        key = Key(raw["metadata"]["namespace"], of_pool(raw))
        uid = raw["metadata"]["uid"]
        if deleted:
            self._pods.get(key, {}).pop(uid, None)
            self._departed.setdefault(key, {})[uid] = raw
        else:
            self._pods.setdefault(key, {})[uid] = raw
        self.wake(key).set()

    def see_deployment(self, raw: Raw, *, deleted: bool = False) -> None:
        key = Key(raw["metadata"]["namespace"], of_pool(raw))
        if not deleted:
            self._deployments[key] = raw
        elif self._deployments.get(key, raw)["metadata"]["uid"] == raw["metadata"]["uid"]:
            self._deployments.pop(key, None)
        self.wake(key).set()

    def listed(self, key: Key, pool: Raw, pods: Iterable[Raw], deployment: Raw | None) -> None:
        """What a fresh look has found, in the place of what the watches told."""
        self.pools[key] = pool
        self._pods[key] = {raw["metadata"]["uid"]: raw for raw in pods}
        if deployment is None:
            self._deployments.pop(key, None)
        else:
            self._deployments[key] = deployment

    def forget_departed(self, key: Key, uids: list[str]) -> None:
        for uid in uids:
            self._departed.get(key, {}).pop(uid, None)

    def forget(self, key: Key) -> None:
        """The pool has gone."""
        for table in (self.pools, self._pods, self._departed, self._deployments, self._wakes):
            table.pop(key, None)
