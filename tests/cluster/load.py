"""Runs in a client pod: `python - URL CLIENTS SECONDS [PROXY] < load.py`. Keep-alive clients, each as fast as it is
answered, through a forward proxy where one is given.

Prints {"answered", "failed": {what: how often}, "first": seconds until the first 200}. With CLIENTS 0 it ends at the
first answer of 200, or after SECONDS without one. POST: no client tries that again by itself when a connection ends.
"""

import asyncio
import collections
import json
import sys
import time

import aiohttp


async def ask(session: aiohttp.ClientSession, url: str, proxy: str | None) -> str:
    """What became of one request: `200`, another status, or an exception's name."""
    try:
        async with session.post(url, proxy=proxy) as response:
            await response.read()
            return str(response.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        return type(error).__name__


async def main(url: str, clients: int, seconds: float, proxy: str | None = None) -> None:
    began = time.monotonic()
    outcomes: collections.Counter[str] = collections.Counter()
    first: float | None = None

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal first
        while time.monotonic() < began + seconds:
            outcome = await ask(session, url, proxy)
            outcomes[outcome] += 1
            if outcome == "200":
                first = first or time.monotonic() - began
                if not clients:
                    return
            else:
                await asyncio.sleep(0.1)

    timeout = aiohttp.ClientTimeout(total=max(10, seconds) if clients else 2)
    # Who waits for the first answer asks anew each time: what answers before the Service is there may be anybody.
    connector = aiohttp.TCPConnector(limit=0, force_close=not clients)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
        for _ in range(clients or 1):
            group.create_task(client(session))
    answered = outcomes.pop("200", 0)
    print(json.dumps({"answered": answered, "failed": outcomes, "first": first}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:]))
