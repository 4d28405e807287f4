"""Connecting a socket to an address that needs no look-up.

The loop's own `sock_connect` looks up IP addresses too, in threads (uvloop: libuv's pool, which stays). A process that
has threads pays for it in every read and write: the kernel counts references to its descriptors, malloc locks.
"""

import asyncio
import os
import socket


async def connect(sock: socket.socket, address: str, port: int) -> None:
    """Connect a non-blocking socket to an IP address. Raises OSError."""
    try:
        sock.connect((address, port))
    except BlockingIOError:  # it is on its way
        loop = asyncio.get_running_loop()
        decided = asyncio.Event()
        loop.add_writer(sock.fileno(), decided.set)
        try:
            await decided.wait()
        finally:
            loop.remove_writer(sock.fileno())
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error)) from None
