"""Messages that are written and read once per connection or error, against their bytes and against real traffic."""

import contextlib
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conformance.pgwire_cases import message
from tests.core.pgwire.recorded import NAMES, divide, recording

from forebay_core.pgwire import ProtocolError, backend, frontend, pure, reporting
from forebay_core.pgwire.fields import read_message, string

RECORDED = {name: recording(name) for name in NAMES}
SERVER_MESSAGES = sorted({one for each in RECORDED.values() for one in (*each.greeting, *divide(each.server))})
CLIENT_MESSAGES = sorted({one for each in RECORDED.values() for one in divide(each.client)})


def recorded(kind: bytes, messages: list[tuple[bytes, bytes]] = SERVER_MESSAGES) -> list[bytes]:
    found = [body for known, body in messages if known == kind]
    assert found
    return found


def test_parameters_and_keys_come_out_as_they_went_in() -> None:
    for body in recorded(b"S"):
        assert backend.parameter_status(*backend.read_parameter_status(body)) == message(b"S", body)
    for body in recorded(b"K"):
        assert backend.backend_key_data(*backend.read_backend_key_data(body)) == message(b"K", body)
    for body in recorded(b"v"):
        assert backend.read_negotiate_protocol_version(body) == (0, ["_pq_.forebay"])
        assert backend.negotiate_protocol_version(0, ["_pq_.forebay"]) == message(b"v", body)
    for body in recorded(b"Z"):
        assert backend.ready_for_query(body) == message(b"Z", body)
    for body in recorded(b"C"):
        assert backend.command_complete(body[:-1].decode()) == message(b"C", body)


def test_authentication() -> None:
    codes = set()
    for body in recorded(b"R"):
        code, data = backend.read_authentication(body)
        assert backend.authentication(code, data) == message(b"R", body)
        if code == backend.SASL:
            assert backend.read_mechanisms(data) == ["SCRAM-SHA-256"]
            assert backend.authentication_sasl(["SCRAM-SHA-256"]) == message(b"R", body)
        codes.add(code)
    assert codes == {backend.OK, backend.SASL, backend.SASL_CONTINUE, backend.SASL_FINAL}
    first, second = (message(*proof) for proof in RECORDED["psql"].proofs)
    mechanism, data = frontend.read_sasl_initial(first[5:])
    assert mechanism == "SCRAM-SHA-256"
    assert data is not None
    assert data.startswith(b"n,,n=,r=")
    assert frontend.sasl_initial(mechanism, data) == first
    assert frontend.sasl_response(second[5:]) == second


def test_passwords() -> None:
    digest = "md5" + hashlib.md5(b"x").hexdigest()
    assert frontend.read_password(frontend.password(digest)[5:]) == digest
    with pytest.raises(ProtocolError, match="PasswordMessage: 1 bytes too many"):
        frontend.read_password(b"secret\0x")
    assert frontend.read_sasl_initial(b"SCRAM-SHA-256\0\xff\xff\xff\xff") == ("SCRAM-SHA-256", None)


def test_a_recorded_error() -> None:
    errors = [backend.read_error(message(b"E", body), 0, len(body) + 5) for body in recorded(b"E")]
    nowhere = next(error for error in errors if error.sqlstate == "42P01")
    assert nowhere[:3] == ("ERROR", "42P01", 'relation "nowhere" does not exist')
    assert nowhere.fields["P"] == "15"
    notices = [backend.read_error(message(b"N", body), 0, len(body) + 5) for body in recorded(b"N")]
    assert {(notice.severity, notice.fields.get("H")) for notice in notices} >= {("WARNING", "none")}


def test_an_error_has_all_fields() -> None:
    named = {name: f"the {name}" for name in backend.ERROR_FIELDS}
    data = backend.error_response("FATAL", "53300", "too many", **named)
    error = backend.read_error(data, 0, len(data))
    assert error[:3] == ("FATAL", "53300", "too many")
    assert {error.fields[code.decode()] for code in backend.ERROR_FIELDS.values()} == set(named.values())
    assert pure.scan_server(data, 0, 100, reporting(b"E"))[3] == [(b"E", 0, len(data))]
    assert backend.notice_response("NOTICE", "00000", "x")[:1] == b"N"


def test_a_clipped_error_is_read_as_far_as_it_goes() -> None:
    data = backend.error_response("ERROR", "42601", "x" * 100, detail="d")
    assert backend.read_error(data, 0, 60)[:3] == ("ERROR", "42601", "")
    for cut in range(5, len(data)):
        assert set(backend.read_error(data, 0, cut).fields) <= set("SVCMD")


def test_a_nul_is_never_written_into_a_string() -> None:
    with pytest.raises(ValueError, match="a NUL inside"):
        backend.error_response("ERROR", "XX000", "a\0b")
    with pytest.raises(ValueError, match="a NUL inside"):
        string(b"\0")


def test_rows() -> None:
    columns = [("database", backend.TEXT_TYPE), ("cl_active", backend.INT8_TYPE)]
    description, row = backend.row_description(columns), backend.data_row(["é", None])
    assert backend.read_row_description(description[5:]) == ["database", "cl_active"]
    assert backend.read_data_row(row[5:]) == ["é", None]
    data = description + row + backend.command_complete("SHOW") + backend.ready_for_query(b"I")
    end, _, ready, events = pure.scan_server(data, 0, 100, reporting(b"C"))
    assert (end, ready, [kind for kind, _, _ in events]) == (len(data), b"I", [b"C"])


def test_recorded_rows() -> None:
    described = [body for body in recorded(b"T") if b"abalance" in body and body[-1] == 0]
    assert backend.read_row_description(described[0]) == ["abalance"]
    with pytest.raises(ProtocolError, match="column 'abalance' is in binary, expected text"):
        backend.read_row_description(described[0][:-1] + b"\1")
    for body in recorded(b"D"):
        assert len(backend.read_data_row(body)) == int.from_bytes(body[:2], "big")


def test_recorded_statements() -> None:
    for body in recorded(b"P", CLIENT_MESSAGES):
        data = message(b"P", body)
        assert frontend.parse(frontend.read_parse(b"xx" + data, 2, len(data) + 2)) == data
    for body in recorded(b"Q", CLIENT_MESSAGES):
        assert frontend.query(body[:-1]) == message(b"Q", body)
    assert message(*recorded_one(b"E", b"\0\0\0\0\0")) == frontend.execute()
    assert message(*recorded_one(b"E", b"p\0\0\0\0\7")) == frontend.execute(b"p", 7)
    assert message(*recorded_one(b"D", b"P\0")) == frontend.describe_portal(b"")
    assert message(*recorded_one(b"C", b"Ss\0")) == frontend.close_statement(b"s")


def recorded_one(kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    assert (kind, body) in CLIENT_MESSAGES
    return kind, body


@pytest.mark.parametrize(
    ("data", "kinds", "names"),
    [
        (frontend.parse(frontend.Statement(b"s", b"SELECT 1", frontend.NO_TYPES)), b"P", [b"s"]),
        (frontend.bind(b"p", b"s", (b"1", None)), b"B", [b"s"]),
        (frontend.describe_statement(b"s") + frontend.describe_portal(b"p"), b"DD", [b"s", None]),
        (frontend.close_statement(b"s") + frontend.close_portal(b"p"), b"CC", [b"s", None]),
        (frontend.execute() + frontend.SYNC + frontend.FLUSH, b"ESH", []),
        (frontend.COPY_DONE + frontend.copy_fail("no"), b"cf", []),
        (frontend.query("SELECT 'é'") + frontend.TERMINATE, b"QX", []),
    ],
)
def test_what_is_written_can_be_scanned(data: bytes, kinds: bytes, names: list[Any]) -> None:
    end, _, seen, _, found, _ = pure.scan_client(data, 0, 1 << 16)
    assert (end, seen, found) == (len(data), kinds, names)


def test_constants_of_servers_can_be_scanned() -> None:
    data = (
        backend.PARSE_COMPLETE + backend.BIND_COMPLETE + backend.CLOSE_COMPLETE + backend.EMPTY_QUERY + backend.NO_DATA
    )
    assert pure.scan_server(data, 0, 100, reporting(b""))[0] == len(data)


def test_read_message() -> None:
    data = message(b"p", b"secret\0")
    assert read_message(b"x" + data + b"y", 1, 100) == (b"p", b"secret\0", len(data) + 1)
    assert [read_message(data[:cut], 0, 100) for cut in range(len(data))] == [None] * len(data)
    for length in (0, 3, 101, 0xFFFFFFFF):
        with pytest.raises(ProtocolError, match=f"has the length {length}, expected 4 to 100"):
            read_message(message(b"p", b"", length), 0, 100)


READERS = (
    backend.read_authentication,
    backend.read_mechanisms,
    backend.read_parameter_status,
    backend.read_backend_key_data,
    backend.read_negotiate_protocol_version,
    backend.read_row_description,
    backend.read_data_row,
    frontend.read_password,
    frontend.read_sasl_initial,
)


@given(st.lists(st.sampled_from([b"\0", b"\0\1", b"\xff" * 4, b"\0\0\0\2"]) | st.binary(max_size=4)).map(b"".join))
def test_no_bytes_make_a_reader_fail_otherwise(body: bytes) -> None:
    for read in READERS:
        with contextlib.suppress(ProtocolError):
            read(body)  # type: ignore[operator]
    backend.read_error(b"E\0\0\0\0" + body, 0, len(body) + 5)


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (backend.read_authentication, b"\0\0\0"),
        (backend.read_mechanisms, b"SCRAM-SHA-256\0"),
        (backend.read_parameter_status, b"a\0b"),
        (backend.read_parameter_status, b"a\0b\0c"),
        (backend.read_backend_key_data, b"\0\0\0\1abc"),
        (backend.read_backend_key_data, b"\0\0\0\1" + b"k" * 257),
        (backend.read_negotiate_protocol_version, b"\0\3\0\0\0\0\0\2a\0"),
        (backend.read_row_description, b"\0\2"),
        (backend.read_data_row, b"\0\1\0\0\0\5abcd"),
        (backend.read_data_row, b"\0\1\xff\xff\xff\xfe"),
        (backend.read_data_row, b"\0\0x"),
        (frontend.read_sasl_initial, b"SCRAM-SHA-256\0\0\0\0\5abc"),
        (frontend.read_sasl_initial, b"SCRAM-SHA-256"),
    ],
)
def test_what_is_cut_or_wrong_is_named(read: Any, body: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^08P01: [A-Z][A-Za-z]+: (expected|a key|\d+ bytes too many)"):
        read(body)
