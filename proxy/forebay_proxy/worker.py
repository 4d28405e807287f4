"""A worker: one event loop that serves all of one ProxyPool. What a pod runs, and what the supervisor runs N of.

It has no opinion of its own about its share of a budget: grants come by `push`, from the supervisor or the operator,
and are written to the memory before they are acted on or answered (docs/explanation/ledger.md).
"""

import asyncio
import contextlib
import gc
import logging
import os
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic
from typing import Any

from forebay_core.budget.ledger import Answer
from forebay_core.budget.replica import takes
from forebay_core.http1 import IMPLEMENTATION
from forebay_core.postgres.console import Value
from forebay_core.retry import RetryBudget
from forebay_core.spec.load import document_hash
from forebay_core.spec.model import ProxyPool
from forebay_core.spec.model import Upstream as UpstreamSpec
from forebay_proxy import descriptors
from forebay_proxy.accesslog import nothing_lost
from forebay_proxy.checks import Checker
from forebay_proxy.connection import UpstreamConnection
from forebay_proxy.discovery import Discovery, Place, parents, targets
from forebay_proxy.files import reason
from forebay_proxy.forward.files import read_files
from forebay_proxy.forward.proxy import ForwardProxy
from forebay_proxy.forward.upstream import ForwardConnection
from forebay_proxy.http.proxy import HttpProxy
from forebay_proxy.http.upstream import HttpConnection
from forebay_proxy.journal import Record
from forebay_proxy.leavings import Leavings, ownerless
from forebay_proxy.listeners import Listeners
from forebay_proxy.loop_lag import LoopLag
from forebay_proxy.memory import Memory
from forebay_proxy.postgres.proxy import PgProxy
from forebay_proxy.postgres.server import PgConnection
from forebay_proxy.resolver import Resolver
from forebay_proxy.state import worker_state
from forebay_proxy.tasks import Tasks
from forebay_proxy.tcp import TcpConnection, TcpProxy
from forebay_proxy.telemetry import Telemetry
from forebay_proxy.tls import ClientTLS, client_tls, server_tls
from forebay_proxy.tracing import check_tracing
from forebay_proxy.turn import Turn
from forebay_proxy.upstream import Upstream
from forebay_proxy.wheel import Wheel

log = logging.getLogger(__name__)

# The upstream's side of each protocol; the client's is made in `Worker.__init__`.
CONNECTIONS: dict[str, type[UpstreamConnection]] = {
    "http": HttpConnection,
    "forward": ForwardConnection,
    "tcp": TcpConnection,
    "postgres": PgConnection,
}

SILENT = 5.0  # seconds of drain after which a client that asked nothing is closed unasked
FIRST_ANSWER = 3.0  # seconds that a document waits for the name server; the supervisor waits 5 for a worker
TLS_CHECK = 5.0  # seconds between two looks at the certificate files


async def no_rows(table: str) -> list[Mapping[str, Value]]:
    """Of other workers, where there are none."""
    return []


class Worker:
    """See the module's docstring. `start` it, `listen`, and when told to `drain`; all on one loop."""

    def __init__(self, pool: ProxyPool, memory: Memory, pod: str, secret: bytes) -> None:
        """`pod`: the UID of the pod that this runs in, or the name of the memory in local mode: what a life's processes
        have in common, and no other life's at the same time. `secret`: what the pool's replicas know, and nobody else.
        Raises TLSFileError where a certificate can't be used."""
        self.loop = asyncio.get_running_loop()
        self.pool = pool
        self.memory = memory
        self.pod = pod
        self.wheel = Wheel(self.loop)
        self.turn = Turn(self.loop)
        self.tasks = Tasks("worker")
        self.lag = LoopLag(self.loop)
        self.log_lost = nothing_lost()
        self.resolver = Resolver()
        self.server_tls = server_tls(pool)
        self.upstreams: dict[str, Upstream] = {}
        self._retiring: dict[str, Upstream] = {}  # no longer in the document, but with connections that are in use
        self._discoveries: dict[str, Discovery] = {}
        self._client_tls: dict[str, ClientTLS] = {}
        self._checkers: dict[str, Checker] = {}
        self._applying = asyncio.Lock()  # one document after the other
        self.draining = False
        self._descriptors = descriptors.used()  # before there are connections
        self._paused = False
        self.tell_others: Callable[[str, str], None] = lambda name, of: None
        self.rows_of_others: Callable[[str], Awaitable[list[Mapping[str, Value]]]] = no_rows
        self._telemetry = Telemetry(self.loop, self.log_lost)
        self.reload_success = True
        self.pid = os.getpid()
        self.started = time.time()
        self.proxy: HttpProxy | TcpProxy | PgProxy
        if pool.spec.protocol == "http":
            self.proxy = HttpProxy(self.wheel)
        elif pool.spec.protocol == "forward":
            self.proxy = ForwardProxy(self.wheel, self.tasks)
        elif pool.spec.protocol == "postgres":
            self.proxy = PgProxy(self.wheel, self.turn, self.tasks, self, secret)
        else:
            self.proxy = TcpProxy(self.wheel)
        self.listeners = Listeners(self.loop, self.proxy)

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Make the upstreams, look up their names, take up the grant of this life."""
        await self.apply(self.pool)
        for name, left in self.memory.left.items():
            if left and name in self.budgeted:
                self.tasks.spawn(self._mourn(name, left), f"leavings at {name}")
        self.tasks.spawn(self._tick(), "tick")
        self.tasks.spawn(self._watch_tls(), "tls files")
        self.lag.start()
        gc.collect()
        gc.freeze()  # what lives as long as the process is never looked at again

    async def listen(self, sock: socket.socket) -> None:
        """Accept from this listening socket."""
        await self.listeners.listen(sock, self._context, proxied=self.pool.spec.listen.proxy_protocol)

    async def ignore(self, sock: socket.socket) -> None:
        """Stop accepting from this socket; it stays open for others."""
        self.listeners.ignore(sock)

    async def apply(self, pool: ProxyPool) -> None:
        """Take a document, the first or a changed one. Raises FileError, and has changed nothing then."""
        async with self._applying:
            await self._apply(pool)

    async def _apply(self, pool: ProxyPool) -> None:
        if pool.spec.forward is not None:
            read_files(pool.spec.forward)
        if isinstance(self.proxy, PgProxy):
            self.proxy.load(pool.spec)
        if pool.spec.telemetry.tracing is not None:
            check_tracing(pool.spec.telemetry.tracing.endpoint)
        tls = {u.name: client_tls(u, pool.spec.protocol) for u in pool.spec.upstreams if u.tls is not None}
        relisten = pool.spec.listen != self.pool.spec.listen
        if relisten:
            self.server_tls = server_tls(pool)
        self.pool = pool
        self._client_tls = tls
        spec = pool.spec
        gone = [name for name in self.upstreams if name not in {u.name for u in spec.upstreams}]
        for upstream_spec in spec.upstreams:
            self._configure(upstream_spec, tls.get(upstream_spec.name))
            self._discoveries[upstream_spec.name].follow(targets(upstream_spec) + parents(spec))
        await self._names_asked()  # before anything is routed to an upstream that is new
        self._tell_tls()
        self.proxy.configure(spec, self.upstreams, descriptors.most_clients(spec, self._descriptors))
        self._telemetry.configure(spec.telemetry, pool.metadata.name, self.proxy)
        for upstream_spec in spec.upstreams:
            name = upstream_spec.name
            await self._checkers[name].configure(upstream_spec, watched=spec.watches_roles)
        for name in gone:
            await self._retire(name)
        if relisten:
            await self._relisten()
        self._pause_or_resume()

    async def _names_asked(self) -> None:
        """Wait until each name has had its first answer, or failure; not for long, as a name server may be silent."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ANSWER):
                for discovery in self._discoveries.values():
                    await discovery.answered.wait()

    async def _relisten(self) -> None:
        """In another way, on the sockets that there are. Raises OSError."""
        await self.listeners.relisten(self._context, proxied=self.pool.spec.listen.proxy_protocol)

    @property
    def _context(self) -> ssl.SSLContext | None:
        return self.server_tls.context if self.server_tls is not None else None

    def _configure(self, spec: UpstreamSpec, tls: ClientTLS | None) -> None:
        known = self.upstreams.get(spec.name) or self._revived(spec.name)
        if known is not None:
            # What it holds where there was no bound it may keep until it is told: the ledger raises nobody before that.
            kept = known.pool.total if known.spec.budget is None else 0
            other_tls = spec.tls != known.spec.tls
            known.configure(spec)
            known.ssl_context = tls.context if tls else None
            retries = self.pool.spec.http.retries
            known.retry_budget.configure(retries.budget_percent, retries.min_per_second)
            self._grant(spec.name, self.memory.grants.get(spec.name, kept), monotonic())
            if other_tls:  # what is open or being opened is not as it is asked for now
                known.pool.recycle_all(monotonic())
                known.act()
            return
        upstream = self.upstreams[spec.name] = Upstream(
            spec,
            make=CONNECTIONS[self.pool.spec.protocol],
            wheel=self.wheel,
            turn=self.turn,
            tasks=self.tasks,
            memory=self.memory,
            ssl_context=tls.context if tls else None,
            random=random.random,
            retry_budget=retry_budget(self.pool),
            kinds=self.pool.spec.protocol == "forward",
            session=self.pool.spec.session,
        )
        self._follow(upstream)
        if spec.budget is not None:  # before there is an endpoint, so before anything can be opened
            upstream.pool.set_left(self.memory.left.get(spec.name, 0), monotonic())
        self._grant(spec.name, self.memory.grants.get(spec.name, 0), monotonic())

    def _follow(self, upstream: Upstream) -> None:
        known = [Place(e.host, e.port, e.weight, e.address) for e in upstream.pool.endpoints if e.listed]
        self._discoveries[upstream.name] = Discovery(self.resolver, upstream.set_endpoints, upstream.name, known)
        self._checkers[upstream.name] = Checker(upstream, self.tasks)

    def _tell_tls(self) -> None:
        """PostgreSQL's login says something of the certificate in force."""
        if isinstance(self.proxy, PgProxy):
            tls = self.server_tls
            self.proxy.use_certificate(tls.certificate if tls is not None else None)

    async def _retire(self, name: str) -> None:
        """An upstream that the document no longer names: what is in flight ends, then it goes."""
        upstream = self._retiring[name] = self.upstreams.pop(name)
        await self._discoveries.pop(name).close()
        await self._checkers.pop(name).close()
        upstream.pool.drain(monotonic(), keep=0)
        upstream.act()

    def _revived(self, name: str) -> Upstream | None:
        """An upstream that is back in the document before it has gone: the same one, as its connections count."""
        upstream = self._retiring.pop(name, None)
        if upstream is not None:
            upstream.pool.draining = False
            self.upstreams[name] = upstream
            self._follow(upstream)
        return upstream

    @property
    def every_upstream(self) -> dict[str, Upstream]:
        """With those that the document no longer names."""
        return self._retiring | self.upstreams

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for name, upstream in self.every_upstream.items():
                try:
                    upstream.tick()
                except Exception:  # a mistake of ours must not end the others' ticks, and not go unseen
                    log.exception("the tick of upstream %s failed", name)
                if name in self._retiring and not upstream.pool.total and not upstream.pool.waiters:
                    del self._retiring[name]

    async def _watch_tls(self) -> None:
        behind = False  # listeners of the old authorities
        while True:
            await asyncio.sleep(TLS_CHECK)
            if self.server_tls is not None and self.server_tls.reload_if_changed() and self.server_tls.verifies:
                behind = True
            if behind:
                try:
                    await self._relisten()
                    behind = False
                except OSError as error:
                    log.error("can't listen with new authorities yet: %s", reason(error))
            self._tell_tls()
            if isinstance(self.proxy, (PgProxy, ForwardProxy)):
                self.proxy.refresh()
            for name, tls in self._client_tls.items():
                if tls.reload_if_changed():
                    self.upstreams[name].ssl_context = tls.context

    # ------------------------------------------------------------------ budget

    @property
    def budgeted(self) -> list[str]:
        return [u.name for u in self.pool.spec.upstreams if u.budget is not None]

    def push(
        self, life: str, sequence: int, grants: Mapping[str, int], deadline: float | None = None
    ) -> dict[str, Any]:
        """Take a grant if it is meant for this life and newer than any seen; answer in any case. `deadline`: seconds
        until what is leased above the grant is cut, as others need the places; None: it may take its time."""
        if takes(self.memory, life, sequence):
            self.memory.take(sequence, dict(grants))
            now = monotonic()
            for name, grant in grants.items():
                if name in self.upstreams:
                    self._grant(name, grant, now)
        if life == self.memory.life:
            for name in self.budgeted:
                self.upstreams[name].press(deadline)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """An `Answer`'s fields: held is counted with what the dead left, for what is bounded here."""
        memory = self.memory
        held = {name: u.held for name, u in self.every_upstream.items() if u.spec.budget is not None}
        return Answer(memory.life, self.pod, memory.sequence, held, memory.draining)._asdict()

    def _grant(self, name: str, grant: int, now: float) -> None:
        upstream = self.upstreams[name]
        budget = upstream.spec.budget
        upstream.pool.set_grant(
            grant if budget is not None else None,
            now,
            per_endpoint=budget is not None and budget.per == "endpoint",
        )
        upstream.act()

    async def _mourn(self, name: str, left: int) -> None:
        """Count what a dead predecessor left until it is known to be closed, or `linger` is over."""
        upstream = self.upstreams[name]
        known = self.memory.records(name)
        leavings = Leavings(left, known, upstream.linger, monotonic())
        while leavings.left:
            leavings.update(ownerless(), monotonic())
            if isinstance(self.proxy, PgProxy):
                for record in self.proxy.leftovers.end("predecessor", upstream, leavings.records):
                    leavings.gone(record)
            for record in set(known) - set(leavings.records):
                self.memory.erase(record.number)
            known = leavings.records
            per_endpoint = upstream.pool.grant_per_endpoint
            upstream.pool.set_left(leavings.most if per_endpoint else leavings.left, monotonic())
            self.memory.set_left(name, leavings.left)
            upstream.act()
            if leavings.left:
                await asyncio.sleep(0.25)

    def end(self, name: str, records: Iterable[Record]) -> list[Record]:
        """End what those have left at an upstream who have ended for good; returns what has gone."""
        upstream = self.upstreams.get(name)
        if upstream is None or not isinstance(self.proxy, PgProxy):
            return []
        return self.proxy.leftovers.end("others", upstream, records)

    @property
    def ready(self) -> bool:
        """Document loaded, not draining, and a grant held where one is needed that what the dead left does not use up;
        never the backend's health."""
        pools = [self.upstreams[name].pool for name in self.budgeted]
        return not self.draining and all(pool.grant is not None and pool.grant > pool.left for pool in pools)

    # ------------------------------------------------------------------ commands

    def order(self, name: str, of: str) -> None:
        """An order of the admin database: carried out here at once, and by the other workers of the supervisor."""
        self.carry_out(name, of)
        self.tell_others(name, of)

    def carry_out(self, name: str, of: str) -> None:
        """recycle, pause or resume; the last two, and kill, also of one database."""
        if name == "kill" or (of and name != "recycle"):
            if isinstance(self.proxy, PgProxy):
                getattr(self.proxy, name)(of)
        else:
            getattr(self, name)()

    def recycle(self) -> None:
        for upstream in self.upstreams.values():
            upstream.pool.recycle_all(monotonic())
            upstream.act()
        if isinstance(self.proxy, PgProxy):
            self.proxy.learn_anew()

    def pause(self) -> None:
        """This replica leases nothing until `resume`, whatever the document says."""
        self._paused = True
        self._pause_or_resume()

    def resume(self) -> None:
        self._paused = False
        self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        """A pool is paused if the document or a command says so."""
        paused = self._paused or self.pool.spec.paused
        for upstream in self.every_upstream.values():
            if paused and upstream.pool.pause_timeout is None:
                upstream.pool.pause(monotonic(), self.pool.spec.pause_timeout)
            elif not paused and upstream.pool.pause_timeout is not None:
                upstream.pool.resume(monotonic())
                upstream.act()

    # ------------------------------------------------------------------ drain

    async def drain(self, delay: float, timeout: float) -> None:
        """Not ready; serve on for `delay`; then stop accepting, finish what is in flight, close at the deadline."""
        self.draining = True
        self.proxy.drain()
        await asyncio.sleep(delay)
        deadline = self.loop.time() + timeout
        for upstream in self.upstreams.values():
            if self.proxy.clients and not upstream.pool.total and not upstream.pool.draining:
                await self._warm(upstream)
        self.memory.drain()
        self.listeners.close()
        self.listeners.deaf.set()
        for upstream in self.upstreams.values():
            upstream.pool.drain(monotonic(), keep=1)
            upstream.act()
        silent_until = self.loop.time() + SILENT
        while self.proxy.clients and self.loop.time() < deadline:
            if self.loop.time() >= silent_until:
                self.proxy.close_idle()
            await asyncio.sleep(0.05)
        self.proxy.cut_all()
        await asyncio.sleep(0)
        for upstream in self.upstreams.values():
            upstream.pool.drain(monotonic(), keep=0)
            upstream.act()
        while any(u.pool.total for u in self.every_upstream.values()) and self.loop.time() < deadline:
            await asyncio.sleep(0.02)

    async def _warm(self, upstream: Upstream) -> None:
        """One connection for clients that are still there: a draining life opens none for them later."""
        upstream.pool.min_idle = max(upstream.pool.min_idle, 1)
        upstream.tick()

    async def close(self) -> None:
        """Stop everything; what is open is cut."""
        self.listeners.close()
        for discovery in self._discoveries.values():
            await discovery.close()
        self.lag.stop()
        self._telemetry.close()
        if isinstance(self.proxy, PgProxy):
            self.proxy.end()
        await self.tasks.close()
        self.wheel.close()

    def state(self) -> dict[str, Any]:
        """Everything that metrics, `top`, the autoscaler and `/state` are made from, as JSON."""
        return worker_state(self)

    @property
    def files_good(self) -> bool:
        """Whether the files that the document names are in force as they are now."""
        tls = (self.server_tls, *self._client_tls.values())
        complaint = self.proxy.complaint if isinstance(self.proxy, (PgProxy, ForwardProxy)) else ""
        return not complaint and not any(files.error for files in tls if files is not None)

    @property
    def document_hash(self) -> str:
        return document_hash(self.pool)

    @property
    def codec(self) -> str:
        return IMPLEMENTATION


def retry_budget(pool: ProxyPool) -> RetryBudget:
    retries = pool.spec.http.retries
    return RetryBudget(retries.budget_percent, retries.min_per_second)
