"""Targets are read one way, or not at all. Attacks are in `ssrf`."""

import socket
from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay_core.forward.target import TargetError, parse_absolute, parse_authority

NUMBERS = st.sampled_from([*"0123456789abcdefxX", "0x", ".", "127", "1", "00", "255", "256"])


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        (b"example.com:443", "example.com", 443),
        (b"Example.COM.:443", "example.com", 443),
        (b"xn--caf-dma.example:8443", "xn--caf-dma.example", 8443),
        (b"_dmarc.a-b.c_d:1", "_dmarc.a-b.c_d", 1),
        (b"localhost:65535", "localhost", 65535),
        (b"1.2.3.4:00080", "1.2.3.4", 80),
        (b"[2001:DB8:0:0::1]:443", "2001:db8::1", 443),
        (b"[::ffff:1.2.3.4]:443", "::ffff:1.2.3.4", 443),
        (b"1a.example:80", "1a.example", 80),
        (b"1.2.3.4a:80", "1.2.3.4a", 80),
    ],
)
def test_an_authority(authority: bytes, host: str, port: int) -> None:
    target = parse_authority(authority, None)
    # Python writes mapped addresses in two ways, depending on its version.
    assert (ip_address(target.host) == ip_address(host)) if target.address else target.host == host
    assert target.port == port
    assert target.name == (f"[{target.host}]:{port}" if ":" in target.host else f"{host}:{port}")


@pytest.mark.parametrize(
    ("authority", "says"),
    [
        (b"example.com", "with a port"),
        (b"example.com:", "a host name or IP address, and a port"),
        (b"example.com:0", "a port from 1 to 65535"),
        (b"example.com:65536", "a port from 1 to 65535"),
        (b"example.com:+80", "a host name or IP address, and a port"),
        (b"example.com:8 0", "a host name or IP address, and a port"),
        (b"example.com:80:80", "a host name or IP address, and a port"),
        (b"example.com:80/", "a host name or IP address, and a port"),
        (b"example.com:000080", "a host name or IP address, and a port"),
        (b"user@example.com:80", "without user and password"),
        (b"1.2.3:80", "four decimal numbers from 0 to 255"),
        (b"1.2.3.4.:80", "four decimal numbers from 0 to 255"),
        (b"[1.2.3.4]:80", "an IPv6 address in the brackets"),
        (b"a" * 64 + b":80", "labels of 1 to 63"),
        (b".".join([b"a" * 63] * 4) + b":80", "labels of 1 to 63"),
    ],
)
def test_a_bad_authority(authority: bytes, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        parse_authority(authority, None)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (b"http://example.com", "example.com:80"),
        (b"HTTP://example.com?a=http://b:1/", "example.com:80"),
        (b"http://example.com:8080/a//b@c:80", "example.com:8080"),
        (b"http://[::1]/", "[::1]:80"),
    ],
)
def test_an_absolute_target(target: bytes, name: str) -> None:
    assert parse_absolute(target).name == name


@pytest.mark.parametrize("target", [b"https://example.com/", b"/a", b"*", b"ftp://a/", b"http:/a", b"http:a", b"//a/"])
def test_a_target_of_another_form(target: bytes) -> None:
    with pytest.raises(TargetError, match=r"such as http://host/path; https goes by CONNECT"):
        parse_absolute(target)


@given(st.lists(NUMBERS, max_size=12).map("".join))
@example("127.1")
@example("0x7f000001")
def test_no_name_is_an_address_to_the_resolver(text: str) -> None:
    """What inet_aton takes, getaddrinfo connects to: such a text is refused, or is that very address."""
    try:
        target = parse_authority(text.encode(), 80)
    except TargetError:
        return
    try:
        meant = socket.inet_aton(target.host)
    except OSError:
        assert target.address is None
    else:
        assert target.address is not None
        assert target.address.packed == meant


@given(st.binary(max_size=40))
def test_any_bytes_are_a_target_or_refused(data: bytes) -> None:
    try:
        target = parse_authority(data, 80)
    except TargetError:
        return
    assert parse_authority(target.name.encode(), None) == target
