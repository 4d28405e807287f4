"""The watch over endpoints' roles: each is asked `pg_is_in_recovery()` every second, as `postgres.monitor`. That is a
check of its health as well, so `healthCheck.active` says how often, and what is too late.

An endpoint that can't be asked keeps its role until it is out (`unhealthyThreshold` checks in a row) and then has none.
One that plays another role than before loses the connections that were opened for the old one (`Pool.set_role`); who
waits for that role goes on as soon as an endpoint plays it. A question takes a connection of the pool where there is
room, else the place beside the leases (`aside`): who waits for a connection waits for the roles as well.
"""

import asyncio
from time import monotonic
from typing import Final

from forebay_core.balance import Endpoint
from forebay_core.lease import LEASED, OPENING, Connection
from forebay_core.pgwire import frontend
from forebay_core.spec.upstream import ActiveCheck
from forebay_proxy.connection import FULL
from forebay_proxy.postgres.aside import Answer, Asides, NoPlace, Question
from forebay_proxy.postgres.server import Login, PgConnection
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream

USUAL: Final = ActiveCheck.model_construct(interval=1.0, timeout=2.0)  # seconds; for an answer with connecting
PRIMARY: Final = "primary"
STANDBY: Final = "standby"
QUESTION: Final = "SELECT pg_catalog.pg_is_in_recovery()"
ANSWERS: Final = {b"t": STANDBY, b"f": PRIMARY}


class RoleWatch:
    """Watches the endpoints of one upstream; `close` ends it."""

    def __init__(self, upstream: Upstream, login: Login, asides: Asides, tasks: Tasks) -> None:
        self._upstream = upstream
        self.login = login
        self._asides = asides
        self._tasks = tasks
        self._task = tasks.spawn(self._run(), f"roles of {upstream.name}")

    def close(self) -> None:
        self._task.cancel()

    @property
    def _policy(self) -> ActiveCheck:
        return self._upstream.spec.health_check.active or USUAL

    async def _run(self) -> None:
        while True:
            started = monotonic()
            endpoints = list(self._upstream.pool.endpoints)
            asked = [self._tasks.spawn(self._look(endpoint), f"role of {endpoint.name}") for endpoint in endpoints]
            if asked:
                await asyncio.wait(asked)
            await asyncio.sleep(max(0.1, started + self._policy.interval - monotonic()))

    async def _look(self, endpoint: Endpoint) -> None:
        upstream, question = self._upstream, Question()
        connection = upstream.pool.reserve(endpoint, question, monotonic(), self.login)
        try:
            if connection is not None:
                answer = await self._ask_on(connection, question)
            else:
                answer = await self._asides.ask(upstream, endpoint, self.login, QUESTION, self._policy.timeout)
        except NoPlace:
            return  # the last answer stands
        role = ANSWERS.get(answer[0]) if answer else None
        now = monotonic()
        if endpoint in upstream.pool.endpoints:
            endpoint.health.checked(role is not None, now)
            if endpoint.role != role and (role is not None or not endpoint.health.healthy):
                upstream.pool.set_role(endpoint, role, now)
            upstream.pool.tick(now)
        upstream.act()

    async def _ask_on(self, connection: Connection, question: Question) -> Answer | None:
        """Ask on a connection of the pool. Raises NoPlace."""
        assert isinstance(connection, PgConnection)
        answer = None
        try:
            async with asyncio.timeout(self._policy.timeout):
                if connection.state == OPENING:
                    opening = self._upstream.open(connection)
                    await asyncio.wait((opening,))
                    if (refusal := opening.result()) is not None and refusal.reason == FULL:
                        raise NoPlace
                if connection.state == LEASED:
                    connection.write(frontend.query(QUESTION))
                    answer = await question.answer
        except TimeoutError:
            pass
        finally:
            self._give_back(connection, question, good=answer is not None)
        return answer

    def _give_back(self, connection: PgConnection, question: Question, *, good: bool) -> None:
        if connection.state == OPENING:  # too slow: it is closed as soon as it is open
            connection.owner = None
            self._upstream.pool.retire(connection, "error")
        elif connection.owner is question and good:
            self._upstream.pool.release(connection, question, monotonic(), count=False)
        elif connection.owner is question:
            self._upstream.pool.discard(connection, question, monotonic(), "error")
