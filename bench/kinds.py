"""The kinds of scenario, and of limit. A scenario is data: what is measured, under which load, against which limits."""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.raw import Connection, request_bytes

from bench.place import PLAIN, Backend, Launch, Shape


@dataclass(frozen=True)
class Limit:
    """`target`'s median of `figure` must be at most `factor`, times the figure of `against` if that is named; with
    `plus`, at most so much above it instead.

    `lenient`: where `against` can't be had, nothing is judged; else the limit fails.
    """

    target: str
    figure: str
    factor: float = 1.0
    against: str | None = None
    lenient: bool = False
    plus: float | None = None


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
    shape: Shape = PLAIN
    idle: int = 0  # clients that have had one answer and stay connected meanwhile
    least_seconds: int = 1  # of a round: where clients' start is a part of the load, and not to be seen
    why: str = ""  # where we lose: for the page

    @property
    def cost(self) -> str:
        """The name of its figure."""
        return f"us_per_{self.unit}"


@dataclass(frozen=True)
class Latency:
    """Latency at a fixed rate of arrivals, whatever the target does (bench.openloop), and what it adds to `direct`."""

    name: str
    about: str
    backend: Callable[[Path], Awaitable[Backend]]
    targets: Mapping[str, Launch]
    rate: int  # requests per second
    clients: int  # connections that they come on
    limits: tuple[Limit, ...] = ()
    shape: Shape = PLAIN
    why: str = ""


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
    why: str = ""


@dataclass(frozen=True)
class ControlPlane:
    """What the operator costs when all is settled. `targets`: how many pools; `replicas`: of each."""

    name: str
    about: str
    targets: Mapping[str, int]
    replicas: int
    limits: tuple[Limit, ...] = ()
    why: str = ""


Scenario = Cpu | Latency | Memory | ControlPlane
