"""Endpoints that come, go and come back, and a budget that holds for each of them."""

from collections.abc import Awaitable, Callable
from time import monotonic

from tests.proxy.postgres.harness import Client, Rig, eventually

from forebay_core.pgwire import backend, frontend

Start = Callable[..., Awaitable[Rig]]


async def transactions(r: Rig, count: int) -> list[Client]:
    """So many clients in the middle of one, with a grant for no more and a place beside them."""
    r.server.answers[b"BEGIN"] = backend.command_complete("BEGIN") + backend.ready_for_query(b"T")
    r.upstream.pool.set_grant(count + 1, monotonic(), per_endpoint=True)
    clients = [await r.session() for _ in range(count)]
    for client in clients:
        await client.ask("BEGIN")
    return clients


async def test_an_address_that_comes_back_has_what_is_leased_there(rig: Start) -> None:
    """A readiness probe that fails once takes a pod out of DNS; transactions go on all the same."""
    r = await rig(pool={"size": 9})
    first, _ = await transactions(r, 2)
    other = await r.session()
    address = ("127.0.0.1", r.server.port, 1, "127.0.0.1")
    r.upstream.set_endpoints([])
    r.upstream.set_endpoints([address])
    other.send(frontend.query("SELECT 1"))
    await eventually(lambda: r.upstream.pool.waiters)
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
    await eventually(lambda: r.upstream.pool.waiters)
    assert (r.server.open, r.upstream.held) == (2, 2)


async def test_another_weight_keeps_the_connections(rig: Start) -> None:
    r = await rig(pool={"size": 9})
    client = await r.session()
    await client.ask("SELECT 1")
    r.upstream.set_endpoints([("127.0.0.1", r.server.port, 5, "127.0.0.1")])
    await client.ask("SELECT 1")
    assert r.upstream.pool.opened_total == 1
    assert [endpoint.weight for endpoint in r.upstream.pool.endpoints] == [5]
