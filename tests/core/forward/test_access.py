"""Who may go where: the table of attacks, and each rule by itself."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest
from tests.core.forward.ssrf import CASES, FORWARD, MALFORMED, REACHED, Case, addresses
from tests.core.spec.cases import changed, good

from forebay_core.forward.access import Access, Denial
from forebay_core.forward.head import scan_forward
from forebay_core.forward.special import BLOCKS, embedded, special
from forebay_core.forward.target import Target, parse_authority
from forebay_core.http1 import ProtocolError
from forebay_core.spec.load import parse


def access(**forward: Any) -> Access:
    document = changed(good("cluster", "forward"), {"spec.forward": {"clientNetworks": ["127.0.0.0/8"], **forward}})
    parsed = parse(document, form="cluster").spec.forward
    assert parsed is not None
    return Access(parsed)


def target(text: str) -> Target:
    return parse_authority(text.encode(), 80)


def verdict(rules: Access, to: Target, resolved: Sequence[str]) -> str | Sequence[str]:
    """The rule that denies, or the addresses that may be connected to."""
    found = rules.name(to) or rules.addresses(to, resolved)
    return found.rule if isinstance(found, Denial) else found


def test_the_table_is_long() -> None:
    assert len(CASES) > 100


@pytest.mark.parametrize("connect", [True, False], ids=["connect", "plain"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case.host)[:40])
def test_an_attack_gets_nowhere(case: Case, connect: bool) -> None:
    host = case.host.encode()
    line = b"CONNECT %s:443" % host if connect else b"GET http://%s/" % host
    host_field = b"" if case.verdict == MALFORMED else host + (b":443" if connect else b"")
    data = b"%s HTTP/1.%d\r\n%s\r\n" % (line, bool(host_field), b"Host: %s\r\n" % host_field if host_field else b"")
    if case.verdict == MALFORMED:
        with pytest.raises(ProtocolError) as raised:
            scan_forward(data, 1 << 15)
        assert raised.value.status == 400
        return
    head = scan_forward(data, 1 << 15)
    assert head is not None
    resolved = [str(head.target.address)] if head.target.address else addresses(case.host)
    found = verdict(access(**FORWARD), head.target, resolved)
    assert found == (["127.0.0.2"] if case.verdict == REACHED else case.verdict)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.15.255.255", "100.128.0.1", "2606:4700::1111"])
def test_the_public_internet_is_reached(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    assert verdict(access(), target(literal), [address]) == [address]
    assert verdict(access(), target("example.com"), [address]) == [address]


def test_the_ranges_are_whole() -> None:
    """Python's own opinion is a lower bound: what it calls private, the table has too, to both ends of each block."""
    for block in BLOCKS:
        for address in (block.network.network_address, block.network.broadcast_address):
            assert special(address) is not None, block
    for text in ("10.1.1.1", "172.20.0.1", "192.168.3.4", "127.1.2.3", "169.254.9.9", "::1", "fc00::1", "fe80::1"):
        assert ip_address(text).is_private
        assert special(ip_address(text)) is not None


@pytest.mark.parametrize(
    ("address", "inner"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("64:ff9b::10.0.0.1", "10.0.0.1"),
        ("2002:a00:1::5", "10.0.0.1"),
        ("::a00:1", "10.0.0.1"),
        ("2606:4700::1111", None),
        ("10.0.0.1", None),
    ],
)
def test_an_address_inside_an_address(address: str, inner: str | None) -> None:
    assert embedded(ip_address(address)) == (inner and ip_address(inner))


@pytest.mark.parametrize(
    ("network", "address", "reached"),
    [
        ("10.2.0.0/16", "10.2.3.4", True),
        ("10.2.0.0/16", "10.3.3.4", False),
        ("0.0.0.0/0", "10.2.3.4", False),  # not named on purpose
        ("::/0", "fd00::1", False),
        ("fd00::/8", "fd00::1", True),
        ("169.254.169.254", "169.254.169.254", True),
        ("169.254.0.0/16", "169.254.169.254", False),  # the narrower block is not named
        ("64:ff9b::/96", "64:ff9b::8.8.8.8", True),
        ("64:ff9b::/96", "64:ff9b::10.0.0.1", False),  # what is behind it is private still
        ("::ffff:0:0/96", "::ffff:10.0.0.1", False),
    ],
)
def test_a_private_network_is_opened_by_its_name(network: str, address: str, reached: bool) -> None:
    found = verdict(access(allowHosts=[network]), target("a.test"), [address])
    assert found == ([address] if reached else "allowHosts" if address.startswith("10.3") else "denyPrivate")


@pytest.mark.parametrize(
    ("forward", "host", "resolved", "found"),
    [
        ({"allowHosts": ["a.com"]}, "a.com", "8.8.8.8", ""),
        ({"allowHosts": ["a.com"]}, "A.COM.", "8.8.8.8", ""),
        ({"allowHosts": ["A.com"]}, "a.com", "8.8.8.8", ""),
        ({"allowHosts": ["a.com"]}, "b.a.com", "8.8.8.8", "allowHosts"),
        ({"allowHosts": ["a.com"]}, "ba.com", "8.8.8.8", "allowHosts"),
        ({"allowHosts": ["a.com"]}, "8.8.8.8", "8.8.8.8", "allowHosts"),
        ({"allowHosts": ["*.a.com"]}, "b.a.com", "8.8.8.8", ""),
        ({"allowHosts": ["*.a.com"]}, "c.b.a.com", "8.8.8.8", ""),
        ({"allowHosts": ["*.a.com"]}, "a.com", "8.8.8.8", "allowHosts"),
        ({"allowHosts": ["*.a.com"]}, "xa.com", "8.8.8.8", "allowHosts"),
        ({"allowHosts": ["8.8.8.0/24"]}, "a.com", "8.8.8.8", ""),
        ({"allowHosts": ["8.8.8.0/24"]}, "a.com", "8.8.4.4", "allowHosts"),
        ({"allowHosts": ["8.8.8.8"]}, "8.8.8.8", "8.8.8.8", ""),
        ({"allowHosts": ["b.com", "8.8.8.0/24"]}, "b.com", "1.1.1.1", ""),
        ({"allowHosts": ["*.a.com"], "denyHosts": ["b.a.com"]}, "b.a.com", "8.8.8.8", "denyHosts"),
        ({"denyHosts": ["*.a.com"]}, "b.a.com", "8.8.8.8", "denyHosts"),
        ({"denyHosts": ["*.a.com"]}, "a.com", "8.8.8.8", ""),
        ({"denyHosts": ["8.8.8.0/24"]}, "a.com", "8.8.8.8", "denyHosts"),
        ({"denyHosts": ["8.8.8.8"]}, "8.8.8.8", "8.8.8.8", "denyHosts"),
        ({"denyHosts": ["10.0.0.0/8"], "denyPrivate": False}, "a.com", "::ffff:10.0.0.1", "denyHosts"),
        ({"denyHosts": ["10.0.0.0/8"], "denyPrivate": False}, "a.com", "64:ff9b::a00:1", "denyHosts"),
        ({"denyPrivate": False}, "127.0.0.1", "127.0.0.1", ""),
        ({"denyPrivate": False}, "a.com", "10.0.0.1", ""),
        ({}, "a.com:22", "8.8.8.8", "ports"),
        ({"ports": [22]}, "a.com:22", "8.8.8.8", ""),
        ({"ports": [22]}, "10.0.0.1:80", "10.0.0.1", "ports"),
    ],
)
def test_the_rules(forward: dict[str, Any], host: str, resolved: str, found: str) -> None:
    assert verdict(access(**forward), target(host), [resolved]) == (found or [resolved])


def test_only_the_allowed_of_several_addresses_remain() -> None:
    assert verdict(access(), target("a.com"), ["10.0.0.1", "8.8.8.8", "::1", "1.1.1.1"]) == ["8.8.8.8", "1.1.1.1"]
    assert access().addresses(target("a.com"), []) == []


def test_a_denial_says_why() -> None:
    denial = access().addresses(target("a.com"), ["169.254.169.254"])
    assert denial == Denial("denyPrivate", "a.com, which is 169.254.169.254, has an address that is cloud metadata")
    assert access().name(target("a.com:22")) == Denial("ports", "port 22 is not allowed")


@pytest.mark.parametrize(
    ("networks", "client", "allowed"),
    [
        (["127.0.0.0/8"], "127.0.0.1", True),
        (["127.0.0.0/8"], "::ffff:127.0.0.1", True),
        (["127.0.0.0/8"], "10.0.0.1", False),
        (["127.0.0.0/8"], "::1", False),
        (["fe80::/10", "::1"], "fe80::1%eth0", True),
    ],
)
def test_clients_by_their_networks(networks: list[str], client: str, allowed: bool) -> None:
    denial = access(clientNetworks=networks).client(client)
    assert (denial is None) == allowed
    assert denial is None or denial.rule == "clientNetworks"


@pytest.mark.parametrize(
    ("forward", "host", "rule"),
    [
        ({"allowHosts": ["a.com"]}, "b.com", "allowHosts"),
        ({"allowHosts": ["a.com"]}, "a.com", None),
        ({"allowHosts": ["a.com", "8.8.8.0/24"]}, "b.com", None),  # it may resolve into the network
        ({"allowHosts": ["a.com", "8.8.8.0/24"], "parents": [{"host": "p", "port": 1}]}, "b.com", "allowHosts"),
        ({"allowHosts": ["a.com", "8.8.8.0/24"], "parents": [{"host": "p", "port": 1}]}, "8.8.8.8", None),
        ({"allowHosts": ["8.8.8.0/24"], "parents": [{"host": "p", "port": 1}]}, "8.8.4.4", "allowHosts"),
        ({"denyHosts": ["b.com"]}, "b.com", "denyHosts"),
        ({"parents": [{"host": "p", "port": 1}]}, "10.0.0.1", "denyPrivate"),
    ],
)
def test_what_a_name_alone_decides(forward: dict[str, Any], host: str, rule: str | None) -> None:
    """Nothing is resolved for a denied name; and where a parent resolves, nothing comes after this."""
    denial = access(**forward).name(target(host))
    assert (denial and denial.rule) == rule


def test_a_client_without_an_address_is_in_no_network() -> None:
    assert access(clientNetworks=["0.0.0.0/0"]).client("") is not None
    assert access(clientNetworks=[], allowHosts=["a.com"]).client("") is None


def test_without_networks_all_clients_may() -> None:
    assert access(clientNetworks=[], allowHosts=["a.com"]).client("203.0.113.7") is None
