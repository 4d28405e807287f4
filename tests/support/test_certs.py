"""Certificates verify as the certificates of a real CA would."""

import asyncio
import datetime
import ssl

import pytest
from tests.support.certs import CA, Pair
from tests.support.raw import Connection


async def handshake(ca: CA, pair: Pair, name: str) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(pair.cert, pair.key)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=server_side)
    async with server:
        port = server.sockets[0].getsockname()[1]
        context = ssl.create_default_context(cafile=str(ca.cert))
        async with await Connection.open(port, tls=context, server_name=name) as connection:
            assert await connection.rest() == b""


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_the_names_are_valid(ca: CA, name: str) -> None:
    await handshake(ca, ca.server(), name)


async def test_what_must_not_verify(ca: CA, tmp_path_factory: pytest.TempPathFactory) -> None:
    expired = ca.server(stem="expired", ends=datetime.timedelta(hours=-1))
    other = CA(tmp_path_factory.mktemp("other")).server()
    for pair, name in ((ca.server(), "elsewhere.example"), (expired, "localhost"), (other, "localhost")):
        with pytest.raises(ssl.SSLCertVerificationError):
            await handshake(ca, pair, name)


def test_a_rotation_replaces_the_files(ca: CA) -> None:
    first = ca.server()
    before = first.cert.read_bytes()
    assert ca.server() == first
    assert first.cert.read_bytes() != before
