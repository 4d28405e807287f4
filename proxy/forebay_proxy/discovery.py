"""Where an upstream's endpoints are: literal addresses at once, names by looking them up again and again."""

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
    """Follows the targets of one upstream and reports every change of the whole set."""

    def __init__(self, resolver: Resolver, changed: Callable[[Sequence[Place]], None], name: str) -> None:
        self._resolver = resolver
        self._changed = changed
        self._name = name
        self._targets: tuple[Target, ...] = ()
        self._found: dict[Target, Sequence[Address]] = {}
        self._tasks: Tasks | None = None
        self.watchers: list[Watcher] = []

    async def follow(self, wanted: tuple[Target, ...]) -> None:
        """Take (changed) targets. Names are looked up in the background: a backend whose name does not resolve yet
        must not keep the others waiting."""
        if wanted == self._targets:
            return
        await self.close()
        self._targets = wanted
        self._tasks = Tasks(f"discovery of {self._name}")
        self._found = {t: self._found.get(t) or literal(t) for t in wanted}
        self.watchers = []
        for target in wanted:
            if not is_literal(target.host):
                watcher = Watcher(
                    self._resolver,
                    target.host,
                    target.port,
                    lambda addresses, target=target: self._resolved(target, addresses),  # type: ignore[misc]
                    random.Random(),
                    tuple(self._found[target]),
                )
                self.watchers.append(watcher)
                self._tasks.spawn(self._watch(watcher), f"resolve {target.host}")
        self._report()

    async def _watch(self, watcher: Watcher) -> None:
        await watcher.refresh()
        await watcher.run()

    def _resolved(self, target: Target, addresses: Sequence[Address]) -> None:
        self._found[target] = addresses
        self._report()

    def _report(self) -> None:
        self._changed(
            [Place(t.host, t.port, t.weight, a.ip) for t, addresses in self._found.items() for a in addresses]
        )

    async def close(self) -> None:
        if self._tasks is not None:
            await self._tasks.close()


def literal(target: Target) -> tuple[Address, ...]:
    """The address of a target that needs no look-up."""
    return (Address(target.host, target.port),) if is_literal(target.host) else ()
