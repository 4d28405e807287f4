"""Cancel requests that have come to another pod than their session's: passed on to the one whose session it is.

Which one that is the key tells: half of its process ID are the last two bytes of the pod's address, so that a request
goes to one pod (two, where addresses agree in these), and one that fits nobody's key mostly to none. The pods are those
behind the pool's headless Service. A request that has been passed on is marked by a byte behind its key, and not passed
on again. It goes in clear, as most clients' do: the key is good for nothing else, and ends with its session.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from time import monotonic
from typing import Final

from forebay_core.pgwire import startup
from forebay_proxy.dial import connect
from forebay_proxy.resolver import Address, ResolveError, Resolver
from forebay_proxy.tasks import Tasks

TAG_BITS: Final = 16
RANDOM_BITS: Final = 15  # with the tag 31: clients take a process ID for a signed number
MARK: Final = b"\1"
KEYS: Final = (4, 32)  # bytes of our keys, by the protocol's minor version
MOST: Final = 64  # requests under way; more are dropped, and counted: a storm here must not become one elsewhere
PATIENCE: Final = 2.0  # seconds for a pod to take a request
KNOWN_FOR: Final = 5.0  # seconds for which the Service's addresses are believed
UNKNOWN_HEADER: Final = b"PROXY UNKNOWN\r\n"  # where pods expect a balancer's header (PROXY protocol, section 2.1)


def tag(address: str) -> int:
    """What a pod's keys begin with."""
    return int.from_bytes(ipaddress.ip_address(address).packed[-2:], "big")


def unmarked(request: startup.CancelRequest) -> tuple[startup.CancelRequest, bool]:
    """The request without its mark, and whether it had one."""
    if len(request.key) - len(MARK) in KEYS and request.key.endswith(MARK):
        return request._replace(key=request.key[: -len(MARK)]), True
    return request, False


class Pods:
    """The way to the other pods of the pool."""

    def __init__(self, own: str, service: str, port: int, tasks: Tasks, dropped: Callable[[], None]) -> None:
        """`own`: this pod's address. `service`: the headless Service's name, or addresses with commas between them.
        `port`: where pods listen. `dropped` hears of each request that was passed on and has reached nobody."""
        self.tag = tag(own)
        self._own = own
        self._names = service.split(",")
        self._port = port
        self.proxied = False  # whether pods expect a balancer's header
        self._resolver = Resolver()
        self._tasks = tasks
        self._dropped = dropped
        self._under_way = 0
        self._found: set[Address] = set()
        self._found_at = -KNOWN_FOR
        self._looking = asyncio.Lock()

    def close(self) -> None:
        """What is under way ends with its tasks."""

    def tell(self, request: startup.CancelRequest) -> bool:
        """Pass a request on; False where too many are under way."""
        if self._under_way >= MOST:
            return False
        self._under_way += 1
        self._tasks.spawn(self._tell(request), "cancel request for another pod")
        return True

    async def _tell(self, request: startup.CancelRequest) -> None:
        told = False
        try:
            wanted = request.pid >> RANDOM_BITS
            pods = [pod for pod in await self._pods() if pod.ip != self._own and tag(pod.ip) == wanted]
            data = startup.write_cancel(request._replace(key=request.key + MARK))
            if self.proxied:
                data = UNKNOWN_HEADER + data
            for pod in pods[:2]:
                told |= await self._send(pod, data)
        finally:
            self._under_way -= 1
            if not told:
                self._dropped()

    async def _pods(self) -> set[Address]:
        async with self._looking:
            if monotonic() - self._found_at >= KNOWN_FOR:
                found = set[Address]()
                for name in self._names:
                    try:
                        found.update(await self._resolver.resolve(name, self._port))
                    except ResolveError:
                        found |= self._found  # as it was
                self._found, self._found_at = found, monotonic()
        return self._found

    async def _send(self, pod: Address, data: bytes) -> bool:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in pod.ip else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            try:
                async with asyncio.timeout(PATIENCE):
                    await connect(sock, *pod)
                    await loop.sock_sendall(sock, data)
                    while await loop.sock_recv(sock, 64):  # it closes when it has taken it
                        pass
            except (OSError, TimeoutError):
                return False
        return True
