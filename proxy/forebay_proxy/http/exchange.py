"""One request and its answer: from a client's head to the last byte of the upstream's message.

The life of an exchange: `begin` routes it and takes its body, up to `requestBuffer`; then it asks the pool for a
connection (`_ask`) and gets one at once or later (`take`), or none (`refuse`). What the upstream sends goes to the
client as it comes (`answer`, `payload`), and the lease ends when the upstream's message is complete, not when the
client has read it (`complete`). Whatever fails ends in `fail`: an answer of our own where none has begun, else a
visible cut.
"""

from time import monotonic
from typing import TYPE_CHECKING

from forebay_core.http1 import ChunkDecoder, ProtocolError, RequestHead, ResponseHead
from forebay_core.pool import Connection, Refusal, Refused, Waiter
from forebay_proxy.http import answers
from forebay_proxy.http.routes import stripped

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


def chunk(payload: bytes) -> bytes:
    """One chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class Exchange(Waiter):
    """See the module's docstring. Times are monotonic seconds."""

    __slots__ = (
        "_body", "_body_left", "_decoder", "_rechunk", "_replayable", "_request", "_streaming",
        "attempts", "bytes_in", "bytes_out", "client", "close_client", "connection", "endpoint_name", "error", "head",
        "max_head", "minor", "request_done", "reused", "started", "status", "taken_at", "to_head_request", "trace",
        "tunnel", "upstream",
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
        self.request_done = True
        self.tunnel = False
        self.close_client = not head.keep_alive
        self._streaming = False
        self._replayable = True
        self._rechunk = False
        self._body: list[bytes] = []
        self._body_left = 0
        self._decoder: ChunkDecoder | None = None
        self._request = b""

    def __repr__(self) -> str:
        return f"<Exchange {self.head.method!r} {self.head.target!r} status={self.status} attempts={self.attempts}>"

    # ------------------------------------------------------------------ request

    def begin(self, rest: bytes) -> None:
        """Route the request and take what has come of its body; `rest` follows the head."""
        client, head = self.client, self.head
        proxy = client.proxy
        upstream = proxy.router.only
        line = head.head
        if upstream is None:
            route = proxy.router.route(head.host, head.target)
            if route is None:
                self._expect_body(rest)
                self.fail(answers.NO_ROUTE)
                return
            upstream = route.upstream
            if route.strip:
                target = stripped(route.prefix, head.target)
                line = b"%b %b%b" % (head.method, target, line[len(head.method) + 1 + len(head.target) :])
        self.upstream = upstream
        upstream.retry_budget.request(self.started)
        if upstream.hash_header is not None:
            self.key = upstream.hash_key(line, client.peer)
        if proxy.tracer is not None:
            line, self.trace = proxy.tracer.begin(line)
        self._request = line + client.suffix(head)
        if head.content_length <= 0 and not head.chunked:
            client.buffer = rest
            self._ask(self.started)
        elif self._expect_body(rest):
            if head.expect_continue and not self.request_done and head.minor:
                client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.body_received(rest)

    def _expect_body(self, rest: bytes) -> bool:
        """Set up for the body; False where it is refused."""
        head, limit = self.head, self.client.proxy.http.max_body_bytes
        if head.chunked:
            self._decoder = ChunkDecoder(self.max_head)
            self.request_done = False
        elif head.content_length > 0:
            self._body_left = head.content_length
            self.request_done = len(rest) >= head.content_length
            if limit and head.content_length > limit:
                self.request_done = False
                self.fail(answers.BODY_TOO_LARGE)
                return False
        return True

    def body_received(self, data: bytes) -> None:
        """More of the body, and perhaps the next request behind it, which goes back to the client's buffer."""
        client = self.client
        decoder = self._decoder
        if decoder is None:
            piece = data[: self._body_left]
            self._body_left -= len(piece)
            done = not self._body_left
            rest = data[len(piece) :]
        else:
            try:
                piece, end = decoder.feed(data, 0)
            except ProtocolError as error:
                self.request_done = False
                self.fail(answers.Failure(error.status, "bad_request", error.detail))
                return
            done = decoder.done
            rest = data[end:]
        self.bytes_in += len(piece)
        http = client.proxy.http
        if http.max_body_bytes and self.bytes_in > http.max_body_bytes:
            self.request_done = False
            self.fail(answers.BODY_TOO_LARGE)
            return
        self.request_done = done
        if done:
            client.buffer = rest
        if decoder is not None:
            piece = (chunk(piece) if piece else b"") + (b"0\r\n" + decoder.trailer + b"\r\n" if done else b"")
        now = monotonic()
        if self.connection is not None:
            self._replayable = False
            if piece:
                self.connection.transport.write(piece)
            client.expect(now, client.ANSWER if done else client.BODY)
            return
        if piece:
            self._body.append(piece)
        if self._streaming:
            return
        if done or self.bytes_in >= client.proxy.request_buffer():
            self._streaming = not done
            if self._streaming:
                client.pause(self)
            self._ask(now)
        else:
            client.expect(now, client.BODY)

    # ------------------------------------------------------------------ the pool

    def _ask(self, now: float) -> None:
        upstream = self.upstream
        self.client.expect(now, self.client.QUEUE)
        try:
            connection = upstream.pool.acquire(self, now)
        except Refused as refused:
            self.refuse(refused.refusal, now)
            return
        if connection is not None:
            self.take(connection, now)
        else:
            upstream.act()

    def take(self, connection: Connection, now: float) -> bool:
        client = self.client
        if client.transport is None:
            return False
        self.connection = connection  # type: ignore[assignment]
        self.endpoint_name = connection.endpoint.name
        self.taken_at = now
        self.reused = connection.uses > 1
        self.attempts += 1
        connection.begin()  # type: ignore[attr-defined]
        body = self._body
        connection.transport.write(b"".join((self._request, *body)) if body else self._request)  # type: ignore[attr-defined]
        if self.request_done:
            client.expect(now, client.ANSWER)
        else:
            client.expect(now, client.BODY)
            client.unpause()
        return True

    def refuse(self, refusal: Refusal, now: float) -> None:
        retries = self.client.proxy.http.retries
        if (
            refusal.reason.startswith("connect_")
            and "connectFailure" in retries.retry_on
            and self.attempts < retries.attempts
            and now < self.deadline
            and len(self.upstream.pool.endpoints) > 1
            and self.upstream.retry_budget.may_retry(now)
        ):
            self.attempts += 1
            self._count_retry("connect_failure")
            self._ask(now)
            return
        self.fail(answers.of_refusal(refusal))

    def upstream_lost(self, connection: "HttpConnection", exc: Exception | None, now: float) -> None:
        """The connection has gone under the exchange; the pool knows already."""
        self.connection = None
        if self.tunnel:
            self.client.close()
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
            and self._replayable
            and self.head.method in IDEMPOTENT
            and "reusedConnectionReset" in retries.retry_on
            and self.attempts <= retries.attempts
            and now < self.deadline
            and self.upstream.retry_budget.may_retry(now)
        ):
            self._count_retry("reused_connection_reset")
            self._ask(now)
            return
        self.fail(answers.UPSTREAM_RESET)

    def _count_retry(self, reason: str) -> None:
        self.upstream.retries[reason] = self.upstream.retries.get(reason, 0) + 1

    # ------------------------------------------------------------------ answer

    def interim(self, head: ResponseHead) -> None:
        """A 1xx: passed on to clients that know of them; 100 has been answered by us already."""
        if self.minor and head.status != 100:
            self.client.write(head.head + TAIL_KEEP)

    def answer(self, head: ResponseHead, payload: bytes) -> None:
        """The final answer's head, with what came of its body in the same read."""
        client = self.client
        self.status = head.status
        self._rechunk = head.rechunk
        if head.close_downstream or not self.request_done or client.proxy.draining:
            self.close_client = True
        if self.close_client:
            tail = TAIL_CLOSE
        else:
            tail = TAIL_KEEP if self.minor else TAIL_KEEP_1_0
        if payload and head.rechunk:
            payload = chunk(payload)
        self.bytes_out += len(payload)
        client.write(head.head + tail + payload)

    def payload(self, data: bytes) -> None:
        """More of the answer's body, or of a tunnel's bytes."""
        client = self.client
        if self._rechunk:
            data = chunk(data)
        self.bytes_out += len(data)
        client.write(data)
        client.expect(monotonic(), client.STREAM)

    def complete(self, reusable: bool, trailer: bytes = b"") -> None:
        """The upstream's message is complete: the lease ends here."""
        now = monotonic()
        connection, upstream = self.connection, self.upstream
        assert connection is not None
        if self._rechunk:
            self._end_body(trailer)
        self.connection = None
        if not self.client.writable:
            connection.transport.resume_reading()  # it may have been stopped for this client, not for the next
        if connection.endpoint.health.errors:
            connection.endpoint.health.succeeded(now)
        pool = upstream.pool
        if reusable and self.request_done:
            pool.release(connection, self, now)
        else:
            pool.discard(connection, self, now, "upstream" if self.request_done else "error")
        if pool.opens or pool.closes:
            upstream.act()
        self._finish(now)

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
        """101: from now on bytes go both ways as they come. False where the client has not asked for it."""
        if not self.head.upgrade:
            self.fail(answers.Failure(502, "upstream_malformed", "the upstream switched protocols unasked"))
            return False
        client = self.client
        self.status = 101
        self.tunnel = True
        self.close_client = True
        client.write(head.head + b"\r\n" + rest)
        client.expect(monotonic(), client.STREAM)
        early, client.buffer = client.buffer, b""
        if early:
            self.tunnel_received(early)
        return True

    def tunnel_received(self, data: bytes) -> None:
        """Bytes of the client."""
        if self.connection is not None:
            self.bytes_in += len(data)
            self.connection.transport.write(data)
            self.client.expect(monotonic(), self.client.STREAM)

    def tunnel_upstream_ended(self) -> bool:
        """The upstream sends no more: tell the client. True keeps the other direction open."""
        return self.client.write_eof()

    def tunnel_client_ended(self) -> bool:
        """The client sends no more: tell the upstream. True keeps the other direction open."""
        if self.connection is None or not self.connection.transport.can_write_eof():
            return False
        self.connection.transport.write_eof()
        return True

    # ------------------------------------------------------------------ ends

    def upstream_full(self) -> None:
        """The upstream does not read as fast as the client sends."""
        self.client.pause(self)

    def upstream_drained(self) -> None:
        self.client.unpause()

    def abandon(self, reason: str) -> None:
        """The client has gone: give back what is held. An upstream at work keeps its place until it has noticed."""
        now = monotonic()
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
        self._let_go(now)
        client.proxy.reject(getattr(self, "upstream", None), failure.reason)
        if self.status:
            client.cut()
        else:
            self.status = failure.status
            self.close_client = self.close_client or not self.request_done or client.proxy.draining
            client.write(answers.render(failure, close=self.close_client, head_only=self.to_head_request))
        self._finish(now)

    def _let_go(self, now: float) -> None:
        upstream: Upstream | None = getattr(self, "upstream", None)
        if upstream is None:
            return
        connection, self.connection = self.connection, None
        if connection is not None:
            upstream.pool.discard(connection, self, now, "error")
        else:
            upstream.pool.cancel(self, now)
        upstream.act()

    def _finish(self, now: float) -> None:
        client = self.client
        client.proxy.finished(self, now)
        client.finished(self, now)
