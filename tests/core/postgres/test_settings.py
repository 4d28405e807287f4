"""Start-up parameters, and how a connection is brought to a client's values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_core.postgres import settings
from forebay_core.postgres.lexer import tokens
from forebay_core.postgres.settings import SettingsError

SERVER = {
    "client_encoding": b"UTF8",
    "DateStyle": b"ISO, MDY",
    "TimeZone": b"Etc/UTC",
    "application_name": b"",
    "standard_conforming_strings": b"on",
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("-c a=b", [("a", "b")]),
        ("  -ca=b\t--c-d=e ", [("a", "b"), ("c_d", "e")]),
        ("-c search_path=a,\\ b\\\\", [("search_path", "a, b\\")]),
        ("-c my.thing=", [("my.thing", "")]),
        ("-c a=b=c", [("a", "b=c")]),
        ("-c a=b -c a=c", [("a", "b"), ("a", "c")]),
    ],
)
def test_options(text: str, found: list[tuple[str, str]]) -> None:
    assert settings.parse_options(text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("-c", "found the end"),
        ("-c a", 'name=value in options, found "a"'),
        ("--", 'found "--"'),
        ("--a", 'found "a"'),
        ("-e", 'found "-e"'),
        ("a=b", 'found "a=b"'),
        ("-c a;b=c", 'found "a;b=c"'),
        ("-c =c", 'found "=c"'),
    ],
)
def test_other_options_are_refused(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings.parse_options(text)


def test_a_startup_packets_parameters_are_sorted_out() -> None:
    found = settings.split_startup(
        {
            "user": b"u",
            "database": b"d",
            "_pq_.x": b"1",
            "datestyle": b"ISO",
            "extra_float_digits": b"2",
            "options": b"-c statement_timeout=5s -c application_name=lost -c TIMEZONE=UTC",
            "application_name": b"app",
            "Search_Path": b"a",  # followed by some servers; which one this is, is not known yet
        }
    )
    assert found.followed == {"DateStyle": b"ISO", "application_name": b"app", "TimeZone": b"UTC"}
    assert found.fixed == (("extra_float_digits", b"2"), ("search_path", b"a"), ("statement_timeout", b"5s"))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"a b": b""}, 'unrecognized configuration parameter "a b"'),
        ({"server_version": b"1"}, 'parameter "server_version" cannot be set'),
        ({"options": b"-c Is_Superuser=on"}, 'parameter "is_superuser" cannot be set'),
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, bytes], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings.split_startup(parameters)


def test_what_is_followed_depends_on_what_the_server_reports() -> None:
    assert settings.is_followed("datestyle", SERVER)
    assert settings.is_followed("search_path", {**SERVER, "search_path": b""})
    for name in ("search_path", "work_mem", "session_authorization", "role", "*"):
        assert not settings.is_followed(name, {**SERVER, "session_authorization": b"u"})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (b"ISO", b"ISO, MDY"),
        (b"sql", b"sql, MDY"),
        (b"dmy", b"ISO, dmy"),
        (b"German", b"German"),
        (b"ISO, YMD", b"ISO, YMD"),
    ],
)
def test_half_a_date_style_is_made_whole(given: bytes, wanted: bytes) -> None:
    """Or the other half would be the last client's."""
    assert settings.initial({"DateStyle": given}, SERVER)["DateStyle"] == wanted


def test_a_new_client_wants_the_defaults_but_for_what_it_said() -> None:
    startup = {"application_name": b"a", "search_path": b"x"}  # the latter is not reported by this server
    assert settings.initial(startup, {**SERVER, "server_version": b"15"}) == {**SERVER, "application_name": b"a"}


@pytest.mark.parametrize(
    ("name", "value", "differs"),
    [
        ("client_encoding", b"utf-8", False),
        ("client_encoding", b"Unicode", False),
        ("client_encoding", b"LATIN1", True),
        ("DateStyle", b"ISO", True),
        ("DateStyle", b"iso, mdy", False),
        ("DateStyle", b"ISO, DMY", True),
        ("TimeZone", b"etc/utc", False),
        ("TimeZone", b"UTC", True),
        ("application_name", b"a", True),
        ("search_path", b"a", False),  # not reported by this server
    ],
)
def test_differences(name: str, value: bytes, differs: bool) -> None:
    assert settings.differences({name: value}, SERVER) == ({name: value} if differs else {})


def test_the_queries_that_bring_a_connection_to_a_clients_values() -> None:
    assert settings.set_queries({}, SERVER) == ()
    changes = {"application_name": b"it's \\", "client_encoding": b"LATIN1", "search_path": b'"$user", public'}
    assert settings.set_queries(changes, SERVER) == (
        b"SET client_encoding TO 'LATIN1'; SET application_name TO E'it''s \\\\'; "
        b"SELECT pg_catalog.set_config('search_path', '\"$user\", public', false)",
    )
    assert settings.set_queries({"client_encoding": b"LATIN1", "search_path": b"\xe4"}, SERVER) == (
        b"SET client_encoding TO 'LATIN1'",
        b"SELECT pg_catalog.set_config('search_path', '\xe4', false)",
    )
    assert settings.set_queries({"search_path": "ä".encode()}, SERVER) == (
        b"SELECT pg_catalog.set_config('search_path', '\xc3\xa4', false)",
    )


def test_what_cant_be_said_safely_is_not_said() -> None:
    assert settings.set_queries({"application_name": b"a\0"}, SERVER) is None
    assert settings.set_queries({"application_name": b"\x95\\"}, {**SERVER, "client_encoding": b"SJIS"}) is None
    assert settings.set_queries({"application_name": b"\x95", "client_encoding": b"mskanji"}, SERVER) is None


@given(st.binary().filter(lambda value: b"\0" not in value), st.booleans())
def test_a_literal_is_one_token_in_either_reading(value: bytes, standard: bool) -> None:
    (token,) = tokens(settings.literal(value), standard)
    assert token.kind == "s"
    body = token.text[2:-1].replace(b"\\\\", b"\\") if token.text[:1] == b"E" else token.text[1:-1]
    assert body.replace(b"''", b"'") == value
