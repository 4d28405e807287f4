"""A name server that a test plays, in place of a Resolver."""

import asyncio

from forebay_proxy.resolver import Address, ResolveError


class Names:
    """Each name has an answer once the test gives it one: addresses, or none for a failure."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._answers: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    def _answer(self, host: str) -> "asyncio.Future[tuple[str, ...]]":
        return self._answers.setdefault(host, asyncio.get_running_loop().create_future())

    def say(self, host: str, *ips: str) -> None:
        """From now on this is the answer."""
        if self._answer(host).done():
            del self._answers[host]
        self._answer(host).set_result(ips)

    async def resolve(self, host: str, port: int) -> tuple[Address, ...]:
        """As Resolver's."""
        self.asked.append(host)
        ips = await asyncio.shield(self._answer(host))
        if not ips:
            raise ResolveError(f"can't resolve {host}")
        return tuple(Address(ip, port) for ip in ips)
