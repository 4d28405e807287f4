"""Heads that come to a forward proxy."""

import pytest

from forebay_core.forward.head import ForwardHead, scan_forward
from forebay_core.http1 import ProtocolError

LIMIT = 1 << 10


def scan(*lines: str) -> ForwardHead:
    head = scan_forward("\r\n".join([*lines, "", ""]).encode(), LIMIT)
    assert head is not None
    return head


def test_a_plain_request() -> None:
    head = scan(
        "GET http://Example.com:8080/a?b HTTP/1.1",
        "Host: Example.com:8080",
        "Proxy-Authorization: Basic YTpi ",
        "Proxy-Connection: keep-alive",
        "Accept: */*",
    )
    assert (head.target.name, head.connect, head.authorization) == ("example.com:8080", False, b"Basic YTpi")
    assert head.request.head == b"GET /a?b HTTP/1.1\r\nHost: Example.com:8080\r\nAccept: */*\r\n"
    assert head.absolute == (b"GET http://Example.com:8080/a?b HTTP/1.1\r\nHost: Example.com:8080\r\nAccept: */*\r\n")


def test_a_body_is_the_codecs_matter() -> None:
    head = scan("POST http://a/ HTTP/1.1", "Host: a", "Content-Length: 5")
    assert (head.request.method, head.request.content_length) == (b"POST", 5)


@pytest.mark.parametrize("host", ["a.com:443", "A.com", "a.com.:443", "the.proxy:3128"])
def test_a_tunnel(host: str) -> None:
    data = f"CONNECT a.com:443 HTTP/1.1\r\nHost: {host}\r\n\r\n\x16\x03\x01".encode()
    head = scan_forward(data, LIMIT)
    assert head is not None
    assert (head.connect, head.target.name, head.request.minor) == (True, "a.com:443", 1)
    assert data[head.end :] == b"\x16\x03\x01"


def test_by_whose_hands_it_has_gone() -> None:
    head = scan("CONNECT a:443 HTTP/1.1", "Via: 1.0 fred, 1.1 b", "Host: a", "X-Via: c", "via:1.1 d")
    assert head.via == b"Via: 1.0 fred, 1.1 b\r\nvia:1.1 d\r\n"


def test_a_tunnel_of_an_old_client() -> None:
    assert scan("CONNECT [::1]:443 HTTP/1.0").target.name == "[::1]:443"


@pytest.mark.parametrize("first", ["GET http://a/ HTTP/1.1", "CONNECT a:443 HTTP/1.1"])
def test_byte_by_byte(first: str) -> None:
    data = f"\r\n{first}\r\nHost: a\r\nX: y\r\n\r\n".encode()
    for length in range(len(data)):
        assert scan_forward(data[:length], LIMIT) is None
    whole = scan_forward(data, LIMIT)
    assert whole is not None
    assert whole.end == len(data)


@pytest.mark.parametrize("name", ["proxy-authorization", "PROXY-AUTHORIZATION", "Proxy-Authorization"])
def test_the_fields_name_in_any_case(name: str) -> None:
    assert scan("CONNECT a:443 HTTP/1.1", f"{name}:x", "Host: a").authorization == b"x"


def test_only_the_spelling_with_dashes_is_read() -> None:
    head = scan("GET http://a/ HTTP/1.1", "Host: a", "Proxy_Authorization: x")
    assert head.authorization == b""
    assert b"uthorization" not in head.request.head


@pytest.mark.parametrize(
    ("lines", "status", "says"),
    [
        (["GET / HTTP/1.1", "Host: a"], 400, "a target such as http://host/path"),
        (["OPTIONS * HTTP/1.1", "Host: a"], 400, "a target such as http://host/path"),
        (["GET https://a/ HTTP/1.1", "Host: a"], 400, "https goes by CONNECT"),
        (["GET http://a/ HTTP/1.1", "Host: b"], 400, "not what Host says"),
        (["GET http://u:p@a/ HTTP/1.1", "Host: a"], 400, "plain authority"),
        (["GET http://a/ HTTP/1.1"], 400, "Host is missing"),
        (["GET http://a/ HTTP/2.0", "Host: a"], 505, "version"),
        (["CONNECT a:443 HTTP/1.1"], 400, "Host is missing"),
        (["CONNECT a:443 HTTP/1.1", "Host: a b"], 400, "Host"),
        (["CONNECT a:443 HTTP/1.1", "Host: a", "Host: a"], 400, "more than one Host"),
        (["CONNECT a HTTP/1.1", "Host: a"], 400, "with a port"),
        (["CONNECT http://a:443/ HTTP/1.1", "Host: a"], 400, "a host name or IP address, and a port"),
        (["CONNECT /a:443 HTTP/1.1", "Host: a"], 400, "a host name or IP address, and a port"),
        (["connect a:443 HTTP/1.1", "Host: a"], 400, "http"),
        (["CONNECT a:443 HTTP/1.1", "Host: a", "Content-Length: 5"], 400, "without Content-Length"),
        (["CONNECT a:443 HTTP/1.1", "Host: a", "Content-Length: 0"], 400, "without Content-Length"),
        (["CONNECT a:443 HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"], 400, "without Content-Length"),
        (["CONNECT a:443 HTTP/1.1", "Host: a", "X : y"], 400, "at byte 34"),
        (["CONNECT a:443  HTTP/1.1", "Host: a"], 400, "at byte 14"),
        (
            ["CONNECT a:443 HTTP/1.1", "Host: a", "Proxy-Authorization: a", "proxy-authorization: b"],
            400,
            "more than one",
        ),
        (["CONNECT a:443 HTTP/1.1", "Host: a", "X: " + "y" * LIMIT], 431, "larger than"),
        (["CONNECT " + "a" * LIMIT + ":443 HTTP/1.1", "Host: a"], 414, "longer than"),
    ],
)
def test_what_is_refused(lines: list[str], status: int, says: str) -> None:
    with pytest.raises(ProtocolError, match=says) as raised:
        scan(*lines)
    assert raised.value.status == status
