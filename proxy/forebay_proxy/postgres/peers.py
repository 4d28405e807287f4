"""Cancel requests that have come to another worker than their session's: the other workers of the same supervisor are
told, by datagrams to abstract Unix sockets. Whoever can send one shows the session's key, as by TCP.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from forebay_core.pgwire import ProtocolError, startup

LONGEST: Final = 300  # bytes of a request: its key has at most 256
LISTED: Final = Path("/proc/net/unix")


class Peers:
    """This worker's socket, and the way to the others'."""

    def __init__(self, deliver: Callable[[startup.CancelRequest], bool]) -> None:
        """`deliver` is called with requests that others have passed on."""
        self._deliver = deliver
        self._family = f"@forebay-cancel-{os.getppid()}-"
        self._name = f"{self._family}{os.getpid()}"
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(address(self._name))
        self._loop.add_reader(self._socket, self._receive)

    def tell(self, request: startup.CancelRequest) -> int:
        """Pass a request on to all others: how many there are."""
        told = 0
        data = startup.write_cancel(request)
        for line in LISTED.read_text("utf-8", "replace").splitlines():
            name = line.rpartition(" ")[2]
            if name.startswith(self._family) and name != self._name:
                with contextlib.suppress(OSError):  # it has just ended, or has too many to read
                    self._socket.sendto(data, address(name))
                    told += 1
        return told

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError, ProtocolError):
            found = startup.read_startup(self._socket.recv(LONGEST))
            if found is not None and isinstance(found[0], startup.CancelRequest):
                self._deliver(found[0])

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()


def address(name: str) -> bytes:
    """An abstract socket's, of its name in /proc/net/unix."""
    return b"\0" + name[1:].encode()
