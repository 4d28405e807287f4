"""Never a connection too many: the mark is kept inside the origin, and health checks count."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.support.criteria import marked, metric, own, ready_workers, settled, unharmed
from tests.support.forebay import Forebay, http_pool
from tests.support.load import Load, run_load
from tests.support.nginx import Nginx
from tests.support.origin import Origin
from tests.support.raw import request_bytes
from tests.support.waiting import until

Start = Callable[..., Awaitable[Forebay]]
Origins = Callable[..., Awaitable[Origin]]
StartNginx = Callable[..., Awaitable[Nginx]]

CHECKS = {"active": {"interval": "50ms", "timeout": "1s"}}


async def test_500_clients_on_a_pool_of_10(forebay: Start, origin: Origin) -> None:
    document = http_pool(
        origin.port,
        pool={"size": 10, "maxOverflow": 0, "maxWaiting": 1000, "timeout": "15s"},
        healthCheck=CHECKS,
    )
    f = await forebay(document)
    async with unharmed(f, origin, limit=10, longest_wait=15.0):
        outcome = await run_load(f.port, clients=500, requests=10, request=marked, check=own)
    stats = await origin.stats()
    assert outcome.statuses == {200: 5000}
    assert not outcome.errors
    assert stats["high_water"] == 10
    assert stats["targets"]["/healthz"] > 0
    assert (await f.metrics()).value("forebay_upstream_connections_opened_total") == stats["accepts"]


async def test_the_origin_closes_by_itself_and_never_sees_an_eleventh(forebay: Start, origin: Origin) -> None:
    """Some answers end their connection, by saying so or without a word: its place is free only once it is closed, and
    what was sent on it just then is sent again."""
    targets = ["/", "/close", "/close?silent=1", "/until-close/20", "/close-idle/1", "/"]
    f = await forebay(
        http_pool(
            origin.port,
            spec={"http": {"retries": {"attempts": 10, "budgetPercent": 100}}},
            pool={"size": 6, "maxOverflow": 4, "maxUses": 7, "timeout": "15s"},
            healthCheck={**CHECKS, "passive": {"maxEjectionPercent": 0}},
        )
    )
    async with unharmed(f, origin, limit=10, longest_wait=15.0):
        outcome = await run_load(
            f.port,
            clients=500,
            requests=10,
            request=lambda client, number: request_bytes(targets[(client + number) % len(targets)]),
        )
    assert outcome.statuses == {200: 5000}
    assert not outcome.errors
    closed = await f.metrics()
    assert closed.value("forebay_upstream_connections_closed_total", reason="uses") > 0
    assert closed.value("forebay_upstream_connections_closed_total", reason="upstream") > 0


async def test_nginx_never_sees_an_eleventh(forebay: Start, nginx: StartNginx) -> None:
    """nginx counts from its accept() to its own close(), as `stub_status` says (its own request is one of them)."""
    backend = await nginx('location / { return 200 "ok"; }\nlocation = /status { stub_status; access_log off; }')
    f = await forebay(
        http_pool(
            backend.port,
            pool={"size": 10, "maxOverflow": 0, "maxUses": 50},
            healthCheck={"active": {**CHECKS["active"], "path": "/"}},
        )
    )
    worst = 0
    ask = request_bytes("/status")
    async with Load(f.port, clients=500, timeout=60) as load, Load(backend.port, clients=1, request=ask) as sampler:

        def sample(_client: int, _number: int, answer: object) -> None:
            nonlocal worst
            worst = max(worst, int(answer.body.split()[2]) - 1)  # type: ignore[attr-defined]

        sampler._check = sample
        await load.answered(5000)
    assert load.outcome.statuses == {200: load.outcome.answered}
    assert not load.outcome.errors
    assert 8 <= worst <= 10, worst


def budgeted(origin: Origin, **more: object) -> dict[str, object]:
    return http_pool(
        origin.port,
        spec={"replicas": 3},
        budget={"maxConnections": 14, "reserved": 2, "linger": "500ms"},
        pool={"size": 10, "maxOverflow": 10, "timeout": "1900ms", "minIdle": 1},
        healthCheck={**CHECKS, "passive": {"maxEjectionPercent": 0}},
        **more,
    )


@pytest.mark.slow
async def test_a_budget_of_12_over_3_workers_that_are_killed(forebay: Start, origin: Origin) -> None:
    f = await forebay(budgeted(origin))
    async with unharmed(f, origin, limit=12, longest_wait=2.0, workers=3):
        async with Load(f.port, clients=60, request=marked, check=own) as load:
            await load.answered(300)
            killed: set[int] = set()
            for _ in range(4):
                victim = next(pid for pid in await f.worker_pids() if pid not in killed)
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)
                await ready_workers(f, lambda pids: len(pids) == 3 and not pids & killed)
                await load.answered(load.outcome.answered + 300)
        # What was in flight on the killed is cut; nothing else fails.
        assert load.outcome.statuses == {200: load.outcome.answered}
        assert sum(load.outcome.errors.values()) <= 4 * 60
        assert {error.partition(" (")[0] for error in load.outcome.errors} <= {"closed unanswered", "answer cut"}
    assert (await f.metrics()).value("forebay_worker_restarts_total") == 4
    # All but the last place, which is kept for whoever comes.
    await metric(f, "forebay_upstream_connections_limit", lambda value: value == 11)


async def test_a_budget_per_endpoint_is_the_same_for_each(forebay: Start, origins: Origins) -> None:
    one, two = await origins(), await origins()
    f = await forebay(
        http_pool(
            one.port,
            two.port,
            spec={"replicas": 2},
            budget={"maxConnections": 6, "linger": "500ms", "per": "endpoint"},
            pool={"size": 12, "maxOverflow": 0},
        )
    )
    await ready_workers(f, lambda pids: len(pids) == 2)
    async with Load(f.port, clients=40, request=request_bytes("/slow/0.02")) as load:
        for origin in (one, two):
            await origin.until(lambda stats: stats["open"] == 5)  # all but the last place, of both workers together
        await load.answered(load.outcome.answered + 600)  # which takes longer than the ledger's tick
        ledger = (await f.state())["supervisor"]["ledger"]
        assert sum(entry["bound"] for entry in ledger["entries"]) <= 6
    for origin in (one, two):
        assert (await origin.stats())["high_water"] <= 6


@pytest.mark.slow
async def test_a_budget_holds_over_a_supervisor_that_is_killed_and_run_again(origin: Origin, tmp_path: Path) -> None:
    document = budgeted(origin)
    for round_number in range(3):
        # No end by itself: the next one finds what this one has left.
        f = await Forebay(tmp_path, document).start()
        try:
            async with Load(f.port, clients=40, request=request_bytes("/slow/0.01")) as load:
                await load.answered(200, within=20)
                if round_number < 2:
                    f.child.send(signal.SIGKILL)
                    await f.wait()
                load.stop()
        finally:
            if round_number == 2:
                await settled(f, 3)
                assert await f.child.end() == 0
        assert not f.tracebacks(), f.stderr
    stats = await origin.until(lambda stats: stats["open"] == 0)
    assert stats["high_water"] <= 12
    assert not stats["malformed"]


@pytest.mark.slow
async def test_a_hung_origin_holds_the_places_of_a_killed_worker(forebay: Start, origin: Origin) -> None:
    """The origin is stopped while a worker dies: the kernel closes for the dead, the origin knows nothing of it, and
    its successor may open no more than what is left until `linger` is over or the origin has let go."""
    document = budgeted(origin)
    document["spec"]["upstreams"][0]["budget"]["linger"] = "20s"  # type: ignore[index]
    document["spec"]["upstreams"][0].pop("healthCheck")  # type: ignore[index]
    f = await forebay(document)
    async with Load(f.port, clients=40, request=request_bytes("/slow/0.01"), timeout=60) as load:
        await load.answered(200)
        origin.stop()
        victim = (await f.worker_pids())[0]
        os.kill(victim, signal.SIGKILL)
        pids = await ready_or_not(f, victim)
        workers = [w for w in (await f.state())["workers"] if w["pid"] in pids]
        heir = max(workers, key=lambda w: w["started"])["upstreams"]["origin"]
        assert heir["connections"]["closing"] >= heir["limit"] > 0, heir  # what the dead left uses up its grant
        assert heir["connections"]["leased"] == heir["connections"]["opening"] == 0, heir
        origin.cont()
        await load.answered(load.outcome.answered + 200)
    stats = await origin.stats()
    assert stats["high_water"] <= 12, stats


async def ready_or_not(f: Forebay, dead: int) -> set[int]:
    """Wait until three workers run, without the dead one."""
    pids: set[int] = set()

    async def condition() -> bool:
        nonlocal pids
        pids = set(await f.worker_pids())
        return len(pids) == 3 and dead not in pids

    await until(condition, within=20)
    return pids
