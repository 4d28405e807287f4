"""The supervisor as the admin port's target."""

from typing import Any

from forebay_proxy.supervisor import Supervisor


class Local:
    """Local mode: commands go to all workers."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    @property
    def ready(self) -> bool:
        return self._supervisor.ready

    async def state(self) -> dict[str, Any]:
        return await self._supervisor.state()

    def push(self, life: str, sequence: int, grants: dict[str, int], deadline: float | None) -> dict[str, Any]:
        raise LookupError("in local mode the supervisor makes the grants")

    async def command(self, name: str) -> None:
        if name == "drain":
            self._supervisor.drain()
        elif name == "restart":
            self._supervisor.replace_all()
        else:
            self._supervisor.command(name)
