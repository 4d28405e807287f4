"""`forebay top`: what a pool does now, and why requests wait, from two looks at `/state` an interval apart.

Gather (`look`), compare (pure), show (`tables`, `lines`). The cause is what the autoscaler says; a pod has none of its
own, and shows none. `forebay demo` shows the same.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import chain
from typing import Any, Literal, NamedTuple, TextIO

import aiohttp
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from forebay_core.histogram import SECONDS, Histogram, HistogramSnapshot
from forebay_proxy.files import reason
from forebay_proxy.gathered import added

PATIENCE = 5.0  # seconds for one answer


class Unreachable(Exception):
    """`/state` could not be read; the message is one line for a person."""


class Look(NamedTuple):
    """A state, and when it was read (monotonic seconds)."""

    state: Mapping[str, Any]
    at: float


class Facts(NamedTuple):
    """One upstream over all workers; counters and histograms since the start, with the workers that have ended."""

    connections: Mapping[str, int]  # by state
    limit: int
    grant: int | None  # None: no budget
    budget: int | None
    waiting: int
    wait: Histogram  # whatever its outcome, but for an origin's sake (perOrigin): that is wanted
    hold: Histogram
    requests: int
    errors: int
    endpoints: Mapping[str, bool]  # healthy, in every worker's eyes


class UpstreamRow(NamedTuple):
    """A line of the first table; None: not measured in this interval. Times in seconds."""

    upstream: str
    open: int  # whatever for, those that are being opened or closed and what the dead left among them
    leased: int
    idle: int
    opening: int
    closing: int
    limit: int
    grant: int | None
    budget: int | None
    waiting: int
    wait_p50: float | None
    wait_p95: float | None
    requests_per_second: float | None
    errors_per_second: float | None
    hold_p50: float | None
    cause: str | None  # why requests wait, as in `limitedBy`
    message: str
    endpoints_healthy: int
    endpoints: int


class WorkerRow(NamedTuple):
    """A line of the second table; `rss` in bytes, `loop_lag` in seconds."""

    pid: int
    clients: int
    cpu_percent: float | None
    rss: int
    loop_lag: float
    status: Literal["ready", "draining", "not ready", "silent"]  # silent: it hangs, the rest is what it said last


class View(NamedTuple):
    """What is shown of one interval."""

    name: str
    seconds: float
    upstreams: list[UpstreamRow]
    workers: list[WorkerRow]

    def as_json(self) -> dict[str, Any]:
        rows = {
            "upstreams": [row._asdict() for row in self.upstreams],
            "workers": [row._asdict() for row in self.workers],
        }
        return {"name": self.name, "seconds": round(self.seconds, 3), **rows}


# ---------------------------------------------------------------------- gather


async def look(session: aiohttp.ClientSession, url: str) -> Look:
    """Read `/state` of the admin port at `url`. Raises Unreachable."""
    where = (url if "://" in url else f"http://{url}").rstrip("/") + "/state"
    try:
        async with session.get(where, timeout=aiohttp.ClientTimeout(PATIENCE)) as response:
            state = await response.json() if response.status == 200 else None
            status = response.status
    except TimeoutError:
        raise Unreachable(f"{where} does not answer within {PATIENCE:g} s") from None
    except aiohttp.InvalidURL:
        raise Unreachable(f"{url!r} is no URL: expected the admin port's, such as http://127.0.0.1:9901") from None
    except aiohttp.ClientConnectorError as error:
        raise Unreachable(f"can't reach {where}: {reason(error.os_error)}") from None
    except (aiohttp.ClientError, ValueError) as error:
        raise Unreachable(f"{where} does not answer as an admin port: {error}") from None
    if not isinstance(state, dict) or not {"name", "workers"} <= state.keys():
        raise Unreachable(f"{where} does not answer as an admin port: status {status}, and no state")
    return Look(state, time.monotonic())


# ---------------------------------------------------------------------- decide


def compare(previous: Look, current: Look) -> View:
    """What happened between two looks."""
    seconds = max(current.at - previous.at, 1e-3)
    before = facts(previous.state)
    verdicts = current.state.get("supervisor", {}).get("verdict", {"upstreams": {}})["upstreams"]
    upstreams = [
        _row(name, before.get(name), now, seconds, verdicts.get(name, {})) for name, now in facts(current.state).items()
    ]
    cpu = {worker["pid"]: worker["cpu"] for worker in previous.state["workers"]}
    workers = [
        WorkerRow(
            pid=worker["pid"],
            clients=worker["clients"],
            cpu_percent=100 * (worker["cpu"] - cpu[worker["pid"]]) / seconds if worker["pid"] in cpu else None,
            rss=worker["rss"],
            loop_lag=worker["loop_lag"],
            status=_status(worker),
        )
        for worker in current.state["workers"]
    ]
    return View(current.state["name"], seconds, upstreams, workers)


def _status(worker: Mapping[str, Any]) -> Literal["ready", "draining", "not ready", "silent"]:
    if worker.get("silent"):  # the supervisor says so
        return "silent"
    return "draining" if worker["draining"] else "ready" if worker["ready"] else "not ready"


def facts(state: Mapping[str, Any]) -> dict[str, Facts]:
    """A state's upstreams, each summed over the workers."""
    names = dict.fromkeys(chain.from_iterable(worker["upstreams"] for worker in state["workers"]))
    dead = state.get("dead", {"upstreams": {}})["upstreams"]
    found = {}
    for name in names:
        live = [worker["upstreams"][name] for worker in state["workers"] if name in worker["upstreams"]]
        found[name] = _facts(live, [*live, dead[name]] if name in dead else live)
    return found


def _facts(live: list[Mapping[str, Any]], counting: list[Mapping[str, Any]]) -> Facts:
    connections: Mapping[str, int] = {}
    for part in live:
        connections = added(connections, part["connections"])
    grants = [part["grant"] for part in live if part["grant"] is not None]
    codes = list(chain.from_iterable(part["codes"].items() for part in counting))
    if any(
        "pinned" in part for part in live
    ):  # a session protocol's codes are of transactions: no refused query is one
        codes += chain.from_iterable(part["rejections"].items() for part in counting)
    return Facts(
        connections=connections,
        limit=sum(part["limit"] for part in live),
        grant=sum(grants) if grants else None,
        budget=live[0]["budget"],
        waiting=sum(part["waiting"] + part["gated"] + part["waiting_besides"] for part in live),
        wait=_sum(counts for part in counting for outcome, counts in part["wait"].items() if outcome != "origin"),
        hold=_sum(part["hold"] for part in counting),
        requests=sum(number for _, number in codes),
        errors=sum(number for code, number in codes if _is_error(code)),
        endpoints={
            endpoint: all(part["endpoints"][endpoint]["healthy"] for part in live if endpoint in part["endpoints"])
            for endpoint in chain.from_iterable(part["endpoints"] for part in live)
        },
    )


def _sum(snapshots: Iterable[Any]) -> Histogram:
    total = Histogram()
    for counts, amount in snapshots:
        total.merge(Histogram(SECONDS, HistogramSnapshot(tuple(counts), amount)))
    return total


def _is_error(code: str) -> bool:
    """A status of 500 or above, or an outcome (tcp) that the client has no part in."""
    return code.startswith("5") if code[:1].isdecimal() else code not in ("ok", "client_gone")


def _row(name: str, previous: Facts | None, current: Facts, seconds: float, verdict: Mapping[str, Any]) -> UpstreamRow:
    wait, hold = _since(previous, current, "wait"), _since(previous, current, "hold")
    connections = current.connections
    return UpstreamRow(
        upstream=name,
        open=sum(connections.values()),
        leased=connections["leased"] + connections["draining"],
        idle=connections["idle"],
        opening=connections["opening"],
        closing=connections["closing"],
        limit=current.limit,
        grant=current.grant,
        budget=current.budget,
        waiting=current.waiting,
        wait_p50=wait.quantile(0.5) if wait else None,
        wait_p95=wait.quantile(0.95) if wait else None,
        requests_per_second=(current.requests - previous.requests) / seconds if previous and wait else None,
        errors_per_second=(current.errors - previous.errors) / seconds if previous and wait else None,
        hold_p50=hold.quantile(0.5) if hold else None,
        cause=verdict.get("cause"),
        message=verdict.get("message", ""),
        endpoints_healthy=sum(current.endpoints.values()),
        endpoints=len(current.endpoints),
    )


def _since(previous: Facts | None, current: Facts, which: Literal["wait", "hold"]) -> Histogram | None:
    """What was observed in between. None: there is no earlier state, or it is of a process that is no more."""
    if previous is None:
        return None
    try:
        return _histogram(current, which).delta(_histogram(previous, which))
    except ValueError:
        return None


def _histogram(facts: Facts, which: Literal["wait", "hold"]) -> Histogram:
    return facts.wait if which == "wait" else facts.hold


# ---------------------------------------------------------------------- show

UPSTREAM_COLUMNS = (
    "upstream", "leased/\nopen", "grant/\nbudget", "waiting", "wait\np95", "req/err\nper s", "hold\np50", "cause",
    "healthy",
)  # fmt: skip
WORKER_COLUMNS = ("worker", "clients", "cpu", "rss", "loop lag", "status")


def tables(view: View) -> RenderableType:
    """The view for a terminal."""
    upstreams = _table(UPSTREAM_COLUMNS, view.name)
    for row in view.upstreams:
        upstreams.add_row(
            row.upstream,
            f"{row.leased}/{row.open}",
            _share(row),
            str(row.waiting),
            duration(row.wait_p95),
            f"{number(row.requests_per_second)}/{number(row.errors_per_second)}",
            duration(row.hold_p50),
            row.cause or "-",
            f"{row.endpoints_healthy}/{row.endpoints}",
        )
    workers = _table(WORKER_COLUMNS)
    for worker in view.workers:
        cpu = "-" if worker.cpu_percent is None else f"{worker.cpu_percent:.0f} %"
        rss, lag = f"{worker.rss / 2**20:.0f} MiB", duration(worker.loop_lag)
        workers.add_row(str(worker.pid), str(worker.clients), cpu, rss, lag, worker.status)
    reasons = [f"{row.upstream}: {row.message}" for row in view.upstreams if row.message]
    return Group(upstreams, "", *reasons, "", workers)


def _table(columns: Iterable[str], title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    return table


def lines(view: View) -> list[str]:
    """The view as a line per upstream."""
    return [
        f"{row.upstream}: {row.open} open, {row.leased} leased, {row.idle} idle, {row.opening} opening"
        f" | grant {_share(row)} | {row.waiting} waiting, p50 {duration(row.wait_p50)}, p95 {duration(row.wait_p95)}"
        f" | {number(row.requests_per_second)} req/s, {number(row.errors_per_second)} errors/s"
        f" | hold p50 {duration(row.hold_p50)} | cause {row.cause or '-'}"
        f" | {row.endpoints_healthy}/{row.endpoints} endpoints healthy"
        f" | workers {len(view.workers)}"
        for row in view.upstreams
    ]


def _share(row: UpstreamRow) -> str:
    return "-" if row.budget is None else f"{row.grant or 0}/{row.budget}"


def duration(seconds: float | None) -> str:
    """In s, ms or us, with a decimal below 10: 420us, 35ms, 1.5s; a dash for None."""
    if seconds is None:
        return "-"
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= size or unit == "us":
            break
    return f"{number(seconds / size)}{unit}"


def number(value: float | None) -> str:
    """With a decimal below 10, none above; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.1f}" if 0 < value < 10 else f"{value:.0f}"


async def top(url: str, *, once: bool, interval: float, output: str, out: TextIO) -> None:
    """Show the pool whose admin port is at `url` on `out`, every `interval` seconds until cancelled, or once.

    A live table on a terminal, else a line per upstream; with `output` "json" an object per interval, a line each.
    Raises Unreachable, also when the pool goes away later.
    """
    live = output == "table" and out.isatty() and not once
    console = Console(file=out)
    async with aiohttp.ClientSession() as session:
        previous = await look(session, url)
        with ExitStack() as stack:
            screen = stack.enter_context(Live(console=console, auto_refresh=False)) if live else None
            while True:
                await asyncio.sleep(interval)
                current = await look(session, url)
                view = compare(previous, current)
                if screen is not None:
                    screen.update(tables(view), refresh=True)
                elif output == "json":
                    out.write(json.dumps(view.as_json()) + "\n")
                elif out.isatty():
                    console.print(tables(view))
                else:
                    out.write("".join(f"{line}\n" for line in lines(view)))
                out.flush()
                if once:
                    return
                previous = current
