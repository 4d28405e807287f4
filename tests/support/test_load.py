"""The load client sends what it was told to and counts every outcome once."""

import asyncio
import json

from tests.support.load import Load, run_load
from tests.support.origin import Origin
from tests.support.raw import Answer, request_bytes


async def test_every_request_is_counted_on_kept_connections(origin: Origin) -> None:
    outcome = await run_load(origin.port, clients=5, requests=40)
    assert (outcome.statuses, outcome.failed, outcome.connections) == ({200: 200}, 0, 5)
    assert 0 < outcome.quantile(0.5) <= outcome.quantile(0.99) < outcome.elapsed
    stats = await origin.stats()
    assert (stats["requests"], stats["high_water"]) == (200, 5)


async def test_a_closed_connection_is_replaced(origin: Origin) -> None:
    outcome = await run_load(origin.port, clients=2, requests=3, request=request_bytes("/close"))
    assert (outcome.statuses, outcome.connections, outcome.failed) == ({200: 6}, 6, 0)
    outcome = await run_load(origin.port, clients=2, requests=3, keep_alive=False)
    assert (outcome.statuses, outcome.connections) == ({200: 6}, 6)


async def test_errors_are_told_apart(origin: Origin) -> None:
    targets = ["/close-on-reuse", "/", "/reset?after=-1", "/cut", "/bad/two-lengths", "/status/503", "/stall"]
    outcome = await run_load(
        origin.port,
        clients=1,
        requests=len(targets),
        request=lambda _client, number: request_bytes(targets[number]),
        timeout=0.5,
    )
    assert outcome.statuses == {200: 1, 503: 1}
    kinds = {kind.partition(": Content")[0] for kind in outcome.errors}
    assert kinds >= {
        "closed unanswered (reused)",
        "closed unanswered (fresh)",
        "answer cut",
        "answer: none in 0.5 s",
    }
    assert (sum(outcome.errors.values()), outcome.failed) == (5, 6)


async def test_refused_connections_and_complaints(origin: Origin) -> None:
    def check(client: int, number: int, answer: Answer) -> str | None:
        target = json.loads(answer.body)["target"]
        return None if target == f"/headers?n={client}-{number}" else "someone else's answer"

    def request(client: int, number: int) -> bytes:
        return request_bytes(f"/headers?n={client}-{number}")

    assert (await run_load(origin.port, request=request, check=check, requests=5)).errors == {}
    wrong = await run_load(origin.port, clients=1, requests=2, request=request_bytes("/headers"), check=check)
    assert wrong.errors == {"someone else's answer": 2}
    await origin.kill()
    refused = await run_load(origin.port, clients=1, requests=2)
    assert refused.errors == {"connect: ConnectionRefusedError": 2}


async def test_background_load_stops_when_told(origin: Origin) -> None:
    async with Load(origin.port, clients=4) as load:
        await load.answered(50)
    assert load.outcome.answered >= 50
    assert load.outcome.failed == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("client ")]
