"""The admin port: health, metrics, state, and commands for those with the token."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any

import pytest
from tests.support.criteria import descriptors, metric, not_ready, serves, settled
from tests.support.forebay import Forebay, http_pool
from tests.support.load import Load, run_load
from tests.support.origin import Origin
from tests.support.process import need
from tests.support.raw import Answer, Connection, fetch, request_bytes

from forebay_proxy import admin

Start = Callable[..., Awaitable[Forebay]]

TOKEN = [("Authorization", "Bearer secret")]
COMMANDS = ("recycle", "pause", "resume", "drain", "restart")


@pytest.fixture
def start(forebay: Start, tmp_path: Any) -> Start:
    """Starts a pool, or a pod's worker, with the token `secret`."""
    (tmp_path / "token").write_text("secret\n")

    async def begin(document: dict[str, Any], mode: str = "run") -> Forebay:
        more = ("--token-file", str(tmp_path / "token")) if mode == "worker" else ()
        return await forebay(
            document,
            command=mode,
            arguments=("--admin", "127.0.0.1:0", *more),
            env={"FOREBAY_ADMIN_TOKEN": "secret"},
        )

    return begin


async def command(f: Forebay, name: str) -> None:
    answer = await f.admin(f"/{name}", "POST", headers=TOKEN)
    assert answer.status == 202, answer


@pytest.mark.parametrize("mode", ["run", "worker"])
async def test_what_can_be_read(start: Start, origin: Origin, mode: str) -> None:
    f = await start(http_pool(origin.port), mode)
    await settled(f, 1)
    assert (await f.admin("/livez")).status == 200
    assert (await f.admin("/readyz")).status == 200
    assert (await fetch(f.port)).status == 200
    (worker,) = (await f.state())["workers"]
    assert worker["ready"] is True
    assert worker["codes"] == {}
    upstream = worker["upstreams"]["origin"]
    assert upstream["connections"]["idle"] == 1
    assert upstream["codes"] == {"200": 1}
    assert upstream["endpoints"][f"127.0.0.1:{origin.port}"]["healthy"] is True
    assert (await f.admin("/nothing")).status == 404
    assert (await f.admin("/metrics", "PUT")).status == 405


async def test_promtool_is_content(start: Start, origin: Origin) -> None:
    """In every state that the metrics know, also with several workers."""
    tool = need("promtool")
    f = await start(http_pool(origin.port, spec={"replicas": 2}, pool={"size": 2, "maxOverflow": 1, "maxWaiting": 1}))
    await settled(f, 2)
    await run_load(f.port, clients=20, requests=5, request=request_bytes("/slow/0.005"))
    await fetch(f.port, "/reset?after=-1")
    text = (await f.metrics()).text
    checked = await asyncio.to_thread(
        subprocess.run, [tool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize("mode", ["run", "worker"])
async def test_commands_need_the_token(start: Start, origin: Origin, mode: str) -> None:
    f = await start(http_pool(origin.port), mode)
    wrong: list[list[tuple[str, str]]] = [
        [],
        [("Authorization", "Bearer wrong")],
        [("Authorization", "secret")],
        [("Authorization", "Bearer sécret")],
        [("Authorization", "Bearer ")],
    ]
    for headers in wrong:
        for name in COMMANDS:
            answer = await f.admin(f"/{name}", "POST", headers=headers)
            assert (answer.status, answer.get("WWW-Authenticate")) == (401, "Bearer")
        assert (await f.admin("/grant", "PUT", headers=headers, body=b"{}")).status == 401
    assert (await f.admin("/explode", "POST", headers=TOKEN)).status == 404
    await serves(f)


async def put(f: Forebay, body: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await f.admin("/grant", "PUT", headers=TOKEN, body=data)


async def test_grants_of_a_pod(start: Start, origin: Origin) -> None:
    """Not ready, and no connection, before its first grant; only a newer one for its own life is taken; each answer
    says what it has seen and holds."""
    f = await start(http_pool(origin.port, pool={"timeout": "300ms"}, budget={"maxConnections": 9}), "worker")
    assert (await f.admin("/readyz")).status == 503
    assert (await fetch(f.port)).status == 503
    assert (await origin.stats())["accepts"] == 0
    life = (await f.state())["workers"][0]["life"]

    for wrong in (
        b"", b"[]", b"{", {"life": life}, {"life": life, "sequence": "1", "grants": {}},
        {"life": life, "sequence": 1, "grants": {"origin": -1}}, {"life": life, "sequence": True, "grants": {}},
        {"life": life, "sequence": 1, "grants": []}, {"life": life, "sequence": 1, "grants": {"origin": 1.5}},
        {"life": life, "sequence": 1, "grants": {}, "deadline": -1},
        {"life": life, "sequence": 1, "grants": {}, "deadline": "1s"},
    ):  # fmt: skip
        answer = await put(f, wrong)
        assert answer.status == 400, (wrong, answer)
        assert b"expected" in answer.body

    async def grant(sequence: int, connections: int, to: str = life, **more: Any) -> tuple[int, int]:
        """The sequence that it has seen, and what it holds."""
        answer = await put(f, {"life": to, "sequence": sequence, "grants": {"origin": connections}, **more})
        assert answer.status == 200, answer
        said = json.loads(answer.body)
        assert (said["life"], said["draining"], said["held"].keys()) == (life, False, {"origin"})
        return said["sequence"], said["held"]["origin"]

    assert await grant(4, 9, to="another") == (0, 0)
    assert (await f.admin("/readyz")).status == 503
    assert await grant(5, 2) == (5, 0)
    assert (await f.admin("/readyz")).status == 200
    assert (await f.metrics()).value("forebay_upstream_connections_limit") == 2
    tasks = [asyncio.create_task(fetch(f.port, "/slow/0.2")) for _ in range(2)]
    await origin.until(lambda stats: stats["active"] == 2)
    # Late and repeated pushes change nothing.
    assert await grant(4, 8) == (5, 2)
    assert await grant(5, 8) == (5, 2)
    assert (await f.metrics()).value("forebay_upstream_connections_limit") == 2
    # A shrink holds for what is opened, and what is above it is closed as leases end.
    assert await grant(6, 1) == (6, 2)
    assert {(await task).status for task in tasks} == {200}
    await origin.until(lambda stats: stats["open"] == 1)
    # With a deadline a lease above the grant is cut at last, unless it is withdrawn before.
    tasks = [asyncio.create_task(fetch(f.port, "/slow/5"))]
    await origin.until(lambda stats: stats["active"] == 1)

    async def pressed() -> bool:
        (worker,) = (await f.state())["workers"]
        return bool(worker["upstreams"]["origin"]["pressed"])

    assert await grant(7, 0, deadline=60) == (7, 1)
    assert await pressed()
    assert await grant(7, 0) == (7, 1)
    assert not await pressed()
    assert await grant(7, 0, deadline=0.2) == (7, 1)
    assert (await tasks[0]).status == 503
    await origin.until(lambda stats: stats["open"] == 0)
    assert (await grant(8, 1))[0] == 8
    # Another upstream's name is no error: the document may be behind the ledger.
    assert (await put(f, {"life": life, "sequence": 9, "grants": {"other": 3}})).status == 200
    # Its successor in the same memory goes on with life and grant, without being told.
    f.child.send(signal.SIGKILL)
    await f.wait()
    await f.start()
    (worker,) = (await f.state())["workers"]
    assert (worker["life"], worker["sequence"], worker["upstreams"]["origin"]["grant"]) == (life, 9, 1)


async def test_grants_are_not_taken_in_local_mode(start: Start, origin: Origin) -> None:
    f = await start(http_pool(origin.port))
    answer = await put(f, {"life": "x", "sequence": 1, "grants": {}})
    assert answer.status == 404
    assert b"supervisor" in answer.body


@pytest.mark.parametrize("mode", ["run", "worker"])
async def test_recycle_closes_every_connection_and_cuts_none(start: Start, origin: Origin, mode: str) -> None:
    f = await start(http_pool(origin.port, pool={"size": 4, "maxOverflow": 0}), mode)
    async with Load(f.port, clients=4, request=request_bytes("/slow/0.02")) as load:
        await load.answered(20)
        before = (await origin.stats())["accepts"]
        await command(f, "recycle")
        await metric(f, "forebay_upstream_connections_closed_total", lambda value: value == before, reason="recycle")
        await load.answered(load.outcome.answered + 20)
    assert load.outcome.statuses == {200: load.outcome.answered}
    assert not load.outcome.errors


@pytest.mark.parametrize("mode", ["run", "worker"])
async def test_pause_and_resume(start: Start, origin: Origin, mode: str) -> None:
    """Requests are admitted and wait, longer than `pool.timeout`; after the pause all are served."""
    f = await start(http_pool(origin.port, pool={"timeout": "300ms"}), mode)
    await settled(f, 1)
    await command(f, "pause")
    await metric(f, "forebay_upstream_waiting", lambda value: value == 0)
    tasks = [asyncio.create_task(fetch(f.port)) for _ in range(5)]
    await metric(f, "forebay_upstream_wait_oldest_seconds", lambda value: value > 0.5)
    assert (await f.metrics()).value("forebay_upstream_waiting") == 5
    assert (await f.admin("/readyz")).status == 200
    await command(f, "resume")
    assert {(await task).status for task in tasks} == {200}


async def test_after_a_pause_the_timeout_begins_anew_and_is_kept(start: Start, origin: Origin) -> None:
    f = await start(http_pool(origin.port, pool={"size": 1, "maxOverflow": 0, "timeout": "300ms"}))
    await settled(f, 1)
    busy = asyncio.create_task(fetch(f.port, "/slow/3"))
    await origin.until(lambda stats: stats["active"] == 1)
    await command(f, "pause")
    tasks = [asyncio.create_task(fetch(f.port)) for _ in range(3)]
    await metric(f, "forebay_upstream_wait_oldest_seconds", lambda value: value > 0.6)
    began = monotonic()
    await command(f, "resume")
    assert {(await task).status for task in tasks} == {503}
    assert 0.25 < monotonic() - began < 0.45
    await busy


async def test_a_paused_pool_refuses_at_last(start: Start, origin: Origin) -> None:
    f = await start(http_pool(origin.port, spec={"paused": True, "pauseTimeout": "400ms"}))
    answer = await fetch(f.port)
    assert (answer.status, answer.get("Retry-After")) == (503, "1")
    assert (await f.metrics()).value("forebay_rejections_total", reason="paused") == 1
    assert (await origin.stats())["accepts"] == 0


async def test_drain_and_restart_of_a_pod(start: Start, origin: Origin) -> None:
    f = await start(http_pool(origin.port), "worker")
    assert (await f.admin("/restart", "POST", headers=TOKEN)).status == 404
    await serves(f)
    await command(f, "drain")
    assert await f.wait() == 0


async def test_readiness_is_never_the_backends_health(start: Start, origin: Origin) -> None:
    f = await start(http_pool(origin.port, healthCheck={"active": {"interval": "20ms", "unhealthyThreshold": 1}}))
    await settled(f, 1)
    await origin.kill()
    await metric(f, "forebay_upstream_endpoint_healthy", lambda value: value == 0)
    assert (await f.admin("/readyz")).status == 200
    f.child.send(signal.SIGTERM)
    await f.wait()


async def test_counters_never_go_back(start: Start, origin: Origin) -> None:
    """Over a rolling replacement, what the replaced had counted stays in the sums."""
    f = await start(http_pool(origin.port, spec={"replicas": 2}))
    await settled(f, 2)
    assert (await run_load(f.port, clients=10, requests=20)).statuses == {200: 200}
    before = await f.metrics()
    assert before.value("forebay_requests_total", code="200") == 200
    old = set(await f.worker_pids())
    await command(f, "restart")
    while set(await f.worker_pids()) & old:
        after = await f.metrics()
        assert after.value("forebay_requests_total", code="200") >= 199  # a moment between two looks is not lost
        await asyncio.sleep(0.05)
    await settled(f, 2)
    after = await f.metrics()
    for name in ("forebay_requests_total", "forebay_upstream_hold_seconds_count", "forebay_request_seconds_count"):
        assert after.value(name) == before.value(name)


async def test_readyz_follows_a_drain(start: Start, origin: Origin) -> None:
    f = await start(http_pool(origin.port, spec={"drain": {"delay": "700ms", "timeout": "5s"}}))
    await settled(f, 1)
    f.terminate()
    await not_ready(f, within=0.6)
    assert (await fetch(f.port)).status == 200
    assert await f.wait() == 0


async def test_silent_connections_take_few_descriptors_and_keep_nobody_out(start: Start, origin: Origin) -> None:
    """In a pod they would be those of its clients. Who is being answered is not sent away for them."""
    f = await start(http_pool(origin.port), "worker")
    await settled(f, 1)
    (worker,) = (await f.state())["workers"]
    before = descriptors(worker["pid"])
    async with AsyncExitStack() as silent:
        slow = await silent.enter_async_context(await Connection.open(f.admin_port))
        body = json.dumps({"life": "another", "sequence": 1, "grants": {}}).encode()
        await slow.send(request_bytes("/grant", "PUT", TOKEN, body)[:-1])
        for _ in range(100):
            await silent.enter_async_context(await Connection.open(f.admin_port))
        for _ in range(3):
            assert (await f.admin("/livez")).status == 200
            assert (await fetch(f.port)).status == 200
        assert descriptors(worker["pid"]) < before + admin.MOST + 5
        await slow.send(body[-1:])
        assert (await slow.answer()).status == 200


@pytest.mark.slow
async def test_who_never_asks_is_closed(start: Start, origin: Origin) -> None:
    f = await start(http_pool(origin.port), "worker")
    async with await Connection.open(f.admin_port) as silent, await Connection.open(f.admin_port) as dribbling:
        await dribbling.send(b"GET /livez HTTP/1.1\r\n")
        for client in (silent, dribbling):
            assert await client.rest(within=admin.QUIET + 10) == b""
