"""Active health checks. A check counts against the budget like any connection: it borrows a place, and where none is
free the traffic is the check."""

import asyncio
from time import monotonic

from forebay_core.balance import Endpoint
from forebay_core.http1 import ProtocolError, ResponseHead
from forebay_core.lease import LEASED, OPENING
from forebay_core.spec.model import ActiveCheck
from forebay_core.spec.model import Upstream as UpstreamSpec
from forebay_proxy.connection import CHECKED, BriefOwner, UpstreamConnection
from forebay_proxy.http.upstream import HttpConnection
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream


class HttpCheck(BriefOwner):
    """One GET on a borrowed connection; stands where an exchange would."""

    to_head_request = False
    minor = 1
    max_head = 32 << 10

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.result: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.connection: UpstreamConnection | None = None
        self._healthy = False

    def send(self, connection: HttpConnection, request: bytes) -> None:
        connection.transport.write(request)

    def settle(self, healthy: bool) -> None:
        if not self.result.done():
            self.result.set_result(healthy)

    def answer(self, head: ResponseHead, payload: bytes, more: bool) -> None:
        self._healthy = 200 <= head.status < 400

    def complete(self, reusable: bool, trailer: bytes = b"") -> None:
        self.end(reusable)
        self.settle(self._healthy)

    def end(self, reusable: bool) -> None:
        """Give the connection back, if it is still held."""
        connection, self.connection = self.connection, None
        if connection is None or connection.owner is not self:
            return
        if reusable:
            self._upstream.pool.release(connection, self, monotonic(), count=False)
        else:
            self._upstream.pool.discard(connection, self, monotonic(), "error")
        self._upstream.act()

    def malformed(self, error: ProtocolError) -> None:
        self.end(False)
        self.settle(False)

    def switch(self, head: ResponseHead, rest: bytes) -> bool:
        self.end(False)
        self.settle(False)
        return False

    def upstream_lost(self, connection: HttpConnection, exc: Exception | None, now: float) -> None:
        self.connection = None
        # An old connection that ends just now says nothing about the endpoint; a new one does.
        self.settle(self._healthy if connection.until_close else connection.uses > 1)

    def interim(self, head: ResponseHead) -> None:
        """Nothing to do: the answer is still to come."""

    def payload(self, data: bytes) -> None:
        """The body does not matter."""


class Checker:
    """Checks all endpoints of one upstream, at the document's interval."""

    def __init__(self, upstream: Upstream, tasks: Tasks) -> None:
        self._upstream = upstream
        self._tasks = tasks
        self._policy: ActiveCheck | None = None
        self._task: asyncio.Task[None] | None = None

    async def configure(self, spec: UpstreamSpec, *, watched: bool = False) -> None:
        """Take a (changed) document: other checks start at once, the same go on as they are. `watched`: endpoints are
        asked by somebody else."""
        policy = spec.health_check.active if not watched else None
        if policy == self._policy:
            return
        self._policy = policy
        if policy is None:
            await self.close()
        else:
            await self._stop()
            self._task = self._tasks.spawn(self._run(policy), f"checks of {self._upstream.name}")

    async def close(self) -> None:
        """No more checks: from now on the traffic is the check."""
        if self._task is not None:
            await self._stop()
            self._upstream.health.checks_ended(monotonic())

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None

    async def _run(self, policy: ActiveCheck) -> None:
        while True:
            for endpoint in list(self._upstream.pool.endpoints):
                healthy = await self._check(endpoint, policy)
                if healthy is not None:
                    endpoint.health.checked(healthy, monotonic())
                    self._upstream.pool.tick(monotonic())
                    self._upstream.act()
            await asyncio.sleep(policy.interval)

    async def _check(self, endpoint: Endpoint, policy: ActiveCheck) -> bool | None:
        """True healthy, False not, None where no place was free."""
        upstream = self._upstream
        check = HttpCheck(upstream)
        connection = upstream.pool.reserve(endpoint, check, monotonic(), upstream.knock)
        if connection is None:
            return None
        assert isinstance(connection, UpstreamConnection)
        try:
            async with asyncio.timeout(policy.timeout):
                if connection.state == OPENING:
                    opening = upstream.open(connection)
                    await asyncio.wait((opening,))
                    if connection.state != LEASED:
                        refusal = opening.result()
                        return refusal is not None and refusal.reason == CHECKED
                if not isinstance(connection, HttpConnection):
                    upstream.pool.discard(connection, check, monotonic(), "overflow")
                    upstream.act()
                    return True
                check.connection = connection
                check.send(connection, request(endpoint, policy))
                return await check.result
        except TimeoutError:
            return False
        finally:
            if connection.state == OPENING:  # too slow for this check; given back as soon as it is open
                check.connection = connection
                opening.add_done_callback(lambda _: check.end(False))
            else:
                check.end(False)


def request(endpoint: Endpoint, policy: ActiveCheck) -> bytes:
    """The check's request."""
    return (
        f"GET {policy.path} HTTP/1.1\r\nHost: {endpoint.name}\r\nUser-Agent: forebay-check\r\nAccept: */*\r\n\r\n"
    ).encode()
