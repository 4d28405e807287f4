"""How a client and a listener with TLS agree on it: not a byte is read behind a request for encryption before it is."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.proxy.postgres.harness import Rig, users
from tests.support.certs import CA
from tests.support.waiting import until

from forebay_core.pgwire import backend, startup
from forebay_proxy.postgres import listener

Start = Callable[..., Awaitable[Rig]]


@pytest.fixture
def tls(ca: CA) -> dict[str, str]:
    pair = ca.server("localhost", "127.0.0.1")
    return {"certFile": str(pair.cert), "keyFile": str(pair.key)}


@pytest.fixture
async def secure(rig: Start, tls: dict[str, str]) -> Rig:
    return await rig(spec={"listen": {"tls": tls}})


@pytest.fixture
def context(ca: CA) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca.cert)


async def test_tls_when_asked_for(secure: Rig, context: ssl.SSLContext) -> None:
    client = await secure.client()
    client.send(startup.GSSENC_REQUEST)
    assert await client.byte() == b"N"
    client.send(startup.SSL_REQUEST)
    assert await client.byte() == b"S"
    await client.tls(context)
    client.start("alice")
    await client.until(b"Z")
    assert (await client.ask("SELECT 1"))[0][0] == b"T"


async def test_in_clear_text_nobody_is_let_in(secure: Rig) -> None:
    client = await secure.client()
    client.start("alice")
    assert (await client.refused()).sqlstate == "28000"
    assert secure.proxy.rejections == {"no_tls": 1}


async def test_bytes_behind_the_request(secure: Rig) -> None:
    """Somebody in between may have put them there (CVE-2021-23222)."""
    client = await secure.client()
    client.send(startup.SSL_REQUEST + b"x")
    assert (await client.refused()).sqlstate == "08P01"
    assert secure.proxy.rejections == {"protocol": 1}


@pytest.mark.parametrize(
    ("alpn", "let_in"), [(["postgresql"], True), (["h2", "postgresql"], True), (["h2"], False), ([], False)]
)
async def test_direct_tls(secure: Rig, context: ssl.SSLContext, alpn: list[str], let_in: bool) -> None:
    """Only with ALPN, as PostgreSQL asks for: else a browser could be made to speak to it."""
    if alpn:
        context.set_alpn_protocols(alpn)
    if not let_in:
        client = await secure.client(ssl=context, server_hostname="localhost")
        await client.ended()
        return
    client = await secure.client(ssl=context, server_hostname="localhost")
    client.start("alice")
    await client.until(b"Z")


async def test_clients_that_go_at_once(secure: Rig) -> None:
    for data in (b"", b"\0\0\0", startup.SSL_REQUEST, b"\x16\x03\x01\0\5junk!"):
        client = await secure.client()
        client.send(data)
        await asyncio.sleep(0)
        await client.close()
    await until(lambda: not secure.proxy.clients)
    await test_tls_when_asked_for(secure, unverified())


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_a_client_that_says_nothing(secure: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LOGIN_TIMEOUT", 0.05)
    for data in (b"", b"\0\0\0\x08", startup.SSL_REQUEST[:7]):
        client = await secure.client()
        client.send(data)
        await client.ended()


async def test_scram_over_tls_offers_its_binding(
    rig: Start, tls: dict[str, str], context: ssl.SSLContext, tmp_path: Path
) -> None:
    auth: dict[str, Any] = {"usersFile": users(tmp_path, {"alice": "secret"})}
    r = await rig(postgres={"auth": auth}, spec={"listen": {"tls": tls}})
    client = await r.client()
    client.send(startup.SSL_REQUEST)
    await client.byte()
    await client.tls(context)
    client.start("alice")
    code, data = await client.authentication()
    assert (code, backend.read_mechanisms(data)) == (backend.SASL, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])


@pytest.mark.parametrize("with_tls", [False, True])
async def test_behind_a_balancer(rig: Start, tls: dict[str, str], context: ssl.SSLContext, with_tls: bool) -> None:
    """Its header stands before everything, the request for encryption too."""
    r = await rig(spec={"listen": {"proxyProtocol": True, **({"tls": tls} if with_tls else {})}})
    client = await r.client()
    client.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 5432\r\n")
    if with_tls:
        client.send(startup.SSL_REQUEST)
        assert await client.byte() == b"S"
        await client.tls(context)
    client.start("alice")
    await client.until(b"Z")
    assert [known.peer for known in r.proxy.clients] == ["192.0.2.7"]
    bad = await r.client()
    bad.send(b"PROXY nonsense\r\n")
    await bad.ended()
    assert r.proxy.rejections == {"proxy_protocol": 1}
