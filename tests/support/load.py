"""A load client: N keep-alive clients, each on its own connection, M requests each or until told to stop.

Every answer is parsed strictly (tests.support.raw), every outcome is counted; nothing is retried.
"""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.raw import Answer, Connection, CutAnswer, MalformedAnswer, request_bytes

Request = Callable[[int, int], bytes]  # (client, number of its request) -> what to send
Check = Callable[[int, int, Answer], str | None]  # a complaint, or None


@dataclass
class Outcome:
    """What a run came to. An answer is in `statuses`; a request without one, or a complaint of the check
    about its answer, is in `errors`."""

    latencies: list[float] = field(default_factory=list)  # seconds, of answered requests, in order of answering
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    elapsed: float = 0.0

    @property
    def answered(self) -> int:
        return sum(self.statuses.values())

    @property
    def failed(self) -> int:
        """Requests that got no answer, or one of 500 and above."""
        return sum(self.errors.values()) + sum(n for status, n in self.statuses.items() if status >= 500)

    def quantile(self, share: float) -> float:
        """The latency, in seconds, that `share` of the answers do not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def __repr__(self) -> str:
        tail = f", p50 {self.quantile(0.5):.4f} s, p99 {self.quantile(0.99):.4f} s" if self.latencies else ""
        return f"<{dict(self.statuses)}, errors {dict(self.errors)}, {self.connections} connections{tail}>"


class Load:
    """Load in the background: `async with Load(port) as load: ...`; leaving waits for what is under way.

    `requests` is per client; None goes on until `stop()`. A client whose connection was closed by an answer
    with `Connection: close` opens the next one; a client that met an error opens one too.
    """

    def __init__(
        self,
        port: int,
        *,
        clients: int = 10,
        requests: int | None = None,
        request: bytes | Request | None = None,
        check: Check | None = None,
        keep_alive: bool = True,
        tls: ssl.SSLContext | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.port = port
        self.clients = clients
        self.requests = requests
        self.outcome = Outcome()
        fixed = request_bytes() if request is None else request
        self._request: Request = fixed if callable(fixed) else lambda _client, _number: fixed
        self._check = check
        self._keep_alive = keep_alive
        self._tls = tls
        self._timeout = timeout
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._started = time.monotonic()
        self._tasks = [asyncio.create_task(self._client(i), name=f"client {i}") for i in range(self.clients)]
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            return
        if self.requests is None:
            self.stop()
        await self.done()

    def stop(self) -> None:
        """Send no further request."""
        self._stopping = True

    async def done(self) -> Outcome:
        """Wait until every client has finished."""
        await asyncio.gather(*self._tasks)
        self.outcome.elapsed = time.monotonic() - self._started
        return self.outcome

    async def answered(self, count: int, within: float = 30.0) -> None:
        """Wait until `count` requests in all have been answered."""
        async with asyncio.timeout(within):
            while self.outcome.answered < count:
                self._changed.clear()
                await self._changed.wait()

    async def _client(self, index: int) -> None:
        connection: Connection | None = None
        number = 0
        try:
            while not self._stopping and (self.requests is None or number < self.requests):
                connection = await self._exchange(connection, index, number)
                number += 1
                self._changed.set()
        finally:
            if connection is not None:
                await connection.close()

    async def _exchange(self, connection: Connection | None, index: int, number: int) -> Connection | None:
        """One request; returns the connection if it can carry another."""
        began = time.monotonic()
        fresh = connection is None
        phase = "connect"
        try:
            if connection is None:
                async with asyncio.timeout(self._timeout):
                    connection = await Connection.open(self.port, tls=self._tls)
                self.outcome.connections += 1
            phase = "answer"
            answer = await connection.ask(self._request(index, number), self._timeout)
        except TimeoutError:
            complaint = f"{phase}: none in {self._timeout} s"
        except CutAnswer as error:
            complaint = "answer cut" if error.begun else f"closed unanswered ({'fresh' if fresh else 'reused'})"
        except MalformedAnswer as error:
            complaint = f"malformed: {error}"
        except OSError as error:
            complaint = f"{phase}: {type(error).__name__}"
        else:
            self.outcome.latencies.append(time.monotonic() - began)
            self.outcome.statuses[answer.status] += 1
            if self._check is not None and (wrong := self._check(index, number, answer)):
                self.outcome.errors[wrong] += 1
            if self._keep_alive and not answer.closes:
                return connection
            complaint = ""
        if complaint:
            self.outcome.errors[complaint] += 1
        if connection is not None:
            await connection.close()
        return None


async def run_load(port: int, *, clients: int = 10, requests: int = 100, **options: Any) -> Outcome:
    """`clients` x `requests` requests; the options are those of Load."""
    async with Load(port, clients=clients, requests=requests, **options) as load:
        return await load.done()
