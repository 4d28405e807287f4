"""One request and its answer: from a client's head to the last byte of the upstream's message.

The life of an exchange: `begin` routes it and takes its body, up to `requestBuffer`; then it asks the pool for a
connection (`ask`) and gets one at once or later (`take`), or none (`refuse`). What the upstream sends goes to the
client as it comes (`answer`, `payload`), and the lease ends when the upstream's message is complete, not when the
client has read it (`complete`). Whatever fails ends in `fail`: an answer of our own where none has begun, else a
visible cut.
"""

from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from forebay_core.http1 import ProtocolError, RequestHead, ResponseHead
from forebay_core.lease import Connection, Refusal, Refused, Waiter
from forebay_proxy.http import answers, phases
from forebay_proxy.http.body import RequestBody, chunk
from forebay_proxy.http.routes import ASTERISK, stripped

if TYPE_CHECKING:
    from forebay_proxy.http.client import ClientConnection
    from forebay_proxy.http.upstream import HttpConnection
    from forebay_proxy.tracing import Trace
    from forebay_proxy.upstream import Upstream

# RFC 9110 section 9.2.2; what is not here may have been done once already, and is never sent twice.
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))


TAIL_KEEP = b"\r\n"
TAIL_CLOSE = b"Connection: close\r\n\r\n"
TAIL_KEEP_1_0 = b"Connection: keep-alive\r\n\r\n"


class Exchange(Waiter):
    """See the module's docstring. Times are monotonic seconds."""

    __slots__ = (
        "_rechunk", "attempts", "body", "bytes_in", "bytes_out", "client", "close_client", "connection",
        "endpoint_name", "error", "head", "max_head", "minor", "request", "request_done", "reused", "started", "status",
        "taken_at", "to_head_request", "trace", "tunnel", "upstream",
    )  # fmt: skip

    upstream: "Upstream"

    def __init__(self, client: "ClientConnection", head: RequestHead, now: float) -> None:
        self.client = client
        self.head = head
        self.started = now
        self.minor = head.minor
        self.to_head_request = head.method == b"HEAD"
        self.max_head = client.proxy.http.max_header_bytes
        self.key = None
        self.kind = None
        self.avoid = None
        self.deadline = 0.0  # the pool sets it
        self.ready_at = self.assigned_at = self.taken_at = 0.0
        self.connection: HttpConnection | None = None
        self.endpoint_name = ""
        self.error = ""
        self.attempts = 0
        self.reused = False
        self.trace: Trace | None = None
        self.status = 0  # 0: no answer has begun
        self.bytes_in = self.bytes_out = 0
        self.request_done = head.content_length <= 0 and not head.chunked
        self.tunnel = False
        self.close_client = not head.keep_alive
        self._rechunk = False
        self.body: RequestBody | None = None

    def __repr__(self) -> str:
        head = getattr(self, "head", None)  # between two lone requests there is none
        asked = f"{head.method!r} {head.target!r}" if head is not None else "of a client at rest,"
        return f"<Exchange {asked} status={self.status} attempts={self.attempts}>"

    @property
    def waited_from(self) -> float:
        """When it was ready to be sent; 0: it has not come to that."""
        return self.ready_at

    # ------------------------------------------------------------------ request

    def begin(self, rest: bytes) -> None:
        """Route the request and take what has come of its body; `rest` follows the head."""
        client, head = self.client, self.head
        proxy, host = client.proxy, head.host
        upstream = proxy.router.only
        line = head.head
        if self.request_done:
            client.buffer = rest
        if upstream is None:
            if proxy.router.doubtful(head.target):
                self.fail(answers.DOT_SEGMENTS)
                return
            route = proxy.router.route(host, head.target)
            if route is None:
                self.fail(answers.NO_ROUTE)
                return
            upstream = route.upstream
            if route.strip and head.target != ASTERISK:
                target = stripped(route.prefix, head.target)
                line = b"%b %b%b" % (head.method, target, line[len(head.method) + 1 + len(head.target) :])
        self.upstream = upstream
        upstream.new_requests += 1
        if not host:  # HTTP/1.0 needs none, what we send does: the upstream's name, as nginx's $proxy_host
            line += b"Host: %b\r\n" % upstream.name.encode()
        if upstream.hash_header is not None:
            self.key = upstream.hash_key(line, client.peer)
        if proxy.tracer is not None:
            line, self.trace = proxy.tracer.begin(line)
        if host == client.suffix_host and self.minor and not head.forwarding:
            self.request = line + client.suffix  # nearly always that of the request before
        else:
            self.request = line + client.make_suffix(head)
        if self.request_done:
            self.ask(self.started)
            return
        limit = proxy.http.max_body_bytes
        if limit and head.content_length > limit:
            self.fail(answers.BODY_TOO_LARGE)
            return
        self.body = RequestBody(self)
        if head.expect_continue and not rest:
            client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.body.received(rest)

    # ------------------------------------------------------------------ a lone request, see `ClientConnection`

    def wait_alone(self, now: float) -> None:
        """There is no connection for it at once."""
        self.attempts = 0
        pool = self.upstream.pool
        if pool.waiters and pool.line_up(self, now):  # the timer is of those before it
            client = self.client
            client.phase = phases.QUEUE
            client.deadline = inf  # the pool has its own
            return
        self.deadline = 0.0
        self.ask(now)

    def answered_alone(self, connection: "HttpConnection", status: int, size: int, answer: bytes) -> None:
        """As `answer`, `complete`, and `finished` of the proxy and of the client."""
        now = monotonic()
        client, upstream = self.client, self.upstream
        self.connection = None
        client.exchange = None
        proxy = client.proxy
        spare = False
        if self.close_client:
            spare = client.lone is self
            client.close_with(answer)
        else:
            client.rests = True  # before it is written to: it may be full then
            client.phase = phases.IDLE
            deadline = client.deadline = now + proxy.patience[phases.IDLE]
            if deadline < client.wheel_due:
                proxy.wheel.place(client)
            write = client.write  # what is no method is called faster so (Python 3.11)
            write(answer)
        if connection.endpoint.health.errors:
            connection.endpoint.health.succeeded(now)
        seconds = now - self.started
        upstream.count(status, seconds)
        if seconds >= proxy.slow:  # told before the connection is the next one's
            self.status, self.bytes_out = status, size
            self._leased(connection)
            proxy.observe(self, upstream, now, seconds)
            client.lone = None  # what the log has been told of is not for the next one
            spare = False
        if upstream.pool.release(connection, self, now):
            upstream.act()
        del self.head, self.request  # an idle client keeps no bytes
        if spare:
            self.close_client = False
            proxy.spare = self

    # ------------------------------------------------------------------ the pool

    def ask(self, now: float) -> None:
        """Ask the pool for a connection: it comes at once or later (`take`), or none does (`refuse`)."""
        upstream = self.upstream
        try:
            connection = upstream.pool.acquire(self, now)
        except Refused as refused:
            self.refuse(refused.refusal, now)
            return
        if connection is not None:
            self.take(connection, now)
            return
        client, pool = self.client, upstream.pool
        if self.connection is None:
            client.phase = phases.QUEUE
            client.deadline = inf  # the pool has its own
            if not self.request_done:  # a retry: the rest of the body comes when there is somebody to take it
                client.stop_reading()
        if pool.opens or pool.closes or next(iter(pool.waiters), None) is self:  # the timer is the first one's
            upstream.act()

    def take(self, connection: Connection, now: float) -> bool:
        client = self.client
        if client.transport is None:
            return False
        self.connection = connection  # type: ignore[assignment]
        self.attempts += 1
        if self.assigned_at:  # the log tells of it
            client.attend()
        connection.lone = client.lone is self  # type: ignore[attr-defined]
        if not client.writable:  # it was full before there was a connection to stop
            connection.transport.pause_reading()  # type: ignore[attr-defined]
        if self.body is None:
            client.expect(now, phases.ANSWER)
            connection.transport.write(self.request)  # type: ignore[attr-defined]
        else:
            self.body.begin(connection, self.request, now)  # type: ignore[arg-type]
        return True

    def refuse(self, refusal: Refusal, now: float) -> None:
        self.client.attend()
        retries = self.client.proxy.http.retries
        if (
            refusal.reason.startswith("connect_")
            and "connectFailure" in retries.retry_on
            and self.attempts < retries.attempts
            and now < self.deadline
            and len(self.upstream.pool.endpoints) > 1
            and self.upstream.may_retry("connect_failure")
        ):
            self.attempts += 1
            self.ask(now)
            return
        self.fail(answers.of_refusal(refusal))

    def upstream_lost(self, connection: "HttpConnection", exc: Exception | None, now: float) -> None:
        """The connection has gone under the exchange; the pool knows already."""
        self.connection = None
        self._leased(connection)
        self.client.attend()
        if self.tunnel and exc is not None and not connection.ended:
            self.fail(answers.UPSTREAM_RESET)
            return
        if self.tunnel:
            self.client.close() if exc is None else self.client.cut()
            self._finish(now)
            return
        if connection.until_close and connection.ended:
            self._end_body(b"")
            connection.endpoint.health.succeeded(now)
            self._finish(now)
            return
        connection.endpoint.health.failed(now, "the connection was closed before the answer was complete")
        retries = self.client.proxy.http.retries
        if (
            connection.untouched
            and connection.uses > 1
            and (self.body is None or self.body.replayable)
            and self.head.method in IDEMPOTENT
            and "reusedConnectionReset" in retries.retry_on
            and self.attempts <= retries.attempts
            and now < self.deadline
            and self.upstream.may_retry("reused_connection_reset")
        ):
            self.ask(now)
            return
        self.fail(answers.UPSTREAM_RESET)

    # ------------------------------------------------------------------ answer

    def interim(self, head: ResponseHead) -> None:
        """A 1xx: passed on to clients that know of them; 100 has been answered by us already."""
        if self.minor and head.status != 100:
            self.client.write(head.head + TAIL_KEEP)

    def answer(self, head: ResponseHead, payload: bytes, more: bool) -> None:
        """The final answer's head, with what came of its body in the same read; `more`: that is not all of it."""
        client = self.client
        self.status = head.status
        self._rechunk = rechunk = head.rechunk
        if head.close_downstream or not self.request_done or client.proxy.draining:
            self.close_client = True
        if self.close_client:
            tail = TAIL_CLOSE
        else:
            tail = TAIL_KEEP if self.minor else TAIL_KEEP_1_0
        if more:
            client.expect(monotonic(), phases.STREAM)
        self.bytes_out += len(payload)
        if payload and rechunk:
            payload = chunk(payload)
        write = client.write_last if self.close_client and not more else client.write
        write(head.head + tail + payload)

    def payload(self, data: bytes) -> None:
        """More of the answer's body, or of a tunnel's bytes."""
        client = self.client
        self.bytes_out += len(data)
        if self._rechunk:
            data = chunk(data)
        client.write(data)
        client.expect(monotonic(), phases.STREAM)

    def complete(self, reusable: bool, trailer: bytes = b"") -> None:
        """The upstream's message is complete: the lease ends here."""
        now = monotonic()
        connection, upstream = self.connection, self.upstream
        assert connection is not None
        if self._rechunk:
            self._end_body(trailer)
        self.connection = None
        self._leased(connection)
        if not self.client.writable:
            connection.transport.resume_reading()  # it may have been stopped for this client, not for the next
        if connection.endpoint.health.errors:
            connection.endpoint.health.succeeded(now)
        pool = upstream.pool
        # An upstream that answers before it has read all of the body may never read it.
        if self.body is not None and (self.body.held or connection.transport.get_write_buffer_size()):
            reusable = False
        if reusable and self.request_done:
            if pool.release(connection, self, now):
                upstream.act()
        else:
            pool.discard(connection, self, now, "upstream" if self.request_done else "error")
            upstream.act()
        client = self.client
        client.proxy.finished(self, upstream, now)
        client.finished(self, now)

    def malformed(self, error: ProtocolError) -> None:
        """The upstream's bytes are not HTTP as we accept it."""
        now = monotonic()
        assert self.connection is not None
        self.connection.endpoint.health.failed(now, "malformed answer")
        self.fail(answers.Failure(502, "upstream_malformed", f"the upstream's answer is malformed: {error.detail}"))

    def _end_body(self, trailer: bytes) -> None:
        if self._rechunk:
            self.client.write(b"0\r\n" + trailer + b"\r\n")

    # ------------------------------------------------------------------ tunnel

    def switch(self, head: ResponseHead, rest: bytes) -> bool:
        """101. False where the client has not asked for it."""
        if not self.head.upgrade:
            self.fail(answers.Failure(502, "upstream_malformed", "the upstream switched protocols unasked"))
            return False
        self.open_tunnel(101, head.head + b"\r\n", rest)
        return True

    def open_tunnel(self, status: int, head: bytes, early: bytes) -> None:
        """From now on bytes go both ways as they come. The client is told so with `head`; `early` has come from the far
        side already."""
        client = self.client
        self.status = status
        self.tunnel = True
        self.close_client = True
        self.bytes_out += len(early)
        client.write(head + early)
        client.expect(monotonic(), phases.STREAM)
        client.read_on()
        waiting, client.buffer = client.buffer, b""
        if waiting:
            self.tunnel_received(waiting)
        if client.ended:
            self.tunnel_client_ended()

    def tunnel_received(self, data: bytes) -> None:
        """Bytes of the client."""
        if self.connection is not None:
            self.bytes_in += len(data)
            self.connection.transport.write(data)
            self.client.expect(monotonic(), phases.STREAM)

    def tunnel_upstream_ended(self) -> bool:
        """The upstream sends no more: tell the client. True keeps the other direction open, where there is one."""
        return not self.client.ended and self.client.write_eof()

    def tunnel_client_ended(self) -> bool:
        """The client sends no more: tell the upstream. True keeps our side open for what the upstream still sends."""
        connection = self.connection
        if connection is None or not connection.transport.can_write_eof():
            return False
        if connection.ended:
            connection.transport.close()  # `upstream_lost` ends the rest
        else:
            connection.transport.write_eof()
        return True

    # ------------------------------------------------------------------ ends

    def upstream_full(self) -> None:
        """The upstream does not read as fast as the client sends: what takes time now is its own doing."""
        client = self.client
        client.stop_reading()
        if not self.request_done:
            client.expect(monotonic(), phases.STREAM if self.status else phases.ANSWER)

    def upstream_drained(self) -> None:
        client = self.client
        client.read_on()
        if not self.request_done:
            client.expect(monotonic(), phases.BODY)

    def take_back(self) -> None:
        """The connection's place in the budget is another's now, and the time to end by itself is over."""
        self.fail(answers.TAKEN_BACK)

    def abandon(self, reason: str, *, ended: bool = False) -> None:
        """The client has gone: give back what is held. An upstream at work keeps its place until it has noticed.
        `ended`: by an end, which a tunnel passes on as one; else by a reset, or it was cut off."""
        now = monotonic()
        if self.tunnel and self.connection is not None and not ended:
            self.connection.reset()
        if not (self.tunnel and ended):
            self.error = self.error or reason
        self._let_go(now)
        self._finish(now)

    def timed_out(self, failure: answers.Failure, now: float) -> None:
        """The upstream, or the client, took too long while a connection was leased or a body awaited."""
        if failure is answers.RESPONSE_TIMEOUT and self.connection is not None:
            self.connection.endpoint.health.failed(now, "no answer in time")
        self.fail(failure)

    def fail(self, failure: answers.Failure) -> None:
        """Answer with an error; or cut the answer off, visibly, where it has begun."""
        now = monotonic()
        client = self.client
        self.error = failure.reason
        if self.tunnel and self.connection is not None:
            self.connection.reset()
        self._let_go(now)
        client.proxy.reject(getattr(self, "upstream", None), failure.reason)
        if self.status:
            client.cut()
        else:
            self.status = failure.status
            self.bytes_out = 0 if self.to_head_request else len(answers.body_of(failure))
            if not self.request_done or not self.minor or client.proxy.draining:  # 1.0: it would have to be told
                self.close_client = True
            write = client.write_last if self.close_client else client.write
            write(answers.render(failure, close=self.close_client, head_only=self.to_head_request))
        self._finish(now)

    def _let_go(self, now: float) -> None:
        upstream: Upstream | None = getattr(self, "upstream", None)
        if upstream is None:
            return
        connection, self.connection = self.connection, None
        if connection is not None:
            self._leased(connection)
            upstream.pool.discard(connection, self, now, "error")
        else:
            upstream.pool.cancel(self, now)
        upstream.act()

    def _leased(self, connection: "HttpConnection") -> None:
        """What the log tells of its last lease."""
        self.endpoint_name = connection.endpoint.name
        self.taken_at = connection.leased_at
        self.reused = connection.uses > 1

    def _finish(self, now: float) -> None:
        client = self.client
        client.proxy.finished(self, getattr(self, "upstream", None), now)
        client.finished(self, now)
