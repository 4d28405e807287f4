"""The watch over endpoints' roles: each is asked `pg_is_in_recovery()` every second, as `postgres.monitor`.

An endpoint that can't be asked has no role. One that plays another role than before loses the connections that were
opened for the old one (`Pool.set_role`); who waits for that role goes on as soon as an endpoint plays it. A question
takes a connection of the pool, and where no place is free the last answer stands.
"""

import asyncio
from time import monotonic
from typing import Final

from forebay_core.balance import Endpoint
from forebay_core.lease import LEASED, OPENING
from forebay_core.pgwire import frontend
from forebay_proxy.postgres.server import Login, PgConnection
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream

INTERVAL: Final = 1.0  # seconds
PATIENCE: Final = 2.0  # seconds for an answer, with connecting
PRIMARY: Final = "primary"
STANDBY: Final = "standby"
QUESTION: Final = frontend.query("SELECT pg_catalog.pg_is_in_recovery()")
ANSWERS: Final = {b"\0\1\0\0\0\1t": STANDBY, b"\0\1\0\0\0\1f": PRIMARY}  # a DataRow's content


class Question:
    """Leases a connection for one question."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._role: str | None = None

    def server_said(
        self, connection: PgConnection, data: bytes, ready: bytes, events: list[tuple[bytes, int, int]]
    ) -> None:
        for content, role in ANSWERS.items():
            if content in data:
                self._role = role
        if ready:
            connection.used_at = monotonic()
            self._settle(self._role)

    def _settle(self, role: str | None) -> None:
        if not self.answer.done():
            self.answer.set_result(role)

    def upstream_lost(self, connection: PgConnection, exc: Exception | None, now: float) -> None:
        self._settle(None)

    def take_back(self) -> None:
        """It ends by itself."""

    def upstream_full(self) -> None:
        """A question is smaller than any buffer."""

    def upstream_drained(self) -> None:
        """A question is smaller than any buffer."""


class RoleWatch:
    """Watches the endpoints of one upstream; `close` ends it."""

    def __init__(self, upstream: Upstream, login: Login, tasks: Tasks) -> None:
        self._upstream = upstream
        self.login = login
        self._tasks = tasks
        self._task = tasks.spawn(self._run(), f"roles of {upstream.name}")

    def close(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            started = monotonic()
            endpoints = list(self._upstream.pool.endpoints)
            asked = [self._tasks.spawn(self._look(endpoint), f"role of {endpoint.name}") for endpoint in endpoints]
            if asked:
                await asyncio.wait(asked)
            await asyncio.sleep(max(0.1, started + INTERVAL - monotonic()))

    async def _look(self, endpoint: Endpoint) -> None:
        upstream, question = self._upstream, Question()
        connection = upstream.pool.reserve(endpoint, question, monotonic(), self.login)
        if connection is None:
            return
        assert isinstance(connection, PgConnection)
        role = None
        try:
            async with asyncio.timeout(PATIENCE):
                if connection.state == OPENING:
                    await asyncio.wait((upstream.open(connection),))
                if connection.state == LEASED:
                    connection.write(QUESTION)
                    role = await question.answer
        except TimeoutError:
            pass
        finally:
            self._give_back(connection, question, good=role is not None)
        now = monotonic()
        if endpoint in upstream.pool.endpoints:
            endpoint.health.checked(role is not None, now)
            if endpoint.role != role:
                upstream.pool.set_role(endpoint, role, now)
            upstream.pool.tick(now)
        upstream.act()

    def _give_back(self, connection: PgConnection, question: Question, *, good: bool) -> None:
        if connection.state == OPENING:  # too slow: it is closed as soon as it is open
            connection.owner = None
            connection.retire = "error"
        elif connection.owner is question and good:
            self._upstream.pool.release(connection, question, monotonic(), count=False)
        elif connection.owner is question:
            self._upstream.pool.discard(connection, question, monotonic(), "error")
