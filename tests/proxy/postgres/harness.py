"""A worker in the test's own process and loop, between a client of bytes and a server of bytes, all on real sockets.

So a test says what is sent and reads what is answered, may look into the worker, and takes milliseconds.
"""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from tests.integration.postgres.scripted import ScriptedServer
from tests.support.forebay import postgres_pool

from forebay_core.pgwire import backend, frontend, startup
from forebay_core.pgwire.backend import ErrorFields
from forebay_core.pgwire.fields import read_message
from forebay_core.postgres.scram import ClientExchange
from forebay_core.spec.load import load
from forebay_core.spec.model import ProxyPool
from forebay_proxy.listeners import listening
from forebay_proxy.memory import Memory
from forebay_proxy.postgres.proxy import PgProxy
from forebay_proxy.upstream import Upstream
from forebay_proxy.worker import Worker

SHORT = 5.0  # seconds for an answer, on a loaded machine
LARGEST = 1 << 20  # bytes of a message


def spec_of(*ports: int, **fields: Any) -> ProxyPool:
    """A valid document, as `postgres_pool` makes it."""
    document = postgres_pool(*ports, **fields)
    document["spec"]["listen"].setdefault("port", 0)
    return load(yaml.safe_dump(document), form="local")


class Rig:
    """`async with Rig(tmp_path, postgres={...}) as rig`: `server` has the script, `proxy` and `upstream` can be looked
    into, `await rig.client()` connects."""

    def __init__(self, directory: Path, **fields: Any) -> None:
        """`fields` as of `postgres_pool`."""
        self._directory = directory
        self._fields = fields
        self._clients: list[Client] = []
        self.server = ScriptedServer()

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        pool = spec_of(self.server.port, **self._fields)
        self.worker = Worker(pool, Memory.at(self._directory / "memory"), "rig", b"secret")
        await self.worker.apply(pool)
        self._sock = listening("127.0.0.1", 0)
        self.port: int = self._sock.getsockname()[1]
        await self.worker.listen(self._sock)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.close()
        self.proxy.cut_all()
        await self.worker.close()
        self._sock.close()
        await self.server.__aexit__()

    async def apply(self, **fields: Any) -> None:
        """Another document."""
        await self.worker.apply(spec_of(self.server.port, **fields))

    @property
    def proxy(self) -> PgProxy:
        assert isinstance(self.worker.proxy, PgProxy)
        return self.worker.proxy

    @property
    def upstream(self) -> Upstream:
        return self.worker.upstreams["db"]

    async def client(self, **options: Any) -> "Client":
        """One that has said nothing yet; the options are asyncio.open_connection's."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, **options))
        self._clients.append(client)
        return client

    async def transaction(self) -> "Client":
        """A session in the middle of one."""
        self.server.answers[b"BEGIN"] = backend.command_complete("BEGIN") + backend.ready_for_query(b"T")
        client = await self.session()
        await client.ask("BEGIN")
        return client

    async def session(self, user: str = "somebody", **parameters: str) -> "Client":
        """One that has logged in without a password."""
        client = await self.client()
        client.start(user, **parameters)
        await client.until(b"Z")
        return client


class Client:
    """A client that says what it is told to say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def start(self, user: str, minor: int = 0, **parameters: str) -> None:
        """A start-up packet for the database `db`, if the parameters have no other."""
        self.send(startup.write_startup(minor, {"user": user, "database": "db", **parameters}))

    async def byte(self) -> bytes:
        """One byte, as answers a request for encryption."""
        async with asyncio.timeout(SHORT):
            return await self._reader.readexactly(1)

    async def tls(self, context: ssl.SSLContext) -> None:
        async with asyncio.timeout(SHORT):
            await self._writer.start_tls(context, server_hostname="localhost")

    async def message(self) -> tuple[bytes, bytes]:
        """The next message's type and body."""
        async with asyncio.timeout(SHORT):
            while (found := read_message(self._buffer, 0, LARGEST)) is None:
                data = await self._reader.read(1 << 16)
                if not data:
                    raise EOFError(f"closed after {self._buffer!r}")
                self._buffer += data
        kind, body, end = found
        self._buffer = self._buffer[end:]
        return kind, body

    async def until(self, kind: bytes) -> list[tuple[bytes, bytes]]:
        """Messages up to the first of this type."""
        found = [await self.message()]
        while found[-1][0] != kind:
            found.append(await self.message())
        return found

    async def authentication(self) -> tuple[int, bytes]:
        """What the next message, an Authentication, asks for."""
        kind, body = await self.message()
        assert kind == b"R", (kind, body)
        return backend.read_authentication(body)

    async def error(self) -> ErrorFields:
        """What the next message, an ErrorResponse, says."""
        kind, body = await self.message()
        assert kind == b"E", (kind, body)
        return backend.read_error(b"E\0\0\0\0" + body, 0, 5 + len(body))

    async def refused(self) -> ErrorFields:
        """The same, and nothing behind it."""
        error = await self.error()
        await self.ended()
        return error

    async def ended(self) -> None:
        """The proxy has closed, and had nothing more to say."""
        async with asyncio.timeout(SHORT):
            try:
                rest = await self._reader.read()
            except ConnectionResetError:
                rest = b""
        assert self._buffer + rest == b""

    async def scram(self, password: str) -> tuple[bytes, bytes]:
        """Answer a request for SCRAM-SHA-256; the message that ends it, of which AuthenticationOk is the good one."""
        code, data = await self.authentication()
        assert (code, backend.read_mechanisms(data)[-1]) == (backend.SASL, "SCRAM-SHA-256")
        exchange = ClientExchange(password, "nonce")
        self.send(frontend.sasl_initial(exchange.mechanism, exchange.first()))
        code, self.challenge = await self.authentication()
        assert code == backend.SASL_CONTINUE
        self.send(frontend.sasl_response(exchange.final(self.challenge)))
        kind, body = await self.message()
        if kind == b"R":
            exchange.check(backend.read_authentication(body)[1])
            kind, body = await self.message()
        return kind, body

    async def ask(self, query: str) -> list[tuple[bytes, bytes]]:
        """A simple query's answer."""
        self.send(frontend.query(query))
        return await self.until(b"Z")

    async def close(self) -> None:
        self._writer.transport.abort()
        await asyncio.sleep(0)


def users(directory: Path, secrets: Mapping[str, str]) -> str:
    """A users file's path."""
    file = directory / "users.txt"
    file.write_text("".join(f'"{name}" "{secret}"\n' for name, secret in secrets.items()))
    return str(file)
