"""Clients that people use, as they come: curl, httpx, aiohttp's client and websockets."""

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import httpx
import pytest
import websockets
from tests.integration.http.backend import Backend
from tests.integration.http.harness import document, running, upstream_state
from tests.support.certs import CA
from tests.support.origin import Origin
from tests.support.origin_routes import content
from tests.support.process import need
from tests.support.raw import Connection
from tests.support.waiting import until

BODY = content(3_000_000)
DIGEST = hashlib.sha256(BODY).hexdigest()


async def curl(*arguments: str) -> bytes:
    """Run curl; its standard output."""
    process = await asyncio.create_subprocess_exec(
        need("curl"), "--silent", "--show-error", "--max-time", "20", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err
    return out


@pytest.mark.slow
async def test_curl(tmp_path: Path, ca: CA) -> None:
    server = ca.server()
    (tmp_path / "body").write_bytes(BODY)
    tls = {"listen": {"port": 0, "tls": {"certFile": str(server.cert), "keyFile": str(server.key)}}}
    async with Origin() as origin, running(tmp_path / "plain", document(origin.port)) as forebay:
        url = f"http://localhost:{forebay.port}"
        assert await curl(f"{url}/bytes/1000", f"{url}/chunked/1000") == content(1000) * 2
        seen = json.loads(await curl("--upload-file", str(tmp_path / "body"), f"{url}/upload"))  # Expect: 100-continue
        assert seen["sha256"] == DIGEST
        seen = json.loads(
            await curl("-H", "Transfer-Encoding: chunked", "--data", "@" + str(tmp_path / "body"), f"{url}/upload")
        )
        assert seen["length"] > 1000
        assert b"413" in await curl("-i", "-T", str(tmp_path / "body"), f"{url}/early/413")
        assert (await curl("--head", f"{url}/bytes/1000")).count(b"\r\n") > 3
        assert await curl("--http1.0", f"{url}/until-close/5000") == content(5000)
        assert b"103 Early Hints" in await curl("-i", f"{url}/1xx")
        assert await curl("--http2", f"{url}/bytes/10") == content(10)  # offers h2c, and gets HTTP/1.1
        assert await curl("--parallel", *[f"{url}/bytes/100"] * 20) == content(100) * 20
    async with Origin() as origin, running(tmp_path / "tls", document(origin.port, spec=tls)) as forebay:
        url = f"https://localhost:{forebay.port}"
        assert await curl("--cacert", str(ca.cert), f"{url}/bytes/100000", f"{url}/") == content(100_000) + b"ok\n"


async def test_httpx(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(BODY), 100_000):
            yield BODY[at : at + 100_000]

    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port)) as forebay,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{forebay.port}", trust_env=False) as client,
    ):
        for _ in range(3):
            assert (await client.get("/bytes/300000")).content == content(300_000)
            assert (await client.get("/chunked/300000?trailer=1")).content == content(300_000)
            assert (await client.post("/upload", content=BODY)).json()["sha256"] == DIGEST
            assert (await client.post("/upload", content=pieces())).json()["sha256"] == DIGEST
            assert (await client.head("/bytes/5")).headers["content-length"] == "5"
            assert (await client.post("/early/413", content=BODY)).status_code == 413
            assert (await client.get("/reset?after=-1")).status_code == 502
            assert (await client.get("/until-close/1000")).content == content(1000)
        with pytest.raises(httpx.TransportError):
            await client.get("/cut?after=100")
        answers = await asyncio.gather(*(client.get(f"/bytes/{n}") for n in range(50)))
        assert [len(answer.content) for answer in answers] == list(range(50))


async def test_aiohttp(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield BODY

    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port)) as forebay,
        aiohttp.ClientSession(f"http://127.0.0.1:{forebay.port}") as client,
    ):
        for _ in range(3):
            async with client.get("/chunked/300000") as answer:
                assert await answer.read() == content(300_000)
            async with client.post("/upload", data=pieces(), expect100=True) as answer:
                assert (await answer.json())["sha256"] == DIGEST
            async with client.get("/1xx?n=2") as answer:
                assert await answer.text() == "ok\n"
            async with client.get("/status/304") as answer:
                assert answer.status == 304
        with pytest.raises(aiohttp.ClientPayloadError):
            async with client.get("/cut?after=100") as answer:
                await answer.read()


@pytest.mark.parametrize("over_tls", [False, True])
async def test_websockets(tmp_path: Path, ca: CA, over_tls: bool) -> None:
    async def echo(connection: websockets.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    server = ca.server()
    tls = {"listen": {"port": 0, "tls": {"certFile": str(server.cert), "keyFile": str(server.key)}}}
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as backend:
        port = next(iter(backend.sockets)).getsockname()[1]
        async with running(tmp_path, document(port, spec=tls if over_tls else {})) as forebay:
            context = ssl.create_default_context(cafile=str(ca.cert)) if over_tls else None
            url = f"ws{'s' * over_tls}://localhost:{forebay.port}/"
            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(talk(url, context, number))
            await until(lambda: upstream_state(forebay), 5, wanted=lambda state: not state["held"])


async def talk(url: str, context: ssl.SSLContext | None, number: int) -> None:
    """A conversation over one WebSocket; the closing handshake included."""
    async with websockets.connect(url, ssl=context, proxy=None, max_size=None) as socket:
        for size in (0, 1, 125, 126, 70_000, 1_000_000):
            message = bytes([number]) * size
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
    assert socket.close_code == 1000


async def test_a_websocket_server_that_closes(tmp_path: Path) -> None:
    async def say_goodbye(connection: websockets.ServerConnection) -> None:
        await connection.send("hello")
        await connection.close(1001, "away")

    async with websockets.serve(say_goodbye, "127.0.0.1", 0) as backend:
        port = next(iter(backend.sockets)).getsockname()[1]
        async with running(tmp_path, document(port)) as forebay:
            for _ in range(3):
                async with websockets.connect(f"ws://127.0.0.1:{forebay.port}/", proxy=None) as socket:
                    assert [message async for message in socket] == ["hello"]
                    assert socket.close_code == 1001
            await until(lambda: upstream_state(forebay), 5, wanted=lambda state: not state["held"])


async def test_a_websocket_that_is_refused(tmp_path: Path) -> None:
    async def refuse(peer: Connection) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")

    async with Backend(refuse) as backend, running(tmp_path, document(backend.port)) as forebay:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websockets.connect(f"ws://127.0.0.1:{forebay.port}/", proxy=None):
                pass
        assert refused.value.response.status_code == 403
