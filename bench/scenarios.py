"""The table of scenarios. A scenario is data: what is measured, under which load, against which limits.

To add one: a `Cpu`, a `Memory` or a `ControlPlane` in SCENARIOS, and, if it needs a new kind of program, its Launch in
bench.peers.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.raw import Connection, request_bytes

from bench import forward, peers, postgres
from bench.peers import Backend, Launch


@dataclass(frozen=True)
class Limit:
    """`target`'s median of `figure` must be at most `factor`, times the figure of `against` if that is named.

    `lenient`: where `against` can't be had, nothing is judged; else the limit fails.
    """

    target: str
    figure: str
    factor: float
    against: str | None = None
    lenient: bool = False


@dataclass(frozen=True)
class Cpu:
    """CPU time per unit of work, targets alternated in short rounds, as a ratio to `base` within each round."""

    name: str
    about: str
    unit: str
    backend: Callable[[Path], Awaitable[Backend]]
    targets: Mapping[str, Launch]
    base: str
    load: tuple[str, ...]  # {port}, {backend}, {scheme}, {seconds}, {here} (the bench's directory) are filled in
    count: str  # in its output: the units of work that were done
    failures: str  # and what must not be there
    limits: tuple[Limit, ...] = ()
    tls: bool = False
    least_seconds: int = 1  # of a round: where clients' start is a part of the load, and not to be seen


class Idle(Protocol):
    """A client that has had one answer, and stays connected."""

    async def close(self) -> None: ...


async def http_client(port: int, tls: ssl.SSLContext | None) -> Idle:
    connection = await Connection.open(port, tls=tls)
    answer = await connection.ask(request_bytes("/"))
    if answer.status != 200 or answer.closes:
        raise RuntimeError(f"the answer to an idle client was {answer}")
    return connection


@dataclass(frozen=True)
class Memory:
    """Resident memory at rest, with `clients` idle clients, and what each of them adds, plain and (`tls`) over TLS."""

    name: str
    about: str
    backend: Callable[[Path], Awaitable[Backend]]
    targets: Mapping[str, Launch]
    clients: int
    limits: tuple[Limit, ...] = ()
    client: Callable[[int, ssl.SSLContext | None], Awaitable[Idle]] = http_client
    tls: bool = True


@dataclass(frozen=True)
class ControlPlane:
    """What the operator costs when all is settled. `targets`: how many pools; `replicas`: of each."""

    name: str
    about: str
    targets: Mapping[str, int]
    replicas: int
    limits: tuple[Limit, ...] = ()


Scenario = Cpu | Memory | ControlPlane

# With Host and what the load generator adds: ten fields, about 700 bytes, as a browser behind a login sends.
HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Referer: https://shop.example/catalogue/garden/watering?page=3&sort=price",
    "Cookie: session=5f2b8c1d9e3a4f7096b1c2d3e4f5a6b7; theme=dark; consent=2026-01-01T00%3A00%3A00Z",
    "Authorization: Bearer dGhpcyBpcyBub3QgYSByZWFsIHRva2VuIGJ1dCBpdCBpcyBhcyBsb25nIGFzIG9uZQ",
    "Cache-Control: max-age=0",
    "X-Request-Id: 4bf92f3577b34da6a3ce929d0e0e4736",
)
WRK = ("wrk", "-t1", "-c64", "-d{seconds}s", *(part for field in HEADERS for part in ("-H", field)))
PEERS: dict[str, Launch] = {"nginx": peers.nginx, "haproxy": peers.haproxy, "envoy": peers.envoy}
PURE = {"FOREBAY_CODEC": "pure"}


def pgbench(
    name: str, about: str, *load: str, clients: int = 32, more: str = "", least: tuple[int, int] = (0, 0),
    least_seconds: int = 1, limits: tuple[Limit, ...] = (), pool: Mapping[str, object] | None = None,
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
    )


def at_most(factor: float, *, lenient: bool = False) -> tuple[Limit, ...]:
    return (Limit("forebay", "us_per_transaction", factor, "pgbouncer", lenient),)


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Cpu(
            name="http-1k",
            about="1 KiB answers, 10 fields each way, 64 keep-alive clients, one worker process or thread",
            unit="request",
            backend=peers.backend,
            targets={**PEERS, "forebay": peers.forebay(), "forebay-pure": peers.forebay(env=PURE)},
            base="nginx",
            load=(*WRK, "{scheme}://127.0.0.1:{port}/catalogue/garden/watering/item-4711?variant=green"),
            count=r"(\d+) requests in",
            failures=r"Socket errors:.*|Non-2xx or 3xx responses: \d+",
            limits=(
                Limit("forebay", "us_per_request", 1.3, "nginx"),
                Limit("forebay", "us_per_request", 0.5, "envoy"),
                Limit("forebay-pure", "us_per_request", 1.8, "nginx"),
            ),
        ),
        Cpu(
            name="forward-1k",
            about="1 KiB answers through a forward proxy, 64 keep-alive clients, one worker process or thread",
            unit="request",
            backend=peers.backend,
            targets={"squid": forward.squid, "tinyproxy": forward.tinyproxy, "forebay": forward.forebay},
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
                "haproxy": forward.relay,
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
            backend=peers.backend,
            targets={**PEERS, "forebay-supervised": peers.forebay(), "forebay-own-admin": peers.forebay("worker")},
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
        pgbench("simple", "pgbench -S, simple protocol", "-S", limits=at_most(1.15)),
        pgbench("extended", "pgbench -S, extended protocol", "-S", "-M", "extended", limits=at_most(1.15)),
        pgbench(
            *("prepared", "pgbench -S, prepared statements", "-S", "-M", "prepared"),
            more="max_prepared_statements = 200",
            least=postgres.PREPARING,
            limits=at_most(1.3, lenient=True),
        ),
        pgbench("rows", "results of 10,000 rows (1.1 MB)", "-f", "{here}/rows.sql", limits=at_most(1.0)),
        pgbench("queue", "pgbench -S, simple protocol", "-S", clients=1000, least_seconds=8),
        pgbench(
            *("reset", "pgbench -S, simple protocol, DISCARD ALL after each transaction", "-S"),
            more="server_reset_query_always = 1",
            pool={"resetOnReturn": "always"},
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
