"""Ends what killed processes have left at the servers, and asks what has gone.

A backend whose client was killed goes on with its query; it is cancelled, by the key that the dead had (journal), which
needs no login. Then the server is asked whether it is still there: a connection that was reset, as its end came before
an answer was read, leaves no trace in the kernel. Anybody may see who is there, so the `monitor` is asked as, or else
a client's user. As `monitor` what does not heed its cancel request is terminated.

No innocent backend is ended: a process ID may be another's by now, so only one is terminated that began before the dead
connection was missed, and whose client has that connection's port.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Final

from forebay_core.balance import Endpoint
from forebay_core.pgwire import startup
from forebay_proxy.journal import Record
from forebay_proxy.postgres.aside import Asides, NoPlace
from forebay_proxy.postgres.cancel import Cancels
from forebay_proxy.postgres.server import Login
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream

BY_ITSELF: Final = 0.1  # seconds in which an idle backend sees that its client has gone
AGAIN: Final = 0.5  # seconds between two looks
PATIENCE: Final = 2.0  # seconds for a place, and for an answer
ENDING: Final = 0.05  # seconds from a backend's end in the view to its place being free: it is done within one
GIVES_UP: Final = 10.0  # seconds for which nobody has asked for the end of anything
# `dead` has a process ID, a port, and the seconds since the connection was missed. Who may not see when others began
# sees NULL.
THERE: Final = (
    "SELECT a.pid FROM pg_catalog.pg_stat_activity a JOIN (VALUES {dead}) AS dead (pid, port, age) ON a.pid = dead.pid "
    "WHERE a.backend_start IS NULL OR a.backend_start < pg_catalog.now() - pg_catalog.make_interval(secs => dead.age)"
)
TERMINATE: Final = (
    "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a "
    "JOIN (VALUES {dead}) AS dead (pid, port, age) ON a.pid = dead.pid AND a.client_port = dead.port "
    "WHERE a.backend_start < pg_catalog.now() - pg_catalog.make_interval(secs => dead.age)"
)


class Dead:
    """What is known of one connection of the dead."""

    __slots__ = ("cancelled", "gone", "missed_at")

    def __init__(self) -> None:
        self.missed_at = monotonic()
        self.cancelled = False
        self.gone = False


class Leftovers:
    """See the module's docstring. `logins` are the monitor's, by upstream."""

    def __init__(
        self, cancels: Cancels, asides: Asides, tasks: Tasks, any_login: Callable[[Upstream], Login | None]
    ) -> None:
        """`any_login`: whom to ask the server as where there is no monitor, if there is anybody."""
        self.logins: dict[str, Login] = {}
        self._any_login = any_login
        self._cancels = cancels
        self._asides = asides
        self._tasks = tasks
        self._dead: dict[Upstream, dict[str, dict[Record, Dead]]] = {}  # by whose they are
        self._asked_at: dict[Upstream, float] = {}  # of those that are being worked on

    def end(self, whose: str, upstream: Upstream, records: Iterable[Record]) -> list[Record]:
        """End these; to be called again and again, until none is left of `whose`. Returns those that have gone."""
        known = self._dead.setdefault(upstream, {})
        before = known.get(whose, {})
        mine = known[whose] = {record: before.get(record) or Dead() for record in records if record.pid}
        if mine:
            if upstream not in self._asked_at:
                self._tasks.spawn(self._work(upstream), f"leftovers at {upstream.name}")
            self._asked_at[upstream] = monotonic()
        return [record for record, dead in mine.items() if dead.gone]

    async def _work(self, upstream: Upstream) -> None:
        await asyncio.sleep(BY_ITSELF)
        while monotonic() - self._asked_at[upstream] < GIVES_UP:
            left = {
                record: dead for mine in self._dead[upstream].values() for record, dead in mine.items() if not dead.gone
            }
            if not left:
                break
            for endpoint in list(upstream.pool.endpoints):
                here = {r: dead for r, dead in left.items() if (r.address, r.port) == (endpoint.address, endpoint.port)}
                if here:
                    await self._end_at(upstream, endpoint, here)
            await asyncio.sleep(AGAIN)
        del self._asked_at[upstream]

    async def _end_at(self, upstream: Upstream, endpoint: Endpoint, left: Mapping[Record, Dead]) -> None:
        for record, dead in left.items():
            if record.key and not dead.cancelled:
                request = startup.CancelRequest(record.pid, record.key)
                if not await self._cancels.request(upstream, endpoint, request, PATIENCE):
                    break  # it does not answer, or there is no place: the next round tries again
                dead.cancelled = True
        monitor = self.logins.get(upstream.name)
        login = monitor or self._any_login(upstream)
        if login is None:
            return
        try:
            there = await self._asides.ask(upstream, endpoint, login, THERE.format(dead=rows(left)), PATIENCE)
            if there is None:
                return
            alive = {record: dead for record, dead in left.items() if str(record.pid).encode() in there}
            if alive and monitor is not None:
                await self._asides.ask(upstream, endpoint, login, TERMINATE.format(dead=rows(alive)), PATIENCE)
            else:
                await asyncio.sleep(ENDING)
            for record in left.keys() - alive.keys():
                left[record].gone = True
        except NoPlace:
            return


def rows(left: Mapping[Record, Dead]) -> str:
    """As VALUES of a statement."""
    now = monotonic()
    return ",".join(f"({record.pid},{record.own_port},{now - dead.missed_at:.3f})" for record, dead in left.items())
