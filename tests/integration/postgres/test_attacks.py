"""Hostile clients and hostile servers, over real sockets and with both codecs: no crash, no hang, no byte to the server
that should not go there, nothing left behind, and the next client is served."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.pgwire_cases import HOSTILE_CLIENTS, HOSTILE_SERVERS, HOSTILE_STARTS, HUGE, SYNC, message, packet
from tests.integration.postgres.scripted import (
    GREETING,
    KEY,
    NOTICE,
    READY,
    REPORTED,
    ROW,
    Answer,
    ScriptedServer,
    for_ever,
    in_pieces,
    sasl,
    then_close,
    then_reset,
)
from tests.support.certs import CA
from tests.support.forebay import Forebay, postgres_pool

from forebay_core.pgwire import backend, frontend

Start = Callable[..., Awaitable[Forebay]]
LIMITS = {"queryTimeout": "600ms", "idleTransactionTimeout": "600ms", "clientIdleTimeout": "600ms"}
POOL = {"size": 100, "maxOverflow": 0, "timeout": "2s", "connectTimeout": "1s"}
HEALTH = {"passive": {"consecutiveErrors": 1000}}
WITHIN = 30.0  # seconds: well above all of these, on a slow machine too


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest.fixture(params=["compiled", "pure"])
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def started(forebay: Start, server: ScriptedServer, codec: str, **postgres: Any) -> Forebay:
    budget = {"maxConnections": 200, "linger": "500ms"}
    document = postgres_pool(server.port, pool=POOL, postgres=LIMITS | postgres, healthCheck=HEALTH, budget=budget)
    pool = await forebay(document, env={"FOREBAY_CODEC": codec})
    assert (await pool.state())["workers"][0]["codec"] == codec
    return pool


def startup(user: bytes, database: bytes = b"db", more: bytes = b"") -> bytes:
    return packet(0x30000, b"user\0" + user + b"\0database\0" + database + b"\0" + more + b"\0")


async def told(port: int, *sent: bytes, ended: bool = False) -> bytes:
    """Everything that a client hears until it is closed. What it sends comes in parts, each when the one before has
    been answered by ReadyForQuery; `ended`: it closes its side then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        async with asyncio.timeout(WITHIN):
            for place, data in enumerate(sent):
                while place and not said.endswith(READY):
                    more = await reader.read(65536)
                    if not more:
                        return said
                    said += more
                writer.write(data)
            if ended:
                writer.write_eof()
            return said + await reader.read()
    except ConnectionResetError:
        return said
    finally:
        writer.close()


async def own(port: int, number: int) -> None:
    """An ordinary client: it gets its own answer."""
    said = await told(port, startup(b"innocent"), frontend.query(f"own {number}"), message(b"X"))
    assert said.endswith(row(number) + READY), said


def row(number: int) -> bytes:
    described = backend.row_description([("n", 23)]) + backend.data_row([str(number)])
    return described + backend.command_complete("SELECT 1")


async def clean(pool: Forebay, server: ScriptedServer) -> None:
    """The next clients are served, nobody holds anything, and no connection is open that the pool doesn't know of."""
    for number in range(20):
        server.answers[b"own %d" % number] = row(number) + READY
    await asyncio.gather(*(own(pool.port, number) for number in range(20)))
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WITHIN
    while True:
        (worker,) = (await pool.state())["workers"]
        state = worker["upstreams"]["db"]
        counts = state["connections"]
        busy = counts["leased"] + counts["opening"] + counts["draining"] + counts["closing"]
        if not (busy or state["waiting"] or worker["clients"]) and server.open == counts["idle"]:
            return
        assert loop.time() < deadline, (
            f"{counts}, {state['waiting']} wait, {worker['clients']} clients, {server.open} open"
        )
        await asyncio.sleep(0.02)


# ---------------------------------------------------------------------- clients


UNFINISHED = (
    *(b"\0", b"\0\0\0", b"\0\0\0\x20", startup(b"u")[:-1], packet(80877103)[:5], b"\0\0\0\x10\4\xd2\x16"),
    *(packet(80877103), packet(80877104), packet(80877103) + b"", b""),
)


async def test_hostile_starts(forebay: Start, server: ScriptedServer, codec: str) -> None:
    """Each is refused; what is only half there is closed when the login takes too long, or the client goes."""
    pool = await started(forebay, server, codec)
    more = {
        "TLS where there is none": b"\x16\x03\x01\x00\x05hello",
        "a start behind SSLRequest": packet(80877103) + startup(b"u"),
        "a start behind GSSENCRequest": packet(80877104) + startup(b"u"),
        "two requests at once": packet(80877103) * 2,
        "a replication client": startup(b"u", more=b"replication\0true\0"),
        "options with a switch": startup(b"u", more=b"options\0-d 5\0"),
        "a parameter that is no name": startup(b"u", more=b"a b\0c\0"),
        "a fixed parameter": startup(b"u", more=b"server_version\x001\0"),
    }
    for case in HOSTILE_STARTS:
        said = await told(pool.port, case.data, ended=True)
        assert (case.sqlstate.encode() in said) != case.name.startswith("a CancelRequest") or b"FATAL" in said, case
    for name, data in more.items():
        assert b"FATAL" in await told(pool.port, data), name
    for data in UNFINISHED:
        assert await told(pool.port, data, ended=True) in (b"", b"N"), data
    assert not server.startups
    await clean(pool, server)


async def test_strange_letters(forebay: Start, server: ScriptedServer, codec: str) -> None:
    """Bytes that are no UTF-8 in a user, a database and a parameter go to the server as they are."""
    pool = await started(forebay, server, codec)
    said = await told(pool.port, startup(b"u\xff", b"d\xfe", b"application_name\0\xfd\0"), frontend.query("x"), b"")
    assert ROW in said
    assert any(b"u\xff\0" in each and b"d\xfe\0" in each for each in server.startups)
    await clean(pool, server)


@pytest.mark.parametrize("alpn", ["postgresql", "http/1.1", None])
async def test_direct_tls_for_another_protocol(
    forebay: Start, server: ScriptedServer, ca: CA, alpn: str | None
) -> None:
    """A handshake without a request for it has to name PostgreSQL, or nothing that is sent in it is looked at: not even
    where it has come together with the handshake's end."""
    pair = ca.server()
    listen = {"port": 0, "tls": {"certFile": str(pair.cert), "keyFile": str(pair.key)}}
    pool = await forebay(postgres_pool(server.port, pool=POOL, postgres=LIMITS, spec={"listen": listen}))
    context = ssl.create_default_context(cafile=str(ca.cert))
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    reader, writer = await asyncio.open_connection("127.0.0.1", pool.port)
    try:
        async with asyncio.timeout(WITHIN):
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    break
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
            tls.write(startup(b"u") + frontend.query("x") + message(b"X"))
            writer.write(outgoing.read())
            with contextlib.suppress(ConnectionResetError):
                while not server.startups and await reader.read(65536):
                    pass
    finally:
        writer.close()
    assert bool(server.startups) is (alpn == "postgresql")


async def test_bytes_before_tls(forebay: Start, server: ScriptedServer, ca: CA) -> None:
    """CVE-2021-23222: what comes with the request for TLS in clear text is not taken for what comes in TLS."""
    pair = ca.server()
    listen = {"port": 0, "tls": {"certFile": str(pair.cert), "keyFile": str(pair.key)}}
    pool = await forebay(postgres_pool(server.port, pool=POOL, postgres=LIMITS, spec={"listen": listen}))
    request = packet(80877103)
    for data in (request + startup(b"u"), request + request, packet(80877104) + startup(b"u"), request + b"\x16"):
        said = await told(pool.port, data)
        assert said.startswith(b"E"), data
        assert b"08P01" in said, data
    assert b"28000" in await told(pool.port, startup(b"u"))
    for case in HOSTILE_STARTS:
        await told(pool.port, case.data, ended=True)
    for data in UNFINISHED:
        assert await told(pool.port, data, ended=True) in (b"", b"N", b"S"), data
    assert not server.startups


async def test_silent_clients(forebay: Start, server: ScriptedServer, codec: str) -> None:
    """A flood of those who never end their start-up is closed in time, and others are served meanwhile."""
    pool = await started(forebay, server, codec)
    silent = [asyncio.create_task(told_late(pool.port, UNFINISHED[n % len(UNFINISHED)])) for n in range(200)]
    server.answers[b"own 1"] = row(1) + READY
    await own(pool.port, 1)
    said = await asyncio.gather(*silent)
    assert sum(b"57014" in each for each in said) == len(silent)
    await clean(pool, server)


async def told_late(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


def forbidden(heard: bytes) -> bytes:
    """What is left of what a server has heard without innocents' queries, SETs and resets of ours, and the ends."""
    rest = heard
    for number in range(20):
        rest = rest.replace(frontend.query(f"own {number}"), b"")
    return rest.replace(message(b"X"), b"")


async def test_hostile_messages(forebay: Start, server: ScriptedServer, codec: str) -> None:
    """After the login. None of it reaches the server; a good message in front of a bad one doesn't either."""
    pool = await started(forebay, server, codec)
    for case in HOSTILE_CLIENTS:
        said = await told(pool.port, startup(b"u"), case.data)
        assert b"FATAL" in said, case
        assert case.sqlstate.encode() in said, case
    await clean(pool, server)
    assert [forbidden(bytes(each)) for each in server.heard if forbidden(bytes(each))] == []


async def test_hostile_messages_in_a_transaction(forebay: Start, server: ScriptedServer, codec: str) -> None:
    """The same where a connection is held: of the bad message nothing reaches the server, and its transaction is not
    left open."""
    pool = await started(forebay, server, codec)
    in_transaction = backend.command_complete("BEGIN") + backend.ready_for_query(b"T")
    server.answers[b"BEGIN"] = in_transaction
    server.answers[b"ROLLBACK"] = backend.command_complete("ROLLBACK") + READY

    async def one(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", pool.port)
        try:
            async with asyncio.timeout(WITHIN):
                writer.write(startup(b"u") + frontend.query("BEGIN"))
                said = b""
                while not said.endswith(in_transaction):
                    said += await reader.read(65536)
                writer.write(data)
                return await reader.read()
        finally:
            writer.close()

    for case in HOSTILE_CLIENTS:
        assert b"FATAL" in await one(case.data), case
    await clean(pool, server)
    allowed = (frontend.query("BEGIN"), frontend.query("ROLLBACK"))
    for heard in server.heard:
        rest = forbidden(bytes(heard))
        for each in allowed:
            rest = rest.replace(each, b"")
        assert rest == b""


def long_name(length: int) -> bytes:
    return b"forebay_" + b"x" * (length - 8)


ODD = {
    "CopyData before anything": message(b"d", b"x"),
    "CopyDone before anything": message(b"c"),
    "CopyFail before anything": message(b"f", b"x\0"),
    "Flush only": message(b"H"),
    "Sync only": SYNC * 3,
    "an Execute of nothing": frontend.execute(),
    "a Bind without its Sync": frontend.bind(b"", b"s"),
    "Describe, then silence": frontend.describe_statement(b"s"),
    "Close, then silence": frontend.close_statement(b"s"),
    "a Query behind a Parse": frontend.parse(frontend.Statement(b"s", b"x", b"\0\0")) + frontend.query("x"),
    "half a Query": frontend.query("x" * 100)[:50],
    "half a long Query": frontend.query("x" * 400_000)[:300_000],
    "half a Parse of 1 GB": message(b"P", b"s\0" + b"x" * 300_000, 0x3FFFFFFE),
    "half a Bind of 1 GB": frontend.parse(frontend.Statement(b"s", b"x", b"\0\0"))
    + message(b"B", b"\0s\0" + b"x" * 300_000, 0x3FFFFFFE),
    "half a FunctionCall of 1 GB": message(b"F", b"\0" * 300_000, 0x3FFFFFFE),
    "half CopyData of 1 GB": message(b"d", b"\0" * 300_000, 0x3FFFFFFE),
    "a Bind that counts more than it has": message(b"B", b"\0s\0\xff\xff\xff\xff\xff\xff") + SYNC,
    "a FunctionCall": message(b"F", b"\0" * 14),
    "the longest name of ours": frontend.describe_statement(long_name(9994)) + SYNC,
    "the longest name": frontend.close_statement(b"x" * 9994) + SYNC,
    "ten thousand Syncs": SYNC * 10_000,
    "ten thousand Parses": b"".join(
        frontend.parse(frontend.Statement(b"s%d" % n, b"x", b"\0\0")) for n in range(10_001)
    ),
    "half a header": b"Q\0\0",
    "Terminate and more": message(b"X") + frontend.query("x"),
    "quotes without an end": frontend.query("SET a = '" + "'" * 99_999) + frontend.query("SET a = $$"),
    "white space": frontend.query("x" + "\n" * 250_000),
    "white space in a long one": frontend.query("x" + "\n" * 3_000_000),
    "calls in calls": frontend.query("SET a = set_config(" + "set_config(" * 20_000),
    "a session's setting": frontend.query("SET x = 'y'"),
}


async def test_odd_orders(forebay: Start, server: ScriptedServer, codec: str) -> None:
    """What is well-formed and makes no sense, or stops half-way: the client's limits of time end it."""
    pool = await started(forebay, server, codec)
    await asyncio.gather(*(told(pool.port, startup(b"odd"), data) for data in ODD.values()))
    await asyncio.gather(*(told(pool.port, startup(b"odd"), data, ended=True) for data in ODD.values()))
    await clean(pool, server)


async def test_hostile_passwords(forebay: Start, server: ScriptedServer, tmp_path: Path) -> None:
    """Answers to the authentication request that are none."""
    users = tmp_path / "users"
    users.write_text('"u" "secret"\n')
    good = frontend.sasl_initial("SCRAM-SHA-256", b"n,,n=,r=nonce")
    answers = {
        "md5": [message(b"p", b"\xff\xfe\0"), message(b"p", b"md5\0x\0"), message(b"p"), message(b"p", b"x" * 60_000)],
        "scram-sha-256": [
            message(b"p", b"\xff\0\0\0\0\4n,,\xff"), message(b"p", b"SCRAM-SHA-256\0\xff\xff\xff\xff"),
            message(b"p", b"SCRAM-SHA-256\0\x7f\xff\xff\xff"), message(b"p", b"SCRAM-SHA-256\0\x80\0\0\0"),
            frontend.sasl_initial("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=x"),
            frontend.sasl_initial("PLAIN", b"\0u\0secret"), frontend.sasl_initial("SCRAM-SHA-256", b""),
            frontend.sasl_initial("SCRAM-SHA-256", b",,,,,,,"),
            frontend.sasl_initial("SCRAM-SHA-256", b"n,,n=,r=" + b"r" * 3000),
            good + frontend.sasl_response(b""), good + frontend.sasl_response(b"c=biws,r=nonce,p=AAAA"),
            good + frontend.sasl_response(b"\xff"), good + good, good + frontend.query("x"), frontend.query("x"),
            message(b"p", b"", 3), message(b"p", b"", 0xFFFFFFFF), message(b"p", b"", HUGE),
        ],
    }  # fmt: skip
    for method, cases in answers.items():
        pool = await started(forebay, server, "compiled", auth={"method": method, "usersFile": str(users)})
        for data in cases:
            for user in (b"u", b"nobody", b"no\xff"):
                said = await told(pool.port, startup(user) + data)
                assert b"FATAL" in said, (method, data, said)
                assert b"28P01" in said or b"08P01" in said, (method, data, said)
        assert not pool.tracebacks()
    assert not server.startups


# ---------------------------------------------------------------------- servers


PART = backend.row_description([("n", 23)]) + backend.data_row(["1"])
WORDS = backend.error_response("FATAL", "57P01", "terminating connection due to administrator command")
KINDS = {
    "ReadyForQuery": READY, "a row": PART, "CommandComplete": backend.command_complete("SELECT 1"), "an error": WORDS,
    "a notice": NOTICE, "a parameter": backend.parameter_status("TimeZone", "x"), "CopyIn": message(b"G", b"\0\0\0"),
    "CopyOut": message(b"H", b"\0\0\0"), "CopyData": message(b"d", b"x" * 99),
    "a notification": message(b"A", b"\0\0\0\1c\0p\0"),
    "ParseComplete": backend.PARSE_COMPLETE, "an EmptyQueryResponse": backend.EMPTY_QUERY,
}  # fmt: skip
ANSWERS: dict[str, Answer] = {
    "silence": b"",
    "two ReadyForQuery": ROW + READY + READY,
    "a whole answer too many": ROW + READY + ROW + READY,
    "ReadyForQuery only": READY,
    "rows without an end": for_ever(PART),
    "notices without an end": for_ever(NOTICE),
    "parameters without an end": for_ever(backend.parameter_status("TimeZone", "x")),
    "CopyIn without being asked": message(b"G", b"\0\0\0"),
    "CopyOut without an end": message(b"H", b"\0\0\0"),
    "CopyBoth": message(b"W", b"\0\0\0"),
    "an authentication request": backend.authentication(backend.CLEARTEXT),
    "a parameter without its NUL": message(b"S", b"TimeZone\0x") + ROW + READY,
    "a parameter with too much": message(b"S", b"TimeZone\0x\0y\0") + ROW + READY,
    "an encoding that is none": backend.parameter_status("client_encoding", "\udcff'") + ROW + READY,
    "a status of chance": ROW + backend.ready_for_query(b"T"),
    "a failed transaction": ROW + backend.ready_for_query(b"E"),
    "an error that is no error": message(b"E", b"S") + READY,
    "an empty error": message(b"E") + READY,
    "an error without an end": message(b"E", b"SERROR\0C" + b"x" * 300_000, HUGE - 1),
    "a tag without its NUL": message(b"C", b"SELECT") + READY,
    "an empty tag": message(b"C") + READY,
    "key data": KEY + READY,
    "a row behind the end": ROW + READY + PART,
    "half a row behind the end": ROW + READY + PART[:-3],
    "half a long row behind the end": ROW + READY + message(b"D", b"x" * 10, 1000),
    "TLS": b"\x16\x03\x01\x00\x05hello",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "in pieces": in_pieces(NOTICE + ROW + READY),
    **{case.name: case.data for case in HOSTILE_SERVERS},
    **{f"{name}, then the end": then_close(data) for name, data in KINDS.items()},
    **{f"{name}, then a crash": then_reset(data) for name, data in KINDS.items()},
    **{f"a part of {name}, then the end": then_close(data[:-1]) for name, data in KINDS.items()},
    **{f"{name}, then silence": data for name, data in KINDS.items()},
    **{f"{name}, and a header": data + b"D\0" for name, data in KINDS.items()},
}


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
async def test_hostile_answers(forebay: Start, server: ScriptedServer, codec: str, extended: bool) -> None:
    """Each ends within the client's limits of time, and what the server has said too much reaches no other client."""
    pool = await started(forebay, server, codec)
    asked = frontend.query
    if extended:

        def asked(text: str) -> bytes:
            parsed = frontend.parse(frontend.Statement(b"s", text.encode(), b"\0\0"))
            return parsed + frontend.bind(b"", b"s") + frontend.execute() + SYNC

    async def one(name: str) -> None:
        await told(pool.port, startup(b"innocent"), asked(name))

    for name, answer in ANSWERS.items():
        server.answers[name.encode()] = answer
        server.parses[name.encode()] = answer
    await asyncio.gather(*(one(name) for name in ANSWERS))
    await clean(pool, server)


async def test_unasked_bytes(forebay: Start, server: ScriptedServer, codec: str) -> None:
    """What a server says while its connection is idle, but for notices and parameters, is the connection's end."""
    pool = await started(forebay, server, codec)
    said = {
        "a row": PART,
        "an answer": ROW + READY,
        "an error": WORDS,
        "half a row": PART[:-3],
        "CopyData": KINDS["CopyData"],
    }
    fine = {"a notice": NOTICE, "a parameter": backend.parameter_status("TimeZone", "x"), "nothing": b""}

    def later(data: bytes, gone: asyncio.Event, said_more: asyncio.Event) -> Answer:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(ROW + READY)
            await gone.wait()
            writer.write(data)
            said_more.set()

        return answer

    for name, data in (said | fine).items():
        gone, said_more = asyncio.Event(), asyncio.Event()  # the client; the server's second write
        server.answers[name.encode()] = later(data, gone, said_more)
        before = len(server.heard)
        await told(pool.port, startup(name.encode()), frontend.query(name), message(b"X"))
        gone.set()
        await asyncio.wait_for(said_more.wait(), WITHIN)
        await told(pool.port, startup(name.encode()), frontend.query("x"), message(b"X"))
        assert len(server.heard) - before == (1 if name in fine else 2), name
    await clean(pool, server)


PROOF = b"r=<theirs>more,s=c2FsdA==,i=4096"
LOGINS: dict[str, Answer] = {
    "silence": b"",
    "the end": then_close(b""),
    "a crash": then_reset(b""),
    "notices without an end": for_ever(NOTICE),
    "parameters without an end": for_ever(backend.parameter_status("TimeZone", "x")),
    "a request without an end": for_ever(backend.authentication(99)),
    "OK and silence": backend.AUTHENTICATION_OK,
    "OK and the end": then_close(backend.AUTHENTICATION_OK + REPORTED),
    "OK and an error": backend.AUTHENTICATION_OK + backend.error_response("FATAL", "53300", "sorry, too many clients"),
    "an error in the words of protocol 2": b"Esorry\0",
    "a long message": message(b"N", b"x" * 40_000),
    "a negative length": message(b"R", b"", 0xFFFFFFFF),
    "an authentication request of no code": message(b"R"),
    "an unknown one": backend.authentication(77),
    "a clear text password": backend.authentication(backend.CLEARTEXT),
    "md5, and ready": backend.authentication(backend.MD5) + READY,
    "SASL without a mechanism": backend.authentication_sasl(()),
    "SASL that is cut": message(b"R", b"\0\0\0\x0aSCRAM"),
    "another mechanism": backend.authentication_sasl(("PLAIN", "\udcff")),
    "the end of SASL first": backend.authentication(backend.SASL_FINAL, b"v=x"),
    "the middle of SASL first": backend.authentication(backend.SASL_CONTINUE, b"r=x"),
    "SASL, and its end": sasl(
        backend.authentication_sasl(("SCRAM-SHA-256",)), backend.authentication(backend.SASL_FINAL, b"v=AAAA")
    ),
    "a nonce that is not ours": sasl(
        backend.authentication_sasl(("SCRAM-SHA-256",)),
        backend.authentication(backend.SASL_CONTINUE, b"r=x,s=AAAA,i=4096"),
    ),
    "a billion iterations": sasl(
        backend.authentication_sasl(("SCRAM-SHA-256",)),
        backend.authentication(backend.SASL_CONTINUE, PROOF.replace(b"4096", b"999999999")),
    ),
    "no UTF-8": sasl(
        backend.authentication_sasl(("SCRAM-SHA-256",)), backend.authentication(backend.SASL_CONTINUE, b"\xff\xfe")
    ),
    "a wrong proof": sasl(
        backend.authentication_sasl(("SCRAM-SHA-256",)),
        backend.authentication(backend.SASL_CONTINUE, PROOF),
        backend.authentication(backend.SASL_FINAL, b"v=AAAA") + GREETING,
    ),
    "no proof": sasl(
        backend.authentication_sasl(("SCRAM-SHA-256",)), backend.authentication(backend.SASL_CONTINUE, PROOF), GREETING
    ),
    "SASL, and let in": sasl(backend.authentication_sasl(("SCRAM-SHA-256",)), GREETING),
    "ReadyForQuery without OK": READY,
    "a row": PART,
    "a key that is too short": backend.AUTHENTICATION_OK + message(b"K", b"\0\0\0\1ab") + READY,
    "a parameter without its NUL": backend.AUTHENTICATION_OK + message(b"S", b"abc") + READY,
    "TLS": b"\x16\x03\x01\x00\x05hello",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "another answer behind the login": GREETING + ROW + READY,
    "a row behind the login": GREETING + PART,
    "half a row behind the login": GREETING + PART[:-3],
}
LET_IN = {"a parameter behind the login": GREETING + REPORTED, "in pieces": in_pieces(GREETING)}


async def test_hostile_logins(forebay: Start, server: ScriptedServer, codec: str, tmp_path: Path) -> None:
    """A server that lets nobody in, or should not be let at us: the client hears of it within `pool.timeout`."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    cases = LOGINS | LET_IN
    databases = [
        {"name": f"db{n}", "database": "db", "user": f"user{n}", "passwordFile": str(secret)} for n in range(len(cases))
    ]
    pool = await started(forebay, server, codec, databases=[{"name": "db"}, *databases])

    async def one(number: int) -> bytes:
        return await told(pool.port, startup(b"u", b"db%d" % number), frontend.query("x"), message(b"X"))

    for number, greeting in enumerate(cases.values()):
        server.greetings[b"user%d" % number] = greeting
    said = await asyncio.gather(*(one(number) for number in range(len(cases))))
    for name, heard in zip(cases, said, strict=True):
        assert (b"FATAL" in heard and ROW not in heard) is (name in LOGINS), (name, heard)
    await clean(pool, server)
