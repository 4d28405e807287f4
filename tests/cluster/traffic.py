"""Runs in a pod: `python traffic.py URL CLIENTS`. Keep-alive clients without end, each as fast as it is answered.

A connection is kept for some requests, else all would stay with the replicas that were there first.
`GET /` on port 8082 tells what has become of all requests so far: {"answered", "failed": {what: how often}}. They need
nobody to look on: a fault may take away the way by which a test would.
"""

import asyncio
import collections
import itertools
import json
import sys

import aiohttp
from aiohttp import web

KEPT = 20  # requests
PATIENCE = aiohttp.ClientTimeout(total=10)  # twice what a request may wait for a connection


async def client(session: aiohttp.ClientSession, url: str, outcomes: collections.Counter[str]) -> None:
    """POST: no client tries that again by itself when a connection ends."""
    for number in itertools.count(1):
        last = {"Connection": "close"} if number % KEPT == 0 else {}
        try:
            async with session.post(url, headers=last) as response:
                await response.read()
                outcome = str(response.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome = type(error).__name__
        outcomes[outcome] += 1
        if outcome != "200":
            await asyncio.sleep(0.1)


async def main(url: str, clients: int) -> None:
    outcomes: collections.Counter[str] = collections.Counter()

    async def told(_: web.Request) -> web.Response:
        failed = {what: times for what, times in outcomes.items() if what != "200"}
        return web.Response(text=json.dumps({"answered": outcomes["200"], "failed": failed}))

    application = web.Application()
    application.add_routes([web.get("/", told)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 8082).start()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=PATIENCE) as session, asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client(session, url, outcomes))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
