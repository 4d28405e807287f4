"""A client's way in: `forebay_proxy.postgres.login`, byte by byte."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.pgwire_cases import message
from tests.integration.postgres.scripted import GREETING, REPORTED
from tests.proxy.postgres.harness import Rig, users
from tests.support.waiting import until

from forebay_core.pgwire import backend, frontend, startup
from forebay_core.postgres.md5 import md5_answer, md5_secret
from forebay_proxy.postgres import client as client_module

Start = Callable[..., Awaitable[Rig]]


@pytest.fixture
def scram(tmp_path: Path) -> dict[str, Any]:
    """Users with SCRAM, whom the server lets in."""
    return {"auth": {"usersFile": users(tmp_path, {"alice": "secret", "nologin": ""})}}


async def test_what_a_client_is_told(rig: Start) -> None:
    """The server's parameters, with its own settings in them, a key to cancel by, and that it may begin."""
    r = await rig()
    client = await r.client()
    client.start("alice", application_name="mine")
    told = await client.until(b"Z")
    assert told[0] == (b"R", b"\0\0\0\0")
    reported = dict(backend.read_parameter_status(body) for kind, body in told if kind == b"S")
    assert (reported["server_version"], reported["application_name"]) == ("17.0", "mine")
    assert [len(body) for kind, body in told if kind == b"K"] == [8]
    assert told[-1] == (b"Z", b"I")


async def test_the_server_is_asked_once(rig: Start) -> None:
    """However many begin at the same time; those that come later are told what it said then."""
    r = await rig()
    clients = [await r.client() for _ in range(10)]
    for client in clients:
        client.start("alice")
    await asyncio.gather(*(client.until(b"Z") for client in clients))
    await r.session("alice")
    assert len(r.server.startups) == 1


async def test_a_byte_at_a_time(rig: Start, scram: dict[str, Any]) -> None:
    r = await rig(postgres=scram)
    client = await r.client()
    for byte in startup.write_startup(0, {"user": "alice", "database": "db"}):
        client.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await client.scram("secret"))[0] == b"R"


async def test_what_comes_behind_a_login_is_not_lost(rig: Start) -> None:
    """libpq waits for its answers; others send their first query right behind."""
    r = await rig()
    client = await r.client()
    client.send(startup.write_startup(0, {"user": "alice"}) + frontend.query("SELECT 1"))
    await client.until(b"Z")
    assert (await client.until(b"Z"))[0][0] == b"T"


@pytest.mark.parametrize("packet", [startup.SSL_REQUEST, startup.GSSENC_REQUEST], ids=["tls", "gss"])
async def test_encryption_is_declined(rig: Start, packet: bytes) -> None:
    """The client goes on as it is."""
    client = await (await rig()).client()
    client.send(packet)
    assert await client.byte() == b"N"
    client.start("alice")
    await client.until(b"Z")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (startup.SSL_REQUEST + b"x", "bytes right behind"),
        (b"\x16\x03\x01", "a TLS handshake, and this pool has no TLS"),
        (b"\0\0\0\7", "length 7 at byte 0"),
        (b"\0\0\0\x08\0\2\0\0", "protocol 2.0 is not supported"),
        (startup.write_startup(0, {"database": "db"}), "no user"),
    ],
    ids=["behind", "handshake", "length", "version", "nobody"],
)
async def test_starts_that_are_refused(rig: Start, data: bytes, says: str) -> None:
    r = await rig()
    client = await r.client()
    client.send(data)
    error = await client.refused()
    assert (error.severity, says in error.message) == ("FATAL", True), error
    assert r.server.startups == []


@pytest.mark.parametrize(
    ("parameters", "sqlstate"),
    [({"replication": "database"}, "0A000"), ({"options": "-c"}, "22023"), ({"DateStyle": "\udcff"}, None)],
    ids=["replication", "options", "bytes"],
)
async def test_parameters(rig: Start, parameters: dict[str, str], sqlstate: str | None) -> None:
    client = await (await rig()).client()
    client.start("alice", **parameters)
    if sqlstate is None:
        await client.until(b"Z")
    else:
        assert (await client.refused()).sqlstate == sqlstate


@pytest.mark.parametrize(("minor", "agreed", "key"), [(0, None, 4), (2, None, 32), (9, 2, 32)])
async def test_protocol_versions(rig: Start, minor: int, agreed: int | None, key: int) -> None:
    """A newer one is brought down to what is spoken here; from 3.2 on the cancel key is a long one."""
    client = await (await rig()).client()
    client.start("alice", minor)
    told = dict(await client.until(b"Z"))
    assert (backend.read_negotiate_protocol_version(told[b"v"])[0] if b"v" in told else None) == agreed
    assert len(backend.read_backend_key_data(told[b"K"])[1]) == key


@pytest.mark.parametrize("minor", [0, 2])
async def test_options_of_the_protocol_that_nobody_knows_change_no_version(rig: Start, minor: int) -> None:
    """A client takes a version above the one that it asked for as an error."""
    client = await (await rig()).client()
    client.start("alice", minor, **{"_pq_.unknown": "1"})
    told = dict(await client.until(b"Z"))
    assert backend.read_negotiate_protocol_version(told[b"v"]) == (minor, ["_pq_.unknown"])


async def test_too_many_clients_are_told_so(rig: Start) -> None:
    """After their start-up packet, as before it they would not understand."""
    r = await rig(spec={"maxClientConnections": 1})
    await r.session()
    client = await r.client()
    client.start("alice")
    error = await client.refused()
    assert (error.sqlstate, "maxClientConnections is 1" in error.message) == ("53300", True)
    assert r.proxy.rejections == {"max_clients": 1}


async def test_a_client_that_says_nothing(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LOGIN_TIMEOUT", 0.05)
    r = await rig()
    assert (await (await r.client()).refused()).sqlstate == "57014"


# ---------------------------------------------------------------------- passwords


@pytest.mark.parametrize(("password", "kind"), [("secret", b"R"), ("wrong", b"E")])
async def test_scram(rig: Start, scram: dict[str, Any], password: str, kind: bytes) -> None:
    r = await rig(postgres=scram)
    client = await r.client()
    client.start("alice")
    assert (await client.scram(password))[0] == kind
    assert r.proxy.rejections == ({} if kind == b"R" else {"authentication": 1})
    assert len(r.server.startups) == (kind == b"R"), "nobody is let to the server before it has shown who it is"


async def test_who_there_is_cannot_be_found_out(rig: Start, scram: dict[str, Any]) -> None:
    """The same steps, the same iterations, a salt that stays, the same words."""
    r = await rig(postgres=scram)
    seen = {}
    for user in ("alice", "nobody", "nologin"):
        for _ in range(2):
            client = await r.client()
            client.start(user)
            kind, body = await client.scram("wrong")
            nonce, salt, iterations = client.challenge.split(b",")
            assert kind == b"E"
            assert seen.setdefault(user, salt) == salt
            assert iterations == b"i=4096"
            assert len(nonce) == len(b"r=nonce") + 24
            assert user.encode() in body
            assert b"28P01" in body
    assert len(set(seen.values())) == 3


@pytest.mark.parametrize(
    ("answer", "sqlstate"),
    [
        (frontend.sasl_initial("SCRAM-SHA-1", b"n,,n=,r=a"), "08P01"),
        (frontend.sasl_initial("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=a"), "08P01"),
        (frontend.sasl_initial("SCRAM-SHA-256", b"p=tls-server-end-point,,n=,r=a"), "08P01"),
        (frontend.sasl_initial("SCRAM-SHA-256", b"nonsense"), "08P01"),
        (message(b"p", b"SCRAM-SHA-256\0\xff\xff\xff\xff"), "08P01"),
        (message(b"p", b"SCRAM-SHA-256\0\0\0\0\x09n"), "08P01"),
        (message(b"p", b""), "08P01"),
        (frontend.query("SELECT 1"), "08P01"),
        (message(b"p", b"", 0x7FFFFFFF), "08P01"),
    ],
    ids=["mechanism", "plus", "binding", "nonsense", "empty", "short", "nothing", "query", "endless"],
)
async def test_bad_answers(rig: Start, scram: dict[str, Any], answer: bytes, sqlstate: str) -> None:
    r = await rig(postgres=scram)
    client = await r.client()
    client.start("alice")
    await client.authentication()
    client.send(answer)
    error = await client.refused()
    assert (error.severity, error.sqlstate) == ("FATAL", sqlstate)
    assert r.server.startups == []


@pytest.mark.parametrize(
    ("user", "password", "kind"), [("a", "x", b"R"), ("b", "y", b"R"), ("a", "y", b"E"), ("c", "", b"E")]
)
async def test_md5(rig: Start, tmp_path: Path, user: str, password: str, kind: bytes) -> None:
    file = users(tmp_path, {"a": "x", "b": md5_secret("b", "y")})
    r = await rig(postgres={"auth": {"method": "md5", "usersFile": file}})
    client = await r.client()
    client.start(user)
    code, salt = await client.authentication()
    assert (code, len(salt)) == (backend.MD5, 4)
    client.send(frontend.password(md5_answer(md5_secret(user, password), salt).decode()))
    assert (await client.message())[0] == kind


# ---------------------------------------------------------------------- the database


async def test_a_database_that_there_is_not(rig: Start) -> None:
    r = await rig(postgres={"databases": [{"name": "db"}]})
    client = await r.client()
    client.start("alice", database="other")
    assert (await client.refused()).sqlstate == "3D000"
    assert r.server.startups == []


async def test_the_servers_refusal_in_its_words(rig: Start) -> None:
    r = await rig()
    r.server.greetings[b"alice"] = backend.error_response("FATAL", "28000", "not you, alice")
    client = await r.client()
    client.start("alice")
    error = await client.refused()
    assert (error.severity, error.sqlstate, error.message) == ("FATAL", "28000", "not you, alice")


async def test_a_client_that_goes_while_it_waits(rig: Start) -> None:
    """The others are told; where there is none, nobody is waited for any more."""
    r = await rig()
    held = asyncio.Event()

    async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.write(GREETING)

    r.server.greetings[b"alice"] = greeting
    gone, stays = await r.client(), await r.client()
    for client in (gone, stays):
        client.start("alice")
    await until(lambda: len(r.proxy.clients) == 2 and r.server.startups)
    await gone.close()
    await until(lambda: len(r.proxy.clients) == 1)
    held.set()
    await stays.until(b"Z")
    r.server.greetings[b"bob"] = greeting
    held.clear()
    client = await r.client()
    client.start("bob")
    await until(lambda: r.upstream.pool.waiters)
    await client.close()
    await until(lambda: not r.upstream.pool.waiters)
    held.set()


async def test_the_console_is_for_those_who_are_named(rig: Start) -> None:
    r = await rig(postgres={"statsUsers": ["watcher"]})
    client = await r.client()
    client.start("alice", database="pgbouncer")
    assert (await client.refused()).sqlstate == "28000"
    client = await r.session("watcher", database="pgbouncer")
    assert (await client.ask("SHOW VERSION"))[0][0] == b"T"
    assert r.server.startups == []


async def test_the_start_of_a_server_is_waited_for(rig: Start) -> None:
    r = await rig()
    r.server.greetings[b"alice"] = backend.error_response("FATAL", "57P03", "the database system is starting up")
    client = await r.client()
    client.start("alice")
    await until(lambda: len(r.server.startups) > 1)
    r.server.greetings[b"alice"] = backend.AUTHENTICATION_OK + REPORTED + backend.ready_for_query(b"I")
    await client.until(b"Z")
