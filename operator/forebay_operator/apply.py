"""Does what a plan says, in the order that makes every prefix safe to crash in: grants are pushed only once the
ledger that holds them is written."""

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any

import aiohttp

from forebay_core.spec.model import API_VERSION
from forebay_operator.api import Api, ApiError, Refused
from forebay_operator.memory import Memory
from forebay_operator.objects import ADMIN_PORT, DOCUMENT, MANAGER
from forebay_operator.plan import Applied, Event, Gathered, Plan, Push
from forebay_operator.store import Key, Store

log = logging.getLogger(__name__)

PATIENCE = aiohttp.ClientTimeout(total=1.5)  # for a pod's answer to a push; it is pushed again otherwise


async def apply(
    key: Key, plan: Plan, seen: Gathered, store: Store, memory: Memory, api: Api, session: aiohttp.ClientSession
) -> None:
    """Raises Conflict where the pool is another than the one that was seen, ApiError; nothing is pushed then."""
    if plan.create is not None:
        await api.create(plan.create)
        memory.token = plan.create["stringData"]["token"]
    events = list(plan.events)
    refused = ""
    for item in plan.apply:
        kind_and_name = item.body["kind"], item.body["metadata"]["name"]
        try:
            applied = await api.apply(item.body)
        except Refused as error:
            refused = f"{' '.join(kind_and_name)}: {error}"
            memory.applied.pop(kind_and_name, None)
            continue
        generation = applied["metadata"].get("generation", 0)
        memory.applied[kind_and_name] = Applied(item.digest, generation)
        if item.body["kind"] == "Deployment":
            stood = seen.deployment["metadata"].get("generation", 0) if seen.deployment is not None else generation
            if item.again and generation > stood:
                events.append(Event("Normal", "PutRight", "the Deployment was edited by hand: put right"))
            store.see_deployment(applied)
    if plan.apply:
        memory.refused = refused
    if plan.status is not None:
        version = {"resourceVersion": seen.raw["metadata"]["resourceVersion"]}
        written = await api.patch_status("ProxyPool", *key, {"metadata": version, "status": dict(plan.status)})
        memory.status_written = monotonic()
        store.pools[key] = written
    memory.mourn(dict(plan.dead or {}), monotonic())
    token = memory.token or ""
    await asyncio.gather(*(_push(push, token, session) for push in plan.pushes))
    for pod in plan.annotate:
        await _annotate(key, pod, plan.document, api)
    for event in events:
        await _post(key, event, seen, api)


async def _push(push: Push, token: str, session: aiohttp.ClientSession) -> None:
    """Level-triggered: what the life has seen is read from its state at the next look."""
    host = f"[{push.ip}]" if ":" in push.ip else push.ip
    body = {"life": push.life, "sequence": push.sequence, "grants": dict(push.grants)}
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with session.put(
            f"http://{host}:{ADMIN_PORT}/grant", json=body, headers=headers, timeout=PATIENCE
        ) as response:
            if response.status != 200:
                log.warning("%s refuses a grant: %d %s", push.ip, response.status, response.reason)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        log.warning("%s can't be told its grant: %s", push.ip, error or type(error).__name__)


async def _annotate(key: Key, pod: str, document: str, api: Api) -> None:
    """A hint to the kubelet, no more: where it fails, the document comes with the kubelet's next sync."""
    try:
        await api.patch("Pod", key.namespace, pod, {"metadata": {"annotations": {DOCUMENT: document}}})
    except ApiError as error:
        log.info("pod %s/%s can't be annotated: %s", key.namespace, pod, error)


async def _post(key: Key, event: Event, seen: Gathered, api: Api) -> None:
    """An event is for people; where it can't be posted, the log has it."""
    log.info("%s/%s: %s: %s", *key, event.reason, event.message)
    body = _event(key, event, seen.raw, seen.now)
    try:
        await api.create(body)
    except ApiError as error:
        log.warning("an event of %s/%s can't be posted: %s", *key, error)


def _event(key: Key, event: Event, pool: Mapping[str, Any], now: str) -> dict[str, Any]:
    """As core/v1 has them."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{key.name}-", "namespace": key.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "ProxyPool",
            "namespace": key.namespace,
            "name": key.name,
            "uid": pool["metadata"]["uid"],
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:1024],
        "source": {"component": MANAGER},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
