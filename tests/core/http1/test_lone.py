"""Which requests need nothing looked at but their heads, and which answers to them can be passed on as they are."""

from types import ModuleType

import pytest
from tests.conformance.http1_cases import MAX_HEAD, Hostile, response
from tests.conformance.http1_responses import HOSTILE_RESPONSES

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "data",
    [
        GET + b"\r\n",
        b"DELETE /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        GET + b"Connection: keep-alive\r\n\r\n",
        GET + b"Connection: close\r\n\r\n",
        GET + b"Accept: */*\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",  # its answer will not be a usual one
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_lone_requests(codec: ModuleType, data: bytes) -> None:
    assert codec.scan_request(data, MAX_HEAD, True).lone is True


@pytest.mark.parametrize(
    "data",
    [
        GET + b"\r\n" + GET + b"\r\n",  # another behind it
        GET + b"\r\n\r",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET + b"X-Forwarded-For: 10.0.0.1\r\n\r\n",
    ],
)
def test_requests_that_are_not(codec: ModuleType, data: bytes) -> None:
    assert codec.scan_request(data, MAX_HEAD, True).lone is False


def test_forwarding_fields_of_a_client_that_is_not_trusted_are_dropped_as_others(codec: ModuleType) -> None:
    assert codec.scan_request(GET + b"X-Forwarded-For: 10.0.0.1\r\n\r\n", MAX_HEAD, False).lone is True


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (
            response(b"Content-Length: 3", b"X: y") + b"abc",
            (200, 3, b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 3\r\nVia: 1.1 forebay\r\n\r\nabc"),
        ),
        (
            b"HTTP/1.1 500 No\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
            (500, 0, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nVia: 1.1 forebay\r\n\r\n"),
        ),
        (b"HTTP/1.1 204 None\r\n\r\n", (204, 0, b"HTTP/1.1 204 None\r\nVia: 1.1 forebay\r\n\r\n")),
        (
            b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n",
            (304, 0, b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\nVia: 1.1 forebay\r\n\r\n"),
        ),
    ],
)
def test_usual_answers(codec: ModuleType, data: bytes, found: tuple[int, int, bytes]) -> None:
    assert codec.answered(data, MAX_HEAD, False) == found
    for cut in range(len(data)):
        assert codec.answered(data[:cut], MAX_HEAD, False) is None
    assert codec.answered(data + b"H", MAX_HEAD, False) is None  # nobody has asked for it
    assert codec.answered(data, 20, False) is None
    status, size, answer = found
    last = answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    assert codec.answered(data, MAX_HEAD, True) == (status, size, last)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 100 Go on\r\n\r\n",
        b"HTTP/1.1 101 Other\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        response(b"Content-Length: 3", b"Connection: close") + b"abc",
        response(b"Content-Length: 3", b"Keep-Alive: timeout=5") + b"abc",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        response(b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        response() + b"abc",
        b"HTTP/1.1 204 None\r\nContent-Length: 3\r\n\r\n",
    ],
)
def test_other_answers(codec: ModuleType, data: bytes) -> None:
    assert codec.scan_response(data, MAX_HEAD, False, 1) is not None
    assert codec.answered(data, MAX_HEAD, False) is None


@pytest.mark.parametrize("case", HOSTILE_RESPONSES, ids=lambda case: case.name)
def test_hostile_answers_are_for_the_scanner_to_refuse(codec: ModuleType, case: Hostile) -> None:
    assert codec.answered(case.data, MAX_HEAD, False) is None
