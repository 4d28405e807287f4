"""The driver of one upstream: it carries out what the pool engine decides, and keeps the upstream's counters.

Every public method that may have changed the engine ends in `act()`, which opens and closes connections. Opening is
the only part that is a task; requests never are.
"""

import asyncio
import contextlib
import errno
import logging
import re
import socket
import ssl
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Final, Protocol

from forebay_core.balance import Endpoint, Picker, Server, picker
from forebay_core.health import HealthGroup, HealthPolicy
from forebay_core.histogram import Histogram
from forebay_core.lease import LEASED, Connection, Kind, Refusal, Waiter
from forebay_core.pool import Pool
from forebay_core.retry import RetryBudget
from forebay_core.spec.model import Upstream as UpstreamSpec
from forebay_proxy.connection import CHECKED, FULL, LoginError, UpstreamConnection
from forebay_proxy.dial import connect
from forebay_proxy.files import reason
from forebay_proxy.tasks import Tasks
from forebay_proxy.turn import Turn
from forebay_proxy.wheel import Wheel

log = logging.getLogger(__name__)

DEFAULT_LINGER = 30.0  # seconds; `budget.linger` where there is a budget

CONNECT_ERRORS = {
    errno.ECONNREFUSED: ("connect_refused", "the upstream refused the connection"),
    errno.ECONNRESET: ("connect_reset", "the upstream reset the connection"),
    errno.EHOSTUNREACH: ("connect_unreachable", "the upstream can't be reached"),
    errno.ENETUNREACH: ("connect_unreachable", "the upstream can't be reached"),
    errno.EMFILE: ("no_descriptors", "the proxy is out of file descriptors"),
    errno.ENFILE: ("no_descriptors", "the proxy is out of file descriptors"),
    errno.EADDRNOTAVAIL: ("no_ports", "the proxy is out of local ports"),
}
# Not the endpoint's fault, so no reason to eject it.
OWN_FAULTS = ("no_descriptors", "no_ports", "login", FULL, CHECKED)
FULL_FOR: Final = 0.5  # seconds until one opening tries again
LOGGED_AGAIN: Final = 60.0  # seconds; failures to connect for the same reason in between are only counted

# A peer that has vanished without a FIN is found within 30 s, idle or not.
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)


class Books(Protocol):
    """Where the number of connections is written down before `connect()`, and then where they go, to outlive this
    process."""

    def set_held(self, upstream: str, held: int) -> None: ...
    def note(self, upstream: str, sock: socket.socket) -> int: ...
    def identify(self, record: int, pid: int, key: bytes) -> None: ...
    def erase(self, record: int) -> None: ...


class Upstream:
    """One upstream of one worker."""

    def __init__(
        self,
        spec: UpstreamSpec,
        *,
        make: Callable[[Endpoint, "Upstream"], UpstreamConnection],
        wheel: Wheel,
        turn: Turn,
        tasks: Tasks,
        memory: Books,
        ssl_context: ssl.SSLContext | None,
        random: Callable[[], float],
        retry_budget: RetryBudget,
        kinds: bool = False,
        session: bool = False,
    ) -> None:
        """`kinds`, `session`: as `Pool`."""
        self.name = spec.name
        self.spec = spec
        self.wheel = wheel
        self.turn = turn
        self.ssl_context = ssl_context
        self.retry_budget = retry_budget
        self.knock: Kind | None = None  # the kind of connections that checks open, where connections are of kinds
        self.gated: dict[Waiter, None] = {}  # who waits for their turn before they may ask the pool; the oldest first
        self.gate_wait: dict[str, Histogram] = {}  # how long they have, where there is a gate
        self.new_requests = 0  # which the retry budget has not been told of yet
        self._tasks = tasks
        self._memory = memory
        self._loop = asyncio.get_running_loop()
        self._expiry: asyncio.TimerHandle | None = None
        self._expires_at = 0.0
        self._pressed: asyncio.TimerHandle | None = None
        self._easing: asyncio.TimerHandle | None = None  # of a full upstream
        self._seed = int(random() * 2**32)

        self.connect_seconds = Histogram()
        self.request_seconds = Histogram()
        self.codes: dict[int | str, int] = {}
        self.connect_errors: dict[str, int] = {}
        self._logged: dict[str, float] = {}  # when one of them was, by reason
        self.rejections: dict[str, int] = {}
        self.retries: dict[str, int] = {}
        self.health = HealthGroup(HealthPolicy())
        self.pool = Pool(
            spec.pool,
            (),
            self._make_picker,
            random=random,
            make=lambda endpoint: make(endpoint, self),
            kinds=kinds,
            session=session,
        )
        self.configure(spec)
        if spec.budget is not None:
            self.pool.set_grant(0, monotonic(), per_endpoint=spec.budget.per == "endpoint")

    def __repr__(self) -> str:
        return f"<Upstream {self.name} {self.pool!r}>"

    def configure(self, spec: UpstreamSpec) -> None:
        """Take a changed document for the same upstream; endpoints come apart, by `set_endpoints`."""
        policy_changed = spec.load_balancing.policy != self.spec.load_balancing.policy
        self.spec = spec
        self.pre_ping = spec.pool.pre_ping
        self.hash_header = hash_header(spec)
        self.connect_timeout = spec.pool.connect_timeout
        self.linger = spec.budget.linger if spec.budget is not None else DEFAULT_LINGER
        check = spec.health_check
        passive, active = (check.passive, check.active) if check is not None else (None, None)
        defaults = HealthPolicy()
        self.health.policy = HealthPolicy(
            consecutive_errors=passive.consecutive_errors if passive else defaults.consecutive_errors,
            base_ejection_time=passive.base_ejection_time if passive else defaults.base_ejection_time,
            max_ejection_percent=passive.max_ejection_percent if passive else defaults.max_ejection_percent,
            healthy_threshold=active.healthy_threshold if active else defaults.healthy_threshold,
            unhealthy_threshold=active.unhealthy_threshold if active else defaults.unhealthy_threshold,
        )
        self.pool.configure(spec.pool, monotonic())
        if policy_changed:
            self.pool.change_policy(keyed=self.hash_header is not None)

    def hash_key(self, head: bytes, peer: str) -> bytes:
        """What consistent hashing hashes: the value of the named header, else the client's address."""
        assert self.hash_header is not None
        found = self.hash_header.search(head)
        return found[1] if found else peer.encode()

    def set_endpoints(self, wanted: Sequence[tuple[str, int, int, str]]) -> None:
        """Endpoints as (host, port, weight, address); those that stay keep their connections and their health."""
        known = {(e.host, e.port, e.address): e for e in self.pool.endpoints if e.listed}
        servers = {(s.address, s.port): s for s in self.pool.servers}
        endpoints = []
        for (host, port, address), weight in {(h, p, a): w for h, p, w, a in wanted}.items():
            endpoint = known.pop((host, port, address), None)
            if endpoint is None:
                server = servers.setdefault((address, port), Server(address, port))
                endpoint = Endpoint(host, port, weight, address, self.health.add(), server)
            endpoint.weight = weight
            endpoints.append(endpoint)
        for endpoint in known.values():
            self.health.remove(endpoint.health)
        self.pool.set_endpoints(endpoints, monotonic())
        self.act()

    def _make_picker(self, endpoints: Sequence[Endpoint]) -> Picker:
        return picker(self.spec.load_balancing.policy, endpoints, self._seed)

    # ------------------------------------------------------------------ carrying out

    def count(self, outcome: int | str, seconds: float) -> None:
        """A request, or a connection that is relayed, is over."""
        histogram, codes = self.request_seconds, self.codes
        histogram.counts[bisect_left(histogram.bounds, seconds)] += 1  # `observe`, written out
        histogram.sum += seconds
        codes[outcome] = codes.get(outcome, 0) + 1

    def act(self) -> None:
        """Open and close what the engine has asked for, and see to the next waiter's deadline."""
        pool = self.pool
        while pool.opens:
            self.open(pool.opens.pop())
        while pool.closes:
            connection = pool.closes.pop()
            assert isinstance(connection, UpstreamConnection)
            connection.shut(self.linger)
        if pool.waiters and (self._expiry is None or pool.next_deadline() < self._expires_at):
            if self._expiry is not None:
                self._expiry.cancel()
            self._expires_at = pool.next_deadline()
            self._expiry = self._loop.call_later(max(0.0, self._expires_at - monotonic()), self._expire)

    def _expire(self) -> None:
        self._expiry = None
        self.turn.end()  # timers come before it: what has been answered may be just what is waited for
        self.pool.expire(monotonic())
        self.act()

    def tick(self) -> None:
        """Once a second: ages, idleness, `minIdle`."""
        now = monotonic()
        self.retry_budget.request(now, self.new_requests)
        self.new_requests = 0
        self.pool.tick(now)
        self.act()

    @property
    def held(self) -> int:
        """What counts against the grant, with what the dead left. One that holds for each endpoint apart: at the
        endpoint that has most."""
        pool = self.pool
        if not pool.grant_per_endpoint:
            return pool.held
        return max(map(pool.held_at, pool.servers), default=pool.left)

    def press(self, within: float | None) -> None:
        """What is leased above the limit is cut in so many seconds, if it still is then: others need the places. None:
        the leases may take their time."""
        if within is None and self._pressed is not None:
            self._pressed.cancel()
            self._pressed = None
        elif within is not None and self._pressed is None:
            self._pressed = self._loop.call_later(within, self._take_back)

    @property
    def pressed(self) -> bool:
        """Whether a deadline is running."""
        return self._pressed is not None

    def _take_back(self) -> None:
        """The longest leases go first."""
        self._pressed = None
        self.turn.end()  # leases that are over but for that
        leased = [connection for connection in self.pool.connections if connection.state == LEASED]
        ending: Counter[Server] = Counter()  # leases that end soon: a transaction is rolled back before
        for connection in sorted(leased, key=lambda c: c.leased_at):
            if self.pool.excess(connection.endpoint, ending):
                connection.owner.take_back()  # type: ignore[attr-defined]
                ending[connection.endpoint.server] += connection.state == LEASED

    def may_retry(self, reason: str) -> bool:
        """Whether the retry budget allows one more; True spends it and counts it by its reason."""
        now = monotonic()
        self.retry_budget.request(now, self.new_requests)
        self.new_requests = 0
        if not self.retry_budget.may_retry(now):
            return False
        self.retries[reason] = self.retries.get(reason, 0) + 1
        return True

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is closed at both ends."""
        self.erase(connection)
        self.pool.closed(connection, monotonic())
        self.write_down()

    def write_down(self) -> None:
        """How many connections are open, opening or closing: before `connect()`, as a crash must not lose it."""
        self._memory.set_held(self.name, self.pool.open)

    def identify(self, connection: UpstreamConnection, pid: int, key: bytes) -> None:
        """Write down by what the server knows a connection."""
        self._memory.identify(connection.record, pid, key)

    def erase(self, connection: UpstreamConnection) -> None:
        """The connection has gone, before it is counted no more."""
        self._memory.erase(connection.record)
        connection.record = -1

    # ------------------------------------------------------------------ connecting

    def open(self, connection: Connection) -> asyncio.Task[Refusal | None]:
        """Start connecting; the engine hears `opened` or `failed`. The task's result is why it failed."""
        assert isinstance(connection, UpstreamConnection)
        self.write_down()
        return self._tasks.spawn(self._open(connection), f"connect {connection.endpoint.name}")

    async def _open(self, connection: UpstreamConnection) -> Refusal | None:
        started = monotonic()
        endpoint = connection.endpoint
        refusal = None
        try:
            async with asyncio.timeout(self.connect_timeout):
                await self.connect(connection)
                await connection.log_in()
        except TimeoutError:
            refusal = Refusal("connect_timeout", f"connecting to {endpoint.name} took too long")
        except (ssl.SSLError, ssl.CertificateError) as error:
            what, why = getattr(error, "reason", None) or error, getattr(error, "verify_message", "")
            refusal = Refusal("tls", f"TLS with {endpoint.name} failed: {what}{why and f' ({why})'}")
        except LoginError as error:
            refusal = error.refusal
        except OSError as error:
            otherwise = "connect_failed", f"connecting failed: {reason(error)}"
            kind, sentence = CONNECT_ERRORS.get(error.errno or 0, otherwise)
            refusal = Refusal(kind, f"{endpoint.name}: {sentence}")
        except asyncio.CancelledError:
            self.pool.failed(connection, Refusal("draining", "the proxy is shutting down"), monotonic())
            raise
        now = monotonic()
        if refusal is None:
            self.connect_seconds.observe(now - started)
            self.pool.opened(connection, now)
        else:
            if refusal.reason != CHECKED:
                if not connection.chosen(refusal):  # else it is a rejection, of that client
                    self.connect_errors[refusal.reason] = self.connect_errors.get(refusal.reason, 0) + 1
                self._log(refusal, now)
            if refusal.reason not in OWN_FAULTS:
                endpoint.health.failed(now, refusal.detail)
            if refusal.reason == FULL:
                self.pool.brake()
                if self._easing is None:
                    self._easing = self._loop.call_later(FULL_FOR, self._ease)
            else:
                self.pool.braked = False
            transport, sock = connection.transport, connection.sock
            if transport is None and sock is None:
                self.erase(connection)
            self.pool.failed(connection, refusal, now, connected=transport is not None or sock is not None)
            self.write_down()
            if transport is not None:
                connection.shut(self.linger)
            elif sock is not None:
                self._tasks.spawn(self._outlast(connection, sock), f"end of {endpoint.name}")
        self.act()
        return refusal

    def _ease(self) -> None:
        self._easing = None
        self.pool.ease(monotonic())
        self.act()

    def _log(self, refusal: Refusal, now: float) -> None:
        """Whoever is on call reads there what the backend says, but not once for each attempt."""
        if now - self._logged.get(refusal.reason, -inf) >= LOGGED_AGAIN:
            self._logged[refusal.reason] = now
            log.warning("upstream %s: %s", self.name, refusal.detail)

    async def _outlast(self, connection: UpstreamConnection, sock: socket.socket) -> None:
        await self.outlast(sock)
        self.forget(connection)
        self.act()

    async def outlast(self, sock: socket.socket) -> None:
        """Where TLS failed the upstream may not know it yet (it hangs): it counts until it has closed, or `linger`."""
        with sock, contextlib.suppress(OSError, TimeoutError):
            sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(self.linger):
                while await self._loop.sock_recv(sock, 1 << 16):
                    pass

    async def connect(self, connection: UpstreamConnection) -> None:
        """Over TLS where that is asked for, without a login. It has to be counted already. Raises OSError."""
        endpoint = connection.endpoint
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for level, option, value in KEEPALIVE:
                sock.setsockopt(level, option, value)
            await connect(sock, endpoint.address, endpoint.port)
            connection.record = self._memory.note(self.name, sock)
            context = self.ssl_context  # a reload may change it meanwhile
            if context is None:
                await self._loop.create_connection(lambda: connection, sock=sock)
            else:
                connection.sock = sock.dup()  # stays open should TLS fail
                await connection.ask_for_tls(sock)
                await self._loop.create_connection(
                    lambda: connection,
                    sock=sock,
                    ssl=context,
                    server_hostname=self._server_name(endpoint),
                    ssl_shutdown_timeout=self.linger,
                )
                connection.sock.close()
            if connection.transport is None:
                raise ConnectionResetError(errno.ECONNRESET, "closed at once")
            connection.sock = sock
        except BaseException:
            sock.close()
            raise

    def _server_name(self, endpoint: Endpoint) -> str:
        return (self.spec.tls and self.spec.tls.server_name) or endpoint.host


def hash_header(spec: UpstreamSpec) -> re.Pattern[bytes] | None:
    """Finds the value to hash in a scanned head; None where the policy is another. Without a header named it never
    matches, and the client's address is hashed."""
    if spec.load_balancing.policy != "consistentHash":
        return None
    hashed = spec.load_balancing.consistent_hash
    if hashed is None or hashed.header is None:
        return re.compile(rb"(?!)()")
    return re.compile(rb"\r\n%b:[ \t]*([^\r]*)" % re.escape(hashed.header.encode()), re.IGNORECASE)
