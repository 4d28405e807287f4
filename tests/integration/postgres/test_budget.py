"""The budget holds: several users and databases, many clients, three workers, on a server that takes exactly as many
connections. One refusal in the server's log fails the test."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from tests.integration.postgres.server import Postgres
from tests.support.forebay import Forebay, postgres_pool

Start = Callable[..., Awaitable[Forebay]]
BUDGET = 20
REFUSED = ("too many", "remaining connection slots", "reserved for")


def prepared(server: Postgres) -> None:
    with psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", autocommit=True) as connection:
        connection.execute("CREATE ROLE trusting LOGIN")
        for name in ("one", "two"):
            connection.execute(f"CREATE DATABASE {name}")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("killing", [False, True])
async def test_the_budget_holds(forebay: Start, killing: bool) -> None:
    settings = {"max_connections": str(BUDGET + 3), "superuser_reserved_connections": "3"}
    with Postgres(settings) as server:
        prepared(server)
        document = postgres_pool(
            server.port,
            pool={"size": BUDGET, "maxOverflow": 0, "timeout": "20s"},
            budget={"maxConnections": BUDGET},
            spec={"replicas": 3},
            postgres={"databases": [{"name": name, "user": "trusting"} for name in ("one", "two")]},
        )
        pool = await forebay(document)
        gate = asyncio.Semaphore(150)
        done = 0

        async def client(number: int) -> None:
            nonlocal done
            dice = random.Random(number)
            async with gate:
                with contextlib.suppress(psycopg.OperationalError) if killing else contextlib.nullcontext():
                    async with await psycopg.AsyncConnection.connect(
                        host="127.0.0.1", port=pool.port, user=f"user{number % 5}", dbname=dice.choice(("one", "two")),
                        autocommit=True, connect_timeout=30,
                    ) as connection:  # fmt: skip
                        for _ in range(3):
                            pause = 3.0 if killing and dice.random() < 0.05 else 0.01
                            await connection.execute("SELECT pg_sleep(%s)", (pause,))
                        done += 1

        clients = [asyncio.create_task(client(number)) for number in range(1000)]
        if killing:
            for _ in range(4):
                await asyncio.sleep(1.5)
                pids = await pool.worker_pids()
                os.kill(random.Random(len(pids)).choice(pids), signal.SIGKILL)
        await asyncio.gather(*clients)
        assert done > (500 if killing else 999)
        refused = [line for line in server.lines if any(words in line for words in REFUSED)]
        assert not refused, refused[:5]
        state = await pool.state()
        assert sum(worker["upstreams"]["db"]["grant"] for worker in state["workers"]) <= BUDGET
