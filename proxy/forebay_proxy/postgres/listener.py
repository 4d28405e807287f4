"""A listener with TLS: PostgreSQL's clients ask for it in a packet of their own, or begin a handshake at once (direct
TLS), and not a byte behind that packet may be read before the handshake. So it is peeked at on the bare socket, which
then becomes an ordinary connection (PostgreSQL docs 55.2.10, 55.2.11; CVE-2021-23222 is what else happens).
"""

import asyncio
import contextlib
import socket
import ssl

from forebay_core.pgwire import ProtocolError, backend, startup
from forebay_proxy.postgres.client import LOGIN_TIMEOUT, PgClient
from forebay_proxy.postgres.proxy import PgProxy
from forebay_proxy.proxied_listener import ProxiedListener

PACKET = len(startup.SSL_REQUEST)  # bytes; GSSENCRequest has as many
ANSWERS = {startup.SSL_REQUEST: b"S", startup.GSSENC_REQUEST: b"N"}
TLS_HANDSHAKE = b"\x16"
ALPN = "postgresql"


class PgListener(ProxiedListener):
    """Accepts, reads a balancer's header if there is one, agrees on encryption, and hands the connection on."""

    def __init__(self, sock: socket.socket, proxy: PgProxy, context: ssl.SSLContext | None, *, proxied: bool) -> None:
        self._proxied = proxied
        self._postgres = proxy
        super().__init__(sock, proxy, context)

    async def _greet(self, sock: socket.socket) -> None:
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT):
                peer = await self._header(sock) if self._proxied else None
                context, direct = (None, False) if self._context is None else await self._encryption(sock)
                make = self._direct if direct else self._postgres
                await self._loop.connect_accepted_socket(lambda: make(peer), sock, ssl=context)
        except ProtocolError as error:
            self._proxy.count_rejection("protocol")
            with contextlib.suppress(OSError):  # it has gone
                sock.send(backend.error_response("FATAL", error.sqlstate, error.detail))
                sock.recv(1 << 16)  # what is left unread would reset the connection, and the answer with it
            sock.close()

    def _direct(self, peer: str | None) -> PgClient:
        """A client that began a handshake at once has to say in it that it speaks PostgreSQL (ALPN): what some other
        protocol's client has been made to send is not looked at (docs 55.2.11)."""
        client = self._postgres(peer)
        client.alpn = ALPN
        return client

    async def _encryption(self, sock: socket.socket) -> tuple[ssl.SSLContext | None, bool]:
        """The context to go on with, and whether the handshake has begun by itself. Raises ProtocolError."""
        while True:
            seen = b""
            while len(seen) < PACKET:
                await self._readable(sock, len(seen))
                more = sock.recv(PACKET + 1, socket.MSG_PEEK)
                if len(more) == len(seen):
                    raise ConnectionResetError(0, "it has gone")
                seen = more
                if seen[:1] == TLS_HANDSHAKE:
                    return self._context, True
            answer = ANSWERS.get(seen[:PACKET])
            if answer is None:
                return None, False
            if len(seen) > PACKET:
                raise ProtocolError("bytes right behind a request for encryption, expected the answer to be waited for")
            sock.recv(PACKET)
            await self._loop.sock_sendall(sock, answer)
            if answer == b"S":
                return self._context, False
