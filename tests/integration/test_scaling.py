"""Local mode as a whole: workers follow the load, connections follow the demand, and the budget holds all the while.

Two backends at once: an origin that keeps its high-water mark inside, and nginx, sampled by its `stub_status`.
"""

import asyncio
import contextlib
import copy
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import pytest
from tests.integration.test_reload import take
from tests.support.criteria import settled
from tests.support.forebay import Forebay, http_pool
from tests.support.load import Load
from tests.support.nginx import Nginx
from tests.support.origin import Origin
from tests.support.raw import Connection, request_bytes
from tests.support.waiting import until

Start = Callable[..., Awaitable[Forebay]]
StartNginx = Callable[..., Awaitable[Nginx]]

SLOW = 'location / { limit_rate 40k; return 200 "%s"; }\nlocation = /status { stub_status; access_log off; }' % (
    "x" * 2000
)
ORIGIN, NGINX = request_bytes("/slow/0.05"), request_bytes("/nginx")


def scaled(origin: Origin, backend: Nginx) -> dict[str, Any]:
    """From 1 to 4 workers, which have 6 connections to the origin and 3 to nginx each, within budgets of 20 and 10."""
    document = http_pool(
        origin.port,
        spec={
            "autoscaling": {
                "minReplicas": 1,
                "maxReplicas": 4,
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 2}},
            },
            "routes": [{"pathPrefix": "/nginx", "upstream": "nginx"}, {"upstream": "origin"}],
        },
        pool={"size": 6, "maxOverflow": 0, "timeout": "10s"},
        budget={"maxConnections": 22, "reserved": 2, "linger": "500ms"},
    )
    document["spec"]["upstreams"].append(
        {
            "name": "nginx",
            "endpoints": [{"host": "127.0.0.1", "port": backend.port}],
            "pool": {"size": 3, "maxOverflow": 0, "timeout": "10s"},
            "budget": {"maxConnections": 10, "linger": "500ms"},
        }
    )
    return document


def mixed(client: int, _number: int) -> bytes:
    return NGINX if client % 4 == 0 else ORIGIN


def halved(document: dict[str, Any]) -> dict[str, Any]:
    cut = copy.deepcopy(document)
    cut["spec"]["upstreams"][0]["budget"] = {"maxConnections": 10, "linger": "500ms"}
    cut["spec"]["upstreams"][1]["budget"] = {"maxConnections": 5, "linger": "500ms"}
    return cut


class Sampler:
    """The most connections that nginx has had at once, as far as samples show; `limit` may not be exceeded."""

    def __init__(self) -> None:
        self.worst = 0
        self.samples = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, backend: Nginx) -> AsyncIterator["Sampler"]:
        sampler = cls()

        def sample(_client: int, _number: int, answer: Any) -> None:
            sampler.samples += 1
            sampler.worst = max(sampler.worst, int(answer.body.split()[2]) - 1)  # its own request is one of them

        async with Load(backend.port, clients=1, request=request_bytes("/status"), check=sample):
            yield sampler


async def verdict(f: Forebay) -> dict[str, Any]:
    found: dict[str, Any] = (await f.state())["supervisor"]["verdict"]
    return found


async def baseline_known(f: Forebay) -> None:
    """Wait until the autoscaler knows how long a lease lasts in quiet times: it then need not try what helps."""

    async def condition() -> bool:
        origin = (await verdict(f))["upstreams"].get("origin")
        return origin is not None and origin["baseline"] is not None

    await until(condition, within=60)


async def workers_become(f: Forebay, number: int, within: float, without: Collection[int] = ()) -> None:
    """Wait until as many workers run and serve, none of them one of those who are to be gone."""
    pids: set[int] = set()

    async def condition() -> bool:
        nonlocal pids
        workers = (await f.state())["workers"]
        pids = {worker["pid"] for worker in workers}
        return len(workers) == number and all(w["ready"] and w["pid"] not in without for w in workers)

    try:
        await until(condition, within)
    except TimeoutError:
        raise AssertionError(
            f"not {number} workers in {within} s, but {pids}: {await verdict(f)}\n{f.stderr}"
        ) from None
    return pids


@pytest.mark.slow
async def test_workers_go_from_1_to_4_and_back_within_the_budget(
    forebay: Start, origin: Origin, nginx: StartNginx
) -> None:
    backend = await nginx(SLOW)
    document = scaled(origin, backend)
    f = await forebay(document)
    killed: set[int] = set()

    async with Sampler.at(backend) as sampled:
        async with Load(f.port, clients=2, request=mixed, keep_alive=False) as few:
            await baseline_known(f)
            assert len(await f.worker_pids()) == 1
        async with Load(f.port, clients=40, request=mixed, keep_alive=False, timeout=20) as many:
            await workers_become(f, 4, within=60)
            for _ in range(2):
                victim = next(pid for pid in await f.worker_pids() if pid not in killed)
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)
                await workers_become(f, 4, within=30, without=killed)
                await many.answered(many.outcome.answered + 200)
            assert 12 < (await origin.stats())["high_water"] <= 20
            assert 5 < sampled.worst <= 10

            await take(f, halved(document))
            await in_force(f, {"origin": 10, "nginx": 5})
            await origin.until(lambda stats: stats["open"] <= 10)
            await origin.reset()
            sampled.worst = 0
            await many.answered(many.outcome.answered + 300)
            assert (await origin.stats())["high_water"] <= 10
            assert 0 < sampled.worst <= 5
            await take(f, document)
            await many.answered(many.outcome.answered + 300)
        async with Load(f.port, clients=1, request=mixed, keep_alive=False) as one:
            await workers_become(f, 1, within=150)
        stats = await origin.stats()
        assert stats["high_water"] <= 20
        assert sampled.worst <= 10
        assert sampled.samples > 1000

    for outcome in (few.outcome, one.outcome):
        assert outcome.statuses == {200: outcome.answered}
        assert not outcome.errors
    # Nothing fails but what was in flight on the killed, or stood in their queues.
    assert many.outcome.statuses == {200: many.outcome.answered}, many.outcome
    assert sum(many.outcome.errors.values()) <= len(killed) * 40, many.outcome
    await settled(f, 1)


@pytest.mark.slow
@pytest.mark.parametrize("before", [{"maxConnections": 12, "linger": "500ms"}, None], ids=["cut", "given"])
async def test_a_worker_that_hangs_keeps_its_places_when_the_budget_changes(
    forebay: Start, origin: Origin, before: dict[str, Any] | None
) -> None:
    """What it was told last, or could open where there was no bound, counts until it has told what it holds now."""
    document = http_pool(origin.port, spec={"replicas": 2}, pool={"size": 5, "maxOverflow": 0, "timeout": "20s"})
    bounded = copy.deepcopy(document)
    bounded["spec"]["upstreams"][0]["budget"] = {"maxConnections": 6, "linger": "500ms"}
    if before is not None:
        document["spec"]["upstreams"][0]["budget"] = before
    f = await forebay(document)
    await settled(f, 2)
    async with Load(f.port, clients=30, request=ORIGIN, timeout=30) as load:
        await origin.until(lambda stats: stats["open"] == 10)
        hanging, other = sorted(await f.worker_pids())
        os.kill(hanging, signal.SIGSTOP)
        try:
            await take(f, bounded)
            if before is not None:
                await origin.until(lambda stats: stats["open"] < 10)  # the other gives back at once
            ledger = (await f.state())["supervisor"]["ledger"]
            assert sum(entry["bound"] for entry in ledger["entries"]) > 6
            before_it_wakes = (await origin.stats())["open"]
            await origin.reset()
            await load.answered(load.outcome.answered + 10)
            assert (await origin.stats())["high_water"] <= before_it_wakes
        finally:
            os.kill(hanging, signal.SIGCONT)
        await in_force(f, {"origin": 6})
        await origin.until(lambda stats: stats["open"] <= 6)
        await origin.reset()
        await load.answered(load.outcome.answered + 100)
    assert (await origin.stats())["high_water"] <= 6
    assert load.outcome.statuses == {200: load.outcome.answered}, load.outcome
    assert not load.outcome.errors, load.outcome
    assert set(await f.worker_pids()) == {hanging, other}


async def in_force(f: Forebay, budgets: dict[str, int], within: float = 10.0) -> None:
    """Wait until no life can hold more than these."""

    async def condition() -> bool:
        ledger = (await f.state())["supervisor"]["ledger"]
        bounds = {name: sum(e["bound"] for e in ledger["entries"] if e["upstream"] == name) for name in budgets}
        return bool(ledger["inForce"] == budgets) and all(bounds[name] <= budgets[name] for name in budgets)

    await until(condition, within)


class Pinned:
    """Clients that stay with the worker that accepted them, each asking without pause."""

    def __init__(self, connections: list[Connection]) -> None:
        self.connections = connections
        self.statuses: list[int] = []

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        stop = asyncio.Event()

        async def ask(connection: Connection) -> None:
            while not stop.is_set():
                self.statuses.append((await connection.ask(ORIGIN)).status)

        async with asyncio.TaskGroup() as clients:
            for connection in self.connections:
                clients.create_task(ask(connection))
            yield
            stop.set()


async def clients_by_worker(f: Forebay, each: int) -> dict[int, list[Connection]]:
    """Connect until every worker has so many clients; who serves whom is told by its count of answers."""
    found: dict[int, list[Connection]] = {pid: [] for pid in await f.worker_pids()}

    async def answers() -> dict[int, int]:
        workers = (await f.state())["workers"]
        return {w["pid"]: sum(u["codes"].get("200", 0) for u in w["upstreams"].values()) for w in workers}

    before = await answers()
    while any(len(connections) < each for connections in found.values()):
        connection = await Connection.open(f.port)
        assert (await connection.ask(request_bytes("/"))).status == 200
        after = await answers()
        (pid,) = [pid for pid in after if after[pid] > before[pid]]
        before = after
        if len(found[pid]) < each:
            found[pid].append(connection)
        else:
            await connection.close()
    return found


@pytest.mark.slow
async def test_surplus_follows_the_demand_from_one_worker_to_another(forebay: Start, origin: Origin) -> None:
    """Two workers with a floor of 4 each in a budget of 12: whoever's clients ask has what the other leaves."""
    document = http_pool(
        origin.port,
        spec={"replicas": 2},
        pool={"size": 12, "maxOverflow": 0, "timeout": "5s"},
        budget={"maxConnections": 12, "linger": "500ms"},
    )
    f = await forebay(document)
    await settled(f, 2)
    async with Load(f.port, clients=2, request=ORIGIN):
        await baseline_known(f)
    clients = await clients_by_worker(f, each=10)

    async def has(pid: int, at_least: int) -> None:
        async def condition() -> bool:
            limits = {w["pid"]: w["upstreams"]["origin"]["limit"] for w in (await f.state())["workers"]}
            return limits[pid] >= at_least

        try:
            await until(condition, within=10)
        except TimeoutError:
            raise AssertionError(f"no surplus for {pid} within 10 s: {(await f.state())['supervisor']}") from None

    for _ in range(2):
        for pid, connections in clients.items():
            pinned = Pinned(connections)
            async with pinned.asking():
                await has(pid, at_least=9)
            assert set(pinned.statuses) == {200}
    assert (await origin.stats())["high_water"] <= 12
    for connections in clients.values():
        for connection in connections:
            await connection.close()
