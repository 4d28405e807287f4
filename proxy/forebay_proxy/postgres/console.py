"""The admin database `pgbouncer`: carries out what `forebay_core.postgres.console` has parsed.

It shows and orders what all workers of one supervisor have. In a cluster that is one replica.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from forebay_core.lease import IDLE, LEASED, OPENING
from forebay_core.pgwire import backend, scan_client
from forebay_core.pgwire.fields import text
from forebay_core.postgres.console import (
    EXTENDED,
    GATHERED,
    HELP,
    LISTS,
    PARAMETERS,
    SQLSTATE,
    TABLES,
    Command,
    ConsoleError,
    Value,
    check,
    columns,
    join,
    parse_command,
    rows,
)
from forebay_proxy.postgres import refusals
from forebay_proxy.postgres.server import serves

if TYPE_CHECKING:
    from forebay_proxy.postgres.client import PgClient
    from forebay_proxy.postgres.proxy import PgProxy

LONGEST: Final = 10_000  # bytes of a command
LOOK_AGAIN: Final = 0.05  # seconds between two looks for connections of a database that is being paused
LONGEST_NAME: Final = 63  # bytes of an application's, as a server cuts it
MOST_ASKED: Final = 100  # messages that wait for the answer to one before them
VERSION: Final = "PgBouncer 1.25.0 compatible (forebay)"
STATES: Final = {IDLE: "idle", LEASED: "active", OPENING: "new"}
READY: Final = backend.ready_for_query(b"I")
SETTINGS: Final = {
    "application_name": "forebay", "client_encoding": "UTF8", "DateStyle": "ISO", "server_version": "1.25.0/forebay",
    "standard_conforming_strings": "on", "TimeZone": "GMT",
}  # fmt: skip

Rows = Iterator[Mapping[str, Value]]


class Commands(Protocol):
    """What is told to, and asked of, all workers."""

    rows_of_others: Callable[[str], Awaitable[list[Mapping[str, Value]]]]  # of a table

    def order(self, name: str, of: str) -> None: ...


class Console:
    """One client's session with it."""

    reported: Final = {name: value.encode() for name, value in SETTINGS.items()}

    def __init__(self, client: "PgClient", user: str, *, admin: bool) -> None:
        self._client = client
        self._proxy = client.proxy
        self._admin = admin
        self._kept = b""
        self._skipping = False
        self._asked: deque[tuple[bytes, str]] = deque()  # types and texts of messages that wait for their turn
        self._busy = False  # others are asked
        self._cancelled = False  # what is under way is not to be waited for
        self.cancel_key = (0, b"")  # by which the client can cancel

    def received(self, data: bytes) -> None:
        """Bytes of the client. Raises ProtocolError."""
        data = self._kept + data
        end, missing, kinds, _, _, texts = scan_client(data, 0, LONGEST)
        self._kept = data[end:]
        if missing:
            self._client.say("protocol", cause=f"a command of more than {LONGEST} bytes")
            return
        queries = iter(texts)
        for place in range(len(kinds)):
            kind = kinds[place : place + 1]
            self._asked.append((kind, text(next(queries)) if kind in b"PQ" else ""))
        self.go_on()

    def go_on(self) -> None:
        """Answer one after the other, for as long as the client reads."""
        while self._asked and not self._busy and not self._client.full:
            kind, query = self._asked.popleft()
            if kind == b"X":
                self._client.close()
                return
            if kind == b"Q":
                self._client.write(self._answer(query))
            elif kind == b"S":
                self._skipping = False
                self._client.write(READY)
            elif not self._skipping:
                self._skipping = True
                self._client.write(backend.error_response("ERROR", SQLSTATE, EXTENDED))
        if len(self._asked) > MOST_ASKED:
            self._client.pause_reading()
        else:
            self._client.resume_reading()

    def _answer(self, query: str) -> bytes:
        """What is known at once."""
        if not query.strip(" \t\r\n;"):
            return backend.EMPTY_QUERY + READY
        proxy = self._proxy
        try:
            command = parse_command(query)
            names = {*proxy.named, *proxy.pauses} if proxy.named else {command.argument}  # none told: there may be any
            check(command, admin=self._admin, databases=names, paused=proxy.pauses, all_paused=proxy.paused)
            if command.verb != "SHOW":
                return self._order(command)
        except ConsoleError as error:
            return refused(str(error))
        table = command.argument
        if table == "help":
            return backend.notice_response("NOTICE", "00000", "Console usage", detail=HELP) + done("SHOW") + READY
        if table in GATHERED:
            return self._later(self._gather(table))
        return shown(table, [{table: SETTINGS.get(table, "")}] if table in PARAMETERS else list(SHOWN[table](proxy)))

    def _later(self, answer: Coroutine[Any, Any, bytes]) -> bytes:
        """Nothing yet: what is asked behind it waits."""
        self._busy, self._cancelled = True, False
        self._proxy.spawn(self._finish(answer), "console")
        return b""

    async def _finish(self, answer: Coroutine[Any, Any, bytes]) -> None:
        data = await answer
        self._busy = False
        if self._client.console is self:
            self._client.write(data)
            self.go_on()

    def cancelled(self) -> None:
        """The client asks to cancel what it asked for: a PAUSE that waits."""
        self._cancelled = True

    async def _gather(self, table: str) -> bytes:
        return shown(table, await self._rows(table))

    async def _rows(self, table: str) -> list[Mapping[str, Value]]:
        """What all workers have for a table."""
        others = await self._proxy.commands.rows_of_others(table)
        return join(table, [*SHOWN[table](self._proxy), *others])

    async def _carry_out(self, command: Command) -> bytes:
        """An order is answered when all workers have carried it out, since they hear it before they are asked for rows;
        PAUSE when nothing is under way any more, see `_in_use`: as in PgBouncer a cancel request ends that wait with a
        RESUME."""
        verb, database = command
        commands = self._proxy.commands
        if verb == "KILL":  # who comes back waits; as in PgBouncer each database is paused by its name
            for name in [database] if database else [str(row["name"]) for row in await self._rows("databases")]:
                commands.order("pause", name)
        commands.order({"RECONNECT": "recycle"}.get(verb, verb.lower()), database)
        what = f"database {database}" if database else "the pool"
        in_use = await self._in_use(database)
        while verb == "PAUSE" and in_use and self._client.console is self:
            if not (database in self._proxy.pauses if database else self._proxy.paused):
                return refused(f"{what} was resumed before it was at rest")
            if self._cancelled:
                commands.order("resume", database)
                return refusals.error(refusals.CANCELLED) + READY
            await asyncio.sleep(LOOK_AGAIN)
            in_use = await self._in_use(database)
        return done(verb) + READY

    async def _in_use(self, database: str) -> bool:
        """Of one database, whether it has connections to the server: without any it can be renamed, or dropped. Of all
        of them, whether any connection is leased."""
        if database:
            rows = await self._rows("databases")
            return any(row["current_connections"] for row in rows if row["name"] == database)
        return any(row["state"] == STATES[LEASED] for row in await self._rows("servers"))

    def _order(self, command: Command) -> bytes:
        if command.verb == "RELOAD":
            raise ConsoleError("RELOAD is not needed: a changed document is taken up by itself")
        return self._later(self._carry_out(command))


def refused(why: str) -> bytes:
    """The answer to what can't be done."""
    return backend.error_response("ERROR", SQLSTATE, why) + READY


def shown(table: str, values: list[Mapping[str, Value]]) -> bytes:
    """The answer to SHOW."""
    described = backend.row_description([(column.name, column.oid) for column in columns(table)])
    found = (backend.data_row([None if v is None else text(v) for v in row]) for row in rows(table, values))
    return described + b"".join(found) + done("SHOW") + READY


def done(tag: str) -> bytes:
    return backend.command_complete(tag)


# ---------------------------------------------------------------------- the tables


def pools(proxy: "PgProxy") -> Rows:
    now = monotonic()
    for database in proxy.databases.values():
        sessions = [c.session for c in proxy.clients if c.session is not None and c.session.database is database]
        waiting = [session for session in sessions if session.waiting]
        kinds = (database.login, database.instead)
        states = [c.state for c in database.upstream.pool.connections if c.kind in kinds]
        longest = max((now - session.since for session in waiting), default=0.0)
        yield {
            "database": database.name, "user": database.user, "cl_active": len(sessions) - len(waiting),
            "cl_waiting": len(waiting), "sv_active": states.count(LEASED), "sv_idle": states.count(IDLE),
            "sv_login": states.count(OPENING), "sv_being_canceled": sum(1 for s in sessions if s.cancelling),
            "maxwait": int(longest), "maxwait_us": int(longest % 1 * 1e6), "pool_mode": proxy.postgres.pool_mode,
        }  # fmt: skip


def clients(proxy: "PgProxy") -> Rows:
    offset = time.time() - monotonic()
    for client in proxy.clients:
        session = client.session
        if session is None:
            continue
        wait = monotonic() - session.since if session.waiting else 0.0
        server = session.connection
        yield {
            "type": "C", "user": session.database.user, "database": session.database.name,
            "state": "waiting" if session.waiting else "active" if server is not None else "idle",
            "addr": client.peer, "connect_time": client.since + offset, "wait": int(wait),
            "wait_us": int(wait % 1 * 1e6), "ptr": hex(id(client)), "link": hex(id(server)) if server else "",
            "application_name": text(session.settings.get("application_name", b"")[:LONGEST_NAME]), "id": id(client),
            "prepared_statements": len(session.statements.by_name),
        }  # fmt: skip


def servers(proxy: "PgProxy") -> Rows:
    offset = time.time() - monotonic()
    for upstream in proxy.upstreams.values():
        for connection in upstream.pool.connections:
            some: Any = connection
            key = some.cancel_key
            yield {
                "type": "S", "user": some.kind.user, "database": some.kind.database,
                "state": STATES.get(some.state, "used"), "addr": some.endpoint.address, "port": some.endpoint.port,
                "connect_time": some.since + offset, "request_time": some.leased_at + offset,
                "close_needed": int(some.retire is not None), "ptr": hex(id(some)), "id": id(some),
                "remote_pid": key.pid if key is not None else 0,
                "application_name": text(some.reported.get("application_name", b"")),
                "prepared_statements": len(some.statements.present),
            }  # fmt: skip


def databases(proxy: "PgProxy") -> Rows:
    known = {database.name: database for database in proxy.databases.values()}
    for name in dict.fromkeys((*proxy.named, *known, *proxy.pauses)):
        entry = proxy.named.get(name)
        upstream = proxy.upstream_of(entry)
        pool = upstream.pool
        mine = [d for d in proxy.databases.values() if d.name == name]
        yield {
            "name": name, "host": ",".join(e.host for e in pool.endpoints), "pool_size": pool.size,
            "port": pool.endpoints[0].port if pool.endpoints else 0, "reserve_pool_size": pool.max_overflow,
            "database": (entry and entry.database) or name, "force_user": entry.user if entry is not None else None,
            "min_pool_size": pool.min_idle, "server_lifetime": int(pool.recycle), "pool_mode": proxy.postgres.pool_mode,
            "max_connections": pool.limit, "paused": proxy.paused or name in proxy.pauses,
            "current_connections": sum(
                1 for u in proxy.upstreams.values() for c in u.pool.connections if serves(c.kind, name)
            ),
            "current_client_connections": sum(1 for c in proxy.clients if c.session and c.session.database in mine),
        }  # fmt: skip


def totals(proxy: "PgProxy") -> dict[str, int]:
    counts: dict[str, int] = {}
    for database in proxy.databases.values():
        counts[database.name] = counts.get(database.name, 0) + database.transactions
    return counts


def stats(proxy: "PgProxy") -> Rows:
    for name, count in totals(proxy).items():
        yield {"database": name, "total_xact_count": count, "total_server_assignment_count": count}


def stats_totals(proxy: "PgProxy") -> Rows:
    for name, count in totals(proxy).items():
        yield {"database": name, "xact_count": count, "server_assignment_count": count}


def stats_averages(proxy: "PgProxy") -> Rows:
    for name in totals(proxy):
        yield {"database": name}


def users(proxy: "PgProxy") -> Rows:
    for name in dict.fromkeys(database.user for database in proxy.databases.values()):
        mine = [c for c in proxy.clients if c.session is not None and c.session.database.user == name]
        yield {"name": name, "pool_mode": proxy.postgres.pool_mode, "current_client_connections": len(mine)}


def lists(proxy: "PgProxy") -> Rows:
    states = [connection.state for upstream in proxy.upstreams.values() for connection in upstream.pool.connections]
    numbers = {
        "databases": len(set(totals(proxy)) | set(proxy.named)),
        "users": len({database.user for database in proxy.databases.values()}),
        "pools": len(proxy.databases),
        "used_clients": sum(1 for client in proxy.clients if client.session is not None),
        "login_clients": sum(1 for client in proxy.clients if client.login is not None),
        "free_servers": states.count(IDLE),
        "used_servers": states.count(LEASED),
    }
    for name in LISTS:
        yield {"list": name, "items": numbers.get(name, 0)}


def config(proxy: "PgProxy") -> Rows:
    pool = next(iter(proxy.upstreams.values())).pool
    postgres = proxy.postgres
    values: dict[str, object] = {
        "auth_type": postgres.auth.method,
        "client_idle_timeout": f"{postgres.client_idle_timeout:g}",
        "default_pool_size": pool.size,
        "idle_transaction_timeout": f"{postgres.idle_transaction_timeout:g}",
        "max_client_conn": proxy.most_clients,
        "max_prepared_statements": postgres.max_prepared_statements,
        "min_pool_size": pool.min_idle,
        "pool_mode": postgres.pool_mode,
        "query_timeout": f"{postgres.query_timeout:g}",
        "query_wait_timeout": f"{pool.timeout:g}",
        "reserve_pool_size": pool.max_overflow,
        "server_idle_timeout": f"{pool.idle_timeout:g}",
        "server_lifetime": f"{pool.recycle:g}",
    }
    for key, value in values.items():
        yield {"key": key, "value": str(value), "default": "", "changeable": "no"}


def state(proxy: "PgProxy") -> Rows:
    for key, value in (("active", not proxy.paused), ("paused", proxy.paused), ("suspended", False)):
        yield {"key": key, "value": "yes" if value else "no"}


def version(proxy: "PgProxy") -> Rows:
    yield {"version": VERSION}


def totals_of_all(proxy: "PgProxy") -> Rows:
    yield {"name": "total_xact_count", "value": sum(totals(proxy).values())}


SHOWN: Final = {
    "clients": clients, "config": config, "databases": databases, "lists": lists, "pools": pools, "servers": servers,
    "state": state, "stats": stats, "stats_averages": stats_averages, "stats_totals": stats_totals,
    "totals": totals_of_all, "users": users, "version": version,
}  # fmt: skip
assert set(SHOWN) == set(TABLES)
