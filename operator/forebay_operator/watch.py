"""kopf's part: it watches, and tells the store. No handlers that persist anything, no finalizers, no peering."""

import asyncio
from collections.abc import Callable
from typing import Any

import kopf

from forebay_operator.objects import POOL
from forebay_operator.store import Raw, Store


def operator(store: Store, namespace: str, stop: asyncio.Event) -> Any:
    """The coroutine that watches until `stop`, or a signal; `namespace` empty: all of them."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    kopf.on.event("forebay.dev", "v1alpha1", "proxypools", registry=registry)(_telling(store.see_pool))
    kopf.on.event("", "v1", "pods", registry=registry, labels={POOL: kopf.PRESENT})(_telling(store.see_pod))
    kopf.on.event("apps", "v1", "deployments", registry=registry, labels={POOL: kopf.PRESENT})(
        _telling(store.see_deployment)
    )
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    # Filtered by the API server: a cluster has many pods that are none of ours.
    settings.watching.label_selectors["pods"] = POOL
    settings.watching.label_selectors["deployments"] = POOL
    return kopf.operator(
        registry=registry,
        settings=settings,
        standalone=True,
        clusterwide=not namespace,
        namespaces=[namespace] if namespace else [],
        stop_flag=stop,
    )


def _login(**context: Any) -> kopf.ConnectionInfo | None:
    """Without the client library, whose synchronous half costs tens of megabytes."""
    return kopf.login_with_service_account(**context) or kopf.login_with_kubeconfig(**context)


def _telling(see: Callable[..., None]) -> Callable[..., Any]:
    async def told(type: str | None, body: Raw, **_: Any) -> None:
        see(_plain(body), deleted=type == "DELETED")

    return told


def _plain(value: Any) -> Any:
    """Out of kopf's views, into dicts and lists."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | int | float | bool | None):
        return value
    return {key: _plain(item) for key, item in value.items()}
