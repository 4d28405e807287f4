"""Stand-ins for the two things that the operator's loop talks to: the API server, and the pods' admin ports."""

import base64
import copy
import itertools
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tests.controlplane.parts import BOOT, raw_pod, state

from forebay_core.budget.ledger import Ledger
from forebay_core.budget.record import load
from forebay_operator.api import ApiError, Conflict, NotFound

Object = dict[str, Any]


class FakeApi:
    """As `forebay_operator.api.Api`, over a dict. `away`: every request fails; `refuses`: a kind that is not taken."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {
            ("Node", "", "node1"): {"status": {"nodeInfo": {"bootID": BOOT}}},
            ("Lease", "kube-node-lease", "node1"): {"spec": {"renewTime": "1"}},
        }
        self.written: list[str] = []
        self.away = False
        self._versions = itertools.count(100)

    def put(self, given: Mapping[str, Any]) -> Object:
        body = copy.deepcopy(dict(given))
        metadata = body["metadata"]
        name = metadata.setdefault("name", f"{metadata.get('generateName')}{next(self._versions)}")
        key = body["kind"], metadata["namespace"], name
        old = self.objects.get(key, {"metadata": {"generation": 0}})
        changed = old.get("spec") != body.get("spec")
        metadata["resourceVersion"] = str(next(self._versions))
        metadata["generation"] = old["metadata"]["generation"] + changed
        metadata.setdefault("uid", old["metadata"].get("uid", f"{name}-uid"))
        self.objects[key] = body
        return copy.deepcopy(body)

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        self._reached()
        try:
            return copy.deepcopy(self.objects[kind, namespace, name])
        except KeyError:
            raise NotFound(404, f"{kind} {name} not found") from None

    async def list(self, kind: str, namespace: str, labels: str = "", fields: str = "") -> "list[Object]":
        self._reached()
        found = [body for key, body in self.objects.items() if key[:2] == (kind, namespace)]
        if fields:
            field, _, value = fields.removeprefix("involvedObject.").partition("=")
            found = [body for body in found if body["involvedObject"][field] == value]
        return copy.deepcopy(found)

    async def create(self, body: Mapping[str, Any]) -> Object:
        self._reached()
        if (body["kind"], body["metadata"]["namespace"], body["metadata"].get("name")) in self.objects:
            raise Conflict(409, "already exists")
        self.written.append(f"create {body['kind']}")
        made = self.put(body)
        if "stringData" in made:
            encoded = {key: base64.b64encode(text.encode()).decode() for key, text in made.pop("stringData").items()}
            self.objects[made["kind"], made["metadata"]["namespace"], made["metadata"]["name"]]["data"] = encoded
        return made

    async def apply(self, body: Mapping[str, Any]) -> Object:
        self._reached()
        self.written.append(f"apply {body['kind']}")
        return self.put(body)

    async def patch(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        old = await self.get(kind, namespace, name)
        if (
            body["metadata"].get("resourceVersion", old["metadata"]["resourceVersion"])
            != (old["metadata"]["resourceVersion"])
        ):
            raise Conflict(409, "the object has been modified")
        self.written.append(f"patch {kind}")
        return self.put(merged(old, body))

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        if (await self.get(kind, namespace, name))["metadata"]["uid"] != uid:
            raise Conflict(409, "the UID in the precondition does not match the UID in record")
        self.written.append(f"delete {kind}")
        del self.objects[kind, namespace, name]

    async def patch_status(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        return await self.patch(kind, namespace, name, body)

    def ledger(self) -> Ledger:
        return load(self.objects["ProxyPool", "shop", "orders"]["status"]["ledger"])

    def _reached(self) -> None:
        if self.away:
            raise ApiError(0, "the API server is not to be reached")


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class FakeReplica:
    """A pod's admin port: it takes grants as a replica does."""

    def __init__(self, name: str, ip: str, document: str = "") -> None:
        self.name, self.ip, self.document, self.life = name, ip, document, f"life-{name}"
        self.sequence = self.grant = self.held = 0
        self.token = ""
        self.deadline: float | None = None

    def pod(self) -> Object:
        ready = {"type": "Ready", "status": "True" if self.grant else "False"}
        return {"kind": "Pod", **raw_pod(self.name, podIP=self.ip, conditions=[ready])}

    def state(self) -> Object:
        grant = {"grant": self.grant, "limit": self.grant}
        return state(self.life, self.sequence, self.held, pod=f"{self.name}-uid", document=self.document, orders=grant)

    def push(self, body: Mapping[str, Any], token: str) -> None:
        self.token = token
        if body["life"] == self.life and body["sequence"] > self.sequence:
            self.sequence, self.grant = body["sequence"], body["grants"]["orders"]
            self.deadline = body.get("deadline")


class _Response:
    def __init__(self, body: Any) -> None:
        self.status, self.reason, self._body = 200, "OK", body

    async def __aenter__(self) -> "_Response":
        if self._body is None:
            raise ConnectionRefusedError("nobody listens there")
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        return None

    async def read(self) -> bytes:
        return json.dumps(self._body).encode()


class FakeSession:
    """As aiohttp's, over replicas by IP address."""

    def __init__(self) -> None:
        self.replicas: dict[str, FakeReplica] = {}

    def _of(self, url: str) -> FakeReplica | None:
        return self.replicas.get(url.removeprefix("http://").partition(":")[0])

    def get(self, url: str, **_: Any) -> _Response:
        replica = self._of(url)
        return _Response(replica.state() if replica is not None else None)

    def put(self, url: str, *, json: Mapping[str, Any], headers: Mapping[str, str], **_: Any) -> _Response:
        replica = self._of(url)
        if replica is not None:
            replica.push(json, headers["Authorization"])
        return _Response({} if replica is not None else None)
