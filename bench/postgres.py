"""PostgreSQL's side of the bench: a server of its own, PgBouncer and ours in front of it, and clients that do nothing.

Nobody has to log in with a password, on either side: a login is no part of a transaction.
"""

import asyncio
import os
import shutil
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.integration.postgres.server import Postgres
from tests.support.forebay import Forebay, postgres_pool
from tests.support.process import Child

from bench import configs
from bench.kernel import tree
from bench.peers import started
from bench.place import Launch, Place, Running, Unavailable, program, ready, version

USER = "postgres"
DATABASE = "postgres"
CONNECTIONS = 20  # of each target to the server
SETTINGS = {"max_connections": "200", "shared_buffers": "128MB", "log_connections": "on"}
PREPARING = (1, 21)  # the first PgBouncer that has prepared statements in transaction mode
STARTUP = b"\x00\x03\x00\x00" + b"".join(part.encode() + b"\0" for part in ("user", USER, "database", DATABASE)) + b"\0"
QUERY = b"Q\x00\x00\x00\x0dSELECT 1\0"
READY = b"Z\x00\x00\x00\x05I"


class Server:
    """A PostgreSQL server in a temporary directory, with pgbench's tables."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self.port = postgres.port

    async def opened(self) -> int:
        return sum("connection received" in line for line in self._postgres.lines)

    async def close(self) -> None:
        await asyncio.to_thread(self._postgres.__exit__)


def _start() -> Postgres:
    if shutil.which("postgres") is None and not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        raise Unavailable("postgresql is not installed")
    return Postgres(SETTINGS).start()


async def server(_: Path) -> Server:
    """Made by initdb, filled by `pgbench -i` (100,000 accounts). Raises Unavailable."""
    pgbench = program("pgbench")
    postgres = await asyncio.to_thread(_start)
    one = Server(postgres)
    process = await asyncio.create_subprocess_exec(
        pgbench, "-i", "-q", "-h", "127.0.0.1", "-p", str(one.port), "-U", USER, DATABASE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output = (await process.communicate())[0]
    if process.returncode:
        await one.close()
        raise Unavailable(f"pgbench -i: {output.decode().strip()}")
    return one


def pgbouncer(*, least: tuple[int, int] = (0, 0), more: str = "") -> Launch:
    """PgBouncer in transaction mode, with `more` settings. Raises Unavailable where it is older than `least`."""

    async def launch(place: Place) -> Running:
        binary = program("pgbouncer")
        said = await version(binary, "--version")
        if tuple(int(part) for part in said.split()[-1].split(".")[:2]) < least:
            raise Unavailable(
                f"{said} has no prepared statements in transaction mode: that takes {least[0]}.{least[1]}"
            )
        place.directory.mkdir(parents=True, exist_ok=True)
        users = place.directory / "userlist.txt"
        users.write_text(f'"{USER}" ""\n')
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = place.directory / "pgbouncer.ini"
        config.write_text(
            configs.PGBOUNCER.format(port=port, backend=place.backend, size=CONNECTIONS, users=users, more=more)
        )
        owner = ("-u", "postgres") if os.geteuid() == 0 else ()  # it does not run as root
        child = await Child.start([binary, *owner, str(config)])
        await ready(child, port)
        return Running(port, tree(child.pid), child.end, {"version": said, "more": more})

    return launch


def forebay(*, env: Mapping[str, str] | None = None, pool: Mapping[str, Any] | None = None) -> Launch:
    """Ours, in transaction mode; `pool` adds to the pool's fields."""

    async def launch(place: Place) -> Running:
        document = postgres_pool(place.backend, pool={"size": CONNECTIONS, "maxOverflow": 0, **(pool or {})})
        return await started(Forebay(place.directory, document, env=env), document)

    return launch


class IdleClient:
    """A client that has had one answer, and stays."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def idle_client(port: int, _: ssl.SSLContext | None) -> IdleClient:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in ((len(STARTUP) + 4).to_bytes(4, "big") + STARTUP, QUERY):
        writer.write(request)
        await reader.readuntil(READY)
    return IdleClient(writer)
