"""The table of scenarios. A scenario is data: what is measured, under which load, against which limits.

To add one: a `Cpu`, a `Memory` or a `ControlPlane` in SCENARIOS, and, if it needs a new kind of program, its Launch in
bench.peers.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.nginx import Nginx

from bench import peers
from bench.peers import Launch


@dataclass(frozen=True)
class Limit:
    """`target`'s median of `figure` must be at most `factor`, times the figure of `against` if that is named."""

    target: str
    figure: str
    factor: float
    against: str | None = None


@dataclass(frozen=True)
class Cpu:
    """CPU time per unit of work, targets alternated in short rounds, as a ratio to `base` within each round."""

    name: str
    about: str
    unit: str
    backend: Callable[[Path], Awaitable[Nginx]]
    targets: Mapping[str, Launch]
    base: str
    load: tuple[str, ...]  # {port}, {scheme} and {seconds} are filled in
    count: str  # in its output: the units of work that were done
    failures: str  # and what must not be there
    limits: tuple[Limit, ...] = ()
    tls: bool = False


@dataclass(frozen=True)
class Memory:
    """Resident memory at rest, and what each of `clients` idle keep-alive clients adds, plain and over TLS."""

    name: str
    about: str
    backend: Callable[[Path], Awaitable[Nginx]]
    targets: Mapping[str, Launch]
    clients: int
    limits: tuple[Limit, ...] = ()


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
    )
}
