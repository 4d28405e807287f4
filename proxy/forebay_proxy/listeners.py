"""The sockets that a worker accepts from, and the way in which it does (plain, TLS, PROXY protocol). Relistening opens
the new way before it closes the old one.
"""

import asyncio
import socket
import ssl

from forebay_proxy.http.proxy import HttpProxy
from forebay_proxy.postgres.listener import PgListener
from forebay_proxy.postgres.proxy import PgProxy
from forebay_proxy.proxied_listener import ProxiedListener
from forebay_proxy.tcp import TcpProxy
from forebay_proxy.tls import HANDSHAKE_TIMEOUT

Listener = asyncio.Server | ProxiedListener

BACKLOG = 4096  # connections that the kernel accepts ahead of us; nginx has 511, a reconnect herd is larger


class Listeners:
    """What is accepted goes to `proxy`. The sockets are others', and stay open."""

    def __init__(self, loop: asyncio.AbstractEventLoop, proxy: HttpProxy | TcpProxy | PgProxy) -> None:
        self.deaf = asyncio.Event()  # a drain has closed them
        self._loop = loop
        self._proxy = proxy
        self._listeners: dict[int, tuple[socket.socket, Listener]] = {}

    async def listen(self, sock: socket.socket, context: ssl.SSLContext | None, *, proxied: bool) -> None:
        """Accept from this listening socket. Raises OSError."""
        # What is accepted from it inherits this, see `ending`.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, isinstance(self._proxy, HttpProxy) and context is None)
        listener: Listener
        if isinstance(self._proxy, PgProxy) and (proxied or context is not None):
            listener = PgListener(sock.dup(), self._proxy, context, proxied=proxied)
        elif proxied:
            listener = ProxiedListener(sock.dup(), self._proxy, context)
        else:
            limit = None if context is None else HANDSHAKE_TIMEOUT
            listener = await self._loop.create_server(
                self._proxy, sock=sock.dup(), backlog=BACKLOG, ssl=context, ssl_handshake_timeout=limit
            )
        self._listeners[sock.fileno()] = (sock, listener)

    def ignore(self, sock: socket.socket) -> None:
        """Stop accepting from this socket; it stays open for others."""
        if sock.fileno() in self._listeners:
            self._listeners.pop(sock.fileno())[1].close()

    async def relisten(self, context: ssl.SSLContext | None, *, proxied: bool) -> None:
        """In another way, on the sockets that there are. Raises OSError."""
        for sock, listener in list(self._listeners.values()):
            await self.listen(sock, context, proxied=proxied)  # before the old one closes: there may be no descriptor
            listener.close()

    def close(self) -> None:
        """Accept from none any more."""
        for _, listener in self._listeners.values():
            listener.close()
        self._listeners.clear()


def listening(address: str, port: int, *, shared: bool = True) -> socket.socket:
    """A listening socket with SO_REUSEPORT, if it is to be `shared`: so each worker has a queue of its own. Raises
    OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
