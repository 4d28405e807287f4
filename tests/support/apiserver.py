"""A stand-in for a Kubernetes API server, as much of one as an operator needs: discovery, list, watch with bookmarks,
get, create, delete, merge patches with compare-and-swap, server-side apply (one manager: a merge), the status
subresource. Objects are in memory. What it does not do: validation, defaults, conversion, rights.
"""

import asyncio
import base64
import copy
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from aiohttp import web

Object = dict[str, Any]
Key = tuple[str, str, str]  # plural, namespace, name

KINDS = {  # plural: (group, version, kind)
    "proxypools": ("forebay.dev", "v1alpha1", "ProxyPool"),
    "deployments": ("apps", "v1", "Deployment"),
    "poddisruptionbudgets": ("policy", "v1", "PodDisruptionBudget"),
    "networkpolicies": ("networking.k8s.io", "v1", "NetworkPolicy"),
    "leases": ("coordination.k8s.io", "v1", "Lease"),
    "configmaps": ("", "v1", "ConfigMap"),
    "customresourcedefinitions": ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    "events": ("", "v1", "Event"),
    "namespaces": ("", "v1", "Namespace"),
    "nodes": ("", "v1", "Node"),
    "pods": ("", "v1", "Pod"),
    "secrets": ("", "v1", "Secret"),
    "serviceaccounts": ("", "v1", "ServiceAccount"),
    "services": ("", "v1", "Service"),
}
CLUSTER = {"customresourcedefinitions", "namespaces", "nodes"}  # in no namespace
PLURALS = {kind: plural for plural, (_, _, kind) in KINDS.items()}
VERBS = ["create", "delete", "get", "list", "patch", "watch"]
BOOKMARKS = 30.0  # seconds between two bookmarks of a watch
REMEMBERED = 20_000  # events that a watch may begin before


class Change(NamedTuple):
    version: int
    plural: str
    type: str
    raw: Object


class Watch:
    """One open watch. `silent`: it stays open, and nothing comes any more."""

    def __init__(self, plural: str, wanted: Callable[[Object], bool]) -> None:
        self.plural = plural
        self.wanted = wanted
        self.silent = False
        self.news: asyncio.Queue[Change] = asyncio.Queue()


class ApiServer:
    """`async with ApiServer() as api: api.kubeconfig(path)`. `changed` is called after every change, with its type
    (ADDED, MODIFIED, DELETED) and the object; `requests` counts what was asked, by (method, plural, subresource)."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.watches: list[Watch] = []
        self.requests: dict[tuple[str, str, str], int] = {}
        self.changed: Callable[[str, Object], None] = lambda kind, raw: None
        self._versions = itertools.count(1)
        self._history: deque[Change] = deque(maxlen=REMEMBERED)
        self._version = 0

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port: int = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def kubeconfig(self, path: Path) -> Path:
        """Write one that leads here."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "somebody", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "somebody"}}],
        }
        path.write_text(json.dumps(content))
        return path

    # ------------------------------------------------------------------ what a test says and asks

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((PLURALS[kind], namespace, name))

    def put(self, raw: Mapping[str, Any]) -> Object:
        """Create it, or merge it into what is there; status too."""
        key = (PLURALS[raw["kind"]], raw["metadata"]["namespace"], raw["metadata"]["name"])
        return self._store(key, _merged(self.objects.get(key, {}), raw))

    def delete(self, kind: str, namespace: str, name: str) -> None:
        key = (PLURALS[kind], namespace, name)
        raw = self.objects.pop(key)
        raw["metadata"]["resourceVersion"] = str(self._next())
        self._tell("DELETED", key[0], raw)

    def mute(self, plural: str) -> int:
        """The watches of this resource that are open now fall silent; returns how many."""
        muted = [watch for watch in self.watches if watch.plural == plural and not watch.silent]
        for watch in muted:
            watch.silent = True
        return len(muted)

    # ------------------------------------------------------------------ the store

    def _next(self) -> int:
        self._version = next(self._versions)
        return self._version

    def _store(self, key: Key, raw: Object) -> Object:
        """Keeps it under a new version, unless it is what is there already."""
        old = self.objects.get(key)
        metadata = {"namespace": key[1], **raw["metadata"]}
        raw = raw | {"metadata": metadata}  # never what a watch is still to be told of
        if old is not None and _content(old) == _content(raw):
            return old
        spec_changed = old is None or _without(old, "status") != _without(raw, "status")
        version = self._next()
        metadata.setdefault("uid", f"uid-{version}")
        metadata.setdefault("creationTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        metadata["generation"] = (old["metadata"]["generation"] if old is not None else 0) + spec_changed
        metadata["resourceVersion"] = str(version)
        self.objects[key] = raw
        self._tell("ADDED" if old is None else "MODIFIED", key[0], raw)
        return raw

    def _tell(self, kind: str, plural: str, raw: Object) -> None:
        change = Change(self._version, plural, kind, raw)
        self._history.append(change)
        for watch in self.watches:
            if watch.plural == plural and watch.wanted(raw):
                watch.news.put_nowait(change)
        self.changed(kind, raw)

    def _matching(self, plural: str, namespace: str, wanted: Callable[[Object], bool]) -> Iterator[Object]:
        for (other, place, _), raw in self.objects.items():
            if other == plural and namespace in ("", place) and wanted(raw):
                yield raw

    # ------------------------------------------------------------------ HTTP

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        try:
            found = _discovery(parts)
            return web.json_response(found) if found is not None else await self._resource(request, parts)
        except _Refused as error:
            return error.response()

    async def _resource(self, request: web.Request, parts: list[str]) -> web.StreamResponse:
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, name, sub = (*rest, "", "")[:3]
        if plural not in KINDS:
            raise _Refused(404, "NotFound", f"there is no resource {plural}")
        asked = (request.method, plural, sub)
        self.requests[asked] = self.requests.get(asked, 0) + 1
        if request.method == "GET" and not name:
            return await self._listed(request, plural, namespace)
        key = (plural, namespace, name)
        if request.method == "GET":
            return web.json_response(self._found(key))
        if request.method == "DELETE":
            self._found(key)
            self.delete(KINDS[plural][2], namespace, name)
            return web.json_response({"kind": "Status", "status": "Success"})
        body = json.loads(await request.read())
        if request.method == "POST":
            return web.json_response(self._created(plural, namespace, body), status=201)
        if request.method == "PATCH":
            return self._patched(key, sub, body, applied="apply-patch" in request.content_type)
        raise _Refused(405, "MethodNotAllowed", request.method)

    async def _listed(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        labels = _selector(request.query.get("labelSelector", ""))

        def wanted(raw: Object) -> bool:
            return namespace in ("", raw["metadata"]["namespace"]) and labels(raw["metadata"].get("labels", {}))

        if request.query.get("watch") == "true":
            return await self._watched(request, Watch(plural, wanted))
        group, version, kind = KINDS[plural]
        return web.json_response(
            {
                "apiVersion": f"{group}/{version}".strip("/"),
                "kind": f"{kind}List",
                "metadata": {"resourceVersion": str(self._version)},
                "items": list(self._matching(plural, namespace, wanted)),
            }
        )

    async def _watched(self, request: web.Request, watch: Watch) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or 0)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for change in self._history:
            if change.version > since and change.plural == watch.plural and watch.wanted(change.raw):
                watch.news.put_nowait(change)
        self.watches.append(watch)
        try:
            while request.transport is not None and not request.transport.is_closing():
                try:
                    async with asyncio.timeout(BOOKMARKS):
                        change = await watch.news.get()
                    event = {"type": change.type, "object": change.raw}
                except TimeoutError:
                    kind = KINDS[watch.plural][2]
                    mark = {"kind": kind, "metadata": {"resourceVersion": str(self._version)}}
                    event = {"type": "BOOKMARK", "object": mark}
                if not watch.silent:
                    await response.write(json.dumps(event).encode() + b"\n")
        except ConnectionResetError:
            pass  # it was closed from the other end
        finally:
            self.watches.remove(watch)
        return response

    def _found(self, key: Key) -> Object:
        if key not in self.objects:
            raise _Refused(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        return self.objects[key]

    def _created(self, plural: str, namespace: str, body: Object) -> Object:
        metadata = body["metadata"]
        name = metadata.get("name") or f"{metadata['generateName']}{self._version}"
        if (plural, namespace, name) in self.objects:
            raise _Refused(409, "AlreadyExists", f'{plural} "{name}" already exists')
        if "stringData" in body:  # a Secret; its readers get base64
            body["data"] = {k: base64.b64encode(v.encode()).decode() for k, v in body.pop("stringData").items()}
        return self._store((plural, namespace, name), body | {"metadata": {**metadata, "name": name}})

    def _patched(self, key: Key, sub: str, body: Object, *, applied: bool) -> web.Response:
        if key not in self.objects and not applied:
            self._found(key)
        old = self.objects.get(key, {})
        version = body.get("metadata", {}).get("resourceVersion")
        if version is not None and version != old["metadata"]["resourceVersion"]:
            raise _Refused(409, "Conflict", f'{key[0]} "{key[2]}": the object has been modified')
        if sub == "status":
            body = {"status": body.get("status", {})}
        elif "status" in body:
            body = {k: v for k, v in body.items() if k != "status"}
        return web.json_response(self._store(key, _merged(old, body)), status=200 if old else 201)


class _Refused(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def response(self) -> web.Response:
        status = {"kind": "Status", "status": "Failure", "code": self.code, "reason": self.reason}
        return web.json_response(status | {"message": self.message}, status=self.code)


def _discovery(parts: list[str]) -> Object | None:
    """The answer to a request for what there is, else None."""
    match parts:
        case ["version"]:
            return {"major": "1", "minor": "34"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            groups = dict.fromkeys((group, version) for group, version, _ in KINDS.values() if group)
            return {"kind": "APIGroupList", "groups": [_group(group, version) for group, version in groups]}
        case ["api", version]:
            return _resources("", version)
        case ["apis", group, version]:
            return _resources(group, version)
    return None


def _group(group: str, version: str) -> Object:
    one = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [one], "preferredVersion": one}


def _resources(group: str, version: str) -> Object:
    found = []
    for plural, (its_group, its_version, kind) in KINDS.items():
        if (its_group, its_version) == (group, version):
            common = {"singularName": kind.lower(), "namespaced": plural not in CLUSTER, "kind": kind, "verbs": VERBS}
            found += [{"name": plural, **common}, {"name": f"{plural}/status", **common}]
    return {"kind": "APIResourceList", "groupVersion": f"{group}/{version}".strip("/"), "resources": found}


def _selector(text: str) -> Callable[[Mapping[str, str]], bool]:
    """Of labels: `key` and `key=value`, all of them."""
    terms = [term.partition("=") for term in text.split(",") if term]
    return lambda labels: all(key in labels and (not equals or labels[key] == value) for key, equals, value in terms)


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386, on a copy."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _without(raw: Object, field: str) -> Object:
    return {key: value for key, value in _content(raw).items() if key != field}


def _content(raw: Object) -> Object:
    """But for what the server itself keeps of it."""
    metadata = {k: v for k, v in raw["metadata"].items() if k not in ("resourceVersion", "generation")}
    return raw | {"metadata": metadata}
