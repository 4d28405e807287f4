"""Carries scenarios out. A run yields figures: per target, per figure, one value for each round."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.certs import CA, Pair
from tests.support.raw import unverified

from bench.kernel import cpu_seconds, resident_bytes
from bench.peers import Backend, Place, Running, Unavailable, program
from bench.scenarios import Cpu, Idle, Memory

SETTLE = 1.0  # seconds until closed connections and freed memory are gone


@dataclass
class Figures:
    """`values[target][figure]` is a list of a value per round; `missing[target]` says why there is none."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, target: str, **figures: float) -> None:
        for name, value in figures.items():
            self.values.setdefault(target, {}).setdefault(name, []).append(value)


@asynccontextmanager
async def launched(
    scenario: Cpu | Memory, chosen: Collection[str], directory: Path, port: int, tls: Pair | None, figures: Figures
) -> AsyncIterator[dict[str, Running]]:
    """Start all chosen targets; those that can't be started are noted in `figures.missing`."""
    running: dict[str, Running] = {}
    try:
        for name in chosen:
            try:
                running[name] = await scenario.targets[name](Place(directory / name, port, tls))
            except Unavailable as error:
                figures.missing[name] = str(error)
            else:
                figures.about[name] = dict(running[name].about)
        yield running
    finally:
        for one in running.values():
            await one.close()


async def cpu(scenario: Cpu, chosen: Collection[str], directory: Path, *, rounds: int, seconds: int) -> Figures:
    """Alternate the targets A B C A B C …: what the machine does meanwhile meets all of them alike."""
    seconds = max(seconds, scenario.least_seconds)
    figures = Figures(settings={"rounds": rounds, "seconds": seconds})
    backend = await scenario.backend(directory / "backend")
    try:
        tls = CA(directory).server() if scenario.tls else None
        async with launched(scenario, chosen, directory, backend.port, tls, figures) as running:
            for name, one in running.items():  # connections are open and code is warm before the first round
                await _load(scenario, name, one, backend.port, 1)
            for _ in range(rounds):
                for name, one in running.items():
                    await _round(scenario, name, one, backend, seconds, figures)
    finally:
        await backend.close()
    return figures


async def _round(scenario: Cpu, name: str, one: Running, backend: Backend, seconds: int, figures: Figures) -> None:
    opened, began = await backend.opened(), cpu_seconds(one.pids)
    done = await _load(scenario, name, one, backend.port, seconds)
    used = cpu_seconds(one.pids) - began
    figures.add(
        name,
        **{f"us_per_{scenario.unit}": used / done * 1e6, f"{scenario.unit}s_per_second": done / seconds},
        cores=used / seconds,
        upstream_connections_opened=await backend.opened() - opened,
    )


async def _load(scenario: Cpu, name: str, one: Running, backend: int, seconds: int) -> int:
    """Run the load once and return how much work was done. Raises RuntimeError when some of it failed."""
    filled = {
        "backend": backend,
        "here": Path(__file__).parent,
        "port": one.port,
        "scheme": "https" if scenario.tls else "http",
        "seconds": seconds,
    }
    argv = [part.format(**filled) for part in scenario.load]
    process = await asyncio.create_subprocess_exec(
        program(argv[0]), *argv[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    failure = re.search(scenario.failures, output)
    found = re.search(scenario.count, output)
    if failure or found is None or process.returncode:
        raise RuntimeError(f"{name}: the load failed: {failure[0] if failure else output}")
    return int(found[1])


async def memory(scenario: Memory, chosen: Collection[str], directory: Path) -> Figures:
    figures = Figures(settings={"clients": scenario.clients})
    backend = await scenario.backend(directory / "backend")
    try:
        pair = CA(directory).server()
        for kind, tls in (("plain", None), ("tls", pair))[: 1 + scenario.tls]:
            async with launched(scenario, chosen, directory / kind, backend.port, tls, figures) as running:
                for name, one in running.items():
                    await _idle(scenario, name, one, kind, figures)
    finally:
        await backend.close()
    return figures


async def _idle(scenario: Memory, name: str, one: Running, kind: str, figures: Figures) -> None:
    tls = unverified() if kind == "tls" else None
    for client in await _clients(scenario, 64, one.port, tls):
        await client.close()
    await asyncio.sleep(SETTLE)
    rest = resident_bytes(one.pids)
    clients = await _clients(scenario, scenario.clients, one.port, tls)
    await asyncio.sleep(SETTLE)
    full = resident_bytes(one.pids)
    await asyncio.gather(*(client.close() for client in clients))
    if kind == "plain":
        figures.add(name, rest_mib=rest / 2**20, full_mib=full / 2**20)
    figures.add(name, **{f"client_bytes_{kind}": (full - rest) / scenario.clients})


async def _clients(scenario: Memory, count: int, port: int, tls: ssl.SSLContext | None) -> list[Idle]:
    """So many clients that have had one answer each and stay connected."""
    gate = asyncio.Semaphore(64)

    async def client() -> Idle:
        async with gate:
            return await scenario.client(port, tls)

    return list(await asyncio.gather(*(client() for _ in range(count))))
