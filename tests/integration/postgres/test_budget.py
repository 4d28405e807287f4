"""The budget holds: several users and databases, many clients, three workers, on a server that takes exactly as many
connections. One refusal in the server's log fails the test, and so does a client that is not served though its worker
lives."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
from tests.integration.postgres.server import Postgres
from tests.support.forebay import Forebay, postgres_pool
from tests.support.waiting import until

Start = Callable[..., Awaitable[Forebay]]
BUDGET = 20
REFUSED = ("too many", "remaining connection slots", "reserved for")
CLIENTS = 1000
AT_ONCE = 150


def prepared(server: Postgres) -> None:
    """The proxy's own user is no superuser: those have places of their own."""
    with psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", autocommit=True) as connection:
        connection.execute("CREATE ROLE trusting LOGIN")
        connection.execute("GRANT pg_monitor, pg_signal_backend TO trusting")
        for name in ("one", "two"):
            connection.execute(f"CREATE DATABASE {name}")


def full_server() -> Postgres:
    """Takes as many connections as the budget has, and three of superusers."""
    return Postgres({"max_connections": str(BUDGET + 3), "superuser_reserved_connections": "3"})


def refused(server: Postgres) -> list[str]:
    return [line for line in server.lines if any(words in line for words in REFUSED)]


def kill(pid: int, port: int) -> int:
    """Kill -9 a worker: how many clients it had."""
    os.kill(pid, signal.SIGSTOP)  # it accepts nobody any more
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] != "0A":  # any state but listening
            inodes.add(f"socket:[{fields[9]}]")
    clients = sum(str(fd.readlink()) in inodes for fd in Path(f"/proc/{pid}/fd").iterdir())
    os.kill(pid, signal.SIGKILL)
    return clients


@pytest.mark.timeout(120)
@pytest.mark.parametrize("killing", [False, True])
async def test_the_budget_holds(forebay: Start, killing: bool) -> None:
    with full_server() as server:
        prepared(server)
        document = postgres_pool(
            server.port,
            pool={"size": BUDGET, "maxOverflow": 0, "timeout": "60s"},
            budget={"maxConnections": BUDGET},
            spec={"replicas": 3},
            postgres={
                "databases": [{"name": name, "user": "trusting"} for name in ("one", "two")],
                "monitor": {"user": "trusting"},
            },
        )
        pool = await forebay(document)
        gate = asyncio.Semaphore(AT_ONCE)
        done, lost = 0, 0

        async def client(number: int) -> None:
            nonlocal done, lost
            dice = random.Random(number)
            try:
                async with gate, await psycopg.AsyncConnection.connect(
                    host="127.0.0.1", port=pool.port, user=f"user{number % 5}", dbname=dice.choice(("one", "two")),
                    autocommit=True, connect_timeout=60,
                ) as connection:  # fmt: skip
                    for _ in range(3):
                        pause = 2.0 if killing and dice.random() < 0.03 else 0.01
                        await connection.execute("SELECT pg_sleep(%s)", (pause,))
                    done += 1
            except psycopg.OperationalError as error:
                if error.sqlstate is not None or "closed the connection unexpectedly" not in str(error):
                    raise  # what the proxy or the server has said, not a connection that was cut
                lost += 1

        clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
        cut = 0
        if killing:
            for kills in range(4):
                await until(lambda kills=kills: done >= 50 * (kills + 1), 60, 0.05)
                cut += kill(random.Random(kills).choice(await pool.worker_pids()), pool.port)
        await asyncio.gather(*clients)
        assert not refused(server), refused(server)[:5]
        assert lost <= cut, "clients of workers that were not killed have lost their connection"
        assert done == CLIENTS - lost
        state = await pool.state()
        assert sum(worker["upstreams"]["db"]["grant"] for worker in state["workers"]) <= BUDGET
