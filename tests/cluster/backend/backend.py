"""The demo's backend in a pod: `python backend.py LIMIT`. HTTP on port 8080 for at most LIMIT connections; what it
counts, from the inside, is on port 8081 (`GET /`; `POST /reset` begins anew). A kubelet's probe goes to the latter,
so that every connection on the former is a pool's."""

import asyncio
import sys

from aiohttp import web

from forebay_proxy.demo_backend import Counts, Served


def control(counts: Counts) -> web.Application:
    async def get(_: web.Request) -> web.Response:
        return web.Response(text=counts.line(), content_type="application/json")

    async def reset(_: web.Request) -> web.Response:
        counts.reset()
        return web.Response(status=204)

    application = web.Application()
    application.add_routes([web.get("/", get), web.post("/reset", reset)])
    return application


async def main(limit: int) -> None:
    counts = Counts(limit)
    server = await asyncio.get_running_loop().create_server(lambda: Served(counts), "0.0.0.0", 8080, backlog=1024)
    runner = web.AppRunner(control(counts), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 8081).start()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
