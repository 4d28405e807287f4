"""`forebay top`: what two looks say, why requests wait, and what is said when nobody can be asked."""

import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from rich.console import Console
from tests.support.states import endpoint, histogram, state, supervisor, upstream, worker

from forebay_proxy import top


def view(before: dict[str, Any], after: dict[str, Any], seconds: float = 2.0) -> top.View:
    return top.compare(top.Look(before, 100.0), top.Look(after, 100.0 + seconds))


def pool(*upstreams: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A state with a worker for each of these."""
    return state(*(worker(pid, upstreams={"backend": u}) for pid, u in enumerate(upstreams, 1)), **fields)


# ---------------------------------------------------------------------- two looks


def test_rates_and_quantiles_are_of_the_interval_alone() -> None:
    before = upstream(codes={"200": 100, "502": 7}, wait={"served": histogram(*[4.0] * 50)}, hold=histogram(*[1.0] * 9))
    after = upstream(
        codes={"200": 120, "502": 8, "503": 1, "404": 2},
        wait={"served": histogram(*[4.0] * 50, *[0.0015] * 10)},
        hold=histogram(*[1.0] * 9, *[0.03] * 4),
    )
    [row] = view(pool(before), pool(after)).upstreams
    assert (row.requests_per_second, row.errors_per_second) == (12.0, 1.0)
    assert row.wait_p95 is not None
    assert 0.001 < row.wait_p95 <= 0.002
    assert row.hold_p50 is not None
    assert 0.02 < row.hold_p50 <= 0.05


def test_what_perOrigin_keeps_waiting_is_no_wait_for_a_connection() -> None:
    polite = upstream(wait={"served": histogram(*[0.0005] * 10), "origin": histogram(*[2.0] * 10)})
    [row] = view(pool(upstream()), pool(polite)).upstreams
    assert row.wait_p95 is not None
    assert row.wait_p95 <= 0.001


def test_queries_that_are_refused_are_errors() -> None:
    """With PostgreSQL codes are transactions only."""
    before = upstream(codes={"ok": 10}, rejections={"timeout": 5}, pinned={})
    after = upstream(codes={"ok": 20}, rejections={"timeout": 21, "queue_full": 4}, pinned={})
    [row] = view(pool(before), pool(after)).upstreams
    assert (row.requests_per_second, row.errors_per_second) == (15.0, 10.0)


def test_what_a_dead_worker_refused_is_no_new_error() -> None:
    busy = upstream(codes={"ok": 10}, rejections={"timeout": 5}, pinned={})
    counted = {key: value for key, value in busy.items() if key != "pinned"}
    dead = {"codes": {}, "rejections": {}, "log_lost": {}, "upstreams": {"backend": counted}}
    [row] = view(pool(busy, busy), pool(busy, dead=dead)).upstreams
    assert (row.requests_per_second, row.errors_per_second) == (0.0, 0.0)


def test_other_rejections_are_among_the_codes_already() -> None:
    refused = upstream(codes={"503": 10}, rejections={"timeout": 10})
    [row] = view(pool(upstream()), pool(refused)).upstreams
    assert (row.requests_per_second, row.errors_per_second) == (5.0, 5.0)


def test_workers_are_summed() -> None:
    one = upstream(connections={"leased": 2, "draining": 1}, limit=4, grant=4, budget=12, waiting=1)
    two = upstream(connections={"idle": 3, "opening": 1, "closing": 1}, limit=5, grant=5, budget=12, waiting=2)
    [row] = view(pool(one, two), pool(one, two)).upstreams
    assert (row.open, row.leased, row.idle, row.opening, row.closing, row.limit) == (8, 3, 3, 1, 1, 9)
    assert (row.grant, row.budget, row.waiting) == (9, 12, 3)


def test_what_a_dead_worker_counted_is_no_new_request() -> None:
    busy = upstream(codes={"200": 10}, hold=histogram(0.1))
    dead = {"codes": {}, "rejections": {}, "log_lost": {}, "upstreams": {"backend": busy}}
    [row] = view(pool(busy, busy), pool(busy, dead=dead)).upstreams
    assert row.requests_per_second == 0
    assert row.hold_p50 is None


def test_a_pool_that_was_restarted_has_no_rates_yet() -> None:
    busy = upstream(codes={"200": 10}, wait={"served": histogram(0.1)}, hold=histogram(0.1))
    [row] = view(pool(busy), pool(upstream())).upstreams
    assert (row.requests_per_second, row.wait_p95, row.hold_p50) == (None, None, None)


def test_an_upstream_that_is_new_has_no_rates_yet() -> None:
    after = pool(upstream())
    after["workers"][0]["upstreams"]["new"] = upstream(codes={"200": 1})
    row = view(pool(upstream()), after).upstreams[1]
    assert (row.upstream, row.requests_per_second) == ("new", None)


def test_an_endpoint_is_healthy_where_every_worker_says_so() -> None:
    one = upstream(endpoints={"a:80": endpoint(), "b:80": endpoint(False)})
    two = upstream(endpoints={"a:80": endpoint(), "b:80": endpoint()})
    [row] = view(pool(one, two), pool(one, two)).upstreams
    assert (row.endpoints_healthy, row.endpoints) == (1, 2)


def test_the_workers_cpu_is_that_of_the_interval() -> None:
    before = state(worker(1, cpu=10.0), worker(2, cpu=1.0, draining=True, ready=False))
    after = state(worker(1, cpu=11.0), worker(2, cpu=1.0, draining=True, ready=False), worker(3, ready=False))
    rows = view(before, after).workers
    assert [(row.pid, row.cpu_percent, row.status) for row in rows] == [
        (1, 50.0, "ready"), (2, 0.0, "draining"), (3, None, "not ready"),
    ]  # fmt: skip


def test_a_worker_that_hangs_is_silent_whatever_it_said_last() -> None:
    told = state(worker(1, silent=True), worker(2, silent=True, draining=True), worker(3, silent=False))
    assert [row.status for row in view(told, told).workers] == ["silent", "silent", "ready"]


# ---------------------------------------------------------------------- the cause


def test_the_cause_is_the_autoscalers() -> None:
    told = pool(upstream(), supervisor=supervisor(cause="Pool", message="a replica waits at its grant"))
    [row] = view(told, told).upstreams
    assert (row.cause, row.message) == ("Pool", "a replica waits at its grant")


def test_a_pod_alone_has_no_cause() -> None:
    [row] = view(pool(upstream()), pool(upstream())).upstreams
    assert row.cause is None


def test_an_upstream_that_the_verdict_does_not_know_yet_has_no_cause() -> None:
    after = pool(upstream(), supervisor=supervisor(cause="Budget"))
    after["workers"][0]["upstreams"]["new"] = upstream()
    assert [row.cause for row in view(pool(upstream()), after).upstreams] == ["Budget", None]


# ---------------------------------------------------------------------- showing

BUSY = pool(
    upstream(
        connections={"leased": 4, "closing": 1}, limit=4, waiting=5, grant=4, budget=9, codes={"200": 30},
        hold=histogram(0.03),
    ),
    supervisor=supervisor(cause="Pool", message="a replica waits at its grant: it gets what others leave"),
)  # fmt: skip


def test_a_line_per_upstream() -> None:
    assert top.lines(view(pool(upstream()), BUSY)) == [
        "backend: 5 open, 4 leased, 0 idle, 0 opening | grant 4/9 | 5 waiting, p50 -, p95 -"
        " | 15 req/s, 0 errors/s | hold p50 35ms | cause Pool | 1/1 endpoints healthy | workers 1"
    ]


def test_the_tables_fit_a_terminal_of_80_columns() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(top.tables(view(pool(upstream()), BUSY)))
    text = out.getvalue()
    assert "…" not in text
    assert "4/5" in text
    assert "Pool" in text
    assert "backend: a replica waits at its grant" in text
    assert "ready" in text


def test_they_fit_with_large_numbers_too() -> None:
    busy = {"leased": 100, "idle": 20}
    before = upstream(connections=busy, grant=120, budget=200)
    after = upstream(
        connections=busy, grant=120, budget=200, waiting=1000, codes={"200": 24_000, "503": 200},
        wait={"served": histogram(*[0.45] * 20)}, hold=histogram(*[0.12] * 20),
    )  # fmt: skip
    out = io.StringIO()
    told = supervisor(cause="Connect", message="")
    Console(file=out, width=80).print(top.tables(view(pool(before), pool(after, supervisor=told))))
    assert "…" not in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0, "0us"), (42e-6, "42us"), (0.0015, "1.5ms"), (0.035, "35ms"), (0.9999, "1000ms"), (90.0, "90s")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert top.duration(seconds) == text


# ---------------------------------------------------------------------- over HTTP


@asynccontextmanager
async def serving(answers: Iterator[web.Response]) -> AsyncIterator[str]:
    """An admin page that gives these answers, one after the other; yields HOST:PORT."""

    async def give(_: web.Request) -> web.Response:
        return next(answers)

    app = web.Application()
    app.router.add_get("/state", give)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def show(url: str, *, once: bool = True, output: str = "table") -> str:
    out = io.StringIO()
    await top.top(url, once=once, interval=0.01, output=output, out=out)
    return out.getvalue()


async def test_once_takes_two_looks_and_prints_one() -> None:
    async with serving(iter([web.json_response(pool(upstream())), web.json_response(BUSY)])) as url:
        text = await show(url)
    assert text.count("\n") == 1
    assert "cause Pool" in text


async def test_json_is_the_same_in_numbers() -> None:
    async with serving(iter([web.json_response(pool(upstream())), web.json_response(BUSY)])) as url:
        shown = json.loads(await show(f"http://{url}/", output="json"))
    assert shown["upstreams"][0]["cause"] == "Pool"
    assert shown["upstreams"][0]["waiting"] == 5
    assert shown["workers"][0]["status"] == "ready"


async def test_it_goes_on_until_the_pool_goes_away() -> None:
    looks = iter([*(web.json_response(BUSY) for _ in range(3)), web.Response(status=500)])
    async with serving(looks) as url:
        out = io.StringIO()
        with pytest.raises(top.Unreachable, match="status 500"):
            await top.top(url, once=False, interval=0.01, output="table", out=out)
    assert out.getvalue().count("\n") == 2


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=404),
        web.Response(text="hello"),
        web.Response(text="[]", content_type="application/json"),
        web.Response(text="{", content_type="application/json"),
    ],
)
async def test_what_is_no_admin_port_is_said_to_be_none(answer: web.Response) -> None:
    async with serving(iter([answer])) as url:
        with pytest.raises(top.Unreachable, match=f"http://{url}/state does not answer as an admin port"):
            await show(url)


async def test_nobody_listens() -> None:
    async with serving(iter([])) as url:
        pass
    with pytest.raises(top.Unreachable, match=f"can't reach http://{url}/state: Connection refused"):
        await show(url)


@pytest.mark.parametrize("url", ["http://", "http://[", "ftp://127.0.0.1"])
async def test_a_bad_url_is_one_line(url: str) -> None:
    with pytest.raises(top.Unreachable) as caught:
        await show(url)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
