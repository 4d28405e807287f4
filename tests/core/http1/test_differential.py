"""The two codecs are the same: hypothesis looks for bytes on which they differ, in a result or in an error."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.conformance.http1_bodies import GOOD_BODIES, HOSTILE_BODIES, MAX_TRAILER
from tests.conformance.http1_cases import MAX_HEAD
from tests.conformance.http1_requests import GOOD_REQUESTS, HOSTILE_REQUESTS
from tests.conformance.http1_responses import GOOD_RESPONSES, HOSTILE_RESPONSES

from forebay_core.http1 import pure
from forebay_core.http1.types import DROPPED_FROM_REQUESTS, ProtocolError

compiled: Any = pytest.importorskip("forebay_core.http1.compiled", reason="the compiled codec was not built")

# Pieces that a mutation puts in: what the grammar is made of, and what must not be in it.
SHARDS = (
    *(b"\r\n", b"\r", b"\n", b"\r\n\r\n", b" ", b"\t", b":", b",", b";", b"=", b"\x00", b"\x7f", b"\x80", b"_", b"-"),
    *(b"0", b"1", b"f", b"HTTP/1.0", b"HTTP/1.1", b"GET", b"OPTIONS", b"CONNECT", b"*", b"/", b"http://a", b"?", b"#"),
    *(b"Host: a", b"Host: [::1]:1", b"Content-Length: 1", b"Transfer-Encoding: chunked", b"chunked", b"close"),
    *(
        b"\r\nConnection: close",
        b"\r\nConnection: x, upgrade",
        b"\r\nX: y",
        b"\r\nUpgrade: x",
        b"\r\nExpect: 100-continue",
    ),
    *(
        b"\r\nX-Forwarded-For: 1",
        b"\r\nX-Forwarded-",
        b"\r\nX-Real-IP: 1",
        b"\r\ntraceparent: 1",
        b"\r\nKeep-Alive: timeout=1",
        b"\r\nTE: x",
        b"%41",
        b"@",
        b"101",
    ),
)


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of the seeds with a few pieces put in, taken out, or another seed's tail put on."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        change = draw(st.sampled_from(SHARDS) | st.binary(max_size=2) | st.just(b""))
        data = data[:at] + change + data[at + cut :]
    if draw(st.booleans()) and draw(st.booleans()):
        other = draw(st.sampled_from(seeds))
        data = data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :]
    return data


TOKENS = st.text("!#$%&'*+-.^_`|~019azAZ", min_size=1, max_size=6)
NAMES = TOKENS | st.sampled_from(
    [
        *sorted(name.decode() for name in DROPPED_FROM_REQUESTS),
        *("Host", "traceparent", "Content_Length", "X_Forwarded-For", "CONNECTION", "Close"),
        *("X-Forwarded", "x-forwarded-", "X-Forwarded-Port", "x_forwarded-Port", "X-Forwarded-Client-Certificate"),
        *("X-Real-IP", "X-Real_IP", "X-Request-Id"),
    ]
)
VALUES = st.text('\t ,;=a-_:"1é', max_size=12) | st.sampled_from(
    ["a", "1", "007", "chunked", " close , x", "upgrade", "keep-alive", "100-continue", "timeout=3", "websocket", "h2c"]
)


@st.composite
def heads(draw: st.DrawFn, line: st.SearchStrategy[bytes]) -> bytes:
    """A head whose syntax is good, with fields of which many mean something."""
    fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=8))
    lines = [f"{name}:{value}".encode("latin-1") for name, value in fields]
    return b"\r\n".join([draw(line), *draw(st.sampled_from([[], [b"Host: a"]])), *lines, b"", b""])


REQUEST_LINES = st.builds(
    "{} {} HTTP/1.{}".format,
    st.sampled_from(["GET", "OPTIONS", "CONNECT"]) | TOKENS,
    st.sampled_from(["/", "/a?b", "*", "http://a", "http://a/b", "HTTPS://A?c", "http://[::1]/"]) | TOKENS,
    st.sampled_from("1101"),
).map(str.encode)
STATUS_LINES = st.builds(
    "HTTP/1.{} {}{}".format,
    st.sampled_from("1101"),
    st.integers(99, 600) | st.sampled_from([100, 101, 204, 304, 200]),
    st.sampled_from(["", " ", " OK"]),
).map(str.encode)
REQUESTS = mutated([case.data for case in (*GOOD_REQUESTS, *HOSTILE_REQUESTS) if len(case.data) < 1000])
RESPONSES = mutated([case.data for case in (*GOOD_RESPONSES, *HOSTILE_RESPONSES) if len(case.data) < 1000])
BODIES = mutated([case.data for case in (*GOOD_BODIES, *HOSTILE_BODIES)])
LIMITS = st.sampled_from([MAX_HEAD, MAX_HEAD, MAX_HEAD, 0, 20, 60])


def outcome(scan: Any, members: tuple[str, ...], *args: Any) -> Any:
    """A head's members with their types, or the error."""
    try:
        head = scan(*args)
    except ProtocolError as refused:
        return refused.status, refused.detail
    return head and [(name, type(getattr(head, name)), getattr(head, name)) for name in members]


@given(REQUESTS | heads(REQUEST_LINES), LIMITS, st.booleans())
@settings(max_examples=1500, deadline=None)
@example(b"\r\n\r\n", MAX_HEAD, False)
def test_requests(data: bytes, max_head: int, trusted: bool) -> None:
    members = pure.RequestHead._fields
    assert outcome(compiled.scan_request, members, data, max_head, trusted) == outcome(
        pure.scan_request, members, data, max_head, trusted
    )


@given(RESPONSES | heads(STATUS_LINES), LIMITS, st.booleans(), st.integers(0, 1))
@settings(max_examples=1500, deadline=None)
def test_responses(data: bytes, max_head: int, to_head_request: bool, client_minor: int) -> None:
    members = pure.ResponseHead._fields
    args = (data, max_head, to_head_request, client_minor)
    assert outcome(compiled.scan_response, members, *args) == outcome(pure.scan_response, members, *args)
    assert compiled.answered(data, max_head, to_head_request) == pure.answered(data, max_head, to_head_request)


def feed(decoder: Any, data: bytes, start: int) -> Any:
    try:
        result = decoder.feed(data, start)
    except ProtocolError as refused:
        return refused.status, refused.detail
    return result, decoder.done, decoder.trailer


@given(BODIES, st.data())
@settings(max_examples=1500, deadline=None)
def test_chunks(body: bytes, data: st.DataObject) -> None:
    """Fed with the same pieces, both say the same after each of them."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6), label="cuts"))
    prefix = data.draw(st.binary(max_size=2), label="bytes before each piece")
    ours, theirs = compiled.ChunkDecoder(MAX_TRAILER), pure.ChunkDecoder(MAX_TRAILER)
    for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True):
        piece = prefix + body[start:stop]
        said = feed(ours, piece, len(prefix))
        assert said == feed(theirs, piece, len(prefix))
        if isinstance(said[0], int) or theirs.done:
            break
