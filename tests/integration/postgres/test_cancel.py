"""Cancel requests reach their session's server connection: over TLS on both sides, through another pod, in a storm."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from tests.integration.postgres.scripted import READY, Listener, ScriptedServer
from tests.integration.postgres.server import Postgres
from tests.support.certs import CA
from tests.support.forebay import Forebay, postgres_pool
from tests.support.waiting import until

from forebay_core.pgwire import backend, frontend
from forebay_core.pgwire.fields import read_message
from forebay_core.pgwire.startup import SSL_REQUEST, CancelRequest, write_cancel, write_startup
from forebay_proxy.postgres.pods import MARK, MOST

Start = Callable[..., Awaitable[Forebay]]
SLEEP: Final = "SELECT pg_sleep(60)"
CANCELED: Final = "57014"
HEADER: Final = b"PROXY UNKNOWN\r\n"


async def dialled(
    host: str, port: int, first: bytes, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connected, with `first` sent, and over TLS with a context."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(first)
    if context is not None:
        writer.write(SSL_REQUEST)
        assert await reader.readexactly(1) == b"S"
        await writer.start_tls(context, server_hostname="localhost")
    return reader, writer


class Client:
    """As bare as it gets, so that its cancel key is at hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.key = CancelRequest(0, b"")

    @classmethod
    async def connect(
        cls, host: str, port: int, *, first: bytes = b"", context: ssl.SSLContext | None = None, minor: int = 0
    ) -> "Client":
        reader, writer = await dialled(host, port, first, context)
        self = cls(reader, writer)
        writer.write(write_startup(minor, {"user": "trusting", "database": "postgres"}))
        for kind, body in await self._until_ready():
            if kind == b"K":
                self.key = CancelRequest(*backend.read_backend_key_data(body))
        return self

    async def _until_ready(self) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        while not found or found[-1][0] != b"Z":
            head = await self._reader.readexactly(5)
            whole = head + await self._reader.readexactly(int.from_bytes(head[1:], "big") - 4)
            message = read_message(whole, 0, 1 << 20)
            assert message is not None
            found.append(message[:2])
        return found

    async def query(self, text: str) -> str | None:
        """The SQLSTATE, if it is an error."""
        self._writer.write(frontend.query(text))
        async with asyncio.timeout(30):
            messages = await self._until_ready()
        for kind, body in messages:
            if kind == b"E":
                whole = b"E" + (len(body) + 4).to_bytes(4, "big") + body
                return backend.read_error(whole, 0, len(whole)).sqlstate
        return None

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def client(host: str, port: int, **options: Any) -> AsyncIterator[Client]:
    made = await Client.connect(host, port, **options)
    try:
        yield made
    finally:
        await made.close()


async def cancel(
    host: str, port: int, key: CancelRequest, *, first: bytes = b"", context: ssl.SSLContext | None = None
) -> None:
    """Send a request, and wait until it has been taken."""
    reader, writer = await dialled(host, port, first, context)
    writer.write(write_cancel(key))
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def leased(*pods: Forebay) -> None:
    """Wait until a query is under way."""

    async def busy() -> bool:
        return any([(await pod.metrics()).get("forebay_upstream_connections", state="leased") for pod in pods])

    await until(busy)


async def dropped(pod: Forebay) -> float:
    return (await pod.metrics()).get("forebay_rejections_total", reason="cancel")


@pytest.fixture
def port() -> int:
    """The same is to be free on both pods' addresses."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.1.1", 0))
        two.bind(("127.0.1.2", one.getsockname()[1]))
        return int(one.getsockname()[1])


@pytest.fixture
def pods(forebay: Start, postgres: Postgres, port: int) -> Callable[..., Awaitable[tuple[Forebay, Forebay]]]:
    """Two pods with addresses of their own, and the headless Service that they are behind."""

    async def start(**listen: Any) -> tuple[Forebay, Forebay]:
        found = []
        for address in ("127.0.1.1", "127.0.1.2"):
            spec = {"listen": {"port": port, "address": address, **listen}}
            env = {"FOREBAY_POD_IP": address, "FOREBAY_PEERS": "127.0.1.1,127.0.1.2"}
            found.append(await forebay(postgres_pool(postgres.port, spec=spec), command="worker", env=env))
        return found[0], found[1]

    return start


@pytest.mark.parametrize("minor", [0, 2])
@pytest.mark.parametrize("proxied", [False, True])
async def test_a_request_reaches_the_pod_whose_session_it_is(pods: Any, port: int, proxied: bool, minor: int) -> None:
    one, two = await pods(proxyProtocol=proxied)
    first = HEADER if proxied else b""
    async with client("127.0.1.1", port, first=first, minor=minor) as asking:
        query = asyncio.create_task(asking.query(SLEEP))
        await leased(one)
        await cancel("127.0.1.2", port, asking.key, first=first)
        assert await query == CANCELED
        assert await asking.query("SELECT 1") is None
    assert (await dropped(one), await dropped(two)) == (0, 0)


async def test_what_has_been_passed_on_is_not_passed_on_again(pods: Any, port: int) -> None:
    one, two = await pods()
    async with client("127.0.1.1", port) as asking:
        query = asyncio.create_task(asking.query(SLEEP))
        await leased(one)
        await cancel("127.0.1.2", port, asking.key._replace(key=asking.key.key + MARK))
        assert await dropped(two) == 1
        assert not query.done()
        await cancel("127.0.1.1", port, asking.key._replace(key=asking.key.key + MARK))
        assert await query == CANCELED
        # Nobody's key, and that of a session that is over: the pod that it names has it not, and there it ends.
        await cancel("127.0.1.2", port, asking.key._replace(key=b"none"))

        async def counted() -> bool:
            return await dropped(one) == 1

        await until(counted)


async def test_a_storm_of_requests_for_another_pod(pods: Any, port: int) -> None:
    one, two = await pods()
    async with client("127.0.1.1", port) as asking, client("127.0.1.2", port) as bystander:
        query = asyncio.create_task(asking.query(SLEEP))
        await leased(one)
        gate = asyncio.Semaphore(4 * MOST)

        async def wrong(number: int) -> None:
            async with gate:
                await cancel("127.0.1.2", port, asking.key._replace(key=number.to_bytes(4, "big")))

        storm = asyncio.gather(*(wrong(number) for number in range(2000)))
        assert await bystander.query("SELECT 1") is None
        await storm

        async def all_counted() -> bool:
            return await dropped(one) + await dropped(two) == 2000

        await until(all_counted)
        assert not query.done()
        await cancel("127.0.1.2", port, asking.key)
        assert await query == CANCELED


async def test_a_storm_of_requests_for_one_session(forebay: Start, postgres: Postgres) -> None:
    """None of them hits the next one on its connection."""
    pool = await forebay(postgres_pool(postgres.port))
    async with client("127.0.0.1", pool.port) as asking:
        query = asyncio.create_task(asking.query(SLEEP))
        await leased(pool)
        await asyncio.gather(*(cancel("127.0.0.1", pool.port, asking.key) for _ in range(500)))
        assert await query == CANCELED
    async with client("127.0.0.1", pool.port) as another:
        for _ in range(20):
            assert await another.query("SELECT pg_sleep(0.01)") is None


@pytest.mark.parametrize("over_tls", [False, True])
async def test_what_is_asked_next_waits_until_the_request_is_over(forebay: Start, ca: CA, over_tls: bool) -> None:
    """A server may signal a backend twice for one request, and the second time find the next query."""

    async def cancelled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await until(lambda: server.cancels == 1)
        writer.write(backend.error_response("ERROR", CANCELED, "cancelled") + READY)

    async with ScriptedServer() as server:
        server.answers[b"long"] = cancelled
        server.cancel_ends.clear()
        if over_tls:
            pair = ca.server()
            server.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            server.tls.load_cert_chain(pair.cert, pair.key)
        upstream = {"tls": {"mode": "verify-full", "caFile": str(ca.cert)}} if over_tls else {}
        pool = await forebay(postgres_pool(server.port, **upstream))
        async with client("127.0.0.1", pool.port) as asking, client("127.0.0.1", pool.port) as bystander:
            query = asyncio.create_task(asking.query("long"))
            await until(lambda: any(b"long" in each for each in server.heard))
            await cancel("127.0.0.1", pool.port, asking.key)
            assert await query == CANCELED
            following = asyncio.create_task(asking.query("after"))
            for _ in range(3):
                assert await bystander.query("beside") is None
            assert not any(b"after" in each for each in server.heard)
            server.cancel_ends.set()
            assert await following is None


async def test_a_request_over_tls(forebay: Start, postgres: Postgres, tmp_path: Path) -> None:
    ca = CA(tmp_path)
    pair = ca.server()
    tls = {"certFile": str(pair.cert), "keyFile": str(pair.key)}
    pool = await forebay(postgres_pool(postgres.port, spec={"listen": {"port": 0, "tls": tls}}))
    context = ssl.create_default_context(cafile=str(ca.cert))
    async with client("127.0.0.1", pool.port, context=context) as asking:
        for over_tls in (context, None):
            query = asyncio.create_task(asking.query(SLEEP))
            await leased(pool)
            await cancel("127.0.0.1", pool.port, asking.key, context=over_tls)
            assert await query == CANCELED


class Wire(Listener):
    """What lies between the pool and a server: `heard` has what was sent to it on each connection."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._target = port
        self.heard: list[bytearray] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(heard := bytearray())
        with contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers |= {writer, to_server}
            await asyncio.gather(pass_on(reader, to_server, heard), pass_on(from_server, writer, bytearray()))


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            seen += data
            writer.write(data)
        writer.write_eof()


@pytest.fixture
def verifying(secured: Postgres, ca: CA, tmp_path: Path) -> Callable[[Wire], dict[str, Any]]:
    """The document of a pool that verifies its server, behind the wire."""
    password = tmp_path / "password"
    password.write_text("secret")
    databases = [{"name": "postgres", "user": "scram", "passwordFile": str(password)}]
    tls = {"mode": "verify-full", "caFile": str(ca.cert)}
    return lambda wire: postgres_pool(wire.port, tls=tls, postgres={"databases": databases})


async def test_a_request_goes_to_the_server_over_tls(forebay: Start, secured: Postgres, verifying: Any) -> None:
    """As the connection that it is for."""
    async with Wire(secured.port) as wire:
        pool = await forebay(verifying(wire))
        async with client("127.0.0.1", pool.port) as asking:
            query = asyncio.create_task(asking.query(SLEEP))
            await leased(pool)
            before = len(wire.heard)
            await cancel("127.0.0.1", pool.port, asking.key)
            assert await query == CANCELED
            assert await asking.query("SELECT 1") is None
        assert len(wire.heard) == before + 1
        for heard in wire.heard:
            assert heard.startswith(SSL_REQUEST + b"\x16\x03")  # a TLS handshake (RFC 8446 section 5.1)
    assert await dropped(pool) == 0


async def test_a_request_goes_to_no_server_that_shows_a_strangers_certificate(
    forebay: Start, secured: Postgres, verifying: Any, ca: CA, tmp_path: Path
) -> None:
    good = {name: (secured.data / name).read_bytes() for name in ("server.crt", "server.key")}
    pair = CA(tmp_path, "stranger").server("localhost", "127.0.0.1", stem="strange")

    def show(files: dict[str, bytes]) -> None:
        before = len(secured.lines)
        for name, content in files.items():
            secured.give(name, content)
        secured.send(signal.SIGHUP)
        secured.line("received SIGHUP", after=before)

    async with Wire(secured.port) as wire:
        pool = await forebay(verifying(wire))
        async with client("127.0.0.1", pool.port) as asking:
            query = asyncio.create_task(asking.query(SLEEP))
            await leased(pool)
            show({"server.crt": pair.cert.read_bytes(), "server.key": pair.key.read_bytes()})
            await cancel("127.0.0.1", pool.port, asking.key)

            async def counted() -> bool:
                return await dropped(pool) == 1

            await until(counted)
            assert not query.done()
            show(good)
            await cancel("127.0.0.1", pool.port, asking.key)
            assert await query == CANCELED


def sockets(pid: int) -> list[str]:
    """The names of a process's Unix sockets; abstract ones, which anybody can take, begin with @."""
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    lines = [line.split() for line in Path("/proc/net/unix").read_text("utf-8", "replace").splitlines()]
    return [line[7] for line in lines if len(line) > 7 and f"socket:[{line[6]}]" in links]


async def test_between_workers_of_a_supervisor(tmp_path: Path, postgres: Postgres) -> None:
    """Also once one was killed. No other user of the machine hears of it, or is in the way: there are no sockets but in
    the state directory."""
    document = postgres_pool(postgres.port, spec={"replicas": 2})
    async with Forebay(tmp_path, document, env={"XDG_RUNTIME_DIR": str(tmp_path)}) as pool:

        async def both() -> bool:
            return len([state for state in (await pool.state())["workers"] if state["ready"]]) == 2

        for _ in range(2):
            await until(both)
            async with client("127.0.0.1", pool.port) as session:
                for _ in range(4):  # each worker is likely to get one of these
                    asked = asyncio.ensure_future(session.query(SLEEP))
                    await leased(pool)
                    await cancel("127.0.0.1", pool.port, session.key)
                    assert await asyncio.wait_for(asked, 10) == CANCELED
            (directory,) = (tmp_path / "forebay").iterdir()
            assert directory.stat().st_mode & 0o077 == 0
            assert len(list(directory.glob("*.cancel"))) == 2
            assert len([name for pid in await pool.worker_pids() for name in sockets(pid)]) == 2
            assert not [name for pid in await pool.worker_pids() for name in sockets(pid) if name.startswith("@")]
            os.kill((await pool.worker_pids())[0], signal.SIGKILL)
