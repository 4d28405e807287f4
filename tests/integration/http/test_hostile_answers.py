"""Hostile answers: a 502 and a closed connection, or a visible cut where the answer had begun.
No byte of them crosses over to another request."""

import asyncio
from pathlib import Path

import pytest
from tests.conformance.http1_cases import Hostile
from tests.conformance.http1_responses import HOSTILE_RESPONSES
from tests.integration.http.backend import OK, Backend, read_head
from tests.integration.http.harness import Pair, document, running, upstream_state
from tests.support.origin_bad import BAD
from tests.support.raw import Connection, CutAnswer, fetch, request_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")

HTTP = {"responseTimeout": "1s"}
# Where the head is good the proxy passes on what it reads, and what is wrong may come too late for a 502; and a line
# may yet become a head for as long as the upstream has time.
EXPECTED = {name: (0, 502) for name in BAD if name.startswith(("cut-", "chunk-", "trailer-"))} | {"not-http": (504,)}


async def ask_bad(client: Connection, target: str) -> int:
    """The status of the answer; 0 where it was cut after it had begun, -1 where before."""
    try:
        return (await client.ask(request_bytes(target))).status
    except CutAnswer as cut:
        return 0 if cut.begun else -1


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_answer(pair: Pair, name: str) -> None:
    async with await pair.connect() as client:
        connections = (await client.ask(request_bytes())).get("x-connection")
        status = await ask_bad(client, f"/bad/{name}")
        assert status in EXPECTED.get(name, (502,))
        if status:  # the client's connection is none the worse for it
            answer = await client.ask(request_bytes())
            assert answer.body == b"ok\n"
            assert answer.get("x-connection") != connections
    assert (await upstream_state(pair.forebay))["connections"]["leased"] == 0


@pytest.mark.parametrize("target", ["/garbage", "/garbage?delay_garbage=0.1"])
async def test_bytes_after_a_complete_answer_poison_the_connection(pair: Pair, target: str) -> None:
    async with await pair.connect() as client:
        answer = await client.ask(request_bytes(target))
        assert answer.body == b"ok\n"
        await asyncio.sleep(0.3 if "delay" in target else 0)  # the stray bytes are on their way
        for _ in range(3):
            other = await client.ask(request_bytes("/bytes/5"))
            assert other.body != b"poison\n"
            assert other.get("x-connection") != answer.get("x-connection")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in HOSTILE_RESPONSES if case.data])
async def test_a_hostile_head(played: tuple[int, list[bytes]], case: Hostile) -> None:
    port, next_answer = played
    next_answer[0] = case.data
    async with await Connection.open(port) as client:
        answer = await client.ask(request_bytes())
        assert answer.status == 502
        assert b"malformed" in answer.body
        next_answer[0] = OK
        assert (await client.ask(request_bytes())).body == b"ok"


async def test_endless_interim_answers_end(tmp_path: Path) -> None:
    """They count towards the limit of a head: at full speed they would keep a worker busy until responseTimeout."""

    async def endless(peer: Connection) -> None:
        await read_head(peer)
        while not peer.reader.at_eof():
            await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000)

    async with (
        Backend(endless) as backend,
        running(tmp_path, document(backend.port)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        assert (await client.ask(request_bytes(), within=5)).status == 502


async def test_a_banner_is_no_answer(tmp_path: Path) -> None:
    """An upstream that speaks before it is asked: nothing that it said is taken for the answer to a request."""

    async def banner(peer: Connection) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbanner")
        while True:
            await read_head(peer)
            await peer.send(OK)

    async with Backend(banner) as backend, running(tmp_path, document(backend.port)) as forebay:
        bodies = [(await fetch(forebay.port)).body for _ in range(6)]
    # The first bytes on a fresh connection can't be told from a quick answer; but they never shift the others.
    assert set(bodies) <= {b"ok", b"banner"}
    assert bodies.count(b"ok") + bodies.count(b"banner") == 6


@pytest.mark.parametrize("framing", ["length", "chunked", "until-close"])
@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_a_cut_answer_is_visible_as_cut(tmp_path: Path, framing: str, end: str) -> None:
    heads = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "until-close": b"HTTP/1.1 200 OK\r\n\r\nhello",
    }

    async def cut(peer: Connection) -> None:
        await read_head(peer)
        await peer.send(heads[framing])
        await asyncio.sleep(0.05)  # so that it arrives: a RST overtakes what is in a buffer
        if end == "rst":
            peer.reset()

    async with Backend(cut) as backend, running(tmp_path, document(backend.port)) as forebay:
        for version in ("1.1", "1.0"):
            async with await Connection.open(forebay.port) as client:
                await client.send(f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode() + request_bytes("/never"))
                if (framing, end) == ("until-close", "fin"):  # this is its proper end
                    assert (await client.answer()).body == b"hello"
                else:
                    with pytest.raises(CutAnswer):
                        await client.answer()
        assert (await upstream_state(forebay))["connections"]["leased"] == 0


async def test_an_upstream_that_closes_without_an_answer_is_a_502(pair: Pair) -> None:
    async with await pair.connect() as client:
        for target in ("/cut?after=-1", "/reset?after=-1"):
            for method in ("GET", "POST", "HEAD"):
                answer = await client.ask(request_bytes(target, method))
                assert (answer.status, answer.get("connection")) == (502, None)
        assert (await client.ask(request_bytes())).body == b"ok\n"
