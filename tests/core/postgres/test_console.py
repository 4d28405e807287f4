"""The admin database's orders, their refusals, and the columns that exporters read."""

import pytest

from forebay_core.postgres import console
from forebay_core.postgres.console import Command, ConsoleError, check, parse_command

# As PgBouncer's documentation lists them, in that order.
POOLS = (
    "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel "
    "sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts"
)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("SHOW POOLS", Command("SHOW", "pools")),
        (" show\n Stats ; ", Command("SHOW", "stats")),
        ("SELECT version", Command("SHOW", "version")),
        ("SHOW HELP;", Command("SHOW", "help")),
        ("show timezone", Command("SHOW", "TimeZone")),
        ("PAUSE", Command("PAUSE")),
        ("pause orders;", Command("PAUSE", "orders")),
        ('RESUME "my ""db"""', Command("RESUME", 'my "db"')),
        ("RECONNECT Orders", Command("RECONNECT", "Orders")),
        ("KILL", Command("KILL")),
        ("RELOAD", Command("RELOAD")),
    ],
)
def test_orders(text: str, command: Command) -> None:
    assert parse_command(text) == command


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "invalid command '', use SHOW HELP;"),
        ("SHOW", "invalid command 'SHOW', use SHOW HELP;"),
        ("SHOW FOO", "invalid command 'SHOW FOO', use SHOW HELP;"),
        ("SHOW POOLS; SHOW STATS", "invalid command"),
        ("RELOAD x", "invalid command"),
        ("SHOW POOLS x", "invalid command"),
        ("FOO", "invalid command 'FOO'"),
        ('PAUSE "a', "invalid command"),
        ("SET a = 1", "SET is not supported: settings are those of the ProxyPool document"),
        ("SHUTDOWN", "SHUTDOWN is not supported"),
        ("DISABLE x", "DISABLE is not supported"),
        ("SUSPEND", "use PAUSE"),
    ],
)
def test_refused_orders(text: str, says: str) -> None:
    with pytest.raises(ConsoleError, match=f"^{says}" if says.startswith("invalid") else says):
        parse_command(text)


@pytest.mark.parametrize(
    ("text", "changes", "says"),
    [
        ("PAUSE", {}, ""),
        ("PAUSE a", {}, ""),
        ("PAUSE", {"admin": False}, "admin access needed"),
        ("SHOW POOLS", {"admin": False}, ""),
        ("PAUSE", {"all_paused": True}, "already suspended/paused"),
        ("KILL a", {"all_paused": True}, "already suspended/paused"),
        ("RESUME", {"all_paused": True}, ""),
        ("RESUME", {}, "pooler is not paused/suspended"),
        ("RESUME a", {}, "database a is not paused"),
        ("RESUME a", {"paused": {"a"}}, ""),
        ("RECONNECT b", {}, "no such database: b"),
        ("KILL pgbouncer", {}, "cannot kill admin db: pgbouncer"),
    ],
)
def test_orders_in_their_state(text: str, changes: dict[str, object], says: str) -> None:
    state = {"admin": True, "databases": {"a"}, "paused": set(), "all_paused": False, **changes}
    if not says:
        check(parse_command(text), **state)  # type: ignore[arg-type]
        return
    with pytest.raises(ConsoleError) as raised:
        check(parse_command(text), **state)  # type: ignore[arg-type]
    assert str(raised.value) == says


def names(table: str) -> list[str]:
    return [column.name for column in console.columns(table)]


def test_columns_are_pgbouncers() -> None:
    assert names("pools") == POOLS.split()
    assert names("version") == ["version"]
    assert names("clients") == names("servers")
    assert names("clients")[:6] == ["type", "user", "database", "replication", "state", "addr"]
    stats = names("stats")
    assert stats[:6] == [
        "database",
        "total_server_assignment_count",
        "total_xact_count",
        "total_query_count",
        "total_received",
        "total_sent",
    ]
    assert stats[13:18] == [
        "avg_server_assignment_count",
        "avg_xact_count",
        "avg_query_count",
        "avg_recv",
        "avg_sent",
    ]
    assert (len(stats), stats[-1]) == (25, "avg_client_login_count")
    assert names("stats_totals")[4:6] == ["bytes_received", "bytes_sent"]
    assert names("stats_averages")[9:] == [
        "avg_client_parse_count",
        "avg_server_parse_count",
        "avg_bind_count",
        "avg_client_login_count",
    ]
    assert names("TimeZone") == ["TimeZone"]


def test_types_are_pgbouncers() -> None:
    types = {column.name: (column.oid, column.size) for column in console.columns("clients")}
    assert types["user"] == types["connect_time"] == (25, -1)
    assert types["port"] == (23, 4)
    assert {column.oid for column in console.columns("stats")[1:]} == {1700}


def test_rows_in_text_form() -> None:
    (row,) = console.rows(
        "pools", [{"database": "d", "user": "u", "cl_waiting": 3, "maxwait": 1.9, "pool_mode": "session"}]
    )
    assert row == (b"d", b"u", b"0", b"3", *[b"0"] * 9, b"1", b"0", b"session", None)
    (client,) = console.rows("clients", [{"type": "C", "connect_time": 0.5, "close_needed": True}])
    shown = dict(zip(names("clients"), client, strict=True))
    assert (shown["connect_time"], shown["close_needed"], shown["tls"]) == (b"1970-01-01 00:00:00 UTC", b"1", None)
    (users,) = console.rows("lists", [{"list": console.LISTS[1], "items": 2}])
    assert users == (b"users", b"2")


def test_a_value_without_a_column_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="SHOW pools has no column cl_wating"):
        console.rows("pools", [{"cl_wating": 3}])


def test_the_rows_of_several_workers_are_one_table() -> None:
    one: dict[str, console.Value] = {"database": "d", "user": "u", "cl_active": 2, "maxwait": 1, "maxwait_us": 5}
    other = one | {"cl_active": 3, "maxwait": 0, "maxwait_us": 9}
    third = one | {"user": "v"}
    assert console.join("pools", [other, third, one]) == [one | {"cl_active": 5}, third]
    settings: dict[str, console.Value] = {"name": "d", "pool_size": 5, "port": 5432, "current_connections": 1}
    assert console.join("databases", [settings, settings]) == [settings | {"current_connections": 2}]
    lists: list[dict[str, console.Value]] = [{"list": "users", "items": 2}, {"list": "used_clients", "items": 2}]
    assert console.join("lists", lists * 2) == [lists[0], lists[1] | {"items": 4}]
    assert console.join("clients", [one, one]) == [one, one]
