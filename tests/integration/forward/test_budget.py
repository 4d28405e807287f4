"""The budget holds over all origins, requests and tunnels, and over all workers: the site counts for itself."""

import asyncio
import os
import signal
from pathlib import Path

from tests.integration.forward.harness import connect, document, get
from tests.integration.http.harness import running
from tests.support.origin import Origin
from tests.support.raw import Connection, CutAnswer
from tests.support.waiting import until

BUDGET = 8


async def test_the_budget_holds_though_workers_are_killed(tmp_path: Path) -> None:
    async with Origin() as origin:
        pool = document(
            {"ports": [origin.port], "perOrigin": {"maxConnections": 100}},
            spec={"replicas": 2},
            pool={"size": 20},
            budget={"maxConnections": BUDGET, "linger": "2s"},
        )
        async with running(tmp_path, pool) as forebay:
            statuses: list[int] = []
            over = asyncio.Event()

            async def crawl(number: int) -> None:
                host = ("127.0.0.1", "localhost")[number % 2]  # two origins to the proxy, one server to the world
                where = f"{host}:{origin.port}"
                while not over.is_set():
                    try:
                        async with await Connection.open(forebay.port) as client:
                            if number % 3:
                                answer = await client.ask(get(f"http://{where}/?delay=0.01"))
                            else:
                                await client.send(connect(where))
                                answer = await client.answer("CONNECT")
                                if answer.status == 200:
                                    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                                    await client.rest()
                            statuses.append(answer.status)
                    except (CutAnswer, ConnectionError):
                        pass  # its worker was killed

            crawlers = [asyncio.create_task(crawl(number)) for number in range(30)]
            for _ in range(2):
                await asyncio.sleep(2)
                os.kill((await forebay.worker_pids())[0], signal.SIGKILL)
            await asyncio.sleep(3)
            done = statuses.count(200)
            await until(lambda: statuses.count(200) >= done + 50, 20, 0.05)  # it goes on
            over.set()
            await asyncio.gather(*crawlers)
            stats = await origin.stats()
            assert 1 < stats["high_water"] <= BUDGET
            assert set(statuses) <= {200, 502, 503}
            assert statuses.count(200) > 100
