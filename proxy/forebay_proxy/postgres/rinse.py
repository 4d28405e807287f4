"""What is done to a connection between two clients: a transaction that was left is rolled back, state is reset.

A connection that can't be reset in time is closed, never handed on.
"""

from collections.abc import Iterable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from forebay_core.pgwire import backend, frontend
from forebay_core.postgres.marks import undo
from forebay_core.postgres.statements import ENDS_ALL
from forebay_proxy.connection import BriefOwner

if TYPE_CHECKING:
    from forebay_proxy.postgres.server import PgConnection

PATIENCE: Final = 5.0  # seconds
ALL: Final = b"DISCARD ALL"


class Rinse(BriefOwner):
    """Leases the connection while it is reset. An entry of the timer wheel."""

    __slots__ = ("_connection", "_failed", "_queries", "deadline", "wheel_due")

    def __init__(self, connection: "PgConnection", queries: list[bytes]) -> None:
        self._connection = connection
        self._queries = queries
        self._failed = False
        self.deadline = self.wheel_due = inf
        connection.upstream.wheel.arm(self, monotonic() + PATIENCE)
        self._next()

    def _next(self) -> None:
        self._connection.write(frontend.query(self._queries.pop(0)))

    def server_said(
        self, connection: "PgConnection", data: bytes, ready: bytes, events: list[tuple[bytes, int, int]]
    ) -> None:
        for kind, start, end in events:
            if kind == b"S":
                connection.report(data, start, end)
                connection.settings = None
            elif kind == b"C" and data[start + 5 : end - 1] in ENDS_ALL:
                connection.statements.clear()
            elif kind == b"E":
                self._failed = True
                connection.last_words = backend.read_error(data, start, end)
        if not ready:
            return
        if self._failed or len(ready) > 1:
            self._over(None)
        elif self._queries:
            self._next()
        else:
            self._over(ready)

    def _over(self, ready: bytes | None) -> None:
        connection, upstream = self._connection, self._connection.upstream
        upstream.wheel.disarm(self)
        now = monotonic()
        if ready == b"I" and not (connection.kept or connection.skip):
            upstream.pool.release(connection, self, now, count=False)
        else:
            upstream.pool.discard(connection, self, now, "error")
        upstream.act()

    def on_deadline(self, now: float) -> None:
        self._over(None)

    def upstream_lost(self, connection: "PgConnection", exc: Exception | None, now: float) -> None:
        connection.upstream.wheel.disarm(self)


def rinse(
    connection: "PgConnection", owner: object, rollback: bytes, pins: Iterable[str] = (), reset: str = "auto"
) -> None:
    """End the lease of `owner`: at once where there is nothing to reset, else when it has been. `reset` is
    pool.resetOnReturn."""
    pool = connection.upstream.pool
    pins = frozenset(pins)
    undoing: bytes | None
    if reset == "never":
        undoing = None if pins else b""
    elif reset == "always" or "session" in pins:
        undoing = ALL
    else:
        undoing = undo(pins)
    if undoing is None or connection.kept or connection.skip:
        pool.discard(connection, owner, monotonic(), "error")
        return
    queries = [query for query in (rollback, undoing) if query]
    if queries:
        connection.owner = Rinse(connection, queries)
    else:
        pool.release(connection, owner, monotonic())
