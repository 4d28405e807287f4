"""Addresses that are not somebody's on the public Internet, as one table.

`ipaddress.is_private` and `is_global` are no help: they miss 100.64.0.0/10 or NAT64's prefix, what they say changes
with Python's patch releases, and none of them says why. The table is the IANA IPv4 and IPv6 Special-Purpose Address
Registries (RFC 6890, as of 2025-10) without what they mark as globally reachable, with the multicast registries and
what the clouds answer on.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, NamedTuple

Network = IPv4Network | IPv6Network


class Block(NamedTuple):
    """A range of addresses and what it is for, in words that end a sentence."""

    network: Network
    what: str
    source: str
    embeds: int | None = None  # position in bits, from the right, of an IPv4 address that is reached through it


_TABLE = (
    # IPv4. The narrower of two comes first: its words say more.
    ("0.0.0.0/8", "unspecified", "RFC 1122 section 3.2.1.3; Linux connects 0.0.0.0 to itself"),
    ("10.0.0.0/8", "private", "RFC 1918"),
    ("100.100.100.200/32", "cloud metadata", "Alibaba Cloud, instance metadata"),
    ("100.64.0.0/10", "shared, behind carriers' NAT", "RFC 6598"),
    ("127.0.0.0/8", "loopback", "RFC 1122 section 3.2.1.3"),
    ("168.63.129.16/32", "cloud metadata", "Azure, wire server: a public address inside every network"),
    ("169.254.169.254/32", "cloud metadata", "AWS, Azure, Google and others, instance metadata"),
    ("169.254.0.0/16", "link-local", "RFC 3927"),
    ("172.16.0.0/12", "private", "RFC 1918"),
    ("192.0.0.192/32", "cloud metadata", "Oracle Cloud, instance metadata of old"),
    ("192.0.0.0/24", "of the protocols themselves", "RFC 6890 section 2.1"),
    ("192.0.2.0/24", "for documentation", "RFC 5737"),
    ("192.88.99.0/24", "a 6to4 relay", "RFC 7526"),
    ("192.168.0.0/16", "private", "RFC 1918"),
    ("198.18.0.0/15", "for benchmarks", "RFC 2544"),
    ("198.51.100.0/24", "for documentation", "RFC 5737"),
    ("203.0.113.0/24", "for documentation", "RFC 5737"),
    ("224.0.0.0/4", "multicast", "RFC 5771"),
    ("255.255.255.255/32", "broadcast", "RFC 919"),
    ("240.0.0.0/4", "reserved", "RFC 1112 section 4"),
    # IPv6.
    ("::/128", "unspecified", "RFC 4291 section 2.5.2"),
    ("::1/128", "loopback", "RFC 4291 section 2.5.3"),
    ("::ffff:0:0/96", "IPv4-mapped", "RFC 4291 section 2.5.5.2", 0),
    ("::ffff:0:0:0/96", "IPv4-translated", "RFC 2765 section 2.1", 0),
    ("::/96", "IPv4-compatible", "RFC 4291 section 2.5.5.1", 0),
    ("64:ff9b::/96", "NAT64", "RFC 6052 section 2.1", 0),
    ("64:ff9b:1::/48", "local NAT64", "RFC 8215"),
    ("100::/64", "discarded", "RFC 6666"),
    ("100:0:0:1::/64", "a dummy prefix", "RFC 9780"),
    ("2001::/32", "Teredo", "RFC 4380"),
    ("2001::/23", "of the protocols themselves", "RFC 2928"),
    ("2001:db8::/32", "for documentation", "RFC 3849"),
    ("2002::/16", "6to4", "RFC 3056", 80),
    ("3fff::/20", "for documentation", "RFC 9637"),
    ("5f00::/16", "segment identifiers", "RFC 9602"),
    ("fd00:ec2::254/128", "cloud metadata", "AWS, instance metadata"),
    ("fd20:ce::254/128", "cloud metadata", "Google Cloud, instance metadata"),
    ("fc00::/7", "private (unique local)", "RFC 4193"),
    ("fe80::/10", "link-local", "RFC 4291 section 2.5.6"),
    ("fec0::/10", "site-local", "RFC 3879"),
    ("ff00::/8", "multicast", "RFC 4291 section 2.7"),
    # What was never given to anybody: only 2000::/3 is global unicast.
    ("::/3", "reserved", "RFC 4291 section 2.4"),
    ("4000::/2", "reserved", "RFC 4291 section 2.4"),
    ("8000::/1", "reserved", "RFC 4291 section 2.4"),
)
BLOCKS: Final = tuple(Block(ip_network(text), *rest) for text, *rest in _TABLE)
_BY_VERSION: Final = {version: [b for b in BLOCKS if b.network.version == version] for version in (4, 6)}


def special(address: IPv4Address | IPv6Address) -> Block | None:
    """The first block of the table that the address is in; None: it is somebody's on the public Internet."""
    for block in _BY_VERSION[address.version]:
        if address in block.network:
            return block
    return None


def embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that is reached where `address` is connected to; None: no other one."""
    block = special(address)
    return None if block is None or block.embeds is None else IPv4Address(int(address) >> block.embeds & 0xFFFFFFFF)
