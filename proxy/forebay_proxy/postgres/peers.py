"""Cancel requests that have come to another worker than their session's: the other workers of the same supervisor are
told, by datagrams to Unix sockets in the state directory, where no other user can listen, send or take a name. Whoever
can send one shows the session's key, as by TCP.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from forebay_core.pgwire import ProtocolError, startup

LONGEST: Final = 300  # bytes of a request: its key has at most 256


class Peers:
    """This worker's socket, and the way to the others'."""

    def __init__(self, deliver: Callable[[startup.CancelRequest], bool], path: Path) -> None:
        """`deliver` is called with requests that others have passed on. `path`: this worker's socket; the others' are
        beside it, with the same suffix. Raises OSError."""
        self._deliver = deliver
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            path.unlink(missing_ok=True)  # a predecessor's, which was killed
            with short(path.parent) as directory:
                self._socket.bind(f"{directory}/{path.name}")
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._receive)

    def tell(self, request: startup.CancelRequest) -> int:
        """Pass a request on to all others: how many there are."""
        told = 0
        data = startup.write_cancel(request)
        with contextlib.suppress(OSError), short(self._path.parent) as directory:
            for path in self._path.parent.glob(f"*{self._path.suffix}"):
                if path != self._path:
                    with contextlib.suppress(OSError):  # it has just ended, or has too many to read
                        self._socket.sendto(data, f"{directory}/{path.name}")
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
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """A short name of a directory, for now: a socket's path has at most 107 bytes (unix(7)), a directory's may more."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
