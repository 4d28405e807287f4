"""The packets before the first message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conformance.pgwire_cases import HOSTILE_STARTS, Hostile, packet
from tests.core.pgwire.recorded import NAMES, recording

from forebay_core.pgwire import ProtocolError
from forebay_core.pgwire.startup import (
    GSSENC_REQUEST,
    SSL_REQUEST,
    CancelRequest,
    Encryption,
    Startup,
    read_startup,
    write_cancel,
    write_startup,
)


def test_a_startup() -> None:
    data = write_startup(0, {"user": "u", "database": "d", "options": "-c a=b", "replication": "true"})
    assert data[:8] == len(data).to_bytes(4, "big") + b"\0\3\0\0"
    parameters = {"user": "u", "database": "d", "options": "-c a=b", "replication": "true"}
    assert read_startup(data + b"Q") == (Startup(0, parameters, ()), len(data))


def test_it_is_waited_for() -> None:
    data = write_startup(0, {"user": "u"})
    assert [read_startup(data[:cut]) for cut in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize(
    ("minor", "agreed", "negotiates"), [(0, 0, False), (2, 2, False), (3, 2, True), (9999, 2, True)]
)
def test_versions(minor: int, agreed: int, negotiates: bool) -> None:
    startup = Startup(minor, {"user": "u"}, ())
    assert (startup.agreed_minor, startup.negotiates) == (agreed, negotiates)


def test_protocol_options_are_no_parameters() -> None:
    data = write_startup(0, {"user": "u", "_pq_.x": "1", "_pq_.y": ""})
    startup, _ = read_startup(data) or (None, 0)
    assert startup == Startup(0, {"user": "u", "database": "u"}, ("_pq_.x", "_pq_.y"))
    assert isinstance(startup, Startup)
    assert startup.negotiates


def test_the_last_of_two_counts_and_any_bytes_come_through() -> None:
    data = packet(0x30000, b"user\0a\0user\0\xff\xe9\0database\0\0\0")
    startup, _ = read_startup(data) or (None, 0)
    assert isinstance(startup, Startup)
    assert write_startup(0, startup.parameters) == packet(0x30000, b"user\0\xff\xe9\0database\0\xff\xe9\0\0")


def test_requests_for_encryption() -> None:
    assert read_startup(SSL_REQUEST) == (Encryption.SSL, 8)
    assert read_startup(GSSENC_REQUEST + b"more") == (Encryption.GSS, 8)
    assert read_startup(b"\x16\x03\x01") == (Encryption.DIRECT_TLS, 0)
    assert bytes.fromhex("00000008 04d2162f") == SSL_REQUEST


@pytest.mark.parametrize("size", [4, 32, 256])
def test_cancel_requests(size: int) -> None:
    request = CancelRequest(0xFFFFFFFE, b"k" * size)
    data = write_cancel(request)
    assert len(data) == 12 + size
    assert read_startup(data) == (request, len(data))


@pytest.mark.parametrize("case", HOSTILE_STARTS, ids=lambda case: case.name)
def test_hostile_starts(case: Hostile) -> None:
    with pytest.raises(ProtocolError) as refused:
        read_startup(case.data)
    assert case.detail in refused.value.detail
    assert refused.value.sqlstate == case.sqlstate


@given(
    st.sampled_from([0x30000, 0x30002, 80877102, 80877103, 80877104]),
    st.lists(st.sampled_from([b"user", b"_pq_.a", b"\0", b"\0\0"]) | st.binary(max_size=5)).map(b"".join),
    st.data(),
)
def test_any_packet_is_read_or_refused_the_same_whether_it_came_at_once_or_not(
    code: int, body: bytes, draw: st.DataObject
) -> None:
    data = packet(code, body)
    cut = draw.draw(st.integers(0, len(data)))
    whole, part = outcome(data), outcome(data[:cut])
    assert part in (None, whole)
    assert outcome(data + b"more") == whole
    assert whole is not None


def outcome(data: bytes) -> object:
    try:
        return read_startup(data)
    except ProtocolError as refused:
        return refused.sqlstate, refused.detail


@pytest.mark.parametrize("name", NAMES)
def test_recorded_starts(name: str) -> None:
    recorded = recording(name)
    startup = recorded.packets[-1]
    assert isinstance(startup, Startup)
    assert startup.parameters["database"] == "postgres"
    assert recorded.packets[:-1] == [Encryption.SSL] * len(recorded.answers)
    assert recorded.answers in (b"", b"N")
    if name == "raw":
        assert (startup.minor, startup.extensions) == (2, ("_pq_.forebay",))
    if name == "psycopg":
        assert startup.parameters["options"] == "-c statement_timeout=60s"
