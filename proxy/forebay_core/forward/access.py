"""May this client go there? In three steps, each before what it guards: the client's address when it connects, the
target's name and port before it is resolved, and what it resolved to before anything is connected to.

The order of the rules for a destination: its port; `denyHosts`; `allowHosts`; `denyPrivate`. Names are matched on names
and networks on addresses, so a name that resolves into a denied network is denied, and where only networks are allowed
every name is, as long as it resolves into one. A private address is reached where a network of `allowHosts` names it
on purpose: `10.2.0.0/16` does, `0.0.0.0/0` does not. Parents resolve by themselves: then networks are only for
addresses that a request names, and a name must be allowed as one.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from forebay_core.forward.special import Network, embedded, special
from forebay_core.forward.target import Address, Target
from forebay_core.spec.forward import Forward

REMEMBERED = 4096  # verdicts on targets, and on what they resolved to, that are kept


class Denial(NamedTuple):
    """A 403. `rule` names the field of the document that denied, for metrics and logs; `detail` is for a person."""

    rule: str
    detail: str


class Hosts:
    """A list of destinations: names, all names below one, networks."""

    __slots__ = ("_below", "_names", "networks")

    def __init__(self, destinations: Sequence[str]) -> None:
        self._names: set[str] = set()
        self._below: set[str] = set()
        self.networks: list[Network] = []
        for text in destinations:
            if text.startswith("*."):
                self._below.add(text.removeprefix("*."))
            elif ":" in text or "/" in text:
                self.networks.append(ip_network(text))
            else:
                self._names.add(text)

    def __bool__(self) -> bool:
        return bool(self._names or self._below or self.networks)

    def named(self, host: str) -> bool:
        """By name. A wildcard is for names below its own, however far, and not for its own."""
        if host in self._names:
            return True
        while self._below and (dot := host.find(".")) >= 0:
            host = host[dot + 1 :]
            if host in self._below:
                return True
        return False

    def network_of(self, address: Address) -> Network | None:
        return next((network for network in self.networks if address in network), None)


class Access:
    """The rules of one document. Immutable but for a memory of verdicts."""

    def __init__(self, forward: Forward) -> None:
        self._clients = forward.client_networks
        self._ports = frozenset(forward.ports)
        self._deny = Hosts(forward.deny_hosts)
        self._allow = Hosts(forward.allow_hosts)
        self._deny_private = forward.deny_private
        # Whether a name may yet turn out to be allowed by what it resolves to.
        self._by_network = bool(self._allow.networks) and not forward.parents
        self.name = lru_cache(REMEMBERED)(self._name)
        self._resolved = lru_cache(REMEMBERED)(self._text)

    def client(self, address: str) -> Denial | None:
        """Whether a client from this address may ask for anything; a v4-mapped address is the IPv4 one. "", of one
        that has gone before its address was asked for, is in no network.
        """
        if not self._clients:
            return None
        if not address:
            return Denial("clientNetworks", "clients without an address may not use this proxy")
        client: Address = ip_address(address.partition("%")[0])
        if isinstance(client, IPv6Address) and client.ipv4_mapped is not None:
            client = client.ipv4_mapped
        if any(client in network for network in self._clients):
            return None
        return Denial("clientNetworks", f"clients from {client} may not use this proxy")

    def _name(self, target: Target) -> Denial | None:
        """Whether a target may be resolved; where it is an address, whether it may be connected to. Remembered."""
        if target.port not in self._ports:
            return Denial("ports", f"port {target.port} is not allowed")
        if target.address is not None:
            return self._address(target, target.address)
        if self._deny.named(target.host):
            return Denial("denyHosts", f"{target.host} is denied")
        if self._allow and not self._by_network and not self._allow.named(target.host):
            return Denial("allowHosts", f"{target.host} is not among the hosts that are allowed")
        return None

    def addresses(self, target: Target, resolved: Sequence[str]) -> Sequence[str] | Denial:
        """Those of the addresses that `target`, allowed by name, resolved to which may be connected to, in their order;
        or why there are none. Nothing but these is to be connected to, without resolving again.
        """
        denial: Denial | None = None
        allowed: list[str] = []
        for text in resolved:
            found = self._resolved(target, text)
            if found is None:
                allowed.append(text)
            else:
                denial = denial or found
        return allowed or denial or []

    def _text(self, target: Target, resolved: str) -> Denial | None:
        return self._address(target, ip_address(resolved.partition("%")[0]))

    def _address(self, target: Target, address: Address) -> Denial | None:
        where = target.host if target.address is not None else f"{target.host}, which is {address},"
        if any(self._deny.network_of(form) for form in _forms(address)):
            return Denial("denyHosts", f"{where} is denied")
        if self._allow and not self._allow.network_of(address) and not self._allow.named(target.host):
            return Denial("allowHosts", f"{where} is not among the hosts that are allowed")
        return self._private(where, address) if self._deny_private else None

    def _private(self, where: str, address: Address) -> Denial | None:
        block = special(address)
        if block is None:
            return None
        if not any(address in network and _within(network, block.network) for network in self._allow.networks):
            return Denial("denyPrivate", f"{where} has an address that is {block.what}")
        inner = embedded(address)
        return None if inner is None else self._private(where, inner)


def _forms(address: Address) -> list[Address]:
    """The address, and the IPv4 address that is reached through it."""
    inner = embedded(address)
    return [address] if inner is None else [address, inner]


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.network_address in outer and inner.prefixlen >= outer.prefixlen
