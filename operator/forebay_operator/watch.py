"""kopf's part: it watches, and tells the store. No handlers that persist anything, no finalizers, no peering."""

import asyncio
import signal
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

import aiohttp
import kopf

from forebay_operator.api import RESOURCES
from forebay_operator.echo import Echo
from forebay_operator.objects import POOL
from forebay_operator.requests import Requests
from forebay_operator.store import Raw, Store

# Seconds without anything, after which a watch is begun anew: the API server sends a bookmark every 60, and keeps
# events for 75, so nothing is missed.
SILENCE = 70.0
# Seconds between tries of a watch while the API server is away, from the start again when they are through: kopf's own
# go up to 21, for which a server that is back would not be heard.
BACKOFFS = (1.0, 2.0, *[5.0] * 12)


class Watched(NamedTuple):
    """A kind of objects; all but the ProxyPools by our label, filtered by the API server: a cluster has many pods that
    are none of ours."""

    kind: str
    see: Callable[..., None]


def watched(store: Store) -> tuple[Watched, ...]:
    """What is watched, and who is told of it."""
    return (
        Watched("ProxyPool", store.see_pool),
        Watched("Pod", store.see_pod),
        Watched("Deployment", store.see_deployment),
        Watched("ConfigMap", store.see_object),
        Watched("Service", store.see_object),
        Watched("ServiceAccount", store.see_object),
        Watched("PodDisruptionBudget", store.see_object),
        Watched("NetworkPolicy", store.see_object),
    )


KINDS = frozenset(one.kind for one in watched(Store()))


def on_signal(told: Callable[[], None]) -> None:
    """`told` is called when this process is asked to end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told)


async def run(
    store: Store, echo: Echo, requests: Requests, namespace: str, signalled: Callable[[], None], stop: asyncio.Event
) -> None:
    """Watch until `stop`; `namespace` empty: all of them. Signals go to `signalled`."""
    others = asyncio.all_tasks()
    store.namesakes.since = monotonic()
    registry = kopf.OperatorRegistry()
    settings = kopf.OperatorSettings()
    kopf.on.login(registry=registry)(_login(requests))
    for one in watched(store):
        group, version, plural = RESOURCES[one.kind]
        labelled: dict[str, Any] = {} if one.kind == "ProxyPool" else {"labels": {POOL: kopf.PRESENT}}
        kopf.on.event(group, version, plural, registry=registry, **labelled)(_telling(one, echo))
        if labelled:
            settings.watching.label_selectors[plural] = POOL
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.inactivity_timeout = SILENCE
    settings.networking.error_backoffs = BACKOFFS
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=settings,
        standalone=True,
        clusterwide=not namespace,
        namespaces=[namespace] if namespace else [],
        stop_flag=stop,
    )
    on_signal(signalled)  # kopf has just set handlers of its own
    await kopf.run_tasks(tasks, ignored=others)


def _login(requests: Requests) -> Callable[..., Any]:
    """Without the client library, whose synchronous half costs tens of megabytes; its requests are counted."""

    async def login(**context: Any) -> kopf.AiohttpSession | None:
        found = kopf.login_with_service_account(**context) or kopf.login_with_kubeconfig(**context)
        if found is None:
            return None
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=found.as_ssl_context()),
            headers=found.as_http_headers(),
            trust_env=found.trust_env,
            trace_configs=[requests.trace()],
        )
        return kopf.AiohttpSession(
            server=found.server,
            default_namespace=found.default_namespace,
            priority=found.priority,
            expiration=found.expiration,
            aiohttp_session=session,
        )

    return login


def _telling(one: Watched, echo: Echo) -> Callable[..., Any]:
    async def told(type: str | None, body: Raw, **_: Any) -> None:
        raw, deleted = _plain(body), type == "DELETED"
        echo.heard(raw, deleted=deleted)
        one.see(raw, deleted=deleted)

    return told


def _plain(value: Any) -> Any:
    """Out of kopf's views, into dicts and lists."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | int | float | bool | None):
        return value
    return {key: _plain(item) for key, item in value.items()}
