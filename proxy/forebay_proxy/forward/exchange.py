"""One request of a forward proxy's client: a plain one, passed on as the reverse proxy does, or a CONNECT, which makes
a tunnel.

Before it asks the pool for a connection it has to be allowed (`begin`), its name looked up and what was found judged,
and the origin's gate passed (`ask`). Through a parent there is neither look-up nor gate's address: the parents are the
pool's endpoints. Nothing is opened before all of that has been said yes to. What the client sends meanwhile waits in
its buffer: with CONNECT it belongs to the tunnel.
"""

from time import monotonic
from typing import TYPE_CHECKING, Final

from forebay_core.forward import parents
from forebay_core.forward.access import Denial
from forebay_core.forward.credentials import Login
from forebay_core.forward.head import ForwardHead
from forebay_core.histogram import Histogram
from forebay_core.http1 import ResponseHead
from forebay_core.lease import TIMED_OUT, Connection, Refusal
from forebay_proxy.forward.origins import Origin
from forebay_proxy.http import answers, phases
from forebay_proxy.http.exchange import Exchange

if TYPE_CHECKING:
    from forebay_proxy.forward.client import ForwardClient
    from forebay_proxy.forward.upstream import ForwardConnection

NOBODY: Final = Login("", ok=False)
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
RATE: Final = Refusal("rate", "more requests are waiting for this origin than its rate allows within pool.timeout")
CROWD: Final = Refusal("origin", "this origin has as many connections as it may have, and others wait for it")
PARENT: Final = Refusal("parent_refused", "no parent proxy would pass the request on")
LOOP: Final = answers.Failure(502, "loop", "the request has been here before: parent proxies lead in a circle")


class ForwardExchange(Exchange):
    """See the module's docstring."""

    __slots__ = ("_plain", "asks_parent", "entered", "forward", "gated_at", "origin", "user", "verdict")

    client: "ForwardClient"
    connection: "ForwardConnection | None"

    def __init__(self, client: "ForwardClient", forward: ForwardHead, now: float) -> None:
        super().__init__(client, forward.request, now)
        self.forward = forward
        self.origin: Origin | None = None
        self.entered = False  # through the origin's gate
        self.gated_at = 0.0  # when it has come there, if it had to wait
        self.verdict = "undecided"
        self._plain = b""  # the request without what is said to a parent only
        self.user: str | None = None
        self.asks_parent = False  # it has the request, and has not answered

    @property
    def waited_from(self) -> float:
        """With the wait at the gate, of which `ready_at` knows nothing once that is over: the pool counts its own."""
        asked_once = self.ready_at == self.since
        return self.gated_at if self.gated_at and asked_once else self.ready_at

    # ------------------------------------------------------------------ is it allowed?

    def begin(self, rest: bytes) -> None:
        client = self.client
        proxy = client.proxy
        self.upstream = proxy.upstream
        client.buffer = rest
        if client.denial is not None:
            self.denied(client.denial)
            return
        if proxy.parents and proxy.name in self.forward.via:
            self.fail(LOOP)
            return
        if proxy.logins is None:
            self._go_on()
            return
        value = self.forward.authorization
        login = proxy.logins.known(value) if value else NOBODY
        if login is not None:
            self.verified(login)
            return
        client.expect(self.started, phases.QUEUE)
        if not proxy.logins.verify(value, self):
            self.fail(answers.CREDENTIALS_BUSY)

    def verified(self, login: Login) -> None:
        """Who it is, at once or when the slow hash has been computed."""
        if self.client.exchange is not self:
            return
        self.user = login.user or None
        if login.ok:
            self._go_on()
        else:
            self.verdict = "denied"
            self.fail(answers.NO_CREDENTIALS)

    def _go_on(self) -> None:
        client = self.client
        denial = client.proxy.access.name(self.forward.target)
        if denial is not None:
            self.denied(denial)
            return
        rest, client.buffer = client.buffer, b""
        client.read_on()
        super().begin(rest)

    def denied(self, denial: Denial) -> None:
        """A rule says no."""
        if self.client.exchange is not self:  # gone while its name was looked up
            return
        self.verdict = "denied"
        self.fail(answers.Failure(403, denial.rule, denial.detail))

    # ------------------------------------------------------------------ where is it, and is it its turn?

    def ask(self, now: float) -> None:
        """The request is ready. (Again, when it is tried once more: then it knows its way.)"""
        proxy = self.client.proxy
        if self.entered:
            super().ask(now)
            return
        self._plain = self.request
        origin = self.origin = proxy.origins.get(self.forward.target)
        self.upstream = origin.upstream  # another than at the beginning, if the document has changed meanwhile
        if proxy.parents:
            self.verdict = "allowed"
            if not self.forward.connect:
                self._plain = b"%b%b\r\n" % (self.forward.absolute, self._via())
            self._queue(now)
            return
        self.key = None
        self.kind = origin.tunnel if self.forward.connect else origin.plain
        if proxy.origins.is_fresh(origin, now):
            self.found(now)
        else:
            self.client.expect(now, phases.QUEUE)
            proxy.origins.look_up(origin, self)

    def found(self, now: float) -> None:
        """The origin has addresses that may be connected to."""
        if self.client.exchange is self:
            self.verdict = "allowed"
            self._queue(now)

    def _queue(self, now: float) -> None:
        """Stand at the origin's gate: first for its rate, then for its number."""
        origin, pool, proxy = self.origin, self.upstream.pool, self.client.proxy
        assert origin is not None
        latest = now + (pool.timeout if pool.pause_timeout is None else pool.pause_timeout)
        at = now if origin.bucket is None else origin.bucket.reserve(now, latest)
        if at is None:
            self.fail(answers.of_refusal(RATE))
        elif at > now:
            self._wait(now, latest)
            proxy.loop.call_later(at - now, self._enter)
        elif proxy.origins.enter(origin, self):
            self.entered = True
            super().ask(now)
        else:
            self._wait(now, latest)

    def _wait(self, now: float, latest: float) -> None:
        """It is ready, so from here on it waits, and not longer than others do."""
        pool, client = self.upstream.pool, self.client
        if len(self.upstream.gated) + len(pool.waiters) >= pool.max_waiting:
            self.fail(answers.of_refusal(CROWD))
            return
        self.upstream.gated[self] = None
        self.ready_at = self.gated_at = now
        self.deadline = latest
        client.expect(now, phases.QUEUE)
        client.proxy.wheel.arm(client, latest)

    def _enter(self) -> None:
        """Its turn by the rate has come."""
        origin = self.origin
        if self in self.upstream.gated and origin is not None and origin.table.enter(origin, self):
            self.let_in(monotonic())

    def let_in(self, now: float) -> None:
        """Its turn has come. Its deadline stays, but in the pool's queue it is the last: those who go to the same
        origin would have all places, were each to go before the others."""
        self.entered = True
        self._leave_gate(now)
        self.ready_at = now
        super().ask(now)
        pool = self.upstream.pool
        if self in pool.waiters:
            pool.waiters.move_to_end(self)
            self.client.proxy.wheel.arm(self.client, self.deadline)

    def waited(self, now: float) -> None:
        """For as long as anybody waits."""
        pool = self.upstream.pool
        if self in pool.waiters and now < self.deadline:  # the pool has been paused meanwhile
            self.client.proxy.wheel.arm(self.client, self.deadline)
        elif self in pool.waiters:
            pool.cancel(self, now, "timeout")
            self.fail(answers.of_refusal(TIMED_OUT))
        elif self in self.upstream.gated:
            self.fail(answers.of_refusal(CROWD))

    def _leave_gate(self, now: float) -> None:
        del self.upstream.gated[self]
        self.upstream.gate_wait.setdefault("origin", Histogram()).observe(now - self.ready_at)

    def leave(self) -> None:
        """It is over."""
        if self in self.upstream.gated:
            self._leave_gate(monotonic())
        if self.origin is not None:
            self.origin.table.leave(self.origin, self, entered=self.entered)
            self.origin = None

    # ------------------------------------------------------------------ the pool

    def take(self, connection: Connection, now: float) -> bool:
        parent = self.client.proxy.parents.get((connection.endpoint.host, connection.endpoint.port))
        self.asks_parent = parent is not None
        if self.forward.connect and parent is not None:
            self.request = parents.connect_head(self.forward.target, parent, self.forward.via + self._via())
        elif self.forward.connect:
            self.request = b""
        elif parent is not None:
            self.request = authorized(self._plain, parent)
        if not super().take(connection, now):
            return False
        if self.forward.connect and parent is None:
            self.open_tunnel(200, ESTABLISHED, connection.tunnel())  # type: ignore[attr-defined]
        return True

    def _via(self) -> bytes:
        return b"Via: 1.%d %b\r\n" % (self.minor, self.client.proxy.name)

    def refuse(self, refusal: Refusal, now: float) -> None:
        client, origin = self.client, self.origin
        if client.exchange is not self:  # gone while its name was looked up
            return
        if (
            refusal.reason.startswith("connect_")
            and origin is not None
            and self.avoid is not None
            and self.attempts < len(origin.addresses)
            and now < self.deadline
            and client.proxy.origins.next_address(origin, self.avoid)
        ):
            self.attempts += 1
            self.ask(now)
            return
        super().refuse(refusal, now)

    # ------------------------------------------------------------------ tunnel

    def parent_answered(self, head: ResponseHead, rest: bytes) -> bool:
        """The parent has opened the tunnel, or it has refused the request: then another may not. False: its answer is
        the client's."""
        now = monotonic()
        connection, upstream = self.connection, self.upstream
        assert connection is not None
        self.asks_parent = False
        outcome = parents.outcome(head.status, connect=self.forward.connect)
        if outcome == "open" and not self.forward.connect:
            return False
        if outcome == "open":
            self.open_tunnel(200, ESTABLISHED, connection.tunnel() + rest)
            return True
        self.connection = None
        self._leased(connection)
        self.avoid = connection.endpoint
        upstream.pool.discard(connection, self, now, "upstream")
        upstream.act()
        http = self.client.proxy.http
        if (
            outcome == "next"
            and self.attempts <= http.retries.attempts
            and now < self.deadline
            and len(upstream.pool.endpoints) > 1
            and (self.body is None or self.body.replayable)
            and upstream.may_retry("parent_refused")
        ):
            self.ask(now)
        else:
            self.fail(answers.Failure(502, PARENT.reason, f"{PARENT.detail}: the last one answered {head.status}"))
        return True

    def fail(self, failure: answers.Failure) -> None:
        """What has come after a CONNECT that fails is no request: the answer ends the connection."""
        if self.forward.connect and self.client.buffer and not self.status:
            self.request_done = False
        super().fail(failure)


def authorized(request: bytes, parent: bytes) -> bytes:
    """A request with the credentials for the parent; `request` ends in its head's blank line."""
    return request[:-2] + b"Proxy-Authorization: " + parent + b"\r\n\r\n" if parent else request
