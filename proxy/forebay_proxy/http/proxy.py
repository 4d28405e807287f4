"""What all HTTP connections of a worker share: the document's limits, the routes, the clients, the counters."""

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from math import inf
from typing import TYPE_CHECKING, Any

from forebay_core.spec.model import Http, Spec
from forebay_proxy.accesslog import AccessLog
from forebay_proxy.descriptors import most_refused
from forebay_proxy.http import answers, phases
from forebay_proxy.http.client import LINGER, ClientConnection
from forebay_proxy.http.routes import Route, Router
from forebay_proxy.tracing import Tracer, trace_named
from forebay_proxy.upstream import Upstream
from forebay_proxy.wheel import Wheel

if TYPE_CHECKING:
    from forebay_proxy.http.exchange import Exchange

CLIENT_GONE = 499  # as nginx counts requests whose client left before the answer
BUFFERS = 64 << 20  # bytes of request bodies that one worker buffers ahead of a lease, over all clients


class HttpProxy:
    """The protocol `http` of one worker."""

    def __init__(self, wheel: Wheel) -> None:
        self.loop = asyncio.get_running_loop()
        self.wheel = wheel
        self.draining = False
        self.clients: set[ClientConnection] = set()
        self.turned_away: dict[ClientConnection, None] = {}  # refused as too many, and not gone yet; the oldest first
        self.rejections: dict[str, int] = {}
        self.codes: dict[int | str, int] = {}
        self.log: AccessLog | None = None
        self.tracer: Tracer | None = None
        self._log_all = self._watched = False
        self.lone: Upstream | None = None  # which upstream lone requests go to; None: each is looked at
        self.spare: Exchange | None = None  # of a client that has gone, for the lone requests of the next one
        self.router: Router

    def configure(self, spec: Spec, upstreams: dict[str, Upstream], max_clients: int) -> None:
        """Take a document; requests under way end by the old one's routes, and by the new one's limits."""
        http = self.http = spec.http
        self._max_clients = max_clients
        self._most_turned_away = most_refused()
        self.trusted: Sequence[IPv4Network | IPv6Network] = http.trusted_proxies
        self.slow = spec.telemetry.slow_request or inf
        self.patience = patience(http)
        routes = [
            Route((r.host or "").lower().encode(), r.path_prefix.encode(), upstreams[r.upstream], r.strip_prefix)
            for r in spec.routes
        ]
        self.router = Router(routes, upstreams[spec.upstreams[0].name])
        self._attend()
        for client in self.clients:
            client.trusted = self.trusts(client.peer)

    def _attend(self) -> None:
        """What holds for requests has changed."""
        self.lone, self.spare = self._for_lone(), None
        for client in self.clients:
            client.attend()

    def _for_lone(self) -> Upstream | None:
        only = self.router.only
        if only is None or only.hash_header is not None or self._watched or self.draining:
            return None
        return only

    def drain(self) -> None:
        """Answers carry `Connection: close` from now on, so that clients go elsewhere."""
        self.draining = True
        self._attend()

    # ------------------------------------------------------------------ clients

    def __call__(self, peer: str | None = None) -> ClientConnection:
        """The protocol factory of the listeners; `peer` is what a balancer says of the client."""
        return ClientConnection(self, peer or "")

    def admit(self, client: ClientConnection) -> bool:
        if len(self.clients) >= self._max_clients:
            self.reject(None, answers.MAX_CLIENTS.reason)
            self._turn_away(client)
            return False
        self.clients.add(client)
        return True

    def _turn_away(self, client: ClientConnection) -> None:
        """Each may stay a while to read why; not so many that descriptors are wanting for who is in."""
        self.turned_away[client] = None
        if len(self.turned_away) > self._most_turned_away:
            oldest = next(iter(self.turned_away))
            del self.turned_away[oldest]
            oldest.abort()

    def trusts(self, peer: str) -> bool:
        """Whether the client's forwarding fields are believed. An empty peer is one that has gone."""
        if not peer:
            return False
        address = ip_address(peer)
        return any(address in network for network in self.trusted if network.version == address.version)

    def request_buffer(self) -> int:
        """Bytes of a body to take before asking for a connection: less when many clients buffer at once."""
        return min(self.http.request_buffer, BUFFERS // (len(self.clients) or 1))

    def close_idle(self) -> None:
        """Close the clients that have asked for nothing: during a drain, those that could not be told."""
        for client in list(self.clients):
            if client.exchange is None and not client.buffer and client.phase != phases.CLOSING:
                client.close()

    def cut_all(self) -> None:
        """The drain's deadline has come. First for those who wait: they would be sent on where others leave."""
        for client in sorted(self.clients, key=lambda client: client.phase != phases.QUEUE):
            client.drained()

    # ------------------------------------------------------------------ counting

    def count_rejection(self, reason: str) -> None:
        """A connection was refused before it could ask for anything."""
        self.reject(None, reason)

    def reject(self, upstream: Upstream | None, reason: str) -> None:
        """Count an answer of our own, by its reason."""
        counts = self.rejections if upstream is None else upstream.rejections
        counts[reason] = counts.get(reason, 0) + 1

    def refused(self, client: ClientConnection, failure: answers.Failure, seconds: float) -> None:
        """A request that could not be read, or a client that was not let in, is answered."""
        self.codes[failure.status] = self.codes.get(failure.status, 0) + 1
        if self.log is not None and self._log_all:
            self.log.write(
                client=client.peer,
                method=b"",
                target=b"",
                host=b"",
                status=failure.status,
                upstream=None,
                endpoint=None,
                bytes_in=0,
                bytes_out=len(answers.body_of(failure)),
                wait=None,
                connect=None,
                upstream_time=None,
                total=seconds,
                attempts=0,
                reused=False,
                error=failure.reason,
            )

    def finished(self, exchange: "Exchange", upstream: Upstream | None, now: float) -> None:
        """A request is over; `upstream` is None where it had no route."""
        seconds = now - exchange.started
        status = exchange.status or CLIENT_GONE
        if upstream is None:
            self.codes[status] = self.codes.get(status, 0) + 1
        else:
            upstream.count(status, seconds)
        if self._watched or seconds >= self.slow:
            self.observe(exchange, upstream, now, seconds)

    def observe(self, exchange: "Exchange", upstream: Upstream | None, now: float, seconds: float) -> None:
        """Access log, slow-request log and spans, where they are asked for."""
        head = exchange.head
        # Of the last attempt: an earlier one's time with the backend is in the total only.
        ready, assigned, taken = exchange.waited_from, exchange.assigned_at, exchange.taken_at
        taken = taken if taken >= ready else 0.0
        waited = (ready, assigned or taken or now) if ready else None
        connected = (assigned, taken or now) if assigned else None
        answered = (taken, now) if taken else None
        slow = seconds >= self.slow
        if self.log is not None and (self._log_all or slow):
            self.log.write(
                **self.described(exchange),
                client=exchange.client.peer,
                status=exchange.status,
                upstream=upstream.name if upstream else None,
                endpoint=exchange.endpoint_name or None,
                bytes_in=exchange.bytes_in,
                bytes_out=exchange.bytes_out,
                wait=length(waited),
                connect=length(connected),
                upstream_time=length(answered),
                total=seconds,
                attempts=exchange.attempts,
                reused=exchange.reused,
                error=exchange.error or None,
                trace=trace_named(exchange.trace, head.traceparent),
                slow=slow,
            )
        if self.tracer is not None and exchange.trace is not None:
            self.tracer.finish(
                exchange.trace,
                request=(exchange.started, now),
                wait=waited,
                connect=connected,
                upstream=answered,
                method=head.method,
                target=head.target,
                host=head.host,
                client=exchange.client.peer,
                status=exchange.status,
                upstream_name=upstream.name if upstream else None,
                endpoint=exchange.endpoint_name or None,
                attempts=exchange.attempts,
                error=exchange.error or None,
            )

    def described(self, exchange: "Exchange") -> dict[str, Any]:
        """What the log says of a request."""
        head = exchange.head
        return {"method": head.method, "target": head.target, "host": head.host}

    def observe_with(self, log: AccessLog | None, tracer: Tracer | None, *, log_all: bool) -> None:
        """Where finished requests are told; without `log_all` only the slow ones are logged."""
        self.log, self.tracer, self._log_all = log, tracer, log_all
        self._watched = log_all or tracer is not None
        self._attend()


def length(period: tuple[float, float] | None) -> float | None:
    """Seconds of a period."""
    return None if period is None else period[1] - period[0]


def patience(http: Http) -> tuple[float, ...]:
    """Seconds that a client's connection may stay in each of its phases, in their order."""
    return (
        http.keep_alive_timeout,
        http.header_timeout,
        http.body_timeout,
        inf,
        http.response_timeout,
        http.stream_idle_timeout,
        LINGER,
    )
