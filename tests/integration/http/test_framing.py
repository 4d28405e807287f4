"""Where a message ends, and whether its connection goes on: RFC 9112 sections 6 to 9, in both directions."""

import asyncio
import hashlib
import json

import pytest
from tests.integration.http.harness import Pair
from tests.support.origin_routes import content
from tests.support.raw import Connection, CutAnswer, chunked, request_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHUNKED = (("Transfer-Encoding", "chunked"),)


async def closed(client: Connection) -> bool:
    """Whether the proxy closes the connection, and sends nothing before."""
    return await client.rest(within=2.0) == b""


# ---------------------------------------------------------------------- keep-alive and close


async def test_keep_alive_is_the_default_of_1_1(pair: Pair) -> None:
    async with await pair.connect() as client:
        for _ in range(3):
            answer = await client.ask(request_bytes("/headers"))
            assert answer.status == 200
            assert answer.get("connection") is None


async def test_close_is_answered_and_done(pair: Pair) -> None:
    async with await pair.connect() as client:
        answer = await client.ask(request_bytes("/", headers=[("Connection", "close")]))
        assert answer.get("connection") == "close"
        assert await closed(client)


async def test_a_clients_close_does_not_reach_the_upstream(pair: Pair) -> None:
    async with await pair.connect() as client:
        answer = await client.ask(request_bytes("/headers", headers=[("Connection", "close, X-A"), ("X-A", "b")]))
    names = {name.lower() for name, _ in json.loads(answer.body)["headers"]}
    assert not names & {"connection", "x-a"}


@pytest.mark.parametrize("keep", [False, True])
async def test_1_0_closes_unless_it_asks_to_keep(pair: Pair, keep: bool) -> None:
    async with await pair.connect() as client:
        request = b"GET / HTTP/1.0\r\nHost: a\r\n" + b"Connection: keep-alive\r\n" * keep + b"\r\n"
        answer = await client.ask(request)
        assert answer.body == b"ok\n"
        assert answer.get("connection") == ("keep-alive" if keep else "close")
        if keep:
            assert (await client.ask(request)).status == 200
        else:
            assert await closed(client)


async def test_1_0_without_host_reaches_a_1_1_upstream_with_one(pair: Pair) -> None:
    async with await pair.connect() as client:
        answer = await client.ask(b"GET /headers HTTP/1.0\r\n\r\n")
    headers = dict(json.loads(answer.body)["headers"])
    assert headers["Host"] == "origin"  # the upstream's name: RFC 9112 section 3.2 wants one
    assert "X-Forwarded-Host" not in headers


async def test_an_upstream_that_closes_costs_the_client_nothing(pair: Pair) -> None:
    async with await pair.connect() as client:
        for target in ("/close", "/close?silent=1", "/until-close/70000", "/close", "/"):
            answer = await client.ask(request_bytes(target))
            assert answer.status == 200
            assert answer.get("connection") is None
            if target.startswith("/until"):
                assert (answer.framing, answer.body) == ("chunked", content(70000))


# ---------------------------------------------------------------------- framing of answers


async def test_an_answer_without_length_reaches_1_0_delimited_by_close(pair: Pair) -> None:
    for target in ("/until-close/70000", "/chunked/70000"):
        async with await pair.connect() as client:
            answer = await client.ask(f"GET {target} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".encode())
            assert (answer.framing, answer.get("connection")) == ("close", "close")
            assert answer.body == content(70000)


async def test_chunks_and_trailers_of_an_answer(pair: Pair) -> None:
    async with await pair.connect() as client:
        for size in (1, 100, 8192, 100_000):
            answer = await client.ask(request_bytes(f"/chunked/{100_000 if size > 1 else 200}?size={size}&trailer=1"))
            assert answer.framing == "chunked"
            assert dict(answer.trailers)["X-Digest"] == hashlib.sha256(answer.body).hexdigest()


async def test_an_empty_chunked_answer(pair: Pair) -> None:
    async with await pair.connect() as client:
        for _ in range(2):
            answer = await client.ask(request_bytes("/chunked/0"))
            assert (answer.framing, answer.body, answer.trailers) == ("chunked", b"", [])


@pytest.mark.parametrize("target", ["/", "/bytes/100000", "/chunked/1000", "/until-close/10", "/status/404"])
async def test_head_has_no_body(pair: Pair, target: str) -> None:
    async with await pair.connect() as client:
        for _ in range(2):  # the second would find a body left over from the first
            answer = await client.ask(request_bytes(target, "HEAD"))
            assert answer.status == (404 if "404" in target else 200)
            assert answer.get("content-length") == {"/": "3", "/bytes/100000": "100000", "/status/404": "4"}.get(target)


@pytest.mark.parametrize("status", [204, 304])
async def test_204_and_304_have_no_body(pair: Pair, status: int) -> None:
    async with await pair.connect() as client:
        for method in ("GET", "GET", "POST"):
            assert (await client.ask(request_bytes(f"/status/{status}", method))).status == status


async def test_interim_answers_pass_to_those_who_know_them(pair: Pair) -> None:
    async with await pair.connect() as client:
        answer = await client.ask(request_bytes("/1xx?n=3"))
        assert [one.status for one in answer.interim] == [103, 103, 103]
        assert answer.interim[0].get("link") == "</style.css>; rel=preload"
        assert answer.body == b"ok\n"
        answer = await client.ask(request_bytes("/1xx?n=2&status=100"))
        assert answer.interim == []  # 100 is between us and the upstream
    async with await pair.connect() as client:
        answer = await client.ask(b"GET /1xx?n=3 HTTP/1.0\r\nHost: a\r\n\r\n")
        assert (answer.interim, answer.body) == ([], b"ok\n")


# ---------------------------------------------------------------------- framing of requests


async def test_chunks_and_trailers_of_a_request(pair: Pair) -> None:
    pieces = [b"a", b"bc" * 500, b"0\r\n\r\n", content(40_000)]
    async with await pair.connect() as client:
        for _ in range(2):
            answer = await client.ask(
                request_bytes("/upload", "POST", CHUNKED) + chunked(pieces, [("X-Sum", "1"), ("Content-Length", "5")])
            )
            seen = json.loads(answer.body)
            assert (seen["length"], seen["trailers"]) == (sum(map(len, pieces)), [["X-Sum", "1"]])
            assert seen["sha256"] == hashlib.sha256(b"".join(pieces)).hexdigest()


async def test_a_request_a_byte_at_a_time(pair: Pair) -> None:
    request = request_bytes("/upload", "POST", CHUNKED) + chunked([b"hello", b"world"], [("X-A", "b")])
    async with await pair.connect() as client:
        for i in range(len(request)):
            await client.send(request[i : i + 1])
        assert json.loads((await client.answer("POST")).body)["length"] == 10


@pytest.mark.parametrize("body", [b"", b"x", content(65_536), content(300_000)])
async def test_a_body_with_length_returns_as_sent(pair: Pair, body: bytes) -> None:
    async with await pair.connect() as client:
        for _ in range(2):
            answer = await client.ask(request_bytes("/echo", "POST", body=body))
            assert answer.body == body


async def test_expect_is_answered_before_the_body_is_sent(pair: Pair) -> None:
    async with await pair.connect() as client:
        for fields, body in (
            ((("Content-Length", "5"),), b"hello"),
            (CHUNKED, chunked([b"hello"])),
        ):
            await client.send(request_bytes("/upload", "PUT", [("Expect", "100-Continue"), *fields]))
            async with asyncio.timeout(2):
                assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(body)
            answer = await client.answer("PUT")
            assert (json.loads(answer.body)["length"], answer.interim) == (5, [])


async def test_nothing_is_expected_where_the_body_is_there_or_the_version_is_1_0(pair: Pair) -> None:
    async with await pair.connect() as client:
        answer = await client.ask(request_bytes("/upload", "PUT", [("Expect", "100-continue")], b"hello"))
        assert (answer.status, answer.interim) == (200, [])
    async with await pair.connect() as client:
        await client.send(b"PUT /upload HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        await client.send(b"hello")
        answer = await client.answer("PUT")
        assert (answer.status, answer.interim) == (200, [])


async def test_an_unknown_expectation_is_refused(pair: Pair) -> None:
    async with await pair.connect() as client:
        answer = await client.ask(request_bytes("/", headers=[("Expect", "the-unexpected")]))
        assert answer.status == 417


# ---------------------------------------------------------------------- pipelining


async def test_pipelined_requests_are_answered_in_order(pair: Pair) -> None:
    async with await pair.connect() as client:
        await client.send(b"".join(request_bytes(f"/bytes/{n}?delay=0.0{n % 3}") for n in range(20)))
        for n in range(20):
            assert (await client.answer()).body == content(n)


async def test_pipelined_bodies_don_t_run_into_each_other(pair: Pair) -> None:
    bodies = [b"a", content(70_000), b"", b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n", content(3)]
    requests = []
    for i, body in enumerate(bodies):
        if i % 2:
            requests.append(
                request_bytes("/echo", "POST", CHUNKED) + chunked([body[:7], body[7:]] if body[7:] else [body])
            )
        else:
            requests.append(request_bytes("/echo", "POST", body=body))
    async with await pair.connect() as client:
        for _ in range(3):
            await client.send(b"".join(requests))
        for body in bodies * 3:
            assert (await client.answer("POST")).body == body


async def test_a_pipeline_longer_than_the_buffer(pair: Pair) -> None:
    """Some 200 KiB of requests behind one that takes its time: the client is not read meanwhile, then all is."""
    padding = "x" * 2000
    requests = [request_bytes("/slow/0.2")] + [
        request_bytes(f"/bytes/{n}", headers=[("X-P", padding)]) for n in range(100)
    ]
    async with await pair.connect() as client:
        sending = asyncio.create_task(client.send(b"".join(requests)))
        assert (await client.answer()).body == b"ok\n"
        for n in range(100):
            assert (await client.answer()).body == content(n)
        await sending


async def test_what_follows_a_bad_request_is_not_believed(pair: Pair) -> None:
    await pair.origin.reset()
    async with await pair.connect() as client:
        await client.send(request_bytes("/bytes/1") + b"BAD\r\n\r\n" + request_bytes("/never"))
        assert (await client.answer()).body == content(1)
        answer = await client.answer()
        assert (answer.status, answer.get("connection")) == (400, "close")
        assert await closed(client)
    assert list((await pair.origin.stats())["targets"]) == ["/bytes/1"]


async def test_what_follows_close_is_not_answered(pair: Pair) -> None:
    async with await pair.connect() as client:
        await client.send(request_bytes("/", headers=[("Connection", "close")]) + request_bytes("/never"))
        assert (await client.answer()).get("connection") == "close"
        assert await closed(client)


# ---------------------------------------------------------------------- half-close


@pytest.mark.parametrize("behind", [1, 200_000])
async def test_a_client_that_pipelines_behind_close_is_not_reset(pair: Pair, behind: int) -> None:
    """Closing with input that is unread would reset it, and take the answer from systems that drop what they have not
    read then (RFC 9112 section 9.6)."""
    last = request_bytes("/bytes/70000", headers=[("Connection", "close")])
    async with await pair.connect() as client:
        await client.send(last + request_bytes("/never") * behind)
        answer = await client.answer()
        assert answer.body == content(70_000)
        assert answer.closes
        async with asyncio.timeout(5):
            assert await client.reader.read() == b""
    assert "/never" not in (await pair.origin.stats())["targets"]


@pytest.mark.parametrize("target", ["/slow/0.1", "/bytes/300000", "/chunked/20000?gap=0.01"])
async def test_a_client_that_has_said_all_still_gets_its_answer(pair: Pair, target: str) -> None:
    async with await pair.connect() as client:
        await client.send(request_bytes(target))
        client.half_close()
        assert (await client.answer()).status == 200
        assert await closed(client)


async def test_a_half_close_after_a_pipeline(pair: Pair) -> None:
    async with await pair.connect() as client:
        await client.send(b"".join(request_bytes(f"/bytes/{n}") for n in range(10)))
        client.half_close()
        for n in range(10):
            assert (await client.answer()).body == content(n)
        assert await closed(client)


async def test_a_half_close_within_a_pipelined_head_ends_it_at_once(pair: Pair) -> None:
    async with await pair.connect() as client:
        await client.send(request_bytes("/slow/0.1") + b"GET / HT")
        client.half_close()
        assert (await client.answer()).status == 200
        assert await closed(client)  # within 2 s: not only at headerTimeout


async def test_a_half_close_within_a_body_is_the_end(pair: Pair) -> None:
    await pair.origin.reset()
    async with await pair.connect() as client:
        await client.send(request_bytes("/upload", "POST", [("Content-Length", "100000")]) + content(80_000))
        await pair.origin.until(lambda stats: stats["active"] == 1)
        client.half_close()
        with pytest.raises(CutAnswer):
            await client.answer("POST", within=2)
    await pair.origin.until(lambda stats: stats["aborted"] == 1)
