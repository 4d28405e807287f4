"""Workers follow the load of a forward proxy as they do an HTTP pool's; the site counts for itself."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from tests.integration.forward.harness import document, get, tunnel
from tests.integration.forward.test_tunnels import hold
from tests.integration.http.backend import Backend
from tests.integration.http.harness import running
from tests.integration.test_scaling import verdict, workers_become
from tests.support.load import Load
from tests.support.origin import Origin

CALM = {"scaleDown": {"stabilizationWindowSeconds": 2}}


def scaled(ports: list[int], per_origin: dict[str, Any], **upstream: Any) -> dict[str, Any]:
    """From 1 to 3 workers of 6 connections each."""
    pool = document(
        {"ports": ports, "perOrigin": per_origin},
        spec={"autoscaling": {"minReplicas": 1, "maxReplicas": 3, "behavior": CALM}},
        pool={"size": 6, "maxOverflow": 0, "timeout": "10s"},
        **upstream,
    )
    del pool["spec"]["replicas"]
    return pool


@pytest.mark.slow
async def test_workers_go_from_1_to_3_and_back_within_the_budget(tmp_path: Path) -> None:
    async with Origin() as origin:
        budget = {"maxConnections": 15, "linger": "500ms"}
        pool = scaled([origin.port], {"maxConnections": 100}, budget=budget)
        async with running(tmp_path, pool) as forebay:
            request = get(f"http://127.0.0.1:{origin.port}/slow/0.05")
            async with Load(forebay.port, clients=40, request=request, keep_alive=False, timeout=20) as many:
                await workers_become(forebay, 3, within=60)
                await many.answered(many.outcome.answered + 300)
            async with Load(forebay.port, clients=1, request=request, keep_alive=False) as one:
                await workers_become(forebay, 1, within=90)
            assert 6 < (await origin.stats())["high_water"] <= 15
            assert many.outcome.statuses == {200: many.outcome.answered}, many.outcome
            assert one.outcome.statuses == {200: one.outcome.answered}, one.outcome


@pytest.mark.slow
async def test_tunnels_are_a_load_like_any_other(tmp_path: Path) -> None:
    """They last as long as they like, and nobody's lease ends for it: no sign of a backend in trouble."""
    async with Backend(hold) as backend:
        pool = scaled([backend.port], {"maxConnections": 100}, budget={"maxConnections": 15, "linger": "500ms"})
        async with running(tmp_path, pool) as forebay:
            where = f"127.0.0.1:{backend.port}"
            waiting = [asyncio.create_task(tunnel(forebay.port, where)) for _ in range(9)]
            await workers_become(forebay, 2, within=60)
            for task in waiting:  # 6 have one; the others wait where they came, which is for at most 10 s
                with contextlib.suppress(AssertionError):
                    await (await task).close()
            await workers_become(forebay, 1, within=90)


@pytest.mark.slow
async def test_politeness_is_no_reason_for_more_workers(tmp_path: Path) -> None:
    """What waits for its origin's sake is not served sooner by a second worker, which has a gate of its own."""
    async with Origin() as origin:
        pool = scaled([origin.port], {"maxConnections": 2})
        async with running(tmp_path, pool) as forebay:
            request = get(f"http://127.0.0.1:{origin.port}/slow/0.05")
            async with Load(forebay.port, clients=30, request=request, keep_alive=False, timeout=20) as crowd:
                await crowd.answered(400)
                found = await verdict(forebay)
                metrics = await forebay.metrics()
                assert metrics.value("forebay_upstream_waiting", upstream="out") > 20
                assert metrics.value("forebay_upstream_wait_oldest_seconds", upstream="out") > 0.3
            assert (found["replicas"], found["cause"]) == (1, "None"), found
            assert (await origin.stats())["high_water"] == 2
