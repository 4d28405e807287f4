"""The admin database's clients, and what they may make a worker keep."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.proxy.postgres.harness import Rig
from tests.support.waiting import until

from forebay_core.pgwire import frontend

Start = Callable[..., Awaitable[Rig]]
CHUNK = 200
ENOUGH = 1 << 18  # bytes: more than a transport keeps before it says that it is full, and an answer


async def test_nothing_more_is_answered_to_who_does_not_read(rig: Start) -> None:
    """Nor is more taken of it than a little; once it reads, all is answered."""
    r = await rig(postgres={"statsUsers": ["viewer"]})
    client = await r.session("viewer", database="pgbouncer")
    (known,) = r.proxy.clients
    asked = 0

    while not known.full:  # what the kernel takes comes first
        client.send(frontend.query("SHOW HELP") * CHUNK)
        asked += CHUNK
        await asyncio.sleep(0)
    client.send(frontend.query("SHOW HELP") * 5 * CHUNK)
    asked += 5 * CHUNK
    transport = known.transport
    await until(lambda: known.paused or transport.get_write_buffer_size() > ENOUGH)
    assert transport.get_write_buffer_size() <= ENOUGH
    for _ in range(asked):
        await client.until(b"Z")
    assert not known.paused
    client.send(frontend.query("SHOW VERSION"))
    assert b"PgBouncer" in (await client.until(b"Z"))[1][1]
