"""A listener behind a load balancer that speaks the PROXY protocol (`listen.proxyProtocol`).

The header comes before TLS and must not be read one byte too far, so it is peeked at on the bare socket, which then
becomes an ordinary connection.
"""

import asyncio
import logging
import socket
import ssl
from typing import Protocol

from forebay_core.proxy_protocol import LONGEST, HeaderError, parse
from forebay_proxy.files import reason
from forebay_proxy.tasks import Tasks
from forebay_proxy.tls import HANDSHAKE_TIMEOUT

HEADER_TIMEOUT = 3.0  # seconds; the balancer sends it with its first packet
AT_ONCE = 1024  # connections whose first words, TLS among them, are awaited; for one more the oldest has to go
ACCEPT_AGAIN = 0.1  # seconds to wait when there are no descriptors

log = logging.getLogger(__name__)


class Proxied(Protocol):
    """A worker's protocol factory that is told who the client is."""

    def __call__(self, peer: str | None = None) -> asyncio.Protocol: ...

    def count_rejection(self, reason: str) -> None: ...


class ProxiedListener:
    """Accepts, reads the header, and hands the connection to the proxy."""

    def __init__(self, sock: socket.socket, proxy: Proxied, context: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._proxy = proxy
        self._context = context
        self._tasks = Tasks("proxied listener")
        self._silent: dict[asyncio.Task[None], None] = {}  # those who have not said all yet; the oldest first
        self._accepting = self._tasks.spawn(self._accept(), "accept")

    def close(self) -> None:
        """Stop accepting; connections whose header is being read go on."""
        self._accepting.cancel()
        self._sock.close()

    async def _accept(self) -> None:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(self._sock)
            except OSError as error:  # out of descriptors
                log.warning("can't accept a client: %s", reason(error))
                await asyncio.sleep(ACCEPT_AGAIN)
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self._silent) >= AT_ONCE:
                oldest = next(iter(self._silent))
                self._heard(oldest)
                if oldest.cancel():
                    self._proxy.count_rejection("silent")
            task = self._tasks.spawn(self._begin(sock), "header")
            self._silent[task] = None
            task.add_done_callback(self._heard)

    def _heard(self, task: "asyncio.Task[None]") -> None:
        self._silent.pop(task, None)

    async def _begin(self, sock: socket.socket) -> None:
        try:
            await self._greet(sock)
        except HeaderError:
            self._proxy.count_rejection("proxy_protocol")
            sock.close()
        except (OSError, TimeoutError):  # it has gone, says nothing, or fails its TLS handshake
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise

    async def _greet(self, sock: socket.socket) -> None:
        """Read what comes before the connection proper, and hand that on."""
        async with asyncio.timeout(HEADER_TIMEOUT):
            peer = await self._header(sock)
        limit = None if self._context is None else HANDSHAKE_TIMEOUT
        await self._loop.connect_accepted_socket(
            lambda: self._proxy(peer), sock, ssl=self._context, ssl_handshake_timeout=limit
        )

    async def _header(self, sock: socket.socket) -> str | None:
        seen = 0
        while True:
            await self._readable(sock, seen)
            data = sock.recv(LONGEST, socket.MSG_PEEK)
            if len(data) == seen:
                raise HeaderError("the connection ended within its PROXY protocol header")
            header = parse(data)
            if header is not None:
                sock.recv(header.length)
                return header.client
            seen = len(data)

    async def _readable(self, sock: socket.socket, more_than: int) -> None:
        """Wait for bytes beyond those that were peeked at: SO_RCVLOWAT keeps the poll from returning for these."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, more_than + 1)
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(sock, settle, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def settle(future: asyncio.Future[None]) -> None:
    """Set the result, unless that has been done already."""
    if not future.done():
        future.set_result(None)
