"""What must hold in every fault, asserted in one place, and the traffic that can show it.

The budget (by the high-water mark inside the origin); no byte crosses clients; what is not idempotent is sent at most
once; nobody waits longer than `pool.timeout` + 100 ms by the proxy's own clock; no descriptor, task or slot leaks.
That no answer is cut invisibly is the strict parser's part (tests.support.raw), that nothing prints a traceback the
fixture's (tests.conftest).
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.forebay import Forebay, Metrics
from tests.support.origin import Origin
from tests.support.raw import Answer, fetch, request_bytes
from tests.support.waiting import until

SETTLED = 30.0  # seconds in which everything has to be as before the fault


def marked(client: int, number: int) -> bytes:
    """A request that no other one equals: in turn a POST, which must be sent once, and a GET, which may be retried."""
    mark = f"{client}-{number}"
    if number % 2:
        return request_bytes(f"/headers?mark={mark}")
    return request_bytes(f"/echo?mark={mark}", "POST", body=mark.encode() * 50)


def own(client: int, number: int, answer: Answer) -> str | None:
    """A complaint where the answer is to another's request."""
    mark = f"{client}-{number}"
    if answer.status != 200:
        return None
    if number % 2:
        return None if json.loads(answer.body)["target"] == f"/headers?mark={mark}" else "another's answer"
    return None if answer.body == mark.encode() * 50 else "another's answer"


def waited_beyond(metrics: Metrics, seconds: float) -> int:
    """How many have waited longer than this, by the proxy's own clock; `seconds` has to be a bucket's bound."""
    total = metrics.get("forebay_upstream_wait_seconds_count")
    return int(total - metrics.get("forebay_upstream_wait_seconds_bucket", le=repr(seconds)))


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def owned(worker: dict[str, Any]) -> int:
    """Descriptors of a worker that are no connection: these must not grow."""
    connections = worker["clients"] + sum(
        sum(upstream["connections"].values()) for upstream in worker["upstreams"].values()
    )
    return descriptors(worker["pid"]) - connections


def at_rest(worker: dict[str, Any]) -> bool:
    """Nobody waits, no connection is leased, being opened or being closed."""
    return not worker["clients"] and all(
        not upstream["waiting"]
        and not any(upstream["connections"][state] for state in ("leased", "opening", "draining", "closing"))
        for upstream in worker["upstreams"].values()
    )


async def metric(
    forebay: Forebay, name: str, wanted: Callable[[float], bool], within: float = 10.0, **labels: str
) -> None:
    """Wait until the metric's value (0 without one) is as wanted."""

    async def value() -> float:
        return (await forebay.metrics()).get(name, **labels)

    await until(value, within, wanted=wanted)


async def serves(forebay: Forebay, within: float = 10.0) -> None:
    """Wait until a request is answered with 200."""

    async def condition() -> bool:
        return (await fetch(forebay.port)).status == 200

    await until(condition, within)


async def not_ready(forebay: Forebay, within: float = 5.0) -> None:
    """Wait until /readyz says no."""

    async def condition() -> bool:
        return (await forebay.admin("/readyz")).status == 503

    await until(condition, within)


async def ready_workers(forebay: Forebay, wanted: Callable[[set[int]], bool], within: float = 20.0) -> set[int]:
    """Wait until all workers are ready and their process ids are as wanted; returns them."""
    ready: set[int] = set()

    async def condition() -> bool:
        nonlocal ready
        workers = (await forebay.state())["workers"]
        ready = {worker["pid"] for worker in workers if worker["ready"]}
        return len(ready) == len(workers) and wanted(ready)

    try:
        await until(condition, within)
    except TimeoutError:
        raise AssertionError(f"ready workers: {ready}\n{forebay.stderr}") from None
    return ready


async def settled(forebay: Forebay, workers: int, within: float = SETTLED) -> list[dict[str, Any]]:
    """Wait until as many workers are ready and at rest; returns their states."""
    states: list[dict[str, Any]] = []

    async def condition() -> bool:
        nonlocal states
        states = (await forebay.state())["workers"]
        return len(states) == workers and all(worker["ready"] and at_rest(worker) for worker in states)

    try:
        await until(condition, within)
    except TimeoutError:
        raise AssertionError(f"not settled in {within} s: {json.dumps(states)}\n{forebay.stderr}") from None
    return states


@asynccontextmanager
async def unharmed(
    forebay: Forebay,
    *origins: Origin,
    limit: int,
    longest_wait: float | None = None,
    workers: int = 1,
    within: float = SETTLED,
) -> AsyncIterator[None]:
    """What happens inside must leave all criteria intact. `limit`: of connections to each origin; `longest_wait`:
    `pool.timeout` + 0.1, a bound of the histograms' buckets (seconds)."""
    before = await settled(forebay, workers)
    most = max(owned(worker) for worker in before)
    tasks = max(worker["tasks"] for worker in before)
    yield
    after = await settled(forebay, workers, within)
    for origin in origins:
        stats = await origin.stats()
        assert stats["high_water"] <= limit, stats
        assert not stats["malformed"], stats["complaints"]
        sent = {target: n for target, n in stats["targets"].items() if target.startswith("/echo?mark=") and n > 1}
        assert not sent, f"{len(sent)} sent more than once: {list(sent)[:5]}"
    if longest_wait is not None:
        metrics = await forebay.metrics()
        assert not waited_beyond(metrics, longest_wait), metrics.text
    for worker in after:
        assert worker["tasks"] <= tasks, f"tasks have leaked: {worker['tasks']}, there were {tasks}"
    # Listening sockets move between workers: each may have the others' as well.
    now = max(owned(worker) for worker in after)
    assert now <= most + workers - 1, f"descriptors have leaked: {now}, there were {most}"
