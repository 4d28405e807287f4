"""TLS on either side: the same HTTP as without, and clear refusals where it can't be."""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.http.backend import Backend, read_head
from tests.integration.http.harness import document, running, upstream_state, worker_rss
from tests.support.certs import CA, Pair
from tests.support.origin import Origin
from tests.support.origin_routes import content
from tests.support.raw import Connection, CutAnswer, chunked, fetch, request_bytes
from tests.support.waiting import until

UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "test/1"))


def listening(pair: Pair, ca: Path | None = None) -> dict[str, Any]:
    """spec.listen with TLS; `ca`: clients must show a certificate of it."""
    tls = {"certFile": str(pair.cert), "keyFile": str(pair.key)}
    return {"listen": {"port": 0, "tls": tls | ({"clientCAFile": str(ca)} if ca else {})}}


def trusting(ca: CA, *shown: Pair) -> ssl.SSLContext:
    """A client's context that trusts `ca` and shows a certificate."""
    context = ssl.create_default_context(cafile=str(ca.cert))
    for pair in shown:
        context.load_cert_chain(pair.cert, pair.key)
    return context


async def test_http_over_tls_on_both_sides(tmp_path: Path, ca: CA) -> None:
    server, backend = ca.server(stem="proxy"), ca.server(stem="backend")
    upstream = {"tls": {"mode": "verify-ca", "caFile": str(ca.cert)}}
    async with (
        Origin(tls=backend) as origin,
        running(tmp_path, document(origin.port, spec=listening(server), **upstream)) as forebay,
    ):
        tls = trusting(ca)
        async with await Connection.open(forebay.port, tls=tls) as client:
            for _ in range(2):
                seen = dict(json.loads((await client.ask(request_bytes("/headers"))).body)["headers"])
                assert seen["X-Forwarded-Proto"] == "https"
                assert "proto=https" in seen["Forwarded"]
            body = content(3_000_000)
            assert json.loads((await client.ask(request_bytes("/upload", "PUT", body=body))).body)["length"] == len(
                body
            )
            assert (await client.ask(request_bytes("/bytes/3000000"))).body == body
            assert (await client.ask(request_bytes("/chunked/100000?trailer=1"))).trailers
            assert (await client.ask(request_bytes("/until-close/100000"))).body == content(100_000)
            await client.send(b"".join(request_bytes(f"/bytes/{n}") for n in range(10)))
            for n in range(10):
                assert (await client.answer()).body == content(n)
            upload = request_bytes("/upload", "POST", [("Transfer-Encoding", "chunked")])
            answer = await client.ask(upload + chunked([content(100_000)], [("X-A", "b")]))
            assert json.loads(answer.body)["trailers"] == [["X-A", "b"]]
            assert (await client.ask(request_bytes("/", headers=[("Connection", "close")]))).closes
            assert await client.rest() == b""


async def test_early_answers_and_refusals_over_tls(tmp_path: Path, ca: CA) -> None:
    async with Origin() as origin, running(tmp_path, document(origin.port, spec=listening(ca.server()))) as forebay:
        tls = trusting(ca)
        async with await Connection.open(forebay.port, tls=tls) as client:
            head = request_bytes("/early/413", "POST", [("Content-Length", str(1 << 24))])
            answer = await client.ask(head + bytes(1 << 20))
            assert (answer.status, answer.get("connection")) == (413, "close")
        async with await Connection.open(forebay.port, tls=tls) as client:
            assert (await client.ask(b"BAD\r\n\r\n")).status == 400
            assert await client.rest() == b""
        async with await Connection.open(forebay.port, tls=tls) as client:
            with pytest.raises(CutAnswer):
                await client.ask(request_bytes("/cut"))


async def test_a_tunnel_over_tls(tmp_path: Path, ca: CA) -> None:
    """On both sides, on either: each end of it ends the whole, as TLS knows no half-close here."""
    upstream = {"tls": {"mode": "require"}}
    for down, up in ((True, True), (True, False), (False, True)):
        async with (
            Origin(tls=ca.server(stem="backend") if up else None) as origin,
            running(
                tmp_path / f"{down}{up}",
                document(
                    origin.port, spec=listening(ca.server(stem="proxy")) if down else {}, **(upstream if up else {})
                ),
            ) as forebay,
        ):
            async with await Connection.open(forebay.port, tls=trusting(ca) if down else None) as client:
                assert (await client.ask(request_bytes("/upgrade", headers=UPGRADE))).status == 101
                await client.send(content(300_000))
                assert await client.reader.readexactly(300_000) == content(300_000)
            await origin.until(lambda stats: stats["open"] == 0)
            await until(lambda: upstream_state(forebay), 5, wanted=lambda state: not state["held"])


@pytest.mark.slow
async def test_a_client_that_stops_reading_over_tls(tmp_path: Path, ca: CA) -> None:
    async with Origin() as origin, running(tmp_path, document(origin.port, spec=listening(ca.server()))) as forebay:
        tls = trusting(ca)
        async with await Connection.open(forebay.port, tls=tls) as client:
            await client.ask(request_bytes("/bytes/1000000"))
        before = await worker_rss(forebay)
        async with await Connection.open(forebay.port, tls=tls, receive_buffer=4096) as client:
            client.stop_reading()
            await client.send(request_bytes(f"/bytes/{100 << 20}"))
            await origin.until(lambda stats: stats["active"] == 1)
            await asyncio.sleep(0.5)  # in which it could take more
            assert await worker_rss(forebay) - before < 8 << 20
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len((await client.answer()).body) == 100 << 20


async def test_what_is_no_tls_gets_no_answer_and_breaks_nothing(tmp_path: Path, ca: CA) -> None:
    async with Origin() as origin, running(tmp_path, document(origin.port, spec=listening(ca.server()))) as forebay:
        async with await Connection.open(forebay.port) as client:
            await client.send(request_bytes())
            await client.rest()
        with pytest.raises(ssl.SSLCertVerificationError):
            await fetch(forebay.port, tls=ssl.create_default_context())
        assert (await fetch(forebay.port, tls=trusting(ca))).body == b"ok\n"


async def test_clients_must_show_a_certificate_where_an_authority_is_named(tmp_path: Path, ca: CA) -> None:
    others = CA(tmp_path, "others")
    pool = listening(ca.server(), ca.cert)
    async with Origin() as origin, running(tmp_path, document(origin.port, spec=pool)) as forebay:
        assert (await fetch(forebay.port, tls=trusting(ca, ca.client()))).body == b"ok\n"
        for shown in ((), (others.client("stranger"),)):
            with pytest.raises((ssl.SSLError, ConnectionError, CutAnswer)):
                await fetch(forebay.port, tls=trusting(ca, *shown))
        assert (await origin.stats())["requests"] == 1


@pytest.mark.parametrize(
    ("names", "tls", "sentence"),
    [
        (("localhost",), {"serverName": "localhost"}, ""),
        (("other.example",), {}, "certificate verify failed"),
        (("other.example",), {"mode": "verify-ca"}, ""),
        (("other.example",), {"mode": "require"}, ""),
    ],
)
async def test_an_upstreams_certificate_is_verified_as_told(
    tmp_path: Path, ca: CA, names: tuple[str, ...], tls: dict[str, str], sentence: str
) -> None:
    tls = {"caFile": str(ca.cert), **tls}
    if tls.get("mode") == "require":
        del tls["caFile"]
    async with (
        Origin(tls=ca.server(*names)) as origin,
        running(tmp_path, document(origin.port, tls=tls)) as forebay,
    ):
        answer = await fetch(forebay.port)
        assert answer.status == (502 if sentence else 200)
        if sentence:
            assert b"TLS with 127.0.0.1" in answer.body
            assert (await upstream_state(forebay))["connect_errors"] == {"tls": 1}
            assert (await origin.stats())["requests"] == 0


async def test_an_upstream_that_asks_for_a_certificate_is_shown_ours(tmp_path: Path, ca: CA) -> None:
    ours = ca.client("forebay")
    tls = {"mode": "verify-ca", "caFile": str(ca.cert)}
    shown = {"clientCertFile": str(ours.cert), "clientKeyFile": str(ours.key)}
    async with Origin(tls=ca.server(), client_ca=ca.cert) as origin:
        async with running(tmp_path / "with", document(origin.port, tls=tls | shown)) as forebay:
            assert (await fetch(forebay.port)).status == 200
        async with running(tmp_path / "without", document(origin.port, tls=tls)) as forebay:
            assert (await fetch(forebay.port)).status == 502


async def test_an_answer_until_close_needs_the_end_of_tls_to_be_whole(tmp_path: Path, ca: CA) -> None:
    """Without close_notify anybody on the way could have cut it (RFC 8446 section 6.1, RFC 9112 section 9.8)."""
    server = ca.server()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.cert, server.key)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Connection(reader, writer)
        await writer.start_tls(context)
        head = await read_head(peer)
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        if b"/cut" in head:
            writer.transport.get_extra_info("socket").shutdown(1)  # FIN, beside TLS
            await asyncio.sleep(0.2)

    async def script(peer: Connection) -> None:
        await speak(peer.reader, peer.writer)

    tls = {"mode": "require"}
    async with Backend(script) as backend, running(tmp_path, document(backend.port, tls=tls)) as forebay:
        assert (await fetch(forebay.port, "/whole")).body == b"hello"
        with pytest.raises(CutAnswer):
            await fetch(forebay.port, "/cut")


async def test_the_alpn_of_a_client_that_offers_h2_is_http_1_1(tmp_path: Path, ca: CA) -> None:
    async with Origin() as origin, running(tmp_path, document(origin.port, spec=listening(ca.server()))) as forebay:
        tls = trusting(ca)
        tls.set_alpn_protocols(["h2", "http/1.1"])
        async with await Connection.open(forebay.port, tls=tls) as client:
            assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            assert (await client.ask(request_bytes())).status == 200


def answers_and_ends(listener: socket.socket, pair: Pair, answer: bytes) -> None:
    """A backend of one connection: it answers, says goodbye, and closes its side at once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    raw, _ = listener.accept()
    with context.wrap_socket(raw, server_side=True) as connection, contextlib.suppress(OSError):
        connection.recv(1 << 16)
        connection.sendall(answer)
        connection.settimeout(0.01)
        with contextlib.suppress(TimeoutError):
            connection.unwrap()
        socket.socket.shutdown(connection, socket.SHUT_WR)
        connection.settimeout(10)
        connection.recv(1)


def read_slowly(port: int, request: bytes) -> bytes:
    """All that comes, by a client that is slower than its backend: what is to come waits in the proxy and before it."""
    found = bytearray()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(request)
        time.sleep(0.2)
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(1 << 16):
                found += data
                time.sleep(0.004)
    return bytes(found)


@pytest.mark.parametrize("way", ["answer", "tunnel"])
async def test_a_client_that_reads_slowly_gets_the_whole_of_what_a_backend_says_before_it_ends(
    tmp_path: Path, ca: CA, way: str
) -> None:
    body = content(6_000_000)
    if way == "answer":
        headers: tuple[tuple[str, str], ...] = (("Connection", "close"),)
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    else:
        headers = UPGRADE
        head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n\r\n"
    tls = {"mode": "verify-ca", "caFile": str(ca.cert)}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        backend = asyncio.create_task(asyncio.to_thread(answers_and_ends, listener, ca.server(), head + body))
        async with running(tmp_path, document(listener.getsockname()[1], tls=tls)) as forebay:
            found = await asyncio.to_thread(read_slowly, forebay.port, request_bytes("/", headers=headers))
        await backend
    assert found.endswith(body[-1000:]), (len(found), len(body))
    assert found.partition(b"\r\n\r\n")[2] == body
