"""Real traffic through both codecs, cut anywhere: everything is passed on, and both see what is in it."""

from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.pgwire.recorded import NAMES, Recording, divide, recording

from forebay_core.pgwire import reporting
from forebay_core.pgwire.types import SERVER_LENGTHS

recording = cache(recording)
LARGE = 1 << 20  # more than any message of the corpus has
EVERYTHING = reporting(b"".join(SERVER_LENGTHS))
WANTED = reporting(b"ACENSGHW13")


class Seen(NamedTuple):
    """What a relay saw of a client's stream, as far as it does not depend on the cuts."""

    passed: bytes
    kinds: bytes  # without CopyData
    names: list[bytes]
    texts: list[bytes]


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:stop] for start, stop in pairwise(edges)]


def relay_client(codec: Any, pieces: list[bytes], max_held: int) -> Seen:
    held, missing = b"", 0
    passed: list[bytes] = []
    all_kinds = b""
    all_names: list[bytes] = []
    all_texts: list[bytes] = []
    for piece in pieces:
        data = held + piece
        end, still_missing, kinds, ends, names, texts = codec.scan_client(data, missing, max_held)
        assert len(ends) == len(kinds)
        assert len(names) in (0, len(kinds))
        assert end == (ends[-1] if ends else min(missing, len(data)))
        assert end == len(data) or not still_missing
        missing = still_missing
        passed.append(data[:end])
        held = data[end:]
        assert len(held) < max(max_held, 10_001)
        all_kinds += kinds
        all_names += [name for name in names if name is not None]
        all_texts += texts
    assert not held
    assert not missing
    return Seen(b"".join(passed), all_kinds.replace(b"d", b""), all_names, all_texts)


def relay_server(codec: Any, pieces: list[bytes], max_held: int, wanted: bytes) -> tuple[bytes, bytes, list[Any]]:
    """What is passed on, the statuses, and the events: type and bytes."""
    held, missing = b"", 0
    passed, statuses = b"", b""
    events: list[tuple[bytes, bytes]] = []
    for piece in pieces:
        data = held + piece
        end, missing, ready, found = codec.scan_server(data, missing, max_held, wanted)
        passed += data[:end]
        held = data[end:]
        assert len(held) < max(max_held, 30_001)
        statuses += ready
        events += [(kind, data[start:stop]) for kind, start, stop in found]
    assert not held
    assert not missing
    return passed, statuses, events


CUTS = st.lists(st.integers(0, 40_000), max_size=40) | st.integers(1, 3000).map(
    lambda step: list(range(0, 40_000, step))
)
with_a_codec = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def strings(body: bytes) -> list[bytes]:
    return body.split(b"\0")


def expected(client: bytes) -> Seen:
    """The same, read with other means."""
    names, texts = [], []
    for kind, body in divide(client):
        if kind == b"P":
            names.append(strings(body)[0])
            texts.append(strings(body)[1])
        elif kind == b"B":
            names.append(strings(body)[1])
        elif kind in b"DC" and body[:1] == b"S":
            names.append(body[1:-1])
        elif kind == b"Q":
            texts.append(body[:-1])
    return Seen(client, b"".join(kind for kind, _ in divide(client) if kind != b"d"), names, texts)


@pytest.mark.parametrize("name", NAMES)
@given(cuts=CUTS)
@with_a_codec
def test_clients(codec: ModuleType, name: str, cuts: list[int]) -> None:
    client = recording(name).client
    assert relay_client(codec, chunks(client, cuts), LARGE) == expected(client)


@pytest.mark.parametrize("name", NAMES)
@given(cuts=CUTS, max_held=st.integers(100, 2000))
@with_a_codec
def test_clients_whose_texts_are_clipped(codec: ModuleType, name: str, cuts: list[int], max_held: int) -> None:
    client = recording(name).client
    seen, whole = relay_client(codec, chunks(client, cuts), max_held), expected(client)
    assert seen[:3] == whole[:3]
    for text, known in zip(seen.texts, whole.texts, strict=True):
        assert text == known or (known.startswith(text) and len(text) >= max_held - 100)


@pytest.mark.parametrize("name", NAMES)
@given(cuts=CUTS)
@with_a_codec
def test_servers(codec: ModuleType, name: str, cuts: list[int]) -> None:
    server = recording(name).server
    messages = divide(server)
    statuses = b"".join(body for kind, body in messages if kind == b"Z")
    pieces = chunks(server, cuts)
    for wanted, kinds in ((WANTED, b"ACENSGHW13"), (EVERYTHING, b"".join(SERVER_LENGTHS))):
        events = [
            (kind, kind + (len(body) + 4).to_bytes(4, "big") + body)
            for kind, body in messages
            if kind in kinds and not (kind == b"C" and body[-2:-1].isdigit())
        ]
        assert relay_server(codec, pieces, LARGE, wanted) == (server, statuses, events)
    assert relay_server(codec, pieces, 40, WANTED)[:2] == (server, statuses)


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte(codec: ModuleType, name: str) -> None:
    client, server = recording(name).client[:6000], recording(name).server[:6000]
    client = client[: codec.scan_client(client, 0, LARGE)[0]]
    server = server[: codec.scan_server(server, 0, LARGE, EVERYTHING)[0]]
    every = list(range(6000))
    assert relay_client(codec, chunks(client, every), LARGE) == expected(client)
    assert relay_server(codec, chunks(server, every), LARGE, WANTED)[0] == server


@pytest.mark.parametrize("name", NAMES)
def test_statements_are_renamed_and_back(codec: ModuleType, name: str) -> None:
    client = recording(name).client
    _, _, _, ends, names, _ = codec.scan_client(client, 0, LARGE)
    spans = zip([0, *ends], ends, names or [None] * len(ends), strict=False)
    renamed = b"".join(
        client[start:end] if known is None else codec.rename(client, start, end, b"forebay_" + known)
        for start, end, known in spans
    )
    again = codec.scan_client(renamed, 0, LARGE)
    assert again[4] == [None if known is None else b"forebay_" + known for known in names]
    assert expected(renamed).texts == expected(client).texts


def test_the_corpus_has_all_that_matters() -> None:
    """Every type of message that a relay may see in ordinary use is in the recordings."""
    recordings: list[Recording] = [recording(name) for name in NAMES]
    sent = {kind for one in recordings for kind, _ in divide(one.client)}
    answered = {kind for one in recordings for kind, _ in divide(one.server)}
    assert sent == set(map(bytes, zip(b"QPBDCESHFdcfX", strict=True)))
    assert answered == set(SERVER_LENGTHS) - {b"W"}  # CopyBothResponse: replication, which is refused
