"""The table of scenarios.

To add one: a `Cpu`, a `Latency`, a `Memory` or a `ControlPlane` in SCENARIOS, and, if it needs a new kind of program,
its Launch in bench.peers, or its backend in bench.backends.
"""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from bench import backends, forward, peers, postgres
from bench.kinds import ControlPlane, Cpu, Latency, Limit, Memory, Scenario
from bench.place import PLAIN, Backend, Launch, Shape
from bench.request import HEADERS, TARGET
from bench.why import (
    BUFFERS,
    CONNECTING,
    HANDSHAKE,
    INTERPRETER,
    QUERIES,
    QUEUED_QUERIES,
    RELAYING,
    RESETS,
)

FIELDS = tuple(part for field in HEADERS for part in ("-H", field))
WRK = ("wrk", "-t1", "-c64", "-d{seconds}s", *FIELDS)
NEW = ("-H", "Connection: close")

PURE = {"FOREBAY_CODEC": "pure"}
PEERS: dict[str, Launch] = {"nginx": peers.nginx, "haproxy": peers.haproxy, "envoy": peers.envoy}
ALL: dict[str, Launch] = {**PEERS, "traefik": peers.traefik, "caddy": peers.caddy}
OURS: dict[str, Launch] = {"forebay": peers.forebay()}


def under(factor: float, figure: str, *others: str) -> tuple[Limit, ...]:
    return tuple(Limit("forebay", figure, factor, other) for other in others)


def http(
    name: str, about: str, *more: str, path: str = TARGET, clients: int = 64, idle: int = 0, base: str = "nginx",
    targets: Mapping[str, Launch] = ALL | OURS, limits: tuple[Limit, ...] = (), shape: Shape = PLAIN, why: str = "",
    backend: Callable[[Path], Awaitable[Backend]] = backends.http,
) -> Cpu:  # fmt: skip
    """A scenario of wrk with so many clients; `more` are its further arguments."""
    return Cpu(
        name=f"http-{name}",
        about=about,
        unit="request",
        backend=backend,
        targets=targets,
        base=base,
        load=("wrk", "-t1", f"-c{clients}", "-d{seconds}s", *FIELDS, *more, "{scheme}://127.0.0.1:{port}" + path),
        count=r"(\d+) requests in",
        failures=r"Socket errors:.*|Non-2xx or 3xx responses: \d+|Traceback.*",
        limits=limits,
        shape=shape,
        idle=idle,
        why=why,
    )


def relay(name: str, about: str, *more: str, shape: Shape, limits: tuple[Limit, ...], why: str) -> Cpu:
    """A scenario of messages to and fro."""
    return Cpu(
        name=name,
        about=f"{about}: 64 connections, each with one message of 512 bytes to and fro at a time",
        unit="message",
        backend=backends.echo,
        targets={**ALL, **OURS},
        base="nginx",
        load=("python3", "{here}/echo.py", "{port}", "{seconds}", *more),
        count=r"(\d+) messages echoed",
        failures=r"failed:.*|Traceback.*",
        limits=limits,
        shape=shape,
        why=why,
    )


def pgbench(
    name: str, about: str, *load: str, clients: int = 32, more: str = "", least: tuple[int, int] = (0, 0),
    least_seconds: int = 1, limits: tuple[Limit, ...] = (), pool: Mapping[str, object] | None = None,
    why: str = QUERIES,
) -> Cpu:  # fmt: skip
    """A scenario of pgbench with so many clients; `more` is added to PgBouncer's settings, `pool` to our pool's."""
    return Cpu(
        name=f"postgres-{name}",
        about=f"{about}, {clients} clients on {postgres.CONNECTIONS} connections, transaction mode, one process",
        unit="transaction",
        backend=postgres.server,
        targets={
            "pgbouncer": postgres.pgbouncer(least=least, more=more),
            "forebay": postgres.forebay(pool=pool),
            "forebay-pure": postgres.forebay(env=PURE, pool=pool),
        },
        base="pgbouncer",
        load=(
            *("pgbench", "-n", "-j", "1", "-c", str(clients), "-T", "{seconds}", *load),
            *("-h", "127.0.0.1", "-p", "{port}", "-U", postgres.USER, postgres.DATABASE),
        ),
        count=r"number of transactions actually processed: (\d+)",
        failures=r"number of failed transactions: [1-9].*|.*(?:FATAL|ERROR|aborted).*",
        limits=limits,
        least_seconds=least_seconds,
        why=why,
    )


def at_most(factor: float, *, lenient: bool = False) -> tuple[Limit, ...]:
    return (Limit("forebay", "us_per_transaction", factor, "pgbouncer", lenient),)


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        http(
            "1k",
            "1 KiB answers, 10 fields each way, 64 keep-alive clients",
            targets={
                **ALL,
                **OURS,
                "forebay-pure": peers.forebay(env=PURE),
                "aiohttp": peers.python("aiohttp"),
                "mitmproxy": peers.mitmproxy,
            },
            limits=(
                *under(1.15, "us_per_request", "nginx", "haproxy"),
                *under(0.45, "us_per_request", "envoy"),
                *under(0.3, "us_per_request", "traefik"),
                *under(1 / 7, "us_per_request", "aiohttp"),
                Limit("forebay-pure", "us_per_request", 1.8, "nginx"),
            ),
            why=INTERPRETER,
        ),
        http(
            "16k",
            "16 KiB answers, 64 keep-alive clients",
            path="/16k",
            limits=under(1.2, "us_per_request", "nginx", "haproxy"),
            why=INTERPRETER,
        ),
        http(
            "64k",
            "64 KiB answers, 64 keep-alive clients",
            path="/64k",
            limits=under(1.2, "us_per_request", "nginx", "haproxy"),
            why=INTERPRETER,
        ),
        http(
            "upload",
            "requests with a body of 16 KiB, 1 KiB answers, 64 keep-alive clients",
            "-s",
            "{here}/upload.lua",
            limits=under(1.2, "us_per_request", "nginx", "haproxy"),
            why=INTERPRETER,
        ),
        http(
            "connect",
            "a new connection of the client for each request, 1 KiB answers, 64 clients",
            *NEW,
            limits=under(1.2, "us_per_request", "nginx", "haproxy"),
            why=CONNECTING,
        ),
        http(
            "tls",
            "1 KiB answers over TLS, 64 keep-alive clients",
            shape=Shape(tls="clients"),
            limits=under(1.15, "us_per_request", "nginx", "haproxy"),
            why=INTERPRETER,
        ),
        http(
            "tls-connect",
            "a new TLS connection for each request, 1 KiB answers, 64 clients",
            *NEW,
            shape=Shape(tls="clients"),
            limits=under(1.4, "us_per_request", "nginx", "haproxy"),
            why=HANDSHAKE,
        ),
        http(
            "tls-both",
            "1 KiB answers, TLS with clients and backend, 64 keep-alive clients",
            shape=Shape(tls="both"),
            backend=backends.https,
            why=BUFFERS,
        ),
        http(
            "idle",
            "1 KiB answers, 64 keep-alive clients beside 5,000 idle ones",
            idle=5000,
            targets={**PEERS, "forebay": peers.forebay(spec={"http": {"keepAliveTimeout": "1h"}})},
            limits=under(1.2, "us_per_request", "nginx", "haproxy"),
            why=INTERPRETER,
        ),
        http(
            "queue",
            "500 keep-alive clients that queue for 10 connections, 1 KiB answers",
            clients=500,
            targets={**PEERS, **OURS},
            base="haproxy",
            shape=Shape(connections=10, bounded=True),
            limits=under(1.2, "us_per_request", "haproxy"),
            why=INTERPRETER,
        ),
        http(
            "workers",
            "1 KiB answers, 64 keep-alive clients, one worker and two",
            targets={
                **{f"{name}-{n}": peers.workers(one, n) for name, one in (PEERS | OURS).items() for n in (1, 2)},
            },
            base="forebay-1",
            limits=(Limit("forebay-2", "us_per_request", 1.2, "forebay-1"),),
        ),
        http(
            "python",
            "16 KiB answers, 100 keep-alive clients: what one would write in Python",
            path="/16k",
            clients=100,
            shape=Shape(connections=100),
            targets={"threads": peers.python("threads"), "aiohttp": peers.python("aiohttp"), **OURS},
            base="threads",
            limits=under(1 / 3, "us_per_request", "threads"),
        ),
        relay(
            "websocket",
            "WebSocket",
            "websocket",
            shape=Shape("websocket"),
            limits=under(1.2, "us_per_message", "nginx", "haproxy"),
            why=RELAYING,
        ),
        relay(
            "tcp",
            "TCP relay",
            shape=Shape("tcp"),
            limits=under(1.2, "us_per_message", "nginx", "haproxy"),
            why=RELAYING,
        ),
        Latency(
            name="latency-1k",
            about="1 KiB answers, 64 keep-alive clients, half load",
            backend=backends.http,
            targets={"direct": peers.direct, **ALL, **OURS},
            rate=5000,
            clients=64,
            limits=(Limit("forebay", "p99_ms", against="nginx", plus=0.2),),
        ),
        Latency(
            name="latency-queue",
            about="500 keep-alive clients queue for 10 connections; the backend takes 5 ms for each request",
            backend=backends.slow,
            targets={"haproxy": peers.haproxy, "envoy": peers.envoy, **OURS},
            rate=1200,
            clients=500,
            shape=Shape(connections=10, bounded=True),
            limits=(Limit("forebay", "p99_ms", against="haproxy", plus=0.5),),
        ),
        Cpu(
            name="forward-1k",
            about="1 KiB answers through a forward proxy, 64 keep-alive clients, one worker process or thread",
            unit="request",
            backend=backends.http,
            targets={
                "squid": forward.squid,
                "tinyproxy": forward.tinyproxy,
                "forebay": forward.forebay,
                "proxy.py": peers.proxy_py,
            },
            base="squid",
            load=(
                *(*WRK, "-s", "{here}/forward.lua", "http://127.0.0.1:{port}/", "--"),
                *("127.0.0.1:{backend}", "/catalogue/garden/watering/item-4711?variant=green"),
            ),
            count=r"(\d+) requests in",
            failures=r"connect [1-9].*|Non-2xx or 3xx responses: \d+",  # tinyproxy ends connections: wrk's "read"
            limits=(Limit("forebay", "us_per_request", 0.7, "squid"),),
        ),
        Cpu(
            name="forward-tunnel",
            about="bytes through 4 tunnels, one worker process or thread; to HAProxy they are connections to relay",
            unit="MiB",
            backend=forward.zeros,
            targets={
                "haproxy": peers.relay,
                "squid": forward.squid,
                "tinyproxy": forward.tinyproxy,
                "forebay": forward.forebay,
            },
            base="haproxy",
            load=("python3", "{here}/pull.py", "{port}", "{backend}", "{seconds}"),
            count=r"(\d+) MiB pulled",
            failures=r"the tunnel was refused.*|Traceback.*",
            limits=(Limit("forebay", "us_per_MiB", 1.3, "haproxy"),),
        ),
        Memory(
            name="idle-memory",
            about="resident memory of the worker at rest, and per idle keep-alive client",
            backend=backends.http,
            targets={
                **PEERS,
                "traefik": peers.traefik,
                "caddy": peers.caddy,
                "forebay-supervised": peers.forebay(),
                "forebay-own-admin": peers.forebay("worker"),
            },
            clients=5000,
            limits=(
                Limit("forebay-supervised", "rest_mib", 45),
                Limit("forebay-own-admin", "rest_mib", 60),
                Limit("forebay-supervised", "client_bytes_plain", 4096),
                Limit("forebay-own-admin", "client_bytes_plain", 4096),
            ),
        ),
        ControlPlane(
            name="operator",
            about="the operator's process with so many pools of 4 replicas, all settled, on a tick of 2 s",
            targets={"50-pools": 50, "200-pools": 200},
            replicas=4,
            limits=(
                Limit("200-pools", "cores", 0.5),
                Limit("200-pools", "rss_mib", 200),
                Limit("200-pools", "status_writes_per_pool_minute", 0.2),
                Limit("200-pools", "cores", 5, "50-pools"),  # four times the pools: it grows with them, no faster
            ),
        ),
        pgbench("simple", "pgbench -S, simple protocol", "-S", limits=at_most(1.1)),
        pgbench("extended", "pgbench -S, extended protocol", "-S", "-M", "extended", limits=at_most(1.1)),
        pgbench(
            *("prepared", "pgbench -S, prepared statements", "-S", "-M", "prepared"),
            more="max_prepared_statements = 200",
            least=postgres.PREPARING,
            limits=at_most(1.25, lenient=True),
        ),
        pgbench("rows", "results of 10,000 rows (1.1 MB)", "-f", "{here}/rows.sql", limits=at_most(1.0)),
        pgbench("queue", "pgbench -S, simple protocol", "-S", clients=1000, least_seconds=8, why=QUEUED_QUERIES),
        pgbench(
            *("reset", "pgbench -S, simple protocol, DISCARD ALL after each transaction", "-S"),
            more="server_reset_query_always = 1",
            pool={"resetOnReturn": "always"},
            why=RESETS,
        ),
        Memory(
            name="postgres-memory",
            about="PostgreSQL: resident memory of the process at rest, and with idle clients",
            backend=postgres.server,
            targets={"pgbouncer": postgres.pgbouncer(), "forebay": postgres.forebay()},
            clients=5000,
            limits=(Limit("forebay", "full_mib", 80),),
            client=postgres.idle_client,
            tls=False,
        ),
    )
}
