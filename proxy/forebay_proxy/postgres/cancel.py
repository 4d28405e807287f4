"""Cancel requests: which session's key it is, and the request to its server (PostgreSQL docs 55.2.8).

A cancel request takes a connection of its own, on the spare place of a grant, over TLS as the upstream's others. The
lease that it is meant for does not end before that connection has: it must not hit the next client's query.
"""

import secrets
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from forebay_core.balance import Endpoint
from forebay_core.lease import CLOSED
from forebay_core.pgwire import startup
from forebay_proxy.postgres.aside import AsideConnection, Asides, NoPlace
from forebay_proxy.postgres.pods import RANDOM_BITS, TAG_BITS
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream

if TYPE_CHECKING:
    from forebay_proxy.postgres.server import PgConnection
    from forebay_proxy.postgres.session import Session

PATIENCE: Final = 5.0  # seconds for a place, and again for the server to take a request and close

Wanted = tuple["PgConnection", "Session | None"]


class Cancellable(Protocol):
    """Whose client has been given a key."""

    def cancelled(self) -> None:
        """The client asks to cancel what it asked for."""


class Cancels:
    """The keys of this worker's sessions, the admin database's too, and the requests under way."""

    def __init__(self, tasks: Tasks, asides: Asides) -> None:
        self._tasks = tasks
        self._asides = asides
        self.tag: int | None = None  # what keys begin with, where other pods are to know whose they are
        self._sessions: dict[tuple[int, bytes], Cancellable] = {}
        self._waiting: dict[Endpoint, deque[Wanted]] = {}

    def new_key(self, session: Cancellable, size: int) -> tuple[int, bytes]:
        """A key by which the session's client can cancel; forgotten with `forget`."""
        while True:
            tag = self.tag if self.tag is not None else secrets.randbits(TAG_BITS)
            key = (tag << RANDOM_BITS | secrets.randbits(RANDOM_BITS)) or 1, secrets.token_bytes(size)
            if key not in self._sessions:
                self._sessions[key] = session
                return key

    def forget(self, key: tuple[int, bytes]) -> None:
        self._sessions.pop(key, None)

    def by(self, request: startup.CancelRequest) -> bool:
        """Carry out a client's request; False where the key is nobody's here."""
        session = self._sessions.get((request.pid, request.key))
        if session is None:
            return False
        session.cancelled()
        return True

    def send(self, connection: "PgConnection", session: "Session | None") -> None:
        """Cancel what a server connection does. `session.cancel_over` is called at the end."""
        waiting = self._waiting.setdefault(connection.endpoint, deque())
        waiting.append((connection, session))
        if len(waiting) == 1:
            self._tasks.spawn(self._work(connection.endpoint, waiting), "cancel requests")

    async def _work(self, endpoint: Endpoint, waiting: deque[Wanted]) -> None:
        """One after the other."""
        while waiting:
            connection, session = waiting[0]
            try:
                if connection.state != CLOSED:
                    assert connection.cancel_key is not None
                    sent = await self.request(connection.upstream, endpoint, connection.cancel_key, PATIENCE)
                    if sent is None:  # the signal may still come
                        connection.upstream.pool.retire(connection, "error")
            finally:
                waiting.popleft()
                if session is not None:
                    session.cancel_over()
                connection.upstream.act()
        del self._waiting[endpoint]

    async def request(
        self, upstream: Upstream, endpoint: Endpoint, request: startup.CancelRequest, patience: float
    ) -> bool | None:
        """Send one, and wait until the server has passed the signal on, which it shows by closing. False where there
        was no place to send it from; None where it could not be sent, or the server has not closed in time."""

        async def say(connection: AsideConnection) -> bool:
            connection.write(startup.write_cancel(request))
            await connection.over.wait()
            return True

        sent: bool | None
        try:
            sent = await self._asides.talk(upstream, endpoint, say, patience)
        except NoPlace:
            sent = False
        if not sent:
            upstream.rejections["cancel"] = upstream.rejections.get("cancel", 0) + 1
        return sent
