"""Endpoints that come, go and come back, and a budget that holds for each of them."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from tests.integration.postgres.scripted import READY
from tests.proxy.postgres.harness import Client, Rig
from tests.support.waiting import until

from forebay_core.pgwire import backend, frontend
from forebay_core.pgwire.startup import SSL_REQUEST

Start = Callable[..., Awaitable[Rig]]


async def transactions(r: Rig, count: int) -> list[Client]:
    """So many clients in the middle of one, with a grant for no more and a place beside them."""
    r.upstream.pool.set_grant(count + 1, monotonic(), per_endpoint=True)
    return [await r.transaction() for _ in range(count)]


async def test_an_address_that_comes_back_has_what_is_leased_there(rig: Start) -> None:
    """A readiness probe that fails once takes a pod out of DNS; transactions go on all the same."""
    r = await rig(pool={"size": 9})
    first, _ = await transactions(r, 2)
    other = await r.session()
    address = ("127.0.0.1", r.server.port, 1, "127.0.0.1")
    r.upstream.set_endpoints([])
    r.upstream.set_endpoints([address])
    other.send(frontend.query("SELECT 1"))
    await until(lambda: r.upstream.pool.waiters)
    assert (r.server.open, r.upstream.held) == (2, 2)
    await first.ask("COMMIT")
    await other.until(b"Z")
    assert (r.server.open, r.upstream.pool.opened_total) == (2, 3), "the old one was closed before"


async def test_two_names_of_one_address_share_its_budget(rig: Start) -> None:
    r = await rig(pool={"size": 9})
    await transactions(r, 2)
    names = [("127.0.0.1", r.server.port, 1, "127.0.0.1"), ("localhost", r.server.port, 1, "127.0.0.1")]
    r.upstream.set_endpoints(names)
    other = await r.session()
    other.send(frontend.query("SELECT 1"))
    await until(lambda: r.upstream.pool.waiters)
    assert (r.server.open, r.upstream.held) == (2, 2)


async def test_another_weight_keeps_the_connections(rig: Start) -> None:
    r = await rig(pool={"size": 9})
    client = await r.session()
    await client.ask("SELECT 1")
    r.upstream.set_endpoints([("127.0.0.1", r.server.port, 5, "127.0.0.1")])
    await client.ask("SELECT 1")
    assert r.upstream.pool.opened_total == 1
    assert [endpoint.weight for endpoint in r.upstream.pool.endpoints] == [5]


async def test_a_server_that_closes_as_it_is_asked_for_tls(rig: Start) -> None:
    """It has not said that it has none: it is not there, as behind a balancer."""

    async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(SSL_REQUEST))
        writer.close()

    async with await asyncio.start_server(ends, "127.0.0.1", 0) as server:
        endpoint = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}
        r = await rig(tls={"mode": "require"}, endpoints=[endpoint], pool={"timeout": "300ms"})
        client = await r.client()
        client.start("somebody")
        assert (await client.refused()).sqlstate == "57P03"
        assert r.upstream.connect_errors.keys() == {"connect_failed"}
        (there,) = r.upstream.pool.endpoints
        assert there.health.errors


async def test_a_check_that_fails_once_leaves_the_role_and_the_connections(rig: Start) -> None:
    """And as many in a row as take the endpoint out take its role, too."""
    check = {"interval": "10ms", "timeout": "2s", "unhealthyThreshold": 3}
    r = await rig(postgres={"monitor": {"user": "watch"}}, healthCheck={"active": check})
    question = b"SELECT pg_catalog.pg_is_in_recovery()"
    primary = backend.row_description([("r", 16)]) + backend.data_row(["f"]) + backend.command_complete("SELECT 1")
    refused = backend.error_response("ERROR", "53200", "out of memory") + READY
    answers = iter((primary + READY, refused, refused, primary + READY))
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(next(answers, refused))

    r.server.answers[question] = answer
    (endpoint,) = r.upstream.pool.endpoints
    await until(lambda: endpoint.role)
    client = await r.session()
    await client.ask("SELECT 1")
    roles = {endpoint.role}

    def watched() -> bool:
        roles.add(endpoint.role)
        return asked >= 4

    await until(watched)
    assert roles == {"primary"}
    assert r.upstream.pool.closed_total["drain"] == 0
    await until(lambda: endpoint.role is None)
    assert not endpoint.health.healthy


async def test_a_full_server_keeps_its_role_though_it_lets_no_monitor_in(rig: Start) -> None:
    """It says nothing of what was to be asked; who is connected goes on."""
    check = {"interval": "10ms", "timeout": "2s", "unhealthyThreshold": 2}
    r = await rig(
        postgres={"monitor": {"user": "watch"}}, healthCheck={"active": check}, pool={"size": 1, "maxOverflow": 0}
    )
    primary = backend.row_description([("r", 16)]) + backend.data_row(["f"]) + backend.command_complete("SELECT 1")
    r.server.answers[b"SELECT pg_catalog.pg_is_in_recovery()"] = primary + READY
    (endpoint,) = r.upstream.pool.endpoints
    await until(lambda: endpoint.role)
    (client,) = await transactions(r, 1)
    full = backend.error_response("FATAL", "53300", "sorry, too many clients already")
    r.server.greetings[b"watch"] = full
    before = len(r.server.startups)
    await until(lambda: len(r.server.startups) > before + 4)
    assert (endpoint.role, endpoint.health.healthy) == ("primary", True)
    await client.ask("COMMIT")
