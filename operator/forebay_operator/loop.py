"""A loop per pool: look, plan, do; woken by what the watches tell, by a tick while there is anything to do, and by a
resync. Level-based: a look that fails is made again, and nothing rests on having seen every change."""

import asyncio
import logging
import random
from contextlib import suppress
from time import monotonic

import aiohttp

from forebay_operator.api import Api, ApiError, Conflict
from forebay_operator.apply import apply
from forebay_operator.gather import Gone, gather
from forebay_operator.memory import Memory
from forebay_operator.metrics import Measures
from forebay_operator.plan import plan
from forebay_operator.settings import Settings
from forebay_operator.store import Key, Store

log = logging.getLogger(__name__)

TICK = 2.0  # seconds between two looks while there is anything to do
SOON = 0.2  # seconds until the look after a push, which has to be answered, and between any two looks
RESYNC = 30.0  # seconds between two looks when all is settled
AFRESH = 300.0  # seconds after which everything is read and applied anew, whatever the watches told
BACKOFF = (1.0, 2.0, 5.0, 10.0)  # seconds after failures in a row; one that is back is noticed within the last


class Loops:
    """The loops of all pools, while this process leads."""

    def __init__(
        self, store: Store, api: Api, session: aiohttp.ClientSession, settings: Settings, measures: Measures
    ) -> None:
        self._store = store
        self._api = api
        self._session = session
        self._settings = settings
        self._measures = measures

    async def run(self) -> None:
        """Until cancelled."""
        running: dict[Key, asyncio.Task[None]] = {}
        for key in self._store.pools:
            self._store.appeared.put_nowait(key)
        self._measures.leading = True
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    key = await self._store.appeared.get()
                    if key not in running or running[key].done():
                        running[key] = group.create_task(self._follow(key), name=f"{key.namespace}/{key.name}")
                    running = {other: task for other, task in running.items() if not task.done()}
        finally:
            self._measures.rest()

    async def _follow(self, key: Key) -> None:
        memory = Memory()
        wake = self._store.wake(key)
        failures = 0
        afresh = monotonic() + AFRESH
        while key in self._store.pools:
            wake.clear()
            if monotonic() >= afresh:
                memory.resync()
                afresh = monotonic() + AFRESH
            try:
                delay = await self._look(key, memory)
                failures = 0
            except Gone:
                break
            except Conflict as error:  # somebody was faster: what is, is to be read anew
                log.debug("%s/%s: %s", *key, error)
                memory.stale, memory.token = True, None
                delay = SOON + random.random() * SOON
            except ApiError as error:
                log.warning("%s/%s: %s", *key, error)
                memory.stale = True
                self._measures.failed(key)
                delay = BACKOFF[min(failures, len(BACKOFF) - 1)]
                failures += 1
            except Exception:  # a mistake of ours must not end the loop of a pool, and not go unseen
                log.exception("%s/%s: the look failed", *key)
                self._measures.failed(key)
                delay = BACKOFF[-1]
            await asyncio.sleep(SOON)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, delay - SOON)):
                    await wake.wait()
        self._store.forget(key)
        self._measures.forget(key)
        log.info("%s/%s has gone", *key)

    async def _look(self, key: Key, memory: Memory) -> float:
        """Once round; returns the seconds until the next look. Raises Gone, ApiError."""
        began = monotonic()
        for name in self._store.disturbed(key):
            if memory.applied.pop(name, None) is not None:
                log.info("%s/%s: %s %s was changed or deleted: applied anew", *key, *name)
        seen = await gather(key, self._store, memory, self._api, self._session, self._settings)
        todo = plan(seen)
        await apply(key, todo, seen, self._store, memory, self._api, self._session)
        self._measures.looked(key, monotonic() - began, todo.open)
        news = todo.soon or memory.refused != seen.refused
        return SOON if news else TICK if todo.busy else RESYNC
