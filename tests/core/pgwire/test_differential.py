"""The two codecs are the same: hypothesis looks for bytes on which they differ, in a result or in an error."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.conformance.pgwire_cases import HOSTILE_CLIENTS, HOSTILE_SERVERS, message
from tests.core.pgwire.recorded import NAMES, divide, recording

from forebay_core.pgwire import ProtocolError, pure, reporting
from forebay_core.pgwire.types import CLIENT_LENGTHS, SERVER_LENGTHS

compiled: Any = pytest.importorskip("forebay_core.pgwire.compiled", reason="the compiled codec was not built")

RECORDED = [recording(name) for name in NAMES]
CLIENT_SEEDS = sorted({message(*one) for each in RECORDED for one in divide(each.client) if len(one[1]) < 400})
SERVER_SEEDS = sorted({message(*one) for each in RECORDED for one in divide(each.server) if len(one[1]) < 400})
SHARDS = st.sampled_from([b"\0", b"\0\0", b"\1", b"S", b"P", b"Z", b"\0\0\0\4", b"\0\0\0\5", b"\xff", b"7"])


def messages(lengths: dict[bytes, tuple[int, int]]) -> st.SearchStrategy[bytes]:
    """A message of any type, with a body of pieces that mean something."""
    body = st.lists(SHARDS | st.binary(max_size=3), max_size=8).map(b"".join)
    return st.builds(message, st.sampled_from(sorted(lengths)), body)


@st.composite
def streams(draw: st.DrawFn, seeds: list[bytes], lengths: dict[bytes, tuple[int, int]]) -> bytes:
    """A few messages in a row, with changes."""
    data = b"".join(draw(st.lists(st.sampled_from(seeds) | messages(lengths), max_size=5)))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(SHARDS | st.just(b"")) + data[at + draw(st.integers(0, 3)) :]
    return data[: draw(st.integers(0, len(data)) | st.just(len(data)))]


CLIENTS = streams([*CLIENT_SEEDS, *(case.data for case in HOSTILE_CLIENTS)], CLIENT_LENGTHS)
SERVERS = streams([*SERVER_SEEDS, *(case.data for case in HOSTILE_SERVERS)], SERVER_LENGTHS)
SKIPS = st.just(0) | st.integers(0, 40) | st.just(1 << 30)
HELD = st.sampled_from([1 << 16, 5, 12, 40])
KINDS = st.lists(st.sampled_from(sorted(SERVER_LENGTHS))).map(b"".join)
TABLES = st.builds(reporting, KINDS, counts=st.booleans()) | st.just(reporting(b"CE"))


def outcome(scan: Any, *args: Any) -> Any:
    """What it returns, with the types, or the error."""
    try:
        result = scan(*args)
    except ProtocolError as refused:
        return refused.sqlstate, refused.detail
    except ValueError as misused:
        return str(misused)
    return repr(result)


@given(CLIENTS, SKIPS, HELD)
@settings(max_examples=600, deadline=None)
def test_clients(data: bytes, skip: int, max_held: int) -> None:
    args = (data, skip, max_held)
    assert outcome(compiled.scan_client, *args) == outcome(pure.scan_client, *args)


WORDS = st.sampled_from([b"select", b"s", b"te", b"temp", b"-", b"--", b";", b"\xfc", b"insert", b"set_config"])
TEXTS = st.lists(WORDS | st.binary(max_size=3) | st.sampled_from([b"SELECT", b"Temp", b" "]), max_size=8).map(b"".join)
LISTS = st.lists(WORDS, max_size=6)


@given(TEXTS, LISTS, LISTS)
@settings(max_examples=600, deadline=None)
def test_plain(text: bytes, starts: list[bytes], never: list[bytes]) -> None:
    assert compiled.Plain(starts, never)(text) == pure.Plain(starts, never)(text)


@given(CLIENTS)
@settings(max_examples=600, deadline=None)
def test_lone(data: bytes) -> None:
    words = (b"s", b"i", b"b"), (b"pg_", b"temp")
    assert compiled.lone(data, compiled.Plain(*words)) == pure.lone(data, pure.Plain(*words))


@given(SERVERS, SKIPS, HELD, TABLES)
@settings(max_examples=600, deadline=None)
def test_servers(data: bytes, skip: int, max_held: int, wanted: bytes) -> None:
    args = (data, skip, max_held, wanted)
    assert outcome(compiled.scan_server, *args) == outcome(pure.scan_server, *args)


@given(SERVERS, TABLES)
@settings(max_examples=600, deadline=None)
def test_answered(data: bytes, wanted: bytes) -> None:
    assert outcome(compiled.answered, data, wanted) == outcome(pure.answered, data, wanted)


@given(CLIENTS, st.integers(0, 20), st.integers(-3, 3), st.binary(max_size=9))
@settings(max_examples=400, deadline=None)
@example(b"P\0\0\0\0name\0", 0, 0, b"")  # a length that leaves no room for the name
def test_rename(data: bytes, start: int, short: int, name: bytes) -> None:
    args = (data, start, len(data) - short, name)
    assert outcome(compiled.rename, *args) == outcome(pure.rename, *args)
