"""Cancel requests: which session's key it is, and the request to its server (PostgreSQL docs 55.2.8).

A cancel request takes a connection of its own, which counts against the budget: the spare place of a grant. The lease
that it is meant for does not end before that connection has: it must not hit the next client's query.
"""

import asyncio
import secrets
import socket
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from forebay_core.lease import CLOSED
from forebay_core.pgwire import startup
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream

if TYPE_CHECKING:
    from forebay_proxy.postgres.server import PgConnection
    from forebay_proxy.postgres.session import Session

PATIENCE: Final = 5.0  # seconds for a place, and again for the server to take a request and close
AGAIN: Final = 0.02  # seconds between two looks for a place

Wanted = tuple["PgConnection", "Session | None", float]


class Cancels:
    """The keys of this worker's sessions, and the requests under way."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._sessions: dict[tuple[int, bytes], Session] = {}
        self._waiting: dict[Upstream, deque[Wanted]] = {}

    def new_key(self, session: "Session", size: int) -> tuple[int, bytes]:
        """A key by which the session's client can cancel; forgotten with `forget`."""
        while True:
            key = secrets.randbits(31) or 1, secrets.token_bytes(size)
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
        waiting = self._waiting.setdefault(connection.upstream, deque())
        waiting.append((connection, session, monotonic() + PATIENCE))
        if len(waiting) == 1:
            self._tasks.spawn(self._work(connection.upstream, waiting), "cancel requests")

    async def _work(self, upstream: Upstream, waiting: deque[Wanted]) -> None:
        """One after the other, each on the spare place."""
        while waiting:
            connection, session, deadline = waiting[0]
            try:
                while connection.state != CLOSED and not upstream.pool.take_spare():
                    if monotonic() > deadline:
                        raise TimeoutError
                    await asyncio.sleep(AGAIN)
                if connection.state != CLOSED:
                    await self._carry_out(upstream, connection)
            except (OSError, TimeoutError):
                upstream.rejections["cancel"] = upstream.rejections.get("cancel", 0) + 1
            finally:
                waiting.popleft()
                if session is not None:
                    session.cancel_over()
                upstream.act()

    async def _carry_out(self, upstream: Upstream, connection: "PgConnection") -> None:
        assert connection.cancel_key is not None
        upstream.write_down()
        loop = asyncio.get_running_loop()
        endpoint = connection.endpoint
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_connect(sock, (endpoint.address, endpoint.port))
                await loop.sock_sendall(sock, startup.write_cancel(connection.cancel_key))
                while await loop.sock_recv(sock, 64):  # the server closes when it has passed the signal on
                    pass
        finally:
            sock.close()
            upstream.pool.return_spare(monotonic())
            upstream.write_down()
