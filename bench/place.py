"""What a program is started with, and what it is afterwards: the words that scenarios, peers and backends share."""

import asyncio
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tests.support.certs import Pair
from tests.support.process import Child


class Unavailable(Exception):
    """This program can't be measured here; the message says why."""


@dataclass(frozen=True)
class Shape:
    """What a scenario wants of every target alike. A target that has no such thing raises Unavailable."""

    mode: Literal["http", "websocket", "tcp"] = "http"
    tls: Literal["none", "clients", "both"] = "none"
    connections: int = 64  # kept to the backend
    bounded: bool = False  # there are never more than those: requests queue for them
    workers: int = 1


PLAIN = Shape()


@dataclass(frozen=True)
class Place:
    """Where a program is started: its own directory, the backend's port, and the files for TLS where there is any."""

    directory: Path
    backend: int
    tls: Pair | None = None
    shape: Shape = PLAIN
    backend_ca: Path | None = None  # of a backend that speaks TLS


@dataclass
class Running:
    """A program that serves on `port`. `pids` is what is measured."""

    port: int
    pids: list[int]
    close: Callable[[], Awaitable[Any]]
    about: Mapping[str, Any]


Launch = Callable[[Place], Awaitable[Running]]


class Backend(Protocol):
    """What the targets of a scenario stand in front of."""

    port: int

    async def opened(self) -> int:
        """How many connections it has accepted so far, but for those of this question."""

    async def close(self) -> None: ...


def program(name: str) -> str:
    """Its path. Beside PATH: the environment's own programs, and `peers/` in it, which has an environment for those
    Python programs whose requirements contradict ours."""
    own = Path(sys.prefix)
    more = f"{own / 'bin'}:{own / 'peers' / 'bin'}:/usr/sbin:/usr/local/sbin"
    path = shutil.which(name) or shutil.which(name, path=more)
    if path is None:
        raise Unavailable(f"{name} is not installed")
    return path


async def version(*argv: str) -> str:
    """The first line that `argv` prints, without the path of the program: a record is about no machine's folders."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    line = next((line for line in output.decode().splitlines() if line.strip()), "")
    return line.replace(argv[0], Path(argv[0]).name).strip()


def bound() -> socket.socket:
    """A socket that holds a free port, for a program that inherits it or binds it too (SO_REUSEPORT)."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def free_port() -> int:
    """For a program that can do neither."""
    with bound() as sock:
        port: int = sock.getsockname()[1]
    return port


async def ready(child: Child, port: int, within: float = 20.0) -> None:
    """Wait until a connection is accepted. Raises Unavailable with the program's own words when it ends instead."""
    ended = asyncio.create_task(child.process.wait())
    try:
        async with asyncio.timeout(within):
            while not ended.done():
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.wait([ended], timeout=0.02)
                    continue
                writer.close()
                await writer.wait_closed()
                return
    except TimeoutError:
        await child.end()
        raise Unavailable(f"{child.name} accepts no connection after {within:g} s: {child.stderr[-500:]}") from None
    finally:
        ended.cancel()
    await child.wait()
    raise Unavailable(f"{child.name} ended at its start: {child.stderr[-500:]}")
