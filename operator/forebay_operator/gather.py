"""What is: from the store, afresh from the API server where that matters, and from the pods' admin ports.

In this order, which proofs of death rest on (`forebay_core.budget.decide`):

1. the pool, with its ledger. One from the watches is as good as one that is read now: what is decided on it can be
   written only if it still stands. One that is surely old (we, or a replica, have seen a later ledger) is read anew.
2. the pods' own answers.
3. pods and nodes. That a pod has ended for good stays true, however old the word is. That its object has gone is looked
   up, as a watch may not have told of it yet; nodes are always looked up.
"""

import asyncio
import base64
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic, time

import aiohttp

from forebay_core.budget.ledger import Ledger
from forebay_core.budget.proofs import Node
from forebay_operator.admin import PATIENCE, admin_url
from forebay_operator.api import Api, ApiError, Conflict, NotFound, Refused
from forebay_operator.budgeting import Look
from forebay_operator.events import confirmed
from forebay_operator.memory import Memory
from forebay_operator.objects import name_of, selector_text
from forebay_operator.observed import Pod, Report
from forebay_operator.picture import Gathered
from forebay_operator.settings import Settings
from forebay_operator.store import Key, Store
from forebay_operator.troubles import CREATING, Trouble, of_events
from forebay_operator.troubles import PATIENCE as STARTING

log = logging.getLogger(__name__)

BEGAN = time() - monotonic()


class Gone(Exception):
    """There is no such pool any more."""


def clock() -> float:
    """Seconds since 1970, as this process knew them when it began: a clock that is set moves no deadline."""
    return BEGAN + monotonic()


async def gather(
    key: Key, store: Store, memory: Memory, api: Api, session: aiohttp.ClientSession, settings: Settings
) -> Gathered:
    """One picture of a pool. Raises Gone, ApiError."""
    if memory.stale or _missing(key, store, memory):
        await _afresh(key, store, api)
        memory.stale = False
    raw = store.pools[key]  # this one, whatever the watches tell while the pods are asked
    pods, reports = await _asked(key, store, memory, session)
    if any(r.answer.sequence > _sequence(memory.ledger(raw)) for r in reports.values()):
        await _afresh(key, store, api)  # somebody has seen a later ledger than we
        raw = store.pools[key]
        pods, reports = await _asked(key, store, memory, session)
    memory.belongs_to(raw["metadata"]["uid"], clock())
    blueprint, invalid = memory.blueprint(raw, settings)
    ledger = memory.ledger(raw)
    if memory.token is None:
        memory.token = await _token(key, api)
    pods = await _gone(key, ledger, pods, reports, store, memory, api)
    nodes, unseen = await _nodes(key, ledger, pods, reports, memory, api, settings)
    lingers = [term.linger for term in blueprint.terms.values()] if blueprint is not None else []
    return Gathered(
        raw=raw,
        blueprint=blueprint,
        invalid=invalid,
        look=Look(
            ledger=ledger,
            reports=reports,
            pods=pods,
            nodes=nodes,
            unseen=unseen,
            confirmed=confirmed(raw),
            strangers=store.namesakes.free(key, raw["metadata"]["uid"]) <= max(lingers, default=0.0),
            now=clock(),
        ),
        past=memory.past,
        deployment=store.deployment(key),
        token=memory.token,
        fresh_token=secrets.token_hex(32),
        applied=dict(memory.applied),
        refused=memory.refused,
        mishaps=await _mishaps(key, pods, memory, api),
        stamp=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        status_age=monotonic() - memory.status_written,
    )


def _missing(key: Key, store: Store, memory: Memory) -> bool:
    """Whether the ledger that the watches have told of is none, where there should be one, or an old one."""
    raw = store.pools[key]
    ledger = memory.ledger(raw)
    bounded = any("budget" in upstream for upstream in raw["spec"]["upstreams"])
    return _sequence(ledger) < memory.past.highest or (ledger is None and bounded)


def _sequence(ledger: Ledger | None) -> int:
    return ledger.sequence if ledger is not None else 0


async def _afresh(key: Key, store: Store, api: Api) -> None:
    uid = store.pools[key]["metadata"]["uid"]
    try:
        pool = await api.get("ProxyPool", key.namespace, key.name)
    except NotFound:
        if store.pools.get(key, {"metadata": {"uid": uid}})["metadata"]["uid"] == uid:
            raise Gone from None
        raise Conflict(409, "it was made anew while it was asked for") from None
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


async def _asked(
    key: Key, store: Store, memory: Memory, session: aiohttp.ClientSession
) -> tuple[dict[str, Pod], dict[str, Report]]:
    """The pods, and what they answer, by their own UID; those that don't answer, or not sensibly, are left out."""
    pods = memory.pods(store.pods(key))
    asked = [pod for pod in pods.values() if pod.ip and not pod.finished]
    answers = await asyncio.gather(*(_report(pod, session) for pod in asked))
    return pods, {report.answer.pod: report for report in answers if report is not None}


async def _report(pod: Pod, session: aiohttp.ClientSession) -> Report | None:
    """None: it is silent."""
    try:
        async with session.get(admin_url(pod.ip, "/state"), timeout=PATIENCE) as response:
            if response.status != 200:
                return None
            return Report.of(json.loads(await response.read()), clock(), pod.cores)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None


async def _gone(
    key: Key,
    ledger: Ledger | None,
    pods: dict[str, Pod],
    reports: Mapping[str, Report],
    store: Store,
    memory: Memory,
    api: Api,
) -> dict[str, Pod]:
    """Of the pods that lives of the ledger ran in, those whose objects have gone: kept where they had ended, missing
    where not. Returns the pods."""
    homes = {home.pod for home in ledger.lives().values() if home.pod} if ledger is not None else set()
    ended = {uid: pod for uid, pod in store.take_ended(key).items() if uid in homes}
    past = replace(memory.past, ended={**memory.past.ended, **ended})
    unknown = homes - pods.keys() - past.ended.keys() - past.missing.keys() - reports.keys()
    if unknown:
        listed = await api.list("Pod", key.namespace, selector_text(key.name))
        pods = memory.pods(listed)
        past = replace(past, missing={**past.missing, **dict.fromkeys(unknown - pods.keys(), clock())})
    memory.past = past
    return pods


async def _mishaps(key: Key, pods: Mapping[str, Pod], memory: Memory, api: Api) -> dict[str, Trouble]:
    """What the events say of pods that the kubelet has been creating for long: nothing else tells of a missing Secret.
    By UID."""
    found, now = {}, clock()
    creating = {uid for uid, pod in pods.items() if pod.trouble is not None and pod.trouble.kind == CREATING}
    memory.inquired = {uid: at for uid, at in memory.inquired.items() if uid in creating}
    for uid in creating & memory.past.troubles.keys():
        trouble, since = memory.past.troubles[uid]
        last = memory.inquired.get(uid, since)
        if trouble.kind == CREATING and now - last >= STARTING:
            memory.inquired[uid] = now
            try:
                told = of_events(await api.list("Event", key.namespace, fields=f"involvedObject.uid={uid}"))
            except ApiError as error:
                log.warning("%s/%s: events can't be seen, so nobody knows why a pod does not start: %s", *key, error)
                continue
            if told is not None:
                found[uid] = told
    return found


async def _nodes(
    key: Key,
    ledger: Ledger | None,
    pods: Mapping[str, Pod],
    reports: Mapping[str, Report],
    memory: Memory,
    api: Api,
    settings: Settings,
) -> tuple[dict[str, Node], frozenset[str]]:
    """The nodes on which lives are to join, or are silent; and those that were not looked at."""
    lives = ledger.lives() if ledger is not None else {}
    joining = {pods[uid].node for uid, r in reports.items() if r.answer.life not in lives and uid in pods}
    silent = {home.node for home in lives.values() if home.pod not in reports and home.pod not in memory.past.ended}
    every = (joining | silent | {home.node for home in lives.values()}) - {""}
    if settings.namespace:
        return {}, frozenset(every)
    now = clock()
    due = (joining | {node for node in silent if memory.kubelets.due(node, now)}) - {""}
    try:
        found = {node: await memory.kubelets.look(node, api, now) for node in due}
    except Refused as error:
        log.warning("%s/%s: nodes can't be seen, so they prove nobody dead: %s", *key, error)
        return {}, frozenset(every)
    return {name: node for name, node in found.items() if node is not None}, frozenset(every - due)
