"""TLS files, contexts and their replacement, with real handshakes."""

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from operator import not_
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.support.certs import CA, Pair
from tests.support.forebay import http_pool
from tests.support.waiting import until

from forebay_core.spec.load import parse
from forebay_proxy.memory import Memory
from forebay_proxy.tls import ClientTLS, ServerTLS, TLSFileError, alpn, not_after
from forebay_proxy.worker import Worker

DAY = datetime.timedelta(days=1)


@pytest.fixture
def ca(tmp_path: Path) -> CA:
    return CA(tmp_path)


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection, in memory. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    for _ in range(5):
        for end in (here, there):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    # In TLS 1.3 the client hears of the server's verdict on it, and gets tickets, only afterwards.
    there.write(b"x")
    assert here.read() == b"x"
    return there, here


def trusting(ca: CA, pair: Pair | None = None) -> ssl.SSLContext:
    return ClientTLS("verify-full", ca.cert, *((pair.cert, pair.key) if pair else ())).context


def serial(connection: ssl.SSLObject) -> int:
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def serial_of(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])  # with and without SNI
def test_a_handshake_both_ways(ca: CA, version: ssl.TLSVersion, name: str) -> None:
    pair = ca.server()
    client = ClientTLS("verify-full", ca.cert, alpn=alpn("http")).context
    client.minimum_version = client.maximum_version = version
    there, here = handshake(ServerTLS(pair.cert, pair.key, None, alpn("http")).context, client, name)
    assert there.version() == here.version() == version.name.replace("_", ".").replace("TLSv1.", "TLSv1.")
    assert here.selected_alpn_protocol() == "http/1.1"
    assert serial(here) == serial_of(pair)


def test_tls_1_1_is_refused(ca: CA) -> None:
    pair = ca.server()
    for context in (ServerTLS(pair.cert, pair.key).context, trusting(ca)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_new_certificate_serves_the_next_handshake_of_the_same_context(ca: CA, version: ssl.TLSVersion) -> None:
    old = ca.server(ends=DAY)
    server, client = ServerTLS(old.cert, old.key), trusting(ca)
    client.minimum_version = client.maximum_version = version
    context, old_serial, expiry = server.context, serial_of(old), server.not_after
    there, before = handshake(context, client, "localhost")
    assert not server.reload_if_changed()
    new = ca.server(ends=5 * DAY)
    assert server.reload_if_changed()
    assert not server.reload_if_changed()
    assert server.context is context
    assert serial(handshake(context, client, "localhost")[1]) == serial_of(new) != old_serial
    assert server.not_after - expiry == pytest.approx(4 * DAY.total_seconds(), abs=5)
    there.write(b"still alive")
    assert before.read() == b"still alive"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(ca: CA, version: ssl.TLSVersion) -> None:
    pair = ca.server()
    server, client = ServerTLS(pair.cert, pair.key), trusting(ca)
    client.minimum_version = client.maximum_version = version
    _, first = handshake(server.context, client, "localhost")
    assert not first.session_reused
    _, second = handshake(server.context, client, "localhost", first.session)
    assert second.session_reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificates_and_a_replaced_authority(tmp_path: Path, ca: CA, version: ssl.TLSVersion) -> None:
    pair = ca.server()
    old_ca, new_ca = CA(tmp_path / "old"), CA(tmp_path / "new")
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(old_ca.cert.read_bytes())
    server = ServerTLS(pair.cert, pair.key, trusted)

    def accepted(client: ssl.SSLContext) -> bool:
        client.minimum_version = client.maximum_version = version
        try:
            handshake(server.context, client, "localhost")
        except ssl.SSLError:
            return False
        return True

    old, new, none = (trusting(ca, old_ca.client()), trusting(ca, new_ca.client()), trusting(ca))
    assert [accepted(client) for client in (old, new, none)] == [True, False, False]
    trusted.write_bytes(new_ca.cert.read_bytes() + b"\n")
    assert server.reload_if_changed()
    assert [accepted(client) for client in (old, new, none)] == [False, True, False]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_not_resumed_whose_authority_has_been_replaced(
    tmp_path: Path, ca: CA, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who resumes shows no certificate. The listener is opened anew, on the same socket."""
    monkeypatch.setattr("forebay_proxy.worker.TLS_CHECK", 0.02)
    pair = ca.server()
    old_ca, new_ca = CA(tmp_path / "old"), CA(tmp_path / "new")
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(old_ca.cert.read_bytes())
    files = {"certFile": str(pair.cert), "keyFile": str(pair.key), "clientCAFile": str(trusted)}
    pool = parse(http_pool(1, spec={"listen": {"port": 0, "tls": files}}), form="local")
    worker = Worker(pool, Memory.at(tmp_path / "memory"), "test", b"")
    client = trusting(ca, old_ca.client())
    client.minimum_version = client.maximum_version = version

    def ask(session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        """The session of a connection that was answered; None: it was not."""
        try:
            with (
                socket.create_connection(address, 5) as there,
                client.wrap_socket(there, server_hostname="localhost", session=session) as connection,
            ):
                connection.sendall(b"GARBAGE\r\n\r\n")
                return connection.session if connection.recv(100).startswith(b"HTTP/1.1 400") else None
        except OSError:
            return None

    async def answered(session: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
        return await asyncio.to_thread(ask, session)

    with socket.create_server(("127.0.0.1", 0)) as sock:
        await worker.start()
        await worker.listen(sock)
        address = sock.getsockname()
        session = await answered()
        assert session is not None
        assert await answered(session)
        trusted.write_bytes(new_ca.cert.read_bytes() + b"\n")
        await until(answered, 5, wanted=not_)
        assert not await answered(session)
        await worker.drain(0, 0)
        before = worker.server_tls
        assert before is not None
        context = before.context
        trusted.write_bytes(old_ca.cert.read_bytes() + b"\n\n")
        await until(lambda: before.context is not context, 5)
        assert "tls files" in repr(worker.tasks), "a change in a drain ends nothing"
    assert not await answered()
    await worker.close()


def test_modes_verify_what_they_say(tmp_path: Path, ca: CA) -> None:
    pair = ca.server("orders")
    server = ServerTLS(pair.cert, pair.key).context
    other = CA(tmp_path / "other").cert

    def verdict(client: ClientTLS, host: str) -> bool:
        try:
            handshake(server, client.context, host)
        except ssl.SSLError:
            return False
        return True

    assert verdict(ClientTLS("verify-full", ca.cert), "orders")
    assert not verdict(ClientTLS("verify-full", ca.cert), "billing")
    assert not verdict(ClientTLS("verify-full", other), "orders")
    assert not verdict(ClientTLS("verify-full"), "orders")
    assert verdict(ClientTLS("verify-ca", ca.cert), "billing")
    assert not verdict(ClientTLS("verify-ca", other), "orders")
    assert verdict(ClientTLS("require", other), "billing")


def test_a_client_takes_new_files_too(tmp_path: Path, ca: CA) -> None:
    pair = ca.server()
    server = ServerTLS(pair.cert, pair.key).context
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(CA(tmp_path / "other").cert.read_bytes())
    client = ClientTLS("verify-full", trusted)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client.context, "localhost")
    trusted.write_bytes(ca.cert.read_bytes() + b"\n")
    assert client.reload_if_changed()
    handshake(server, client.context, "localhost")


def encrypted(pair: Pair) -> None:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


FAULTS: list[tuple[Callable[[Pair, CA], object], str]] = [
    (lambda pair, ca: pair.cert.unlink(), "certificate {cert}: there is no such file"),
    (lambda pair, ca: pair.key.unlink(), "private key {key}: there is no such file"),
    (lambda pair, ca: (pair.key.unlink(), pair.key.mkdir()), "private key {key} can't be read: Is a directory"),
    (
        lambda pair, ca: pair.cert.write_text("hello"),
        "certificate {cert}: expected PEM with -----BEGIN CERTIFICATE-----",
    ),
    (
        lambda pair, ca: pair.key.write_bytes(b"\xff\x00"),
        "private key {key}: expected PEM with -----BEGIN PRIVATE KEY-----",
    ),
    (lambda pair, ca: encrypted(pair), "private key {key} is encrypted: expected one without a passphrase"),
    (
        lambda pair, ca: pair.key.write_bytes(ca.server(stem="other").key.read_bytes()),
        "private key {key} does not belong to certificate {cert}",
    ),
    (
        lambda pair, ca: pair.cert.write_text(f"{ssl.PEM_HEADER}\nAAAA\n{ssl.PEM_FOOTER}\n"),
        "certificate {cert} with private key {key} is refused: ",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_a_bad_pair_is_refused_in_one_line_and_never_replaces_a_good_one(
    ca: CA, spoil: Callable[[Pair, CA], object], message: str
) -> None:
    pair = ca.server()
    running, good = ServerTLS(pair.cert, pair.key), serial_of(pair)
    spoil(pair, ca)
    expected = message.format(cert=pair.cert, key=pair.key)
    with pytest.raises(TLSFileError) as error:
        ServerTLS(pair.cert, pair.key)
    assert str(error.value).startswith(expected)
    assert "\n" not in str(error.value)
    assert not running.reload_if_changed()
    assert running.error.startswith(expected)
    assert serial(handshake(running.context, trusting(ca), "localhost")[1]) == good
    if pair.key.is_dir():
        pair.key.rmdir()
    repaired = ca.server()
    assert running.reload_if_changed()
    assert running.error == ""
    assert serial(handshake(running.context, trusting(ca), "localhost")[1]) == serial_of(repaired)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root may read every file, so it has to be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unreadable_file_is_named(ca: CA) -> None:
    pair = ca.server()
    pair.key.chmod(0)
    with nobody(), pytest.raises(TLSFileError, match="can't be read: Permission denied"):
        ServerTLS(pair.cert, pair.key)


@pytest.mark.parametrize(
    ("text", "message"), [("hello", "expected PEM"), (f"{ssl.PEM_HEADER}\n!!\n{ssl.PEM_FOOTER}", "is refused")]
)
def test_a_bad_authority_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ca.crt"
    path.write_text(text)
    with pytest.raises(TLSFileError, match=f"CA file {path}.*{message}"):
        ClientTLS("verify-full", path)
    assert ClientTLS("require", path), "nothing is verified, so nothing is read"


@pytest.mark.parametrize("years", [1, 24, 40])  # 2050 and later are written in another form
def test_expiry_is_read_from_the_certificate(ca: CA, years: int) -> None:
    pair = ca.server(ends=years * 365 * DAY)
    expected = x509.load_pem_x509_certificate(pair.cert.read_bytes()).not_valid_after_utc
    assert not_after(pair.cert.read_text(), pair.cert) == expected.timestamp()


def test_a_leading_comment_and_a_chain_behind_do_not_matter(ca: CA) -> None:
    pair = ca.server(ends=3 * DAY)
    expected = not_after(pair.cert.read_text(), pair.cert)
    assert not_after("subject=CN\n" + pair.cert.read_text() + ca.cert.read_text(), pair.cert) == expected


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 20, 60, 100])
def test_a_broken_certificate_is_no_crash(cut: int, ca: CA) -> None:
    pair = ca.server()
    der = ssl.PEM_cert_to_DER_cert(pair.cert.read_text())[:cut]
    with pytest.raises(TLSFileError, match="can't be read"):
        not_after(ssl.DER_cert_to_PEM_cert(der), pair.cert)
