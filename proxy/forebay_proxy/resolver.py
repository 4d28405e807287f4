"""Names to addresses, without ever blocking the loop.

``getaddrinfo`` blocks, and can't be cancelled while a name server is silent. So each look-up has a daemon
thread of its own: one that hangs delays neither another name nor the exit of the process (a thread pool would
do both). Their number is bounded, and where clients say the names, no client has all of them. A literal address
needs no thread.

Where a name has IPv4 addresses those are used, else its IPv6 ones: the two families of one dual-stack pod or
Service must not count as two endpoints.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any, NamedTuple

from forebay_proxy.files import reason

LOOKUPS = 32  # at most so many at once; more than the 16 upstreams of a document, should all their names hang
JITTER = 0.1  # of the interval: replicas started together don't ask together

log = logging.getLogger(__name__)


class ResolveError(Exception):
    """A name has no address now; the message is one sentence that names it and says why."""


class ResolveTimeout(ResolveError):
    """No name server has answered in time."""


class Address(NamedTuple):
    """Where to connect: ``ip`` is a literal IPv4 or IPv6 address."""

    ip: str
    port: int


class Resolver:
    """Looks up names for one event loop."""

    def __init__(
        self,
        time_limit: float = 5.0,
        getaddrinfo: Callable[..., list[Any]] = socket.getaddrinfo,
        lookups: int = LOOKUPS,
    ) -> None:
        """``time_limit`` in seconds, per look-up; ``lookups`` of them at once."""
        self._lookups = lookups
        self._time_limit = time_limit
        self._getaddrinfo = getaddrinfo
        self._running = 0  # threads, those whose caller has given up among them
        self._askers: Counter[str] = Counter()  # the same by client
        self._most_of_one = lookups * 3 // 4  # so that a client whose names hang leaves some for the others

    async def resolve(self, host: str, port: int, asker: str = "") -> tuple[Address, ...]:
        """The addresses of ``host`` in ascending order, at least one; ``asker`` is the client that wants them. Raises
        ResolveError.
        """
        if is_literal(host):
            return (Address(host, port),)
        if self._running >= self._lookups:
            raise ResolveError(f"can't resolve {host}: {self._lookups} look-ups are hanging already")
        if asker and self._askers[asker] >= self._most_of_one:
            raise ResolveError(f"can't resolve {host}: {self._most_of_one} look-ups of one client are hanging already")
        try:
            async with asyncio.timeout(self._time_limit):
                found = await self._lookup(host, port, asker)
        except TimeoutError:
            raise ResolveTimeout(f"can't resolve {host}: no answer within {self._time_limit:g} s") from None
        except OSError as error:
            raise ResolveError(f"can't resolve {host}: {reason(error)}") from None
        except UnicodeError:  # from the IDNA codec: a label is empty or longer than 63 bytes
            raise ResolveError(f"can't resolve {host}: this is not a valid host name") from None
        families = {family for family, *_ in found}
        wanted = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        addresses = {Address(sockaddr[0], port) for family, _, _, _, sockaddr in found if family == wanted}
        if not addresses:
            raise ResolveError(f"can't resolve {host}: it has no address")
        return tuple(sorted(addresses))

    def _lookup(self, host: str, port: int, asker: str) -> asyncio.Future[list[Any]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()

        def deliver(result: list[Any] | None, error: Exception | None) -> None:
            self._running -= 1
            self._askers[asker] -= 1
            if not self._askers[asker]:
                del self._askers[asker]
            if answer.done():  # the caller has given up
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result or [])

        def run() -> None:
            result, error = None, None
            try:
                result = self._getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as caught:
                error = caught
            try:
                loop.call_soon_threadsafe(deliver, result, error)
            except RuntimeError:  # the loop has closed meanwhile: nobody asks any more
                return

        try:
            threading.Thread(target=run, name=f"resolve {host}", daemon=True).start()
        except RuntimeError as error:  # no more threads
            raise ResolveError(f"can't resolve {host}: {error}") from None
        self._running += 1
        self._askers[asker] += 1
        return answer


class Watcher:
    """Looks a name up again and again, and tells when its addresses change.

    A failed look-up changes nothing: the last good answer stays, as a name server's outage is no backend's.
    """

    def __init__(
        self,
        resolver: Resolver,
        host: str,
        port: int,
        changed: Callable[[tuple[Address, ...]], None],
        rng: random.Random,
        addresses: tuple[Address, ...] = (),
        interval: float = 5.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``addresses`` are known already (``changed`` is not called for them); ``interval`` in seconds."""
        self.host = host
        self.port = port
        self.addresses = addresses
        self.error = ""  # of the last look-up; empty: it worked
        self._resolver = resolver
        self._changed = changed
        self._rng = rng
        self._interval = interval
        self._sleep = sleep

    def __repr__(self) -> str:
        known = ", ".join(address.ip for address in self.addresses) or "none"
        return f"<Watcher {self.host}: {known}{self.error and f' ({self.error})'}>"

    async def refresh(self) -> None:
        """Look up once; calls ``changed`` if the answer is another than before."""
        try:
            addresses = await self._resolver.resolve(self.host, self.port)
        except ResolveError as error:
            if not self.error:  # say it once, not every interval
                last = "its last addresses stay in use" if self.addresses else "there is no address to connect to yet"
                log.warning("%s; %s", error, last)
            self.error = str(error)
            return
        if self.error:
            log.info("%s resolves again", self.host)
            self.error = ""
        if addresses != self.addresses:
            self.addresses = addresses
            self._changed(addresses)

    async def run(self) -> None:
        """Refresh at each interval, until cancelled. Returns at once for a literal address."""
        while not is_literal(self.host):
            await self._sleep(self._interval * self._rng.uniform(1 - JITTER, 1 + JITTER))
            await self.refresh()


def is_literal(host: str) -> bool:
    """Is it an IP address rather than a name?"""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
