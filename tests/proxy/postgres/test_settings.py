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


async def welcome(r: Rig) -> dict[str, str]:
    """What a client is told that logs in now."""
    client = await r.client()
    client.start("somebody")
    return dict(backend.read_parameter_status(body) for kind, body in await client.until(b"Z") if kind == b"S")


async def test_who_logs_in_after_a_promotion_hears_of_it(rig: Start) -> None:
    """From when a connection has: a server says so with the answer to the next statement."""
    r = await rig(pool=ONE)
    r.server.greetings[b"somebody"] = greeting(in_hot_standby="on")
    client = await r.session()
    assert (await welcome(r))["in_hot_standby"] == "on"
    r.server.answers[b"SELECT 1"] = does("SELECT 0", in_hot_standby="off")
    await client.ask("SELECT 1")
    assert (await welcome(r))["in_hot_standby"] == "off"


async def test_a_login_that_fails_promotes_nobody(rig: Start) -> None:
    r = await rig(pool={"size": 2, "maxOverflow": 0})
    r.server.greetings[b"somebody"] = greeting(in_hot_standby="on")
    await r.transaction()
    r.server.greetings[b"somebody"] = (
        backend.AUTHENTICATION_OK + told(in_hot_standby="off") + backend.error_response("FATAL", "57P01", "no")
    )
    client = await r.session()
    await client.ask("SELECT 1")
    assert (await welcome(r))["in_hot_standby"] == "on"


async def test_who_logs_in_after_a_reconnect_has_the_servers_new_settings(rig: Start) -> None:
    """A reload has changed them; that a server reports them can't be told from a change that a client has made."""
    r = await rig(pool=ONE)
    r.server.greetings[b"somebody"] = greeting(default_transaction_read_only="off")
    await (await r.session()).ask("SELECT 1")
    r.server.greetings[b"somebody"] = greeting(default_transaction_read_only="on")
    await reconnects(r)
    assert (await welcome(r))["default_transaction_read_only"] == "on"
    await (await r.session()).ask("SELECT 1")
    assert b"SET " not in r.server.heard[1]
