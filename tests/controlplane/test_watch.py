"""The watches, at a stand-in for an API server: what is told, and that one which falls silent is noticed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.controlplane.parts import pool
from tests.support.apiserver import ApiServer
from tests.support.raw import fetch
from tests.support.waiting import until

from forebay_operator import echo, watch
from forebay_operator.__main__ import pages_of
from forebay_operator.api import RESOURCES
from forebay_operator.echo import Echo
from forebay_operator.requests import Requests
from forebay_operator.settings import Settings
from forebay_operator.store import Key, Store

ORDERS = Key("shop", "orders")


class Watcher:
    """What a process knows by its watches."""

    def __init__(self) -> None:
        self.store, self.echo, self.requests = Store(), Echo(watch.KINDS), Requests()

    def knows(self, replicas: int) -> bool:
        return ORDERS in self.store.pools and self.store.pools[ORDERS]["spec"]["replicas"] == replicas


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as api:
        api.put(pool({"replicas": 1}))
        yield api


@pytest.fixture
def kubeconfig(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "kubeconfig")))


@asynccontextmanager
async def watching() -> AsyncIterator[Watcher]:
    one, stop = Watcher(), asyncio.Event()
    task = asyncio.create_task(watch.run(one.store, one.echo, one.requests, "shop", stop.set, stop))
    try:
        yield one
    finally:
        stop.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.usefixtures("kubeconfig")
async def test_what_is_there_and_what_changes_is_told(api: ApiServer) -> None:
    async with watching() as one:
        await until(lambda: one.knows(1))
        api.put(pool({"replicas": 3}))
        await until(lambda: one.knows(3))
        used = {(r.verb, r.resource) for r in one.requests.counts}
        assert used == {
            (verb, RESOURCES[each.kind].plural) for verb in ("list", "watch") for each in watch.watched(one.store)
        }


@pytest.mark.usefixtures("kubeconfig")
async def test_a_watch_that_falls_silent_is_begun_anew(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SILENCE", 0.5)
    async with watching() as one:
        await until(lambda: one.knows(1))
        await until(lambda: api.mute("proxypools") == 1)
        api.put(pool({"replicas": 3}))
        await until(lambda: one.knows(3))


@pytest.mark.usefixtures("kubeconfig")
async def test_what_was_written_and_is_not_heard_of_tells_a_silent_watch(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo, "PATIENCE", 0.2)
    clock = asyncio.get_running_loop().time
    async with watching() as one:
        await until(lambda: one.knows(1))
        one.echo.wrote(api.put(pool({"replicas": 2})), clock())
        await until(lambda: one.knows(2))
        assert one.echo.silent(clock() + 1) == ""
        await until(lambda: api.mute("proxypools") == 1)
        one.echo.wrote(api.put(pool({"replicas": 3})), clock())
        await until(lambda: one.echo.silent(clock()) == "ProxyPool")
        assert one.knows(2)


async def test_a_silent_watch_fails_the_probe_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "PATIENCE", 0.0)
    heard, settings = Echo(watch.KINDS), Settings("p", "IfNotPresent", "", "forebay-system", "a", 0, 0)
    runner = await pages_of(settings, heard, CollectorRegistry())
    try:
        port = next(port for host, port, *_ in runner.addresses if host == "0.0.0.0")
        assert (await fetch(port, "/livez")).status == 200
        heard.wrote({"kind": "Service", "metadata": {"namespace": "a", "name": "b", "resourceVersion": "1"}}, 0.0)
        answer = await fetch(port, "/livez")
        assert (answer.status, answer.body) == (
            503, b"what was written is not heard of: the watch of Services is silent\n",
        )  # fmt: skip
        assert (await fetch(port, "/healthz")).status == 200
    finally:
        await runner.cleanup()
