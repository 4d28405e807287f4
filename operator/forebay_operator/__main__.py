"""`python -m forebay_operator`: the operator's process. Configured by its environment only, see `settings`."""

import asyncio
import logging
import os
import socket
import sys
from contextlib import suppress
from time import monotonic

import aiohttp
import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry

from forebay_core.exposition import CONTENT_TYPE
from forebay_core.log_lines import LineFormatter
from forebay_operator import metrics, watch
from forebay_operator.api import Api, ApiError, NotFound
from forebay_operator.echo import Echo
from forebay_operator.lease import Elector
from forebay_operator.loop import Loops
from forebay_operator.metrics import Measures
from forebay_operator.objects import Object
from forebay_operator.requests import Requests
from forebay_operator.settings import Settings, SettingsError
from forebay_operator.store import Store

log = logging.getLogger(__name__)

PODS_AT_ONCE = 256  # connections to pods' admin ports


async def serve(settings: Settings) -> None:
    """Until a signal. Raises ApiError where there is no way to an API server, OSError where a port is taken."""
    store, echo, requests, measures = Store(), Echo(watch.KINDS), Requests(), Measures()
    signalled = asyncio.Event()
    watch.on_signal(signalled.set)
    api = await Api.connect(requests)

    def wrote(raw: Object) -> None:
        echo.wrote(raw, monotonic())
        store.wrote(raw)

    api.wrote = wrote
    pages = await pages_of(settings, echo, metrics.registry(metrics.Sources(store, measures, requests)))
    connector = aiohttp.TCPConnector(limit=PODS_AT_ONCE)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            if not await _resource_is_there(api, settings.namespace, signalled):
                return
            if settings.namespace:
                log.info("watching %s only: nodes can't be seen, so they prove nobody dead", settings.namespace)
            loops = Loops(store, api, session, settings, measures)
            elector = Elector(api, settings.operator_namespace, settings.identity)
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(
                    watch.run(store, echo, requests, settings.namespace, signalled.set, stop), name="watches"
                )
                watching.add_done_callback(lambda _: signalled.set())
                leading = group.create_task(elector.run(loops.run), name="leader")
                await signalled.wait()
                # Before the watches end: the Lease is free at once, and kopf waits for every task that isn't its own.
                leading.cancel()
                await asyncio.wait((leading,))
                await pages.cleanup()
                stop.set()
    finally:
        await pages.cleanup()
        await api.close()


async def _resource_is_there(api: Api, namespace: str, signalled: asyncio.Event) -> bool:
    """Wait for the CustomResourceDefinition: what is watched is looked up only once. False: a signal came first."""
    said = False
    while not signalled.is_set():
        try:
            await api.list("ProxyPool", namespace)
        except NotFound:
            if not said:
                log.warning("the CustomResourceDefinition proxypools.forebay.dev is not there: waiting for it")
            said = True
        except ApiError as error:
            log.warning("ProxyPools can't be listed yet: %s", error)
        else:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await signalled.wait()
    return False


async def pages_of(settings: Settings, echo: Echo, registry: CollectorRegistry) -> web.AppRunner:
    """`/metrics`, `/healthz` (that the loop has come to it is the proof) and `/livez` (and that no watch is silent)."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def livez(_: web.Request) -> web.Response:
        kind = echo.silent(monotonic())
        if kind:
            return web.Response(status=503, text=f"what was written is not heard of: the watch of {kind}s is silent\n")
        return web.Response(text="ok\n")

    async def get_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(registry), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/livez", livez), web.get("/metrics", get_metrics)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    for name, port in (("health", settings.health_port), ("metrics", settings.metrics_port)):
        others = len(runner.addresses)
        await web.TCPSite(runner, None, port, reuse_address=True).start()
        log.info("%s on %s", name, ", ".join(f"{host}:{port}" for host, port, *_ in runner.addresses[others:]))
    return runner


def main() -> int:
    """Exit 0; 1 what was to be reached is not there; 2 bad settings."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("forebay-operator: "))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
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
