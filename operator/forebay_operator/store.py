"""What the watches have told: the latest of every object, by pool. It wakes the pools' loops, and decides nothing.

It may be behind the API server; nothing rests on its being up to date: a ledger written from an old view is refused
by its resourceVersion.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any, NamedTuple

from forebay_operator.namesakes import Namesakes
from forebay_operator.observed import Pod, of_pool

Raw = Mapping[str, Any]

ENDED = 1000  # pods of one pool that have ended

Name = tuple[str, str]  # kind and name of an object


class Key(NamedTuple):
    """A pool."""

    namespace: str
    name: str


class Store:
    """See the module's docstring. `appeared`: pools that came, for whoever leads."""

    def __init__(self) -> None:
        self.pools: dict[Key, Raw] = {}
        self.appeared: asyncio.Queue[Key] = asyncio.Queue()
        self.namesakes = Namesakes()
        self._pods: dict[Key, dict[str, Raw]] = {}
        self._ended: dict[Key, dict[str, Pod]] = {}  # by UID, the latest last
        self._deployments: dict[Key, Raw] = {}
        self._wakes: dict[Key, asyncio.Event] = {}
        self._objects: dict[Key, dict[Name, int]] = {}
        self._disturbed: dict[Key, set[Name]] = {}

    def wake(self, key: Key) -> asyncio.Event:
        """Set whenever something of this pool has changed."""
        return self._wakes.setdefault(key, asyncio.Event())

    def _rouse(self, key: Key) -> None:
        if key in self._wakes:  # else nobody follows it
            self._wakes[key].set()

    def pods(self, key: Key) -> list[Raw]:
        return list(self._pods.get(key, {}).values())

    def take_ended(self, key: Key) -> dict[str, Pod]:
        """Pods that had ended when their objects went, by UID, since this was asked last: the latest of them, as nobody
        may ask for long."""
        return self._ended.pop(key, {})

    def deployment(self, key: Key) -> Raw | None:
        return self._deployments.get(key)

    def see_pool(self, raw: Raw, *, deleted: bool = False) -> None:
        key = Key(raw["metadata"]["namespace"], raw["metadata"]["name"])
        self.namesakes.see_pool(key, raw, monotonic())
        if not deleted and key in self.pools and _older(raw, self.pools[key]):
            return  # it was on its way while we wrote
        if not deleted:
            if key not in self.pools:
                self.appeared.put_nowait(key)
            self.pools[key] = raw
        elif self.pools.get(key, raw)["metadata"]["uid"] == raw["metadata"]["uid"]:  # else its successor is there
            self.pools.pop(key, None)
        self._rouse(key)

    def see_pod(self, raw: Raw, *, deleted: bool = False) -> None:
        key = Key(raw["metadata"]["namespace"], of_pool(raw))
        uid = raw["metadata"]["uid"]
        self.namesakes.see_pod(key, monotonic(), gone=deleted)
        if deleted:
            self._pods.get(key, {}).pop(uid, None)
            pod = Pod.of(raw)
            if pod.finished and key in self.pools:
                ended = self._ended.setdefault(key, {})
                ended[uid] = pod
                if len(ended) > ENDED:
                    del ended[next(iter(ended))]
        else:
            self._pods.setdefault(key, {})[uid] = raw
        self._rouse(key)

    def see_deployment(self, raw: Raw, *, deleted: bool = False) -> None:
        key = Key(raw["metadata"]["namespace"], of_pool(raw))
        if not deleted:
            self._deployments[key] = raw
        elif self._deployments.get(key, raw)["metadata"]["uid"] == raw["metadata"]["uid"]:
            self._deployments.pop(key, None)
        self._rouse(key)

    def see_object(self, raw: Raw, *, deleted: bool = False) -> None:
        """Any other object that a pool owns: it is kept only what it was like, to tell when somebody has been at it."""
        key = Key(raw["metadata"]["namespace"], of_pool(raw))
        if key not in self.pools:
            return
        name, known = (raw["kind"], raw["metadata"]["name"]), self._objects.setdefault(key, {})
        was, now = known.pop(name, None), None if deleted else _content(raw)
        if now is not None:
            known[name] = now
        if was is not None and was != now:
            self._disturbed.setdefault(key, set()).add(name)
            self._rouse(key)

    def wrote(self, raw: Raw) -> None:
        """The API server's answer to an apply of ours: what is seen like this is no news."""
        key = Key(raw["metadata"]["namespace"], of_pool(raw))
        if key in self.pools:
            self._objects.setdefault(key, {})[raw["kind"], raw["metadata"]["name"]] = _content(raw)

    def disturbed(self, key: Key) -> set[Name]:
        """Objects of this pool that were changed or deleted since this was asked last, mostly by somebody else."""
        return self._disturbed.pop(key, set())

    def listed(self, key: Key, pool: Raw, pods: Iterable[Raw], deployment: Raw | None) -> None:
        """What a fresh look has found, in the place of what the watches told."""
        self.pools[key] = pool
        self._pods[key] = {raw["metadata"]["uid"]: raw for raw in pods}
        if deployment is None:
            self._deployments.pop(key, None)
        else:
            self._deployments[key] = deployment

    def forget(self, key: Key) -> None:
        """The pool has gone."""
        for table in (
            self.pools, self._pods, self._ended, self._deployments, self._wakes, self._objects, self._disturbed,
        ):  # fmt: skip
            table.pop(key, None)


def _older(raw: Raw, known: Raw) -> bool:
    """Whether it is an earlier version of the same object. Versions rise (Kubernetes API conventions, 1.35)."""
    one, other = raw["metadata"], known["metadata"]
    return bool(one["uid"] == other["uid"] and int(one["resourceVersion"]) < int(other["resourceVersion"]))


def _content(raw: Raw) -> int:
    """What an apply sets, as a number that is the same for the same content, in this process."""
    metadata = raw["metadata"]
    kept = {field: raw[field] for field in raw if field not in ("apiVersion", "kind", "metadata", "status")}
    named = {field: metadata.get(field) for field in ("labels", "annotations", "ownerReferences")}
    return hash(json.dumps([kept, named], sort_keys=True))
