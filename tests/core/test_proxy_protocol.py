"""PROXY protocol headers: the specification's examples, what is refused, and every split."""

import socket

import pytest

from forebay_core.proxy_protocol import LONGEST, SIGNATURE, Header, HeaderError, parse


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes((0x20 | command, family)) + len(body).to_bytes(2, "big") + body


IPV4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + b"\x30\x39\x01\xbb"
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "::1") + b"\x30\x39\x01\xbb"
GOOD = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n", "192.0.2.7"),
    (b"PROXY TCP6 2001:db8::7 ::1 12345 443\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff 65535\r\n", None),
    (v2(1, 0x11, IPV4), "192.0.2.7"),
    (v2(1, 0x21, IPV6), "2001:db8::7"),
    (v2(1, 0x11, IPV4 + b"\x04\x00\x01x"), "192.0.2.7"),  # a TLV behind the addresses
    (v2(0, 0x00, b""), None),
]


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_a_header_gives_the_client_and_its_own_length(header, client):
    assert parse(header + b"GET / HTTP/1.1\r\n") == Header(len(header), client)


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_every_prefix_is_incomplete(header, client):
    assert [parse(header[:n]) for n in range(1, len(header))] == [None] * (len(header) - 1)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 12345\r\n",
        b"PROXY TCP4 192.0.2.777 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.7 192.0.2.7 1 2\r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
        b"PROXY " + b"x" * 120,
        SIGNATURE + b"\x11\x11\x00\x0c" + IPV4,
        SIGNATURE + b"\x22\x11\x00\x0c" + IPV4,
        v2(1, 0x11, IPV4[:8]),
        v2(1, 0x31, b"\0" * 216),
        v2(1, 0x11, b"\0" * LONGEST),
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(HeaderError):
        parse(data)
