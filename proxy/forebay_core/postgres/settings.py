"""Session parameters that follow the client from one server connection to the next.

A server reports some parameters whenever they change (PostgreSQL documentation, "Asynchronous Operations:
ParameterStatus"). Of those, what a client may set is followed: before a connection serves a client, SET brings it to
the client's values; what the server reports while it serves is the client's from then on. What is not reported can't
be followed: set at run time it pins (`marks`), set at start-up it belongs to the pool's key, so that the server's
connection starts with it too.

Values are bytes, as on the wire; names are the server's spelling, by `spelled`. A value that means the same in
another spelling (`utf-8`, `UTF8`) costs a SET and nothing else.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from forebay_core.postgres.lexer import AMBIGUOUS_ENCODINGS

# Set by a client and reported, by servers of every version.
_REPORTED_BY_ALL = (
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "IntervalStyle",
    "application_name",
    "standard_conforming_strings",
)
# search_path is reported from PostgreSQL 18 on, default_transaction_read_only from 14, scram_iterations from 16: what a
# server hasn't reported is not followed on it.
FOLLOWED = (*_REPORTED_BY_ALL, "default_transaction_read_only", "search_path", "scram_iterations")
# Reported, and about the server or the user.
FIXED = (
    "server_version",
    "server_encoding",
    "integer_datetimes",
    "in_hot_standby",
    "is_superuser",
    "session_authorization",
)
# In a start-up packet but no session parameters.
_PACKET = frozenset({"user", "database", "replication", "options"})
_SPELLED = {name.lower(): name for name in FOLLOWED + FIXED}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)*\Z")
_SPACE = " \t\n\r\f\v"
_ENCODINGS = {  # aliases, of src/common/encnames.c; the ambiguous ones whole, since much rests on them
    "UNICODE": "UTF8",
    "ISO88591": "LATIN1",
    "SHIFTJIS": "SJIS",
    "MSKANJI": "SJIS",
    "WIN932": "SJIS",
    "WINDOWS932": "SJIS",
    "WIN936": "GBK",
    "WINDOWS936": "GBK",
    "WIN949": "UHC",
    "WINDOWS949": "UHC",
    "WIN950": "BIG5",
    "WINDOWS950": "BIG5",
}


class SettingsError(ValueError):
    """A start-up packet's parameters are refused; a sentence for the client (SQLSTATE 08P01 or 22023)."""


class Startup(NamedTuple):
    """Parameters of a start-up packet: those that are followed, since any server reports them, and the others, sorted,
    which are part of the pool's key. (The key is needed before it is known what this server reports.)
    """

    followed: dict[str, bytes]
    fixed: tuple[tuple[str, bytes], ...]


def spelled(name: str) -> str:
    """The server's spelling of a parameter's name; of one that it doesn't report, lower case."""
    lower = name.lower()
    return _SPELLED.get(lower, lower)


def is_followed(name: str, reported: Mapping[str, bytes]) -> bool:
    """Whether a change of `name` follows the client on a server that has reported `reported`; else it pins."""
    name = spelled(name)
    return name in FOLLOWED and name in reported


def split_startup(parameters: Mapping[str, bytes]) -> Startup:
    """Sorts the parameters of a start-up packet, `options` taken apart; they lose to those named outright, as in the
    server. Raises SettingsError.
    """
    options = parameters.get("options", b"").decode("utf-8", "surrogateescape")
    given: dict[str, bytes] = {}
    for name, value in parse_options(options):
        given[spelled(name)] = value.encode("utf-8", "surrogateescape")
    for name, raw in parameters.items():
        if name in _PACKET or name.startswith("_pq_."):
            continue
        if not _NAME.match(name):
            raise SettingsError(f'unrecognized configuration parameter "{name}"')
        given[spelled(name)] = raw
    for name in given:
        if name in FIXED:
            raise SettingsError(f'parameter "{name}" cannot be set at connection start')
    followed = {name: value for name, value in given.items() if name in _REPORTED_BY_ALL}
    fixed = tuple(sorted((name, value) for name, value in given.items() if name not in _REPORTED_BY_ALL))
    return Startup(followed, fixed)


def parse_options(text: str) -> list[tuple[str, str]]:
    """The settings of `options`: `-c name=value`, `-cname=value`, `--name=value` (where `-` in the name is `_`),
    split at white space, a backslash taking the next character as it is (PostgreSQL's pg_split_opts).
    Raises SettingsError for any other switch.
    """
    words = _split_options(text)
    found = []
    for word in words:
        if word == "-c":
            setting = next(words, None)
            if setting is None:
                raise SettingsError("expected name=value after -c in options, found the end")
        elif word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            setting = name.replace("-", "_") + equals + value
        elif word.startswith("-c"):
            setting = word[2:]
        else:
            raise SettingsError(f'expected -c name=value or --name=value in options, found "{word}"')
        name, equals, value = setting.partition("=")
        if not equals or not _NAME.match(name):
            raise SettingsError(f'expected name=value in options, found "{setting}"')
        found.append((name, value))
    return found


def _split_options(text: str) -> Iterator[str]:
    place = 0
    while True:
        while place < len(text) and text[place] in _SPACE:
            place += 1
        if place == len(text):
            return
        word = ""
        while place < len(text) and text[place] not in _SPACE:
            if text[place] == "\\":
                place += 1
            word += text[place : place + 1]
            place += 1
        yield word


def initial(startup: Mapping[str, bytes], defaults: Mapping[str, bytes]) -> dict[str, bytes]:
    """What a client wants that has just logged in: `startup` (see Startup.followed) over what a fresh connection of
    its pool reports. A DateStyle of one word keeps the default's other half, not whatever stood there before.
    """
    wanted = {name: defaults[name] for name in FOLLOWED if name in defaults}
    wanted |= {name: value for name, value in startup.items() if name in wanted}
    style = wanted.get("DateStyle", b"").lower()
    if "DateStyle" in startup and "DateStyle" in wanted:
        output, _, order = defaults["DateStyle"].partition(b", ")
        if style in (b"iso", b"sql", b"postgres"):
            wanted["DateStyle"] = startup["DateStyle"] + b", " + order
        elif style in (b"mdy", b"dmy", b"ymd"):
            wanted["DateStyle"] = output + b", " + startup["DateStyle"]
    return wanted


def analysed_under(values: Mapping[str, bytes], text: bytes) -> bytes:
    """What the meaning of `text` depends on when it is parsed, of the followed parameters: constants such as dates are
    read then. Two clients share a prepared statement only where this is the same. (A changed search_path the server
    notices by itself.)
    """
    names = ["DateStyle", "TimeZone", "IntervalStyle"]
    names += [] if text.isascii() else ["client_encoding"]
    names += ["standard_conforming_strings"] if b"\\" in text else []
    return b"\0".join(values.get(name, b"") for name in names)


def differences(wanted: Mapping[str, bytes], has: Mapping[str, bytes]) -> dict[str, bytes]:
    """What must be set on a connection that has reported `has`, to be as the client wants it."""
    return {
        name: value for name, value in wanted.items() if has.get(name, value) != value and not _same(name, value, has)
    }


def _same(name: str, value: bytes, has: Mapping[str, bytes]) -> bool:
    """Spellings of drivers, at every login: not worth a round trip each."""
    if name == "client_encoding":
        return canonical_encoding(value) == canonical_encoding(has[name])
    return name in ("DateStyle", "TimeZone") and value.lower() == has[name].lower()


def canonical_encoding(name: bytes) -> str:
    """An encoding's name as the server compares it: without case and punctuation, its common aliases resolved."""
    plain = re.sub(r"[^A-Z0-9]", "", name.decode("ascii", "replace").upper())
    return _ENCODINGS.get(plain, plain)


def is_ambiguous(encoding: bytes) -> bool:
    """Whether text in it can't be told apart from quotes and backslashes byte by byte (see `lexer`)."""
    canonical = canonical_encoding(encoding)
    return any(canonical == canonical_encoding(name.encode()) for name in AMBIGUOUS_ENCODINGS)


def set_queries(changes: Mapping[str, bytes], has: Mapping[str, bytes]) -> tuple[bytes, ...] | None:
    """The simple Queries, mostly one, that make `changes` on a connection that has reported `has`, outside of a
    transaction. None where it can't be done safely; the connection then is not for this client.

    An encoding is changed by a Query of its own where other values are not ASCII: those are read in it. search_path
    is set by a function, since SET takes each element of a list apart.
    """
    encoding = changes.get("client_encoding", has.get("client_encoding", b""))
    ascii_only = all(value.isascii() for value in changes.values())
    if any(b"\0" in value for value in changes.values()) or (not ascii_only and is_ambiguous(encoding)):
        return None
    statements = {name: _set(name, changes[name]) for name in FOLLOWED if name in changes}
    if ascii_only or "client_encoding" not in statements:
        return (b"; ".join(statements.values()),) if statements else ()
    first = statements.pop("client_encoding")
    return (first, b"; ".join(statements.values()))


def _set(name: str, value: bytes) -> bytes:
    if name == "search_path":
        return b"SELECT pg_catalog.set_config('search_path', " + literal(value) + b", false)"
    return b"SET " + name.encode() + b" TO " + literal(value)


def literal(value: bytes) -> bytes:
    """`value` as a string literal that means the same whatever standard_conforming_strings is."""
    quoted = b"'" + value.replace(b"\\", b"\\\\").replace(b"'", b"''") + b"'"
    return b"E" + quoted if b"\\" in value else quoted
