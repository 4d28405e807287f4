"""Where an upstream's endpoints are: literal addresses at once, names by looking them up again and again."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from forebay_core.spec.model import Spec
from forebay_core.spec.model import Upstream as UpstreamSpec
from forebay_proxy.resolver import Address, Resolver, Watcher, is_literal
from forebay_proxy.tasks import Tasks


class Target(NamedTuple):
    """A host that the document names; each address that it resolves to is an endpoint."""

    host: str
    port: int
    weight: int


class Place(NamedTuple):
    """An endpoint to be: what the document calls it, and where it is."""

    host: str
    port: int
    weight: int
    address: str


def targets(spec: UpstreamSpec) -> tuple[Target, ...]:
    """What the document names."""
    if spec.dns is not None:
        return (Target(spec.dns.host, spec.dns.port, 1),)
    if spec.service is not None:
        return (Target(spec.service.name, spec.service.port, 1),)
    return tuple(Target(e.host, e.port, e.weight) for e in spec.endpoints or ())


def parents(spec: Spec) -> tuple[Target, ...]:
    """The proxies that a forward proxy passes its requests to."""
    return tuple(Target(p.host, p.port, 1) for p in spec.forward.parents) if spec.forward is not None else ()


class Discovery:
    """Follows the targets of one upstream and reports every change of the whole set.

    What has been reported stays until every name has had its first answer, or failure: a backend must not be without
    endpoints because the document says something else of them.
    """

    def __init__(
        self,
        resolver: Resolver,
        changed: Callable[[Sequence[Place]], None],
        name: str,
        places: Sequence[Place] = (),
    ) -> None:
        """`places`: as if reported before."""
        self._resolver = resolver
        self._changed = changed
        self._places = list(places)
        self._targets: tuple[Target, ...] = ()
        self._found: dict[tuple[str, int], Sequence[Address]] = {}  # by host and port; absent: no answer yet
        self._lookups: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._tasks = Tasks(f"discovery of {name}")
        self.answered = asyncio.Event()  # every name has had its first answer, or failure
        self.answered.set()

    def follow(self, wanted: tuple[Target, ...]) -> None:
        """Take (changed) targets. Names are looked up in the background: a backend whose name does not resolve yet
        must not keep the others waiting."""
        if wanted == self._targets:
            return
        self._targets = wanted
        named = {(target.host, target.port) for target in wanted}
        for gone in self._lookups.keys() - named:
            self._lookups.pop(gone).cancel()
        self._found = {key: addresses for key, addresses in self._found.items() if key in named}
        for host, port in named - self._lookups.keys():
            if is_literal(host):
                self._found[host, port] = (Address(host, port),)
            else:
                self._lookups[host, port] = self._tasks.spawn(self._look_up(host, port), f"resolve {host}")
        self._report()

    async def _look_up(self, host: str, port: int) -> None:
        def resolved(addresses: Sequence[Address]) -> None:
            self._found[host, port] = addresses
            self._report()

        watcher = Watcher(self._resolver, host, port, resolved, random.Random())
        await watcher.refresh()
        if (host, port) not in self._found:
            resolved(())
        await watcher.run()

    def _report(self) -> None:
        targets, found = self._targets, self._found
        places = [Place(t.host, t.port, t.weight, a.ip) for t in targets for a in found.get((t.host, t.port), ())]
        if all((t.host, t.port) in found for t in targets):
            self.answered.set()
        else:
            self.answered.clear()
            places += [place for place in self._places if (place.host, place.port) not in found]
        self._places = places
        self._changed(places)

    async def close(self) -> None:
        await self._tasks.close()
