"""What follows a client, and what it is told: by a server that reports what the test says."""

from collections.abc import Awaitable, Callable

from tests.integration.postgres.scripted import KEY, READY, REPORTED
from tests.proxy.postgres.harness import Rig
from tests.support.waiting import until

from forebay_core.pgwire import backend

Start = Callable[..., Awaitable[Rig]]
ONE = {"size": 1, "maxOverflow": 0}


def greeting(**reported: str) -> bytes:
    """A login's end: what every scripted server reports, and this."""
    return backend.AUTHENTICATION_OK + REPORTED + told(**reported) + KEY + READY


def told(**values: str) -> bytes:
    return b"".join(backend.parameter_status(name, value) for name, value in values.items())


def does(tag: str, **reported: str) -> bytes:
    """The answer to a command after which the server reports something."""
    return told(**reported) + backend.command_complete(tag) + READY


async def reconnects(r: Rig) -> None:
    """From now on there are other connections."""
    r.worker.recycle()
    await until(lambda: not r.upstream.pool.total)


async def test_what_a_newer_server_reports_is_not_left_to_the_next_client(rig: Start) -> None:
    """Clients that are there since before a change of the server know no value for it: theirs is the server's."""
    r = await rig(pool=ONE)
    client, other = await r.session(), await r.session()
    await client.ask("SELECT 1")
    await reconnects(r)
    r.server.greetings[b"somebody"] = greeting(search_path='"$user", public')
    r.server.answers[b"SET search_path = theirs"] = does("SET", search_path="theirs")
    back = b"SELECT pg_catalog.set_config('search_path', '\"$user\", public', false)"
    r.server.answers[back] = does("SELECT 1", search_path='"$user", public')
    for _ in range(2):
        await other.ask("SET search_path = theirs")
        await client.ask("SELECT 1")
    await client.ask("SELECT 1")
    await other.ask("SELECT 1")
    assert r.server.heard[1].count(back) == 2
    assert r.server.heard[1].endswith(b"'theirs', false)\0Q\0\0\0\x0dSELECT 1\0"), "and the other one has its own"
