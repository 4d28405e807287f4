"""The chunked coding, from the conformance tables, whole and in pieces."""

from types import ModuleType
from typing import Any

import pytest
from tests.conformance.http1_bodies import GOOD_BODIES, HOSTILE_BODIES, MAX_TRAILER
from tests.conformance.http1_cases import Body, Hostile

from forebay_core.http1.types import ProtocolError


def decode(decoder: Any, pieces: list[bytes]) -> tuple[bytes, int]:
    """The payload, and how many bytes were left over when the message was done."""
    payload = b""
    left = 0
    for piece in pieces:
        part, index = decoder.feed(piece, 0)
        assert index == len(piece) or decoder.done
        payload += part
        left += len(piece) - index
    return payload, left


@pytest.mark.parametrize("case", GOOD_BODIES, ids=lambda case: case.name)
def test_good_bodies(codec: ModuleType, case: Body) -> None:
    for size in (len(case.data), 1, 2, 3, 7):
        decoder = codec.ChunkDecoder(MAX_TRAILER)
        pieces = [case.data[at : at + size] for at in range(0, len(case.data), size)]
        assert decode(decoder, pieces) == (case.payload, case.rest)
        assert decoder.done
        assert decoder.trailer == case.trailer


@pytest.mark.parametrize("case", HOSTILE_BODIES, ids=lambda case: case.name)
def test_hostile_bodies(codec: ModuleType, case: Hostile) -> None:
    for size in (len(case.data), 1, 2, 3):
        decoder = codec.ChunkDecoder(MAX_TRAILER)
        pieces = [case.data[at : at + size] for at in range(0, len(case.data), size)]
        with pytest.raises(ProtocolError) as caught:
            decode(decoder, pieces)
        assert (caught.value.status, case.detail in caught.value.detail) == (case.status, True), caught.value


@pytest.mark.parametrize("case", GOOD_BODIES, ids=lambda case: case.name)
def test_a_cut_body_is_not_done(codec: ModuleType, case: Body) -> None:
    for cut in range(len(case.data) - case.rest):
        decoder = codec.ChunkDecoder(MAX_TRAILER)
        decoder.feed(case.data[:cut], 0)
        assert not decoder.done


def test_starts_where_it_is_told(codec: ModuleType) -> None:
    data = b"head\r\n\r\n3\r\nabc\r\n0\r\n\r\nnext"
    decoder = codec.ChunkDecoder(0)
    assert decoder.feed(data, 8) == (b"abc", len(data) - 4)
    assert decoder.feed(data, len(data) - 4) == (b"", len(data) - 4)


def test_payload_that_fills_a_read_is_not_copied(codec: ModuleType) -> None:
    decoder = codec.ChunkDecoder(0)
    decoder.feed(b"fffff\r\n", 0)
    data = b"x" * 65536
    assert decoder.feed(data, 0)[0] is data


def test_no_trailer_where_none_is_allowed(codec: ModuleType) -> None:
    with pytest.raises(ProtocolError, match="431"):
        codec.ChunkDecoder(0).feed(b"0\r\nX:\r\n\r\n", 0)
