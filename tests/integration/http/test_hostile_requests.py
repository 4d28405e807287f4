"""Hostile requests: refused, never guessed at, and nothing of them reaches an upstream."""

import pytest
from tests.conformance.http1_bodies import HOSTILE_BODIES
from tests.conformance.http1_cases import MAX_HEAD, Good, Hostile
from tests.conformance.http1_requests import GOOD_REQUESTS, HOSTILE_REQUESTS
from tests.integration.http.harness import Pair
from tests.support.raw import Connection, request_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A trailer's limit is that of a head, which those of the codec's test don't reach.
BODIES = [case for case in HOSTILE_BODIES if "trailer" not in case.name or "larger" not in case.detail]
STOWAWAY = request_bytes("/stowaway")  # what a smuggler would have in the same write
HTTP = {"maxHeaderBytes": MAX_HEAD}


def sendable(case: Good) -> bool:
    """Whether it is a whole request once its facts' length of bytes is added."""
    framed = b"content-length:" in case.data.lower() or b"transfer-encoding:" in case.data.lower()
    return not case.options and (not framed or 0 <= case.facts.get("content_length", -1) < 1000)


async def refused(pair: Pair, data: bytes, status: int) -> None:
    """The proxy answers `status`, closes, and nothing of `data` has reached the origin."""
    await pair.origin.reset()
    async with await pair.connect() as client:
        await client.send(data)
        answer = await client.answer("GET")  # its body is sent in any case: the method could not be read
        assert (answer.status, answer.get("connection")) == (status, "close"), answer
        assert await client.rest(within=5) == b""
    stats = await pair.origin.stats()
    assert (stats["requests"], stats["malformed"]) == (0, 0), stats["targets"]


@pytest.mark.parametrize("case", HOSTILE_REQUESTS, ids=lambda case: case.name)
async def test_a_hostile_head(pair: Pair, case: Hostile) -> None:
    await refused(pair, case.data + STOWAWAY, case.status)


@pytest.mark.parametrize("case", BODIES, ids=lambda case: case.name)
async def test_a_hostile_body(pair: Pair, case: Hostile) -> None:
    head = request_bytes("/upload", "POST", [("Transfer-Encoding", "chunked")])
    await refused(pair, head + case.data + STOWAWAY, case.status)


CODING = b"Transfer-Encoding: chunked\r\n"
SMUGGLING = {
    "length and chunked": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n" + CODING + b"\r\n0\r\n\r\n",
    "chunked and length": b"POST / HTTP/1.1\r\nHost: a\r\n" + CODING + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length with plus": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "length of 2^64": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "absolute target against Host": b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\nX-A: b\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two Hosts in 1.0": b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "obs-fold": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rContent-Length: 3\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x00\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
async def test_a_classic_of_smuggling(pair: Pair, name: str) -> None:
    await refused(pair, SMUGGLING[name] + STOWAWAY, 400)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),  # a TLS ClientHello
        (b"\x00" * 40_000, 400),
    ],
)
async def test_what_is_not_offered(pair: Pair, data: bytes, status: int) -> None:
    await refused(pair, data, status)


async def test_a_hostile_head_a_byte_at_a_time(pair: Pair) -> None:
    """Refused as soon as it can't become a head any more, not only at its end."""
    async with await pair.connect() as client:
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\n":
            await client.send(bytes((byte,)))
        assert (await client.answer(within=2)).status == 400


async def test_unread_requests_are_never_answered_twice(pair: Pair) -> None:
    """A refusal in the middle of a body: one answer, and what follows is no request."""
    await pair.origin.reset()
    async with await pair.connect() as client:
        head = request_bytes("/upload", "POST", [("Transfer-Encoding", "chunked")])
        await client.send(head + b"5\r\nhelloXX" + STOWAWAY * 10)
        assert (await client.answer("POST")).status == 400
        assert await client.rest(within=5) == b""
    assert (await pair.origin.stats())["requests"] == 0


@pytest.mark.parametrize("case", [*filter(sendable, GOOD_REQUESTS)], ids=lambda case: case.name)
async def test_a_good_head_is_no_reason_to_refuse(pair: Pair, case: Good) -> None:
    """The counterpart: what is right is passed on, and rightly (`pair` looks at the origin's complaints)."""
    async with await pair.connect() as client:
        await client.send(case.data + b"x" * case.facts.get("content_length", 0))
        client.half_close()
        answer = await client.answer("GET")
        assert answer.status in (200, 404), answer


async def test_bad_requests_leave_nothing_behind(pair: Pair) -> None:
    async def one() -> None:
        async with await Connection.open(pair.forebay.port) as client:
            assert (await client.ask(b"BAD\r\n\r\n")).status == 400

    for _ in range(200):
        await one()
    (worker,) = (await pair.forebay.state())["workers"]
    assert worker["clients"] == 0
    assert worker["rejections"]["bad_request"] >= 200
