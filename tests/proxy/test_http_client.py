"""What one client's connection sees and is told, where a real network would need luck to show it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.proxy.test_lone_way import ANSWER, GET, POOL, Stage, Wire, settled
from tests.support.forebay import http_pool

from forebay_core.spec.load import parse
from forebay_proxy.http import client, phases

ASKING = GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
PUT = GET.replace(b"GET", b"PUT").replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n")
UPGRADE = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n\r\n")
SWITCHED = b"HTTP/1.1 101 Switched\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n\r\n"


@pytest.fixture(autouse=True)
def wires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "uncork", Wire.uncork)


def on_stage(play: Callable[[Stage, Wire], Awaitable[None]]) -> None:
    """Played with one client."""

    async def whole() -> None:
        stage = Stage(lone=False)
        stage.come()
        await play(stage, stage.clients[0])
        await stage.leave()

    asyncio.run(whole())


def test_a_client_that_is_full_before_there_is_a_connection_is_not_read_for() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        here.protocol.data_received(ASKING)
        assert here.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        here.protocol.pause_writing()  # of those bytes
        here.protocol.data_received(b"body")
        await settled()
        (there,) = stage.upstream.wires
        assert there.written.endswith(b"body")
        assert not there.reading
        here.protocol.resume_writing()
        assert there.reading

    on_stage(play)


def test_a_body_that_is_sent_again_is_not_read_before_there_is_a_connection() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        here.protocol.data_received(GET)
        await settled()
        (first,) = stage.upstream.wires
        first.protocol.data_received(ANSWER)
        body = b"x" * stage.proxy.http.request_buffer
        here.protocol.data_received(PUT % (2 * len(body)) + body)
        assert first.written.endswith(body)
        assert here.reading
        first.closed = True
        first.protocol.connection_lost(None)
        assert not here.reading
        await settled()
        _, second = stage.upstream.wires
        assert second.written.endswith(body)
        assert here.reading

    on_stage(play)


def test_an_error_ends_the_connection_of_an_http_1_0_client() -> None:
    """It would have to be told that it lasts (RFC 9112 section 9.3)."""

    async def play(stage: Stage, here: Wire) -> None:
        request = GET.replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
        here.protocol.data_received(request)
        await settled()
        stage.upstream.wires[0].protocol.data_received(b"HTTP/1.1 nothing\r\n\r\n")
        assert here.written.startswith(b"HTTP/1.1 502 ")
        assert b"\r\nConnection: close\r\n" in here.written
        assert here.ended

    on_stage(play)


def test_who_is_trusted_follows_the_document_on_connections_that_are_open() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        request = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n")
        for trusted, expected in (
            (["192.0.2.0/24"], b"198.51.100.1, 192.0.2.1"),
            ([], b"192.0.2.1"),
            (["192.0.2.0/24"], b"198.51.100.1, 192.0.2.1"),
        ):
            pool = http_pool(80, spec={"http": {"trustedProxies": trusted}}, pool=POOL)
            stage.proxy.configure(parse(pool, form="local").spec, {"origin": stage.upstream}, 100)
            here.protocol.data_received(request)
            await settled()
            (there,) = stage.upstream.wires
            assert b"\r\nX-Forwarded-For: " + expected + b"\r\n" in there.written
            there.written = b""
            there.protocol.data_received(ANSWER)

    on_stage(play)


def test_what_comes_with_a_switch_of_protocols_is_counted() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        here.protocol.data_received(UPGRADE)
        await settled()
        stage.upstream.wires[0].protocol.data_received(SWITCHED + bytes(1000))
        stage.upstream.wires[0].protocol.data_received(bytes(10))
        assert here.protocol.exchange.bytes_out == 1010

    on_stage(play)


def test_chunks_are_counted_without_their_framing() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        here.protocol.data_received(GET)
        await settled()
        there = stage.upstream.wires[0].protocol
        there.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n")
        there.data_received(b"6\r\nbodies\r\n")
        assert here.written.endswith(b"4\r\nbody\r\n6\r\nbodies\r\n")
        assert here.protocol.exchange.bytes_out == 10

    on_stage(play)


def test_an_empty_line_behind_a_body_begins_no_request() -> None:
    """RFC 9112 section 2.2: it is of clients from before HTTP/1.0, and would be a request that never comes."""

    async def play(stage: Stage, here: Wire) -> None:
        for _ in range(2):
            here.protocol.data_received(GET)
            await settled()
            stage.upstream.wires[0].protocol.data_received(ANSWER)
            here.protocol.data_received(b"\r\n")
            assert (here.protocol.phase, here.protocol.buffer) == (phases.IDLE, b"")
        assert here.written.endswith(ANSWER[-8:])
        assert stage.upstream.codes == {200: 2}
        stage.proxy.close_idle()
        assert here.closed

    on_stage(play)


def test_a_half_close_behind_an_empty_line_is_the_end() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        here.protocol.data_received(GET)
        await settled()
        here.protocol.data_received(b"\r\n")
        here.hear_end()
        assert not here.closed
        stage.upstream.wires[0].protocol.data_received(ANSWER)
        await settled()
        assert here.closed

    on_stage(play)


def test_who_has_ended_is_not_read_to_its_end() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        here.protocol.data_received(GET)
        here.hear_end()
        await settled()
        stage.proxy.drain()
        stage.upstream.wires[0].protocol.data_received(ANSWER)
        assert here.closed

    on_stage(play)


def test_an_answer_that_a_client_does_not_take_is_not_the_endpoints_failure() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        here.protocol.data_received(ASKING)
        here.protocol.pause_writing()
        here.protocol.data_received(b"body")
        await settled()
        here.protocol.on_deadline(here.protocol.deadline)
        assert here.closed
        assert [endpoint.health.errors for endpoint in stage.upstream.pool.endpoints] == [0]

    on_stage(play)


def test_a_drain_leaves_who_is_read_to_its_end() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        here.protocol.data_received(b"nothing\r\n\r\n")
        assert here.written.startswith(b"HTTP/1.1 400 ")
        stage.proxy.close_idle()
        assert (here.ended, here.closed) == (True, False)

    on_stage(play)


def test_who_may_have_sent_more_before_it_was_told_of_the_end_is_read_to_its_end() -> None:
    """A drain: the client did not ask for the close, and closing with unread input would reset it (RFC 9112 section
    9.6)."""

    async def play(stage: Stage, here: Wire) -> None:
        here.protocol.data_received(GET)
        await settled()
        stage.proxy.drain()
        stage.upstream.wires[0].protocol.data_received(ANSWER)
        assert b"\r\nConnection: close\r\n" in here.written
        assert (here.ended, here.closed) == (True, False)
        here.protocol.data_received(GET)
        assert not here.closed
        here.hear_end()
        assert here.closed

    on_stage(play)


def test_the_end_of_a_drain_answers_who_has_no_answer_yet_and_counts_it_as_what_it_is() -> None:
    """And nothing is sent for who waits in its last moment, as another's place comes free."""

    async def play(stage: Stage, here: Wire) -> None:
        size = stage.upstream.pool.size
        for _ in range(size):
            stage.come()
        for client_ in stage.clients:
            client_.protocol.data_received(GET)
            await settled()
        assert len(stage.upstream.pool.waiters) == 1
        there, *_ = stage.upstream.wires
        there.protocol.data_received(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        stage.proxy.drain()
        stage.proxy.cut_all()
        assert [wire.written.count(b"GET ") for wire in stage.upstream.wires] == [1] * size
        begun, *unbegun = stage.clients
        assert begun.closed
        for wire in unbegun:
            assert wire.written.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nConnection: close\r\n" in wire.written
        await settled()
        assert stage.upstream.codes == {200: 1, 503: size}
        assert stage.upstream.rejections == {"draining": size + 1}

    on_stage(play)


def test_the_end_of_a_drain_cuts_what_a_client_has_not_taken_of_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = []
    monkeypatch.setattr(client.ClientConnection, "cut", lambda self: cut.append(self))

    async def play(stage: Stage, here: Wire) -> None:
        stage.come()
        here.protocol.data_received(GET)
        await settled()
        stage.upstream.wires[0].protocol.data_received(ANSWER)
        monkeypatch.setattr(here, "get_write_buffer_size", lambda: 4)
        stage.proxy.cut_all()
        assert cut == [here.protocol]
        assert stage.clients[1].closed

    on_stage(play)


def test_what_is_cut_because_nothing_comes_is_among_the_rejections() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        here.protocol.data_received(GET)
        await settled()
        stage.upstream.wires[0].protocol.data_received(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        here.protocol.on_deadline(here.protocol.deadline)
        assert here.closed
        assert (stage.upstream.codes, stage.upstream.rejections) == ({200: 1}, {"stream_idle": 1})

    on_stage(play)


def test_what_is_wrong_behind_another_request_has_taken_no_time() -> None:
    async def play(stage: Stage, here: Wire) -> None:
        took = []
        stage.proxy.refused = lambda _, failure, seconds: took.append(seconds)  # type: ignore[method-assign]
        here.protocol.data_received(GET)
        here.protocol.data_received(b"nothing\r\n\r\n")
        await settled()
        stage.upstream.wires[0].protocol.data_received(ANSWER)
        await settled()
        assert here.written.count(b"HTTP/1.1 ") == 2
        assert took == [0.0]

    on_stage(play)
