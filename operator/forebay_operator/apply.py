"""Does what a plan says, in the order that makes every prefix safe to crash in: grants are pushed only once the
ledger that holds them is written."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import aiohttp

from forebay_core.spec.model import API_VERSION
from forebay_operator.admin import PATIENCE, admin_url
from forebay_operator.api import Api, ApiError, Refused
from forebay_operator.budgeting import Push
from forebay_operator.memory import Memory
from forebay_operator.objects import DOCUMENT, MANAGER
from forebay_operator.picture import Applied, Event, Gathered, Plan
from forebay_operator.store import Key, Store

log = logging.getLogger(__name__)


async def apply(
    key: Key, plan: Plan, seen: Gathered, store: Store, memory: Memory, api: Api, session: aiohttp.ClientSession
) -> None:
    """Raises Conflict where the pool is another than the one that was seen, ApiError; nothing is pushed then."""
    memory.past = plan.past
    if plan.create is not None:
        await api.create(plan.create)
        memory.token = plan.create["stringData"]["token"]
    for event in await _applied(plan, seen, store, memory, api):
        await _post(key, event, seen, api)
    if plan.status is not None:
        version = {"resourceVersion": seen.raw["metadata"]["resourceVersion"]}
        written = await api.patch_status("ProxyPool", *key, {"metadata": version, "status": dict(plan.status)})
        memory.wrote(plan.sequence)
        store.pools[key] = written
    token = memory.token or ""
    await asyncio.gather(*(_push(push, token, session) for push in plan.pushes))
    for pod, uid in plan.delete:
        await _delete(key, pod, uid, api)
    for pod in plan.annotate:
        await _annotate(key, pod, plan.document, api)
    for event in plan.events:
        await _post(key, event, seen, api)


async def _applied(plan: Plan, seen: Gathered, store: Store, memory: Memory, api: Api) -> list[Event]:
    """Apply what is due. Returns what there is to tell of it."""
    events, refused = [], ""
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
        if item.event is not None:
            events.append(item.event)
        if item.body["kind"] == "Deployment":
            stood = seen.deployment["metadata"].get("generation", 0) if seen.deployment is not None else generation
            if item.again and generation > stood:
                events.append(Event("Normal", "PutRight", "the Deployment was edited by hand: put right"))
            store.see_deployment(applied)
    if plan.apply:
        memory.refused = refused
    return events


async def _push(push: Push, token: str, session: aiohttp.ClientSession) -> None:
    """Level-triggered: what the life has seen is read from its state at the next look. What was not is pushed again."""
    body = {"life": push.life, "sequence": push.sequence, "grants": dict(push.grants)}
    if push.deadline is not None:
        body["deadline"] = push.deadline
    headers = {"Authorization": f"Bearer {token}"}
    try:
        url = admin_url(push.ip, "/grant")
        async with session.put(url, json=body, headers=headers, timeout=PATIENCE) as response:
            if response.status != 200:
                log.warning("%s refuses a grant: %d %s", push.ip, response.status, response.reason)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        log.info("%s can't be told its grant: %s", push.ip, str(error) or type(error).__name__)


async def _delete(key: Key, pod: str, uid: str, api: Api) -> None:
    """That pod and no other of its name; its end is proof. Where it fails it is tried again."""
    try:
        await api.delete("Pod", key.namespace, pod, uid)
    except ApiError as error:
        log.warning("pod %s/%s can't be deleted: %s", key.namespace, pod, error)


async def _annotate(key: Key, pod: str, document: str, api: Api) -> None:
    """A hint to the kubelet, no more: where it fails, the document comes with the kubelet's next sync."""
    try:
        await api.patch("Pod", key.namespace, pod, {"metadata": {"annotations": {DOCUMENT: document}}})
    except ApiError as error:
        log.info("pod %s/%s can't be annotated: %s", key.namespace, pod, error)


async def _post(key: Key, event: Event, seen: Gathered, api: Api) -> None:
    """An event is for people; where it can't be posted, the log has it."""
    log.info("%s/%s: %s: %s", *key, event.reason, event.message)
    body = _event(key, event, seen.raw, seen.stamp)
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
