"""The Kubernetes API as the operator uses it: few verbs, plain values, and errors of our own.

The dynamic client gets its resources from the table below instead of by discovery, which would need more rights and
keeps a cache file in a shared folder.
"""

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.rest import ApiException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic import Resource as Served

from forebay_operator.objects import MANAGER, Object
from forebay_operator.requests import Requests

PATIENCE = 10.0  # seconds for one request
MERGE = "application/merge-patch+json"


class Resource(NamedTuple):
    """Where the API server has the objects of a kind."""

    group: str  # empty: of the core
    version: str
    plural: str


RESOURCES = {
    "ProxyPool": Resource("forebay.dev", "v1alpha1", "proxypools"),
    "Deployment": Resource("apps", "v1", "deployments"),
    "PodDisruptionBudget": Resource("policy", "v1", "poddisruptionbudgets"),
    "NetworkPolicy": Resource("networking.k8s.io", "v1", "networkpolicies"),
    "Lease": Resource("coordination.k8s.io", "v1", "leases"),
    "ConfigMap": Resource("", "v1", "configmaps"),
    "Event": Resource("", "v1", "events"),
    "Node": Resource("", "v1", "nodes"),
    "Pod": Resource("", "v1", "pods"),
    "Secret": Resource("", "v1", "secrets"),
    "Service": Resource("", "v1", "services"),
    "ServiceAccount": Resource("", "v1", "serviceaccounts"),
}


class ApiError(Exception):
    """A request has not been served. `status`: of HTTP; 0 where the API server was not reached."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotFound(ApiError):
    """404: there is no such object."""


class Conflict(ApiError):
    """409: the object is another than the one that was read, or is there already."""


class Refused(ApiError):
    """400, 403 or 422: the API server will not have it; or 500, its answer to fields that it can't convert."""


ERRORS = {400: Refused, 403: Refused, 404: NotFound, 409: Conflict, 422: Refused, 500: Refused}


class Api:
    """One connection pool to the API server. `connect` it, `close` it. `wrote` is told of every object that was
    created, applied or patched, as the API server has it then."""

    def __init__(self, dynamic: Any) -> None:
        self.wrote: Callable[[Object], None] = lambda _: None
        self._dynamic = dynamic
        self._resources = {kind: _resource(dynamic, kind) for kind in RESOURCES}

    @classmethod
    async def connect(cls, requests: Requests) -> "Api":
        """As the pod's ServiceAccount, else as KUBECONFIG says; what is asked is counted. Raises ApiError."""
        settings = client.Configuration()
        settings.trace_configs = [requests.trace()]
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=settings)
            else:
                await config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=settings)
        except (config.ConfigException, OSError) as error:
            raise ApiError(0, f"no way to the API server: {error}") from None
        return cls(DynamicClient(client.ApiClient(settings)))

    async def close(self) -> None:
        await self._dynamic.client.close()

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        """Raises NotFound, ApiError."""
        return await self._asked(lambda r: self._dynamic.get(r, name, namespace, _request_timeout=PATIENCE), kind)

    async def list(self, kind: str, namespace: str, labels: str = "", fields: str = "") -> "list[Object]":
        """Of one namespace, or of all where it is empty; `labels` and `fields` select. Raises ApiError."""
        answer = await self._asked(
            lambda r: self._dynamic.get(
                r,
                namespace=namespace or None,
                label_selector=labels or None,
                field_selector=fields or None,
                _request_timeout=PATIENCE,
            ),
            kind,
        )
        return list(answer["items"])

    async def create(self, body: Mapping[str, Any]) -> Object:
        """Raises Conflict where it is there already, ApiError."""
        return await self._written(
            lambda r: self._dynamic.create(
                r, dict(body), body["metadata"]["namespace"], field_manager=MANAGER, _request_timeout=PATIENCE
            ),
            body["kind"],
        )

    async def apply(self, body: Mapping[str, Any]) -> Object:
        """Server-side, with force: what the operator sets is the operator's. Raises ApiError."""
        return await self._written(
            lambda r: self._dynamic.server_side_apply(
                r, dict(body), field_manager=MANAGER, force_conflicts=True, _request_timeout=PATIENCE
            ),
            body["kind"],
        )

    async def patch(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """A merge patch; with `metadata.resourceVersion` in it a compare-and-swap. Raises Conflict, ApiError."""
        return await self._written(
            lambda r: self._dynamic.patch(
                r, dict(body), name, namespace, content_type=MERGE, field_manager=MANAGER, _request_timeout=PATIENCE
            ),
            kind,
        )

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """The object of this UID, and no other of its name. Raises NotFound, Conflict (it is another), ApiError."""
        options = {"preconditions": {"uid": uid}}
        await self._asked(
            lambda r: self._dynamic.delete(r, name, namespace, body=options, _request_timeout=PATIENCE), kind
        )

    async def patch_status(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """As `patch`, of the status subresource."""
        return await self._written(
            lambda r: r.status.patch(
                dict(body), name=name, namespace=namespace, content_type=MERGE, field_manager=MANAGER,
                _request_timeout=PATIENCE,
            ),
            kind,
        )  # fmt: skip

    async def _written(self, ask: Callable[[Any], Awaitable[Any]], kind: str) -> Object:
        written = await self._asked(ask, kind)
        self.wrote(written)
        return written

    async def _asked(self, ask: Callable[[Any], Awaitable[Any]], kind: str) -> Object:
        """The one border where the client's errors become ours."""
        try:
            answer = await ask(self._resources[kind])
        except ApiException as error:
            raise ERRORS.get(error.status, ApiError)(error.status, _message(error)) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiError(0, f"the API server is not to be reached: {error or type(error).__name__}") from None
        plain: Object = answer.to_dict()
        return plain


def _resource(dynamic: Any, kind: str) -> Any:
    group, version, plural = RESOURCES[kind]
    return Served(
        prefix="apis" if group else "api",
        group=group,
        api_version=version,
        kind=kind,
        name=plural,
        namespaced=True,
        client=dynamic,
        subresources={"status": {"name": f"{plural}/status", "kind": kind, "namespaced": True}},
    )


def _message(error: Any) -> str:
    """What the API server said."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"
