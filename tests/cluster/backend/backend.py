"""The demo's backend in a pod: `python backend.py LIMIT`. HTTP on port 8080 for at most LIMIT connections.

What it counts, from the inside, is on port 8081: `GET /`, and `GET /history`, for each second [seconds since 1970, the
most connections at once]. `POST /reset` begins the counts anew. `POST /slow` makes every answer take ten times as long,
until `POST /fast`. A kubelet's probe goes there, so that every connection on port 8080 is a pool's.
"""

import asyncio
import sys
import time

from aiohttp import web

from forebay_proxy import demo_backend
from forebay_proxy.demo_backend import SERVICE, Counts, Served


class Remembered(Counts):
    """With what there was in each second."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.latest = 0
        self.history: list[tuple[float, int]] = []

    async def remember(self) -> None:
        while True:
            self.latest = self.open
            await asyncio.sleep(1)
            self.history.append((time.time(), self.latest))


class Remembering(Served):
    counts: Remembered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.counts.latest = max(self.counts.latest, self.counts.open)


def control(counts: Remembered) -> web.Application:
    async def get(_: web.Request) -> web.Response:
        return web.Response(text=counts.line(), content_type="application/json")

    async def history(_: web.Request) -> web.Response:
        return web.json_response(counts.history)

    async def reset(_: web.Request) -> web.Response:
        counts.reset()
        return web.Response(status=204)

    async def fast(_: web.Request) -> web.Response:
        demo_backend.SERVICE = SERVICE
        return web.Response(status=204)

    async def slow(_: web.Request) -> web.Response:
        demo_backend.SERVICE = 10 * SERVICE
        return web.Response(status=204)

    application = web.Application()
    application.add_routes([web.get("/", get), web.get("/history", history)])
    application.add_routes([web.post("/reset", reset), web.post("/slow", slow), web.post("/fast", fast)])
    return application


async def main(limit: int) -> None:
    counts = Remembered(limit)
    server = await asyncio.get_running_loop().create_server(lambda: Remembering(counts), "0.0.0.0", 8080, backlog=1024)
    runner = web.AppRunner(control(counts), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 8081).start()
    async with asyncio.TaskGroup() as group:
        group.create_task(counts.remember())
        group.create_task(server.serve_forever())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
