"""The fields that the proxy adds to a request, and how long it remembers them."""

from types import SimpleNamespace
from typing import Any

import pytest

from forebay_core.http1 import scan_request
from forebay_proxy.http.client import LONGEST_HOST, ClientConnection, added_fields, usual_fields


def suffix(client: ClientConnection, host: bytes, *fields: bytes) -> bytes:
    head = scan_request(b"\r\n".join((b"GET / HTTP/1.1", b"Host: " + host, *fields, b"", b"")), 1 << 16, True)
    assert head is not None
    return client.make_suffix(head)


@pytest.fixture
def client() -> ClientConnection:
    proxy: Any = SimpleNamespace()
    usual_fields.cache_clear()
    client = ClientConnection(proxy, "2001:db8::1")
    client.tls = True
    return client


def test_what_is_added(client: ClientConnection) -> None:
    assert suffix(client, b"a:8443").split(b"\r\n") == [
        b"X-Forwarded-For: 2001:db8::1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: a:8443",
        b'Forwarded: for="[2001:db8::1]";proto=https;host="a:8443"',
        b"Via: 1.1 forebay",
        b"",
        b"",
    ]


@pytest.mark.parametrize(("length", "remembered"), [(1, 1), (LONGEST_HOST, 1), (LONGEST_HOST + 1, 0), (20_000, 0)])
def test_it_is_remembered_for_hosts_that_can_be_names(client: ClientConnection, length: int, remembered: int) -> None:
    for host in (b"a" * length, b"b" * length, b"a" * length):
        assert suffix(client, host) == client.suffix == added_fields("2001:db8::1", b"https", host, 1)
        assert client.suffix_host == host
    assert usual_fields.cache_info().currsize == 2 * remembered


def test_it_is_not_where_a_trusted_client_has_a_say(client: ClientConnection) -> None:
    assert b"X-Forwarded-For: 10.0.0.1, 2001:db8::1\r\n" in suffix(client, b"a", b"X-Forwarded-For: 10.0.0.1")
    assert (client.suffix_host, usual_fields.cache_info().currsize) == (None, 0)
