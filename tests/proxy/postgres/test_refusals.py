"""What a client is told where it gets no connection: SQLSTATE, whether its session stays, and the cause."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.proxy.postgres.harness import Client, Rig, users
from tests.support.waiting import until

from forebay_core.pgwire import backend

Start = Callable[..., Awaitable[Rig]]
POOL = {"size": 1, "maxOverflow": 0, "timeout": "100ms", "connectTimeout": "100ms"}


@pytest.fixture
async def full(rig: Start) -> tuple[Rig, Client]:
    """A rig whose only connection is taken, and a client without one."""
    r = await rig(pool={**POOL, "maxWaiting": 1})
    r.server.answers[b"BEGIN"] = backend.command_complete("BEGIN") + backend.ready_for_query(b"T")
    busy, client = await r.session(), await r.session()
    await busy.ask("BEGIN")
    return r, client


async def told(client: Client) -> tuple[str, str, str]:
    """What its query is answered; afterwards the session is there."""
    (kind, body), ready = await client.ask("SELECT 1")
    assert (kind, ready) == (b"E", (b"Z", b"I"))
    error = backend.read_error(b"E\0\0\0\0" + body, 0, 5 + len(body))
    return error.severity, error.sqlstate, error.message


async def test_a_full_pool(full: tuple[Rig, Client]) -> None:
    r, client = full
    severity, sqlstate, sentence = await told(client)
    assert (severity, sqlstate) == ("ERROR", "53300")
    assert sentence == (
        'no connection to upstream "db" for database "db" and user "somebody" within 0.1 s: '
        "all 1 connections of this replica are in use"
    )
    assert r.upstream.rejections == {"timeout": 1}


async def test_a_full_queue(full: tuple[Rig, Client]) -> None:
    r, client = full
    other = asyncio.create_task(told(await r.session()))
    await until(lambda: r.upstream.pool.waiters)
    assert await told(client) == (
        "ERROR",
        "53300",
        'too many clients wait for upstream "db": pool.maxWaiting is 1; all 1 connections of this replica are in use',
    )
    assert (await other)[1] == "53300"


async def test_a_full_queue_for_a_paused_database(full: tuple[Rig, Client]) -> None:
    r, client = full
    r.proxy.pause("db")
    other = asyncio.create_task(told(await r.session()))
    await until(lambda: r.upstream.gated)
    assert await told(client) == (
        "ERROR",
        "53300",
        'too many clients wait for upstream "db": pool.maxWaiting is 1; the database is paused',
    )
    r.proxy.resume("db")
    assert not r.upstream.gated
    assert "within 0.1 s" in (await other)[2]  # it waited for the connection that is taken


async def test_a_grant_that_is_used_up(full: tuple[Rig, Client]) -> None:
    r, client = full
    r.upstream.pool.set_grant(1, monotonic())
    assert (await told(client))[2].endswith("the budget has not granted this replica a connection yet")


async def test_a_server_that_is_not_there(rig: Start) -> None:
    r = await rig(pool=POOL)
    client = await r.session()
    await r.server.__aexit__()
    await until(lambda: not r.upstream.pool.total)
    severity, sqlstate, sentence = await told(client)
    assert (severity, sqlstate) == ("ERROR", "57P03")
    assert sentence.endswith("the upstream refused the connection")


async def test_a_server_that_accepts_and_says_nothing(rig: Start) -> None:
    r = await rig(pool={**POOL, "timeout": "50ms"})
    over = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()

    r.server.greetings[b"slow"] = never
    client = await r.client()
    client.start("slow")
    error = await client.refused()
    assert (error.severity, error.sqlstate) == ("FATAL", "53300")
    assert error.message.endswith("opening a connection took too long")
    over.set()


async def test_the_servers_own_words(rig: Start) -> None:
    """Where it takes no more, or does not let this user in, it says so itself; the session stays."""
    r = await rig(pool=POOL)
    client = await r.session()
    r.server.greetings[b"somebody"] = backend.error_response("FATAL", "53300", "sorry, too many clients already")
    r.upstream.pool.recycle_all(monotonic())
    r.upstream.act()
    await until(lambda: not r.upstream.pool.total)
    assert await told(client) == ("ERROR", "53300", "sorry, too many clients already")


NAMED = {"databases": [{"name": "db"}]}
AS_USER = {"databases": [{"name": "db", "user": "app"}]}


@pytest.mark.parametrize(
    ("sqlstate", "postgres", "parameters", "counts"),
    [
        ("3D000", {}, {}, False),  # it does not exist
        ("3D000", NAMED, {}, True),
        ("28000", NAMED, {}, False),  # the user, or both together, in pg_hba.conf
        ("28P01", NAMED, {}, False),
        ("42501", NAMED, {}, False),
        ("28P01", AS_USER, {}, True),
        ("42501", AS_USER, {}, True),
        ("22023", NAMED, {}, True),
        ("22023", NAMED, {"options": "-c work_mem=all"}, False),
        ("08P01", {}, {}, True),
        ("57P03", {}, {}, True),
        ("53300", {}, {}, True),
    ],
)
async def test_what_a_client_has_chosen_is_no_failure_to_connect(
    rig: Start, sqlstate: str, postgres: dict[str, Any], parameters: dict[str, str], counts: bool
) -> None:
    """Else one with a wrong name would have the backend taken for one that can't be reached."""
    r = await rig(pool=POOL, postgres=postgres)
    for user in (b"nobody", b"app"):
        r.server.greetings[user] = backend.error_response("FATAL", sqlstate, "no")
    client = await r.client()
    client.start("nobody", **parameters)
    await client.refused()
    assert bool(r.upstream.connect_errors) is counts
    assert sum(r.upstream.rejections.values()) == 1


async def test_a_user_of_the_file_is_the_documents(rig: Start, tmp_path: Path) -> None:
    """Whom it names, the server should know."""
    file = users(tmp_path, {"app": "secret"})
    r = await rig(pool=POOL, postgres={"auth": {"method": "scram-sha-256", "usersFile": file}, **NAMED})
    r.server.greetings[b"app"] = backend.error_response("FATAL", "28000", "no")
    client = await r.client()
    client.start("app")
    assert (await client.scram("secret"))[0] == b"E"
    assert r.upstream.connect_errors == {"login": 1}


async def test_each_who_is_refused_counts(rig: Start) -> None:
    """However many wait for one look at what the server says of itself."""
    r = await rig(pool={**POOL, "timeout": "400ms"})
    await r.server.__aexit__()
    clients = [await r.client() for _ in range(5)]
    for client in clients:
        client.start("somebody")
    await until(lambda: waiting(r) == 5)
    for client in clients:
        assert (await client.refused()).sqlstate == "57P03"
    assert r.upstream.rejections == {"connect_refused": 5}
    assert waiting(r) == 0


async def test_who_waits_between_two_attempts_waits(rig: Start) -> None:
    """And is none of those for whom the autoscaler would add connections."""
    r = await rig(pool={**POOL, "timeout": "400ms"})
    client = await r.session()
    await r.server.__aexit__()
    await until(lambda: not r.upstream.pool.total)
    task = asyncio.create_task(told(client))
    await until(lambda: r.upstream.connect_errors)
    state = r.worker.state()["upstreams"]["db"]
    assert (state["waiting"], state["waiting_besides"]) == (0, 1)
    assert 0 < state["waiting_besides_oldest"] < 1
    await task
    assert waiting(r) == 0


async def test_who_logs_in_waits_for_a_connection_of_a_full_pool(full: tuple[Rig, Client]) -> None:
    r, _ = full
    clients = [await r.client() for _ in range(3)]
    for client in clients:
        client.start("other")
    await until(lambda: waiting(r) == 3)
    state = r.worker.state()["upstreams"]["db"]
    assert (state["waiting"], state["waiting_besides"]) == (1, 2)
    r.proxy.pause("db")
    await until(lambda: r.upstream.gated)
    assert waiting(r) == 3


def waiting(r: Rig) -> int:
    """As the metric has it."""
    state = r.worker.state()["upstreams"]["db"]
    return int(state["waiting"] + state["gated"] + state["waiting_besides"])


async def test_every_endpoint_is_out(rig: Start) -> None:
    r = await rig(pool=POOL, healthCheck={"passive": {"consecutiveErrors": 1, "baseEjectionTime": "1h"}})
    client = await r.session()
    r.upstream.pool.endpoints[0].health.failed(monotonic(), "connect refused")
    severity, sqlstate, sentence = await told(client)
    assert (severity, sqlstate) == ("ERROR", "57P03")
    assert sentence == 'upstream "db" cannot be reached: every endpoint is out'


async def test_a_pause_that_lasts_too_long(rig: Start) -> None:
    r = await rig(pool=POOL, spec={"pauseTimeout": "50ms"})
    client = await r.session()
    r.worker.pause()
    severity, sqlstate, sentence = await told(client)
    assert (severity, sqlstate) == ("ERROR", "57P03")
    assert sentence.endswith("the pool is paused")
    r.worker.resume()
    assert (await client.ask("SELECT 1"))[0][0] == b"T"


async def test_a_drain(rig: Start) -> None:
    r = await rig(pool=POOL)
    client = await r.session()
    r.upstream.pool.set_grant(5, monotonic())  # without a budget a drain goes on opening for those who are there
    r.upstream.pool.drain(monotonic(), keep=0)
    r.upstream.act()
    await until(lambda: not r.upstream.pool.total)
    client.send(b"Q\0\0\0\rSELECT 1\0")
    error = await client.refused()
    assert (error.severity, error.sqlstate) == ("FATAL", "57P03")
    assert "this replica drains" in error.message
