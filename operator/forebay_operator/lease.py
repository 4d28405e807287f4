"""One leader among the operator's processes, by a coordination Lease: held for 10 s, renewed within 6, tried every 2,
released on exit.

A holder counts as gone when its record has not changed for as long as it may hold it, by our own clock since we saw
the record first: clocks of different machines are never compared. The ledger is safe with two leaders; one is kinder.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from forebay_operator.api import Api, ApiError, Conflict, NotFound

log = logging.getLogger(__name__)

NAME = "forebay-operator"
DURATION = 10.0  # seconds that a holder may go without renewing
RENEW = 6.0  # seconds after which a leader that could not renew stops leading
RETRY = 2.0  # seconds between two tries


class Elector:
    """See the module's docstring."""

    def __init__(self, api: Api, namespace: str, identity: str) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._record: Mapping[str, Any] = {}
        self._seen = monotonic()

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call `lead` while we lead, and cancel it when we don't; until cancelled, then release."""
        try:
            while True:
                if await self._taken():
                    log.info("%s leads", self._identity)
                    async with asyncio.TaskGroup() as group:
                        task = group.create_task(lead(), name="lead")
                        await self._keep()
                        task.cancel()
                    log.warning("%s leads no more", self._identity)
                await asyncio.sleep(RETRY)
        finally:
            await self._release()

    async def _keep(self) -> None:
        """Renew until that fails for too long."""
        renewed = monotonic()
        while monotonic() - renewed < RENEW:
            await asyncio.sleep(RETRY)
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEW - (monotonic() - renewed)):
                    if await self._taken():
                        renewed = monotonic()

    async def _taken(self) -> bool:
        """Whether the Lease is ours, taken or renewed now."""
        try:
            lease = await self._read()
            spec = lease.get("spec") or {}
            if spec != self._record:
                self._record, self._seen = spec, monotonic()
            holder = spec.get("holderIdentity") or ""
            if holder not in ("", self._identity) and monotonic() - self._seen < DURATION:
                return False
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            changes = {"renewTime": now, "leaseDurationSeconds": int(DURATION)}
            if holder != self._identity:
                changes |= {
                    "holderIdentity": self._identity,
                    "acquireTime": now,
                    "leaseTransitions": spec.get("leaseTransitions", 0) + 1,
                }
            await self._write(lease, changes)
        except Conflict:
            return False
        except ApiError as error:
            log.warning("the Lease can't be had: %s", error)
            return False
        return True

    async def _read(self) -> Mapping[str, Any]:
        try:
            return await self._api.get("Lease", self._namespace, NAME)
        except NotFound:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": NAME, "namespace": self._namespace},
            }
            return await self._api.create(body)

    async def _write(self, lease: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
        version = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        body = {"metadata": version, "spec": dict(changes)}
        written = await self._api.patch("Lease", self._namespace, NAME, body)
        self._record, self._seen = written["spec"], monotonic()

    async def _release(self) -> None:
        if self._record.get("holderIdentity") != self._identity:
            return
        try:
            async with asyncio.timeout(RETRY):
                lease = await self._read()
                if lease["spec"].get("holderIdentity") == self._identity:  # else another has taken it since
                    await self._write(lease, {"holderIdentity": ""})
        except (ApiError, TimeoutError) as error:
            log.info("the Lease is not released, it runs out: %s", error)
