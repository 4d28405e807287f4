"""`forebay demo`: a backend that bears few connections, clients that want more, and a pool between them.

First the clients go straight to the backend, then through the pool, in phases of rising and falling load: workers are
added while that helps, and the budget holds all the while. Everything
that is shown and summed up is measured: by the clients, by the pool (`forebay top`), and inside the backend.
"""

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import aiohttp
from rich.console import Console, Group, RenderableType
from rich.live import Live

from forebay_proxy import top
from forebay_proxy.ending import reset_at_close
from forebay_proxy.tasks import Tasks

LIMIT = 10  # connections that the backend bears
DOCUMENT = """\
apiVersion: forebay.dev/v1alpha1
kind: ProxyPool
metadata: {{name: demo}}
spec:
  protocol: http
  listen: {{port: 0, address: 127.0.0.1}}
  autoscaling: {{minReplicas: 1, maxReplicas: 3}}
  upstreams:
  - name: backend
    endpoints: [{{host: 127.0.0.1, port: {port}}}]
    pool: {{size: 4, maxOverflow: 0}}
    budget: {{maxConnections: {limit}}}
"""
READY = re.compile(r"listening on (\S+):(\d+), admin on (\S+:\d+)")
START = 20.0  # seconds that a child may take to start
STOP = 10.0  # seconds that a child may take to end
REQUEST = b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n"
PATIENCE = 10.0  # seconds for one answer
PAUSE = 0.1  # seconds between a failure and the client's next attempt
STAY = 20  # requests of a client on one connection: the next one may come to another worker


class Phase(NamedTuple):
    """A part of the run: how many clients ask without pause, where, and for which share of the time."""

    title: str
    clients: int
    pooled: bool
    share: float


PHASES = (
    Phase("60 clients straight at the backend", 60, False, 5 / 60),
    Phase("1 client through the pool", 1, True, 10 / 60),
    Phase("60 clients through the pool", 60, True, 20 / 60),
    Phase("300 clients through the pool", 300, True, 15 / 60),
    Phase("1 client through the pool", 1, True, 10 / 60),
)


class DemoError(Exception):
    """The demo can't go on; one line for a person."""


class Tally:
    """What the clients of one way have met."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.slowest = 0.0  # seconds, of the answered

    def __str__(self) -> str:
        return (
            f"{self.answered + self.failed} requests, {self.answered} answered, {self.failed} failed; "
            f"slowest answer {top.duration(self.slowest if self.answered else None)}"
        )


# ---------------------------------------------------------------------- clients


async def client(port: int, tally: Tally) -> None:
    """One keep-alive client: asks again as soon as it is answered, connects anew after STAY answers or a failure."""
    while True:
        writer: asyncio.StreamWriter | None = None
        begun = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            # A client that leaves resets: after a mere FIN its answer would still be wanted, and keep its turn.
            sock = writer.get_extra_info("socket")
            reset_at_close(sock)
            for _ in range(STAY):
                begun = time.monotonic()
                async with asyncio.timeout(PATIENCE):
                    status = await ask(reader, writer)
                if status != 200:
                    raise ConnectionError(f"status {status}")
                tally.answered += 1
                tally.slowest = max(tally.slowest, time.monotonic() - begun)
        except (OSError, EOFError, TimeoutError):
            tally.failed += 1
            await asyncio.sleep(PAUSE)
        finally:
            if writer is not None:
                writer.transport.abort()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Send a request, read the whole answer, return its status. Raises OSError, EOFError."""
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\nContent-Length: *(\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(head.split(b" ", 2)[1])


# ---------------------------------------------------------------------- children


@asynccontextmanager
async def child(directory: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process that keeps its state in `directory`, in a process group of its own (Ctrl-C is for us).

    Ended when the block ends, killed if need be.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "XDG_RUNTIME_DIR": str(directory)},
        process_group=0,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)  # without the document's drain delay
        try:
            async with asyncio.timeout(STOP):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()


class Backend:
    """The backend's process; `counts` asks it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def line(self) -> bytes:
        assert self._process.stdout is not None
        async with asyncio.timeout(START):
            line = await self._process.stdout.readline()
        if not line:
            raise DemoError("the backend has ended")
        return line

    async def counts(self, *, reset: bool = False) -> dict[str, int]:
        """Since the last reset. Raises DemoError."""
        assert self._process.stdin is not None
        async with self._turn:
            self._process.stdin.write(b"reset\n" if reset else b"\n")
            counts: dict[str, int] = json.loads(await self.line())
            return counts


async def pool_ready(process: asyncio.subprocess.Process, said: deque[str]) -> tuple[int, str]:
    """Wait until the pool serves; its port, and where its admin page is. Raises DemoError."""
    assert process.stderr is not None
    async with asyncio.timeout(START):
        while line := await process.stderr.readline():
            said.append(line.decode(errors="replace").rstrip())
            if found := READY.search(said[-1]):
                return int(found[2]), f"http://{found[3]}"
    raise DemoError(f"the pool did not start: {said[-1] if said else 'it said nothing'}")


async def overhear(process: asyncio.subprocess.Process, said: deque[str]) -> None:
    """Keep reading what the pool says, so that it never blocks on a full pipe."""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        said.append(line.decode(errors="replace").rstrip())


# ---------------------------------------------------------------------- the run


class Demo:
    """One run, on `out`."""

    def __init__(self, seconds: float, out: TextIO) -> None:
        self.seconds = seconds
        self.out = out
        self.stop = asyncio.Event()
        self.direct, self.pooled = Tally(), Tally()
        self.by_phase: dict[bool, dict[str, int]] = {}  # what the backend counted without and with the pool
        self.screen: Live | None = None
        self.previous: top.Look | None = None

    async def run(self) -> None:
        """Raises DemoError, top.Unreachable."""
        async with AsyncExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-demo-")))
            process = await stack.enter_async_context(child(directory, "forebay_proxy.demo_backend", str(LIMIT)))
            self.backend = Backend(process)
            port = int(await self.backend.line())
            document = directory / "pool.yaml"
            document.write_text(DOCUMENT.format(port=port, limit=LIMIT))
            said: deque[str] = deque(maxlen=20)
            arguments = ("run", "-f", str(document), "--admin", "127.0.0.1:0")
            pool = await stack.enter_async_context(child(directory, "forebay_proxy.cli", *arguments))
            pool_port, self.admin = await pool_ready(pool, said)
            tasks = Tasks("demo")
            stack.push_async_callback(tasks.close)
            tasks.spawn(overhear(pool, said), "what the pool says")
            self.session = await stack.enter_async_context(aiohttp.ClientSession())
            if self.out.isatty():
                self.screen = stack.enter_context(Live(console=Console(file=self.out), auto_refresh=False))
            for phase in PHASES:
                if self.stop.is_set():
                    return
                await self._phase(phase, pool_port if phase.pooled else port)

    async def _phase(self, phase: Phase, port: int) -> None:
        tally = self.pooled if phase.pooled else self.direct
        clients = Tasks("clients")
        for number in range(phase.clients):
            clients.spawn(client(port, tally), f"client {number}")
        ends = time.monotonic() + phase.share * self.seconds
        try:
            while not self.stop.is_set() and (left := ends - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(1.0, left)):
                        await self.stop.wait()
                await self._show(phase, tally)
        finally:
            await clients.close()
        await self._settle(phase)

    async def _settle(self, phase: Phase) -> None:
        """Take what the backend has counted; before the pool's turn begins, the direct clients have to be gone."""
        counts = await self.backend.counts()
        if not phase.pooled:
            while (await self.backend.counts())["open"] and not self.stop.is_set():
                await asyncio.sleep(0.01)  # another process's count can only be asked for
            await self.backend.counts(reset=True)
        self.by_phase[phase.pooled] = counts

    async def _show(self, phase: Phase, tally: Tally) -> None:
        counts = await self.backend.counts()
        current = await top.look(self.session, self.admin)
        view = top.compare(self.previous or current, current)
        self.previous = current
        facts = [
            f"{phase.title}: {tally}",
            f"backend, bears {LIMIT} connections: {counts['open']} open, {seen(counts)}",
        ]
        if self.screen is not None:
            self.screen.update(screen(facts, view if phase.pooled else None), refresh=True)
            return
        shown = [*facts, *(top.lines(view) if phase.pooled else ())]
        self.out.write(" || ".join(shown) + "\n")
        self.out.flush()

    def summary(self) -> str:
        """What was measured, for those ways that were taken."""
        parts = []
        for pooled, title, tally in ((False, "straight", self.direct), (True, "pooled", self.pooled)):
            if counts := self.by_phase.get(pooled):
                parts.append(f"{title + ':':<10}{tally}\n{'':<10}connections, by the backend's count: {seen(counts)}\n")
        return "".join(parts)

    @property
    def held(self) -> bool:
        """Whether the pool never came to the backend with more connections than its budget."""
        counts = self.by_phase.get(True)
        return counts is None or (counts["peak"] <= LIMIT and counts["refused"] == 0)


def seen(counts: dict[str, int]) -> str:
    """The backend's own count, in words."""
    return f"{counts['peak']} at most, {counts['refused']} refused"


def screen(facts: list[str], view: top.View | None) -> RenderableType:
    """What a terminal shows: the facts, and the pool's tables when it is its turn."""
    parts: list[Any] = [*facts, ""]
    if view is not None:
        parts.append(top.tables(view))
    return Group(*parts)


async def demo(seconds: float = 60, out: TextIO | None = None) -> int:
    """Run for `seconds`, or until interrupted, and sum up. The exit code: 1 where it could not run, or where the
    backend saw more connections than its budget."""
    out = out or sys.stdout
    run = Demo(seconds, out)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, run.stop.set)
    try:
        await run.run()
    except (DemoError, top.Unreachable, TimeoutError) as error:
        sys.stderr.write(f"forebay: demo: {error or 'a part of it does not answer'}\n")
        return 1
    out.write(run.summary())
    out.flush()
    return 0 if run.held else 1
