"""Carries scenarios out. A run yields figures: per target, per figure, one value for each round."""

import asyncio
import json
import re
import shutil
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.certs import CA, Pair
from tests.support.process import Child
from tests.support.raw import unverified

from bench.kernel import cpu_seconds, resident_bytes, system_calls
from bench.kinds import Cpu, Idle, Latency, Memory
from bench.place import PLAIN, Backend, Place, Running, Shape, Unavailable, program

SETTLE = 1.0  # seconds until closed connections and freed memory are gone
HERE = Path(__file__).parent


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
    scenario: Cpu | Latency | Memory, chosen: Collection[str], place: Callable[[str], Place], figures: Figures
) -> AsyncIterator[dict[str, Running]]:
    """Start all chosen targets; those that can't be started are noted in `figures.missing`."""
    running: dict[str, Running] = {}
    try:
        for name in chosen:
            try:
                running[name] = await scenario.targets[name](place(name))
            except Unavailable as error:
                figures.missing[name] = str(error)
            else:
                figures.about[name] = dict(running[name].about)
        yield running
    finally:
        for one in running.values():
            await one.close()


def places(directory: Path, backend: Backend, shape: Shape, pair: Pair | None) -> Callable[[str], Place]:
    return lambda name: Place(directory / name, backend.port, pair, shape, getattr(backend, "ca", None))


@asynccontextmanager
async def side_by_side(
    scenario: Cpu | Latency, chosen: Collection[str], directory: Path, figures: Figures
) -> AsyncIterator[tuple[Backend, dict[str, Running]]]:
    """The backend, and all targets in front of it."""
    backend = await scenario.backend(directory / "backend")
    try:
        pair = None if scenario.shape.tls == "none" else CA(directory).server()
        async with launched(scenario, chosen, places(directory, backend, scenario.shape, pair), figures) as running:
            yield backend, running
    finally:
        await backend.close()


async def cpu(scenario: Cpu, chosen: Collection[str], directory: Path, *, rounds: int, seconds: int) -> Figures:
    """Alternate the targets A B C A B C …: what the machine does meanwhile meets all of them alike."""
    seconds = max(seconds, scenario.least_seconds)
    figures = Figures(settings={"rounds": rounds, "seconds": seconds})
    async with side_by_side(scenario, chosen, directory, figures) as (backend, running), AsyncExitStack() as stack:
        for name, one in running.items():  # connections are open and code is warm before the first round
            await _load(scenario, name, one, backend.port, 1)
            if scenario.idle:
                idle = await Child.start([sys.executable, str(HERE / "idle.py"), str(one.port), str(scenario.idle)])
                stack.push_async_callback(idle.end)
                await idle.line("connected", within=60)
        for _ in range(rounds):
            for name, one in running.items():
                await _round(scenario, name, one, backend, seconds, figures)
        if shutil.which("strace"):
            for name, one in running.items():
                await _traced(scenario, name, one, backend, figures)
    return figures


async def _round(scenario: Cpu, name: str, one: Running, backend: Backend, seconds: int, figures: Figures) -> None:
    opened, began = await backend.opened(), cpu_seconds(one.pids)
    done = await _load(scenario, name, one, backend.port, seconds)
    used = cpu_seconds(one.pids) - began
    figures.add(
        name,
        **{scenario.cost: used / done * 1e6, f"{scenario.unit}s_per_second": done / seconds},
        cores=used / seconds,
        rss_mib=resident_bytes(one.pids) / 2**20,
        upstream_connections_opened=await backend.opened() - opened,
    )


async def _traced(scenario: Cpu, name: str, one: Running, backend: Backend, figures: Figures) -> None:
    """One more round under strace, for system calls alone: it makes everything slower, all targets alike."""
    where = figures.about[name]
    report = Path("/dev/shm") / f"forebay-bench-{one.port}"
    pids = [part for pid in one.pids for part in ("-p", str(pid))]
    tracer = await Child.start([program("strace"), "-f", "-c", "-U", "calls,name", "-o", str(report), *pids])
    try:
        await tracer.line("attached")
        done = await _load(scenario, name, one, backend.port, scenario.least_seconds)
    finally:
        await tracer.end(signal.SIGINT)
    calls = system_calls(report.read_text())
    report.unlink()
    figures.add(name, **{f"system_calls_per_{scenario.unit}": sum(calls.values()) / done})
    where["system_calls"] = {call: round(n / done, 3) for call, n in calls.items() if n / done >= 0.005}


async def _load(scenario: Cpu, name: str, one: Running, backend: int, seconds: int) -> int:
    """Run the load once and return how much work was done. Raises RuntimeError when some of it failed."""
    filled = {
        "backend": backend,
        "here": HERE,
        "port": one.port,
        "scheme": "http" if scenario.shape.tls == "none" else "https",
        "seconds": seconds,
    }
    output = await _said(*(part.format(**filled) for part in scenario.load))
    failure = re.search(scenario.failures, output)
    found = re.search(scenario.count, output)
    if failure or found is None:
        raise RuntimeError(f"{name}: the load failed: {failure[0] if failure else output}")
    return int(found[1])


async def _said(*argv: str) -> str:
    """All that the program printed; with its exit code, where that is not 0."""
    binary = sys.executable if argv[0] == "python3" else program(argv[0])
    process = await asyncio.create_subprocess_exec(
        binary, *argv[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    return output if not process.returncode else f"{output}\nTraceback or exit code: {process.returncode}"


async def latency(scenario: Latency, chosen: Collection[str], directory: Path, *, rounds: int, seconds: int) -> Figures:
    """Rounds of at least 3 s, so that a 99.9th percentile is one of something. What a target adds is taken within a
    round, to `direct`."""
    seconds = max(seconds, 3)
    figures = Figures(settings={"rounds": rounds, "seconds": seconds, "rate": scenario.rate})
    async with side_by_side(scenario, chosen, directory, figures) as (_, running):
        for name, one in running.items():
            await _open_loop(scenario, name, one, 1)
        for _ in range(rounds):
            for name, one in running.items():
                began = cpu_seconds(one.pids)
                found = await _open_loop(scenario, name, one, seconds)
                used = (cpu_seconds(one.pids) - began) / seconds
                figures.add(name, **{key: found[key] for key in ("p50_ms", "p99_ms", "p999_ms", "late_p99_ms")})
                figures.add(name, cores=used)
    for name, values in figures.values.items():
        if name != "direct" and "direct" in figures.values:
            for key in ("p50_ms", "p99_ms", "p999_ms"):
                pairs = zip(values[key], figures.values["direct"][key], strict=True)
                figures.values[name][f"added_{key}"] = [mine - bare for mine, bare in pairs]
    return figures


async def _open_loop(scenario: Latency, name: str, one: Running, seconds: int) -> dict[str, float]:
    arguments = map(str, (one.port, scenario.rate, seconds, scenario.clients))
    output = await _said("python3", str(HERE / "openloop.py"), *arguments)
    if not output.startswith("{"):
        raise RuntimeError(f"{name}: the load failed: {output}")
    found: dict[str, float] = json.loads(output)
    return found


async def memory(scenario: Memory, chosen: Collection[str], directory: Path) -> Figures:
    figures = Figures(settings={"clients": scenario.clients})
    backend = await scenario.backend(directory / "backend")
    try:
        pair = CA(directory).server()
        for kind, tls in (("plain", None), ("tls", pair))[: 1 + scenario.tls]:
            async with launched(scenario, chosen, places(directory / kind, backend, PLAIN, tls), figures) as running:
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
