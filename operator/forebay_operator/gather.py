"""What is: from the store, afresh from the API server where that is due, and from the pods' admin ports."""

import asyncio
import base64
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic

import aiohttp

from forebay_operator.api import Api, NotFound
from forebay_operator.memory import Memory
from forebay_operator.objects import ADMIN_PORT, name_of, selector_text
from forebay_operator.observed import Pod, Report
from forebay_operator.plan import Gathered
from forebay_operator.settings import Settings
from forebay_operator.store import Key, Store

PATIENCE = aiohttp.ClientTimeout(total=1.5)  # for a pod's answer; one that is late counts as silent


class Gone(Exception):
    """There is no such pool any more."""


async def gather(
    key: Key, store: Store, memory: Memory, api: Api, session: aiohttp.ClientSession, settings: Settings
) -> Gathered:
    """One picture of a pool. Raises Gone, ApiError."""
    if memory.stale or not store.pools[key].get("status", {}).get("ledger"):
        await _afresh(key, store, api)
        memory.stale = False
    raw = store.pools[key]
    memory.belongs_to(raw["metadata"]["uid"])
    if memory.token is None:
        memory.token = await _token(key, api)
    pods = [Pod.of(pod) for pod in store.pods(key)]
    departed = [Pod.of(pod, departed=True) for pod in store.departed(key)]
    return Gathered(
        raw=raw,
        pods=(*pods, *departed),
        reports=await _reports(pods, session),
        deployment=store.deployment(key),
        token=memory.token,
        fresh_token=secrets.token_hex(32),
        applied=dict(memory.applied),
        refused=memory.refused,
        lingered=memory.lingered(monotonic()),
        now=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        status_age=monotonic() - memory.status_written,
        settings=settings,
    )


async def _afresh(key: Key, store: Store, api: Api) -> None:
    try:
        pool = await api.get("ProxyPool", key.namespace, key.name)
    except NotFound:
        raise Gone from None
    pods = await api.list("Pod", key.namespace, selector_text(key.name))
    try:
        deployment = await api.get("Deployment", key.namespace, name_of(key.name))
    except NotFound:
        deployment = None
    store.listed(key, pool, pods, deployment)


async def _token(key: Key, api: Api) -> str | None:
    """The admin token that pods have, in the one Secret that is the operator's own."""
    try:
        secret = await api.get("Secret", key.namespace, f"{name_of(key.name)}-admin")
    except NotFound:
        return None
    return base64.b64decode(secret.get("data", {}).get("token", "")).decode()


async def _reports(pods: list[Pod], session: aiohttp.ClientSession) -> Mapping[str, Report]:
    """What the pods answer, by uid; those that don't, or not sensibly, are left out."""
    asked = [pod for pod in pods if pod.ip and not pod.ended]
    answers = await asyncio.gather(*(_report(pod.ip, session) for pod in asked))
    return {pod.uid: report for pod, report in zip(asked, answers, strict=True) if report is not None}


async def _report(ip: str, session: aiohttp.ClientSession) -> Report | None:
    host = f"[{ip}]" if ":" in ip else ip
    try:
        async with session.get(f"http://{host}:{ADMIN_PORT}/state", timeout=PATIENCE) as response:
            return Report.of(await response.json()) if response.status == 200 else None
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None
