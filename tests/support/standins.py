"""Stand-ins for the pods of many pools: for every Deployment that is applied to an `ApiServer`, pods that run, are
ready, and answer `/state` and `/grant` at an address of their own on the loopback, as `forebay worker` does.

`/state` is the answer of a real worker, given once, with what tells replicas apart put in.
"""

import asyncio
import copy
import ipaddress
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web
from tests.support.apiserver import ApiServer, Object

ADMIN_PORT = 9901
NETWORKS = [ipaddress.IPv4Address(f"127.{octet}.0.1") for octet in range(64, 255)]
HELD = 2  # connections, where so many are granted
NOW = "the time"
DOCUMENT = "forebay.dev/document"  # annotation: the document that the kubelet was told to refresh to


class Replica:
    """One pod's worker. It serves every document at once, and holds what it was granted, up to HELD."""

    def __init__(self, ip: str, uid: str, state: Mapping[str, Any]) -> None:
        self.ip = ip
        self.life = f"life-{uid}"
        self.uid = uid
        self.document = ""
        self.sequence = 0
        self.grants: dict[str, int] = {}
        self._state = copy.deepcopy(dict(state))
        self._text: tuple[Any, str] = (None, "")

    @property
    def ready(self) -> bool:
        return any(self.grants.values())

    def answer(self) -> str:
        """As `/state`; written anew only where something has changed, as there may be hundreds of us."""
        version = self.sequence, self.document
        if self._text[0] != version:
            self._state |= {
                "life": self.life, "pod": self.uid, "sequence": self.sequence, "document": self.document,
                "ready": self.ready, "time": NOW, "draining": False, "life_draining": False,
            }  # fmt: skip
            for name, upstream in self._state["upstreams"].items():
                upstream["grant"] = self.grants.get(name, 0)
                upstream["held"] = min(HELD, upstream["grant"])
            whole = {"name": "orders", "namespace": "", "workers": [self._state]}
            self._text = version, json.dumps(whole)
        return self._text[1].replace(f'"{NOW}"', str(time.time()))

    def push(self, body: Mapping[str, Any]) -> Object:
        """As `PUT /grant`."""
        if body["life"] == self.life and body["sequence"] > self.sequence:
            self.sequence, self.grants = body["sequence"], dict(body["grants"])
        held = {name: min(HELD, grant) for name, grant in self.grants.items()}
        return {"life": self.life, "pod": self.uid, "sequence": self.sequence, "held": held, "draining": False}


class StandIns:
    """`async with StandIns(api, state): ...`. It is the Deployment controller, the kubelet, and the pods."""

    def __init__(self, api: ApiServer, state: Mapping[str, Any]) -> None:
        self._api = api
        self._state = state
        self.replicas: dict[str, Replica] = {}  # by IP address
        self._names: dict[tuple[str, str], Replica] = {}
        self.asked = 0
        self._news: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()

    async def __aenter__(self) -> "StandIns":
        app = web.Application()
        app.router.add_get("/state", self._get)
        app.router.add_put("/grant", self._put)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        self._first = await self._free_network()
        self._api.changed = lambda kind, raw: self._news.put_nowait((kind, raw))
        self._task = asyncio.create_task(self._follow(), name="stand-ins")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._runner.cleanup()

    async def _free_network(self) -> ipaddress.IPv4Address:
        """The admin port is a fixed one, so several of us at a time need addresses apart: who has the first has all.
        Raises OSError where there is none left."""
        for network in NETWORKS:
            with suppress(OSError):
                await web.TCPSite(self._runner, str(network), ADMIN_PORT).start()
                return network
        raise OSError("no free network on the loopback")

    async def _follow(self) -> None:
        while True:
            kind, raw = await self._news.get()
            if kind == "DELETED":
                continue
            if raw.get("kind") == "Deployment":
                await self._roll_out(raw)
            elif raw.get("kind") == "Pod":
                name = raw["metadata"]["namespace"], raw["metadata"]["name"]
                if name in self._names:
                    self._names[name].document = raw["metadata"].get("annotations", {}).get(DOCUMENT, "")

    async def _roll_out(self, deployment: Object) -> None:
        """Pods up to what it wants; fewer is not played. One that grew is told to the API server as progressing."""
        metadata, spec = deployment["metadata"], deployment["spec"]
        wanted = spec.get("replicas", 1)
        for number in range(wanted):
            name = f"{metadata['name']}-{number}"
            if (metadata["namespace"], name) not in self._names:
                await self._start(metadata["namespace"], name, spec["template"])
        ready = sum((metadata["namespace"], f"{metadata['name']}-{n}") in self._names for n in range(wanted))
        status = {
            "observedGeneration": metadata["generation"], "replicas": wanted, "updatedReplicas": wanted,
            "readyReplicas": ready, "availableReplicas": ready,
        }  # fmt: skip
        if deployment.get("status") != status:
            own = {"namespace": metadata["namespace"], "name": metadata["name"]}
            self._api.put({"kind": "Deployment", "metadata": own, "status": status})

    async def _start(self, namespace: str, name: str, template: Object) -> None:
        ip = str(self._first + 1 + len(self.replicas))
        replica = Replica(ip, f"{namespace}-{name}", self._state)
        replica.document = template["metadata"].get("annotations", {}).get(DOCUMENT, "")
        self.replicas[ip] = self._names[namespace, name] = replica
        await web.TCPSite(self._runner, ip, ADMIN_PORT).start()
        self._tell(namespace, name, replica, template)

    def _tell(self, namespace: str, name: str, replica: Replica, template: Object) -> None:
        labels = template["metadata"].get("labels", {})
        container = {"name": "proxy", "restartCount": 0, "ready": True, "state": {"running": {}}, "lastState": {}}
        self._api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": labels, "uid": replica.uid,
                             "annotations": template["metadata"].get("annotations", {})},
                "spec": {**template["spec"], "nodeName": "node-1"},
                "status": {
                    "phase": "Running",
                    "podIP": replica.ip,
                    "podIPs": [{"ip": replica.ip}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [container],
                },
            }
        )  # fmt: skip

    def _asked_of(self, request: web.Request) -> Replica:
        assert request.transport is not None
        return self.replicas[request.transport.get_extra_info("sockname")[0]]

    async def _get(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(text=self._asked_of(request).answer(), content_type="application/json")

    async def _put(self, request: web.Request) -> web.Response:
        return web.json_response(self._asked_of(request).push(await request.json()))
