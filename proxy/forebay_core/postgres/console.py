"""The admin database: what can be asked and ordered there, and the columns of the answers.

As PgBouncer's console ("Admin console" of its usage page, columns and types of 1.25), so that its dashboards and
exporters work. What has no meaning here is 0, empty or NULL; orders that change what the document says are refused with
that sentence. Rows are made by the caller, as mappings from column to value.
"""

import datetime
import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

DATABASE = "pgbouncer"  # the name that dashboards connect to
SQLSTATE = "08P01"  # of every error of PgBouncer's console
EXTENDED = "extended query protocol not supported by admin console"

Value = str | int | float | bool | None


class Column(NamedTuple):
    """A column for RowDescription; `size` as in pg_type, -1 where it varies."""

    name: str
    oid: int
    size: int


class Command(NamedTuple):
    """An order: `SHOW` of a table (in lower case) or session parameter, or one of ORDERS with a database or ""."""

    verb: str
    argument: str = ""


class ConsoleError(Exception):
    """What is answered instead, as an ERROR with SQLSTATE."""


_TYPES = {"s": (25, -1), "T": (25, -1), "i": (23, 4), "q": (20, 8), "N": (1700, -1)}  # as in PgBouncer's sources


def _columns(kinds: str, names: str) -> tuple[Column, ...]:
    return tuple(Column(name, *_TYPES[kind]) for kind, name in zip(kinds, names.split(), strict=True))


_SOCKET = _columns(
    "ssssssisiTTiiississii",
    "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us "
    "close_needed ptr link remote_pid tls application_name prepared_statements id",
)
_COUNTED = [
    *("server_assignment_count", "xact_count", "query_count", "received", "sent", "xact_time", "query_time"),
    *("wait_time", "client_parse_count", "server_parse_count", "bind_count", "client_login_count"),
]
_AVERAGED = ["recv" if name == "received" else name for name in _COUNTED]
_BYTES = [{"received": "bytes_received", "sent": "bytes_sent"}.get(name, name) for name in _COUNTED]

TABLES: Mapping[str, tuple[Column, ...]] = {
    "clients": _SOCKET,
    "config": _columns("ssss", "key value default changeable"),
    "databases": _columns(
        "ssissiiiissiiiiii",
        "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode "
        "load_balance_hosts max_connections current_connections max_client_connections current_client_connections "
        "paused disabled",
    ),
    "lists": _columns("si", "list items"),
    "pools": _columns(
        "ssiiiiiiiiiiiiiss",
        "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel "
        "sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
    ),
    "servers": _SOCKET,
    "state": _columns("ss", "key value"),
    "stats": _columns(
        "s" + "N" * 24,
        " ".join(["database", *(f"total_{name}" for name in _COUNTED), *(f"avg_{name}" for name in _AVERAGED)]),
    ),
    "stats_averages": _columns(
        "s" + "N" * 12,
        " ".join(["database", *(f"avg_{name}" if name in _COUNTED[8:] else name for name in _BYTES)]),
    ),
    "stats_totals": _columns("s" + "N" * 12, " ".join(["database", *_BYTES])),
    "totals": _columns("sN", "name value"),
    "users": _columns(
        "ssssiiii",
        "name pool_size reserve_pool_size pool_mode max_user_connections current_connections "
        "max_user_client_connections current_client_connections",
    ),
    "version": _columns("s", "version"),
}
# The rows of SHOW LISTS, in order.
LISTS = (
    *("databases", "users", "peers", "pools", "peer_pools", "free_clients", "used_clients", "login_clients"),
    *("free_servers", "used_servers", "dns_names", "dns_zones", "dns_queries", "dns_pending"),
)
# Session parameters that drivers ask for after logging in.
PARAMETERS = ("application_name", "client_encoding", "DateStyle", "standard_conforming_strings", "TimeZone")

ORDERS = ("PAUSE", "RESUME", "RECONNECT", "KILL", "RELOAD")
_OF_A_DATABASE = frozenset(ORDERS) - {"RELOAD"}
_NOT_HERE = {
    "SET": "SET is not supported: settings are those of the ProxyPool document",
    "DISABLE": "DISABLE is not supported: remove the database from the ProxyPool document",
    "ENABLE": "ENABLE is not supported: databases are those of the ProxyPool document",
    "SUSPEND": "SUSPEND is not supported: use PAUSE",
    "SHUTDOWN": "SHUTDOWN is not supported: send the process SIGTERM, or scale the ProxyPool",
    "WAIT_CLOSE": "WAIT_CLOSE is not supported: watch close_needed in SHOW SERVERS",
    "KILL_CLIENT": "KILL_CLIENT is not supported: use KILL with a database",
}
HELP = (  # the detail of a NOTICE "Console usage"
    "\n\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION|LISTS|STATE"
    "\n\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS"
    "\n\tPAUSE [<db>]\n\tRESUME [<db>]\n\tRECONNECT [<db>]\n\tKILL [<db>]"
)

_WORD = r'("(?:[^"]|"")*"|[0-9A-Za-z_]+)'
_COMMAND = re.compile(rf"\s*{_WORD}(?:\s+{_WORD})?\s*(?:;\s*)?\Z", re.ASCII)
_SET = re.compile(r"\s*set\s", re.ASCII | re.IGNORECASE)


def parse_command(text: str) -> Command:
    """The order in a Query. Raises ConsoleError."""
    match = _COMMAND.match(text)
    if match:
        verb, argument = (_unquoted(word or "") for word in match.groups())
        verb = {"SELECT": "SHOW"}.get(verb.upper(), verb.upper())
        if verb == "SHOW":
            tables = {name.lower(): name for name in (*TABLES, *PARAMETERS, "help")}
            if argument.lower() in tables:
                return Command(verb, tables[argument.lower()])
        elif verb in _NOT_HERE:
            raise ConsoleError(_NOT_HERE[verb])
        elif verb in ORDERS and (not argument or verb in _OF_A_DATABASE):
            return Command(verb, argument)
    elif _SET.match(text):
        raise ConsoleError(_NOT_HERE["SET"])
    raise ConsoleError(f"invalid command '{text}', use SHOW HELP;")


def check(
    command: Command, *, admin: bool, databases: Collection[str], paused: Collection[str], all_paused: bool
) -> None:
    """Whether the order can be carried out now, as PgBouncer decides. `admin`: the client is an administrator, not
    only somebody who may look. `paused` are the databases paused by name. Raises ConsoleError.
    """
    verb, database = command
    if verb == "SHOW":
        return
    if not admin:
        raise ConsoleError("admin access needed")
    if all_paused and verb in ("PAUSE", "KILL"):
        raise ConsoleError("already suspended/paused")
    if not database:
        if verb == "RESUME" and not all_paused:
            raise ConsoleError("pooler is not paused/suspended")
    elif database == DATABASE:
        raise ConsoleError(f"cannot {verb.lower()} admin db: {database}")
    elif database not in databases:
        raise ConsoleError(f"no such database: {database}")
    elif verb == "RESUME" and database not in paused:
        raise ConsoleError(f"database {database} is not paused")


# How the rows of several workers become one: what tells them apart, and which columns are not added up. Tables that are
# not here are the same everywhere, or a list (CLIENTS, SERVERS) that only grows longer.
_JOINED: Mapping[str, tuple[str, ...]] = {
    "databases": ("name",),
    "lists": ("list",),
    "pools": ("database", "user"),
    "stats": ("database",),
    "stats_averages": ("database",),
    "stats_totals": ("database",),
    "totals": ("name",),
    "users": ("name",),
}
_ADDED = re.compile(r"(cl|sv)_|current_|max_connections\Z|total_|.*_count\Z|items\Z|value\Z")
_THE_SAME = frozenset({"databases", "users", "pools"})  # in SHOW LISTS: every worker may have them
GATHERED = frozenset({*_JOINED, "clients", "servers"})


def join(table: str, values: Iterable[Mapping[str, Value]]) -> list[Mapping[str, Value]]:
    """One table of the rows of all workers: counts are added up, of waits the longest is told."""
    if table not in _JOINED:
        return list(values)
    joined: dict[tuple[Value, ...], dict[str, Value]] = {}
    for row in values:
        key = tuple(row.get(name) for name in _JOINED[table])
        mine = joined.get(key)
        if mine is None:
            joined[key] = dict(row)
            continue
        for name, value in row.items():
            before = mine.get(name)
            if isinstance(value, int | float) and isinstance(before, int | float):
                if row.get("list") in _THE_SAME:
                    mine[name] = max(before, value)
                elif _ADDED.match(name):
                    mine[name] = before + value
        if _longest(row) > _longest(mine):
            mine |= {"maxwait": row["maxwait"], "maxwait_us": row["maxwait_us"]}
    return list(joined.values())


def _longest(row: Mapping[str, Value]) -> tuple[int, int]:
    return int(row.get("maxwait") or 0), int(row.get("maxwait_us") or 0)


def columns(table: str) -> tuple[Column, ...]:
    """The columns of SHOW `table`; a session parameter's one has its name."""
    return TABLES[table] if table in TABLES else _columns("s", table)


def rows(table: str, values: Iterable[Mapping[str, Value]]) -> list[tuple[bytes | None, ...]]:
    """DataRows of SHOW `table`, in text form. A column that a row doesn't have is NULL if it is text, else 0; times
    are seconds since 1970. Raises KeyError for a value that is in no column.
    """
    wanted = columns(table)
    found = []
    for row in values:
        unknown = set(row) - {column.name for column in wanted}
        if unknown:
            raise KeyError(f"SHOW {table} has no column {', '.join(sorted(unknown))}")
        found.append(tuple(_shown(row.get(column.name), column) for column in wanted))
    return found


def _shown(value: Value, column: Column) -> bytes | None:
    if value is None:
        return None if column.oid == _TYPES["s"][0] else b"0"
    if column.name.endswith("_time") and column.oid == _TYPES["T"][0] and not isinstance(value, str):
        return datetime.datetime.fromtimestamp(value, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC").encode()
    return str(int(value) if isinstance(value, bool | float) else value).encode("utf-8", "surrogateescape")


def _unquoted(word: str) -> str:
    return word[1:-1].replace('""', '"') if word.startswith('"') else word
