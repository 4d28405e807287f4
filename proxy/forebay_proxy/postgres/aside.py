"""Connections beside the leases: to ask a server something, or to cancel, whoever waits for a connection.

They take the spare place of a grant, one after the other in the order in which they came, and give it back when the
server's end is seen closed. (Design section 4: session protocols keep a grant's last place for this.)
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from forebay_core.balance import Endpoint
from forebay_core.lease import CLOSED, CLOSING, LEASED
from forebay_core.pgwire import frontend
from forebay_core.pgwire.fields import read_message
from forebay_proxy.connection import FULL, BriefOwner, LoginError
from forebay_proxy.postgres.server import LOGIN_LIMIT, Login, PgConnection
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream

T = TypeVar("T")

AGAIN: Final = 0.02  # seconds between two looks for a place that leases above the grant still have
Answer = list[bytes]  # the first column of each row


class NoPlace(Exception):
    """The spare place was not free in time, or the server is full: nothing has been asked."""


class Question(BriefOwner):
    """Leases a connection for one question. `answer` is None where the server refuses it, or goes."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._rows: Answer | None = []

    def server_said(
        self, connection: PgConnection, data: bytes, ready: bytes, events: list[tuple[bytes, int, int]]
    ) -> None:
        at = 0
        while (found := read_message(data, at, LOGIN_LIMIT)) is not None:
            kind, body, at = found
            if kind == b"D" and self._rows is not None:
                self._rows.append(body[6:])
            elif kind == b"E":
                self._rows = None
        if ready:
            self._settle(self._rows)

    def _settle(self, answer: Answer | None) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def upstream_lost(self, connection: PgConnection, exc: Exception | None, now: float) -> None:
        self._settle(None)


class AsideConnection(PgConnection):
    """One that the pool does not know. `over` is set at the server's end."""

    __slots__ = ("over",)

    def __init__(self, endpoint: Endpoint, upstream: Upstream) -> None:
        super().__init__(endpoint, upstream)
        self.over = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._login is not None and not self._login.done():
            self._login.set_exception(exc or ConnectionResetError(0, "the server closed the connection"))
        if self.owner is not None:
            self.owner.upstream_lost(self, exc, monotonic())
        self.state = CLOSED
        self.upstream.wheel.disarm(self)
        self.over.set()


class Asides:
    """The turns of one worker's spare places."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._turns: WeakKeyDictionary[Any, asyncio.Lock] = WeakKeyDictionary()

    @contextlib.asynccontextmanager
    async def place(self, upstream: Upstream, endpoint: Endpoint, patience: float) -> AsyncIterator[None]:
        """The spare place at the endpoint. Raises NoPlace where it has not come in `patience` seconds."""
        pool = upstream.pool
        turn = self._turns.setdefault(endpoint.server if pool.grant_per_endpoint else upstream, asyncio.Lock())
        try:
            async with asyncio.timeout(patience):
                await turn.acquire()
        except TimeoutError:
            raise NoPlace from None
        try:
            deadline = monotonic() + patience
            while not pool.take_spare(endpoint):
                if monotonic() > deadline:
                    raise NoPlace
                await asyncio.sleep(AGAIN)
            upstream.write_down()
            try:
                yield
            finally:
                pool.return_spare(endpoint, monotonic())
                upstream.write_down()
                upstream.act()
        finally:
            turn.release()

    async def ask(
        self, upstream: Upstream, endpoint: Endpoint, login: Login, query: str, patience: float
    ) -> Answer | None:
        """What the server answers, logged in as `login`; None where it can't be asked or refuses. Otherwise as
        `talk`."""

        async def say(connection: AsideConnection) -> Answer | None:
            question = Question()
            connection.kind = login
            await connection.log_in()
            connection.state = LEASED
            connection.owner = question
            connection.write(frontend.query(query))
            return await question.answer

        return await self.talk(upstream, endpoint, say, patience)

    async def talk(
        self, upstream: Upstream, endpoint: Endpoint, say: Callable[[AsideConnection], Awaitable[T]], patience: float
    ) -> T | None:
        """What `say` makes of a connection that is not logged in; None where there is none, or it is lost. Waits
        `patience` seconds for a place, and again for what comes of it; not for the server's end, which a server that
        hangs keeps from us. Raises NoPlace."""
        told: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._tasks.spawn(self._talk(upstream, endpoint, say, patience, told), f"question at {endpoint.name}")
        return await told

    async def _talk(
        self, upstream: Upstream, endpoint: Endpoint, say: Callable[[AsideConnection], Awaitable[T]], patience: float,
        told: asyncio.Future[T | None],
    ) -> None:  # fmt: skip
        """From the place taken to the server's end. `told` hears what has come of it when it is there, or NoPlace."""
        answer = None
        try:
            async with self.place(upstream, endpoint, patience):
                connection = AsideConnection(endpoint, upstream)
                try:
                    async with asyncio.timeout(patience):
                        await upstream.connect(connection)
                        answer = await say(connection)
                except LoginError as error:
                    if error.refusal.reason == FULL and not told.done():  # which says nothing of what was to be asked
                        told.set_exception(NoPlace())
                except (OSError, TimeoutError):
                    pass
                finally:
                    if not told.done():  # who asked may have gone
                        told.set_result(answer)
                    await self._end(connection)
        except NoPlace as error:
            if not told.done():
                told.set_exception(error)
        finally:
            told.cancel()  # where this is cancelled before there is an answer

    async def _end(self, connection: AsideConnection) -> None:
        """Close it, and wait for the server's end, `linger` seconds at most."""
        upstream = connection.upstream
        if connection.transport is not None:
            if connection.state != CLOSED:
                connection.state = CLOSING
                connection.shut(upstream.linger)
            await connection.over.wait()
        elif connection.sock is not None:
            await upstream.outlast(connection.sock)
        upstream.erase(connection)
