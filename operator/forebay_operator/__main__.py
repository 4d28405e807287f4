"""`python -m forebay_operator`: the operator's process. Configured by its environment only, see `settings`."""

import asyncio
import logging
import os
import socket
import sys

import aiohttp
import uvloop
from aiohttp import web

from forebay_operator import watch
from forebay_operator.api import Api, ApiError, NotFound
from forebay_operator.lease import Elector
from forebay_operator.loop import Loops
from forebay_operator.settings import Settings, SettingsError
from forebay_operator.store import Store

log = logging.getLogger(__name__)

HEALTH_PORT = 8080
PODS_AT_ONCE = 256  # connections to pods' admin ports


async def serve(settings: Settings) -> None:
    """Until a signal. Raises ApiError where there is no way to an API server."""
    api = await Api.connect()
    store, stop = Store(), asyncio.Event()
    health = await _health()
    connector = aiohttp.TCPConnector(limit=PODS_AT_ONCE)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            await _resource_is_there(api, settings.namespace)
            loops = Loops(store, api, session, settings)
            elector = Elector(api, settings.operator_namespace, settings.identity)
            async with asyncio.TaskGroup() as group:
                leading = group.create_task(elector.run(loops.run), name="leader")
                await watch.operator(store, settings.namespace, stop)  # ends on a signal
                leading.cancel()
    finally:
        await health.cleanup()
        await api.close()


async def _resource_is_there(api: Api, namespace: str) -> None:
    """Wait for the CustomResourceDefinition: what is watched is looked up only once."""
    said = False
    while True:
        try:
            await api.list("ProxyPool", namespace)
        except NotFound:
            if not said:
                log.warning("the CustomResourceDefinition proxypools.forebay.dev is not there: waiting for it")
            said = True
        except ApiError as error:
            log.warning("ProxyPools can't be listed yet: %s", error)
        else:
            return
        await asyncio.sleep(2.0)


async def _health() -> web.AppRunner:
    """`/healthz`: that the loop has come to it is the proof."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, None, HEALTH_PORT, reuse_address=True).start()
    return runner


def main() -> int:
    """Exit 0; 1 what was to be reached is not there; 2 bad settings."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="forebay-operator: %(message)s")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        uvloop.run(serve(Settings.of(os.environ, socket.gethostname())))
    except SettingsError as error:
        sys.stderr.write(f"forebay-operator: {error}\n")
        return 2
    except (ApiError, OSError) as error:
        sys.stderr.write(f"forebay-operator: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
