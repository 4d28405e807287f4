"""The document is changed under load: SIGHUP or a changed file, a hundred times, good ones and bad ones."""

import asyncio
import copy
import json
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.certs import CA
from tests.support.criteria import marked, metric, own, ready_workers, settled, unharmed
from tests.support.forebay import PYTHONPATH, Forebay, http_pool
from tests.support.load import Load, run_load
from tests.support.origin import Origin
from tests.support.raw import Answer, Connection, fetch, request_bytes, unverified
from tests.support.waiting import until

Start = Callable[..., Awaitable[Forebay]]
Origins = Callable[..., Awaitable[Origin]]

HASH = "document"


def changed(document: dict[str, Any], **pool: Any) -> dict[str, Any]:
    """The document with other values in the first upstream's pool."""
    copied = copy.deepcopy(document)
    copied["spec"]["upstreams"][0]["pool"].update(pool)
    return copied


async def take(f: Forebay, document: dict[str, Any]) -> None:
    """Write the document, and wait until it is in force."""
    seen = len(f.child.lines)
    f.write(document)
    f.reload()
    await f.child.line("is in force", after=seen)


@pytest.mark.slow
async def test_a_hundred_reloads_under_load(forebay: Start, origins: Origins) -> None:
    """Sizes, endpoints, routes, upstreams that come and go: no request fails, and no connection is one too many."""
    one, two = await origins(), await origins()
    document = http_pool(
        one.port,
        spec={"replicas": 2},
        pool={"size": 6, "maxOverflow": 0, "timeout": "1900ms"},
        budget={"maxConnections": 18, "linger": "1s"},
    )
    other = http_pool(two.port)["spec"]["upstreams"][0]
    other |= {"name": "other", "pool": {"size": 4, "maxOverflow": 0}, "budget": {"maxConnections": 12, "linger": "1s"}}
    f = await forebay(document)
    with_other = copy.deepcopy(document)
    with_other["spec"]["upstreams"].append(other)
    with_other["spec"]["routes"] = [{"pathPrefix": "/slow", "upstream": "other"}, {"upstream": "origin"}]
    both = copy.deepcopy(document)
    both["spec"]["upstreams"][0]["endpoints"] += other["endpoints"]
    documents = [with_other, changed(document, size=3), both, with_other, document]
    async with unharmed(f, one, two, limit=12, longest_wait=2.0, workers=2):
        load = Load(f.port, clients=20, request=marked, check=own, timeout=10)
        slow = Load(f.port, clients=6, request=request_bytes("/slow/0.05"), timeout=10)
        async with load, slow:
            await load.answered(100)
            for number in range(100):
                await take(f, documents[number % len(documents)])
        for outcome in (load.outcome, slow.outcome):
            assert outcome.statuses == {200: outcome.answered}, outcome
            assert not outcome.errors, outcome
    assert (await f.metrics()).value("forebay_config_last_reload_success") == 1
    # `with_other` gives the other origin 4 per worker, the others' endpoint there is one of the first upstream's.
    assert (await two.stats())["high_water"] > 0


async def test_a_refused_document_changes_nothing(forebay: Start, origin: Origin) -> None:
    document = http_pool(origin.port, pool={"size": 3, "maxOverflow": 0})
    f = await forebay(document)
    before = (await f.state())["workers"][0][HASH]
    bad = changed(document, size=-1, timeout="soon")
    bad["spec"]["lisen"] = {}
    for text, complaints in (
        (bad, ["pool.size", "pool.timeout", "lisen"]),
        ("spec: [", ["line"]),
        ({**document, "kind": "Deployment"}, ["kind"]),
        ({**document, "metadata": {"name": "another"}}, ["metadata.name", "needs a restart"]),
    ):
        seen = len(f.child.lines)
        f.write(text)
        f.reload()
        await f.child.line("is not taken, the last good document stays in force", after=seen)
        await metric(f, "forebay_config_last_reload_success", lambda value: value == 0)
        said = "\n".join(f.child.lines[seen:])
        for complaint in complaints:
            assert complaint in said
        assert (await f.state())["workers"][0][HASH] == before
        assert (await fetch(f.port)).status == 200
    await take(f, document)
    assert (await f.metrics()).value("forebay_config_last_reload_success") == 1


@pytest.mark.parametrize("command", ["run", "worker"])
async def test_a_file_that_is_gone_is_told_by_its_name(forebay: Start, origin: Origin, command: str) -> None:
    f = await forebay(http_pool(origin.port), command=command)
    seen = len(f.child.lines)
    f.path.unlink()
    await f.child.line("is not taken, the last good document stays in force", after=seen)
    await f.child.line(f"{f.path}: No such file or directory", after=seen)
    assert "Errno" not in "\n".join(f.child.lines[seen:])


async def test_a_changed_file_is_enough(forebay: Start, origin: Origin) -> None:
    document = http_pool(origin.port, pool={"size": 3, "maxOverflow": 0})
    f = await forebay(document)
    seen = len(f.child.lines)
    f.write(changed(document, size=5))
    await f.child.line("is in force", after=seen)
    assert (await f.metrics()).value("forebay_upstream_connections_limit") == 5


async def test_a_name_that_could_not_be_resolved_is_mended(forebay: Start, origin: Origin) -> None:
    """The control loop goes on without an address, also where the budget is counted at each."""
    document = http_pool(
        spec={"replicas": 2},
        endpoints=[{"host": "nosuch.invalid", "port": origin.port}],
        budget={"maxConnections": 12, "per": "endpoint"},
    )
    f = await forebay(document)
    await until(f.state, 15, 0.1, wanted=lambda state: "origin" in state["supervisor"]["verdict"]["upstreams"])
    mended = copy.deepcopy(document)
    mended["spec"]["upstreams"][0]["endpoints"][0]["host"] = "127.0.0.1"
    await take(f, mended)
    answer = await fetch(f.port, "/")
    assert answer.status == 200


async def test_a_smaller_pool_is_reached_without_cutting_anything(forebay: Start, origin: Origin) -> None:
    document = http_pool(origin.port, pool={"size": 8, "maxOverflow": 0})
    f = await forebay(document)
    async with unharmed(f, origin, limit=8):
        async with Load(f.port, clients=20, request=request_bytes("/slow/0.02")) as load:
            await load.answered(50)
            assert (await origin.stats())["open"] == 8
            await take(f, changed(document, size=2))
            await origin.until(lambda stats: stats["open"] == 2)
            await load.answered(load.outcome.answered + 50)
            await take(f, document)
            await origin.until(lambda stats: stats["open"] == 8)
        assert load.outcome.statuses == {200: load.outcome.answered}
        assert not load.outcome.errors
    assert (await f.metrics()).value("forebay_upstream_connections_closed_total", reason="shrink") >= 6


async def test_the_number_of_workers_follows_the_document(forebay: Start, origin: Origin) -> None:
    document = http_pool(
        origin.port, spec={"replicas": 1}, pool={"size": 4}, budget={"maxConnections": 12, "linger": "1s"}
    )
    f = await forebay(document)
    async with unharmed(f, origin, limit=12):
        async with Load(f.port, clients=10, request=marked, check=own, timeout=10) as load:
            await load.answered(50)
            for replicas in (3, 2, 1):
                grown = copy.deepcopy(document)
                grown["spec"]["replicas"] = replicas
                await take(f, grown)
                await ready_workers(f, lambda pids, number=replicas: len(pids) == number)  # type: ignore[misc]
                await load.answered(load.outcome.answered + 50)
        assert load.outcome.statuses == {200: load.outcome.answered}, load.outcome
        assert not load.outcome.errors


async def test_a_budget_is_cut_under_load(forebay: Start, origin: Origin) -> None:
    """From 24 to 6 and back: what is open above it is closed as leases end, and nothing fails. The last place is kept
    for whoever comes."""
    document = http_pool(
        origin.port,
        spec={"replicas": 2},
        pool={"size": 20, "maxOverflow": 0, "timeout": "1900ms"},
        budget={"maxConnections": 24, "linger": "1s"},
    )
    f = await forebay(document)
    cut = copy.deepcopy(document)
    cut["spec"]["upstreams"][0]["budget"]["maxConnections"] = 6
    async with unharmed(f, origin, limit=24, longest_wait=2.0, workers=2):
        async with Load(f.port, clients=40, request=request_bytes("/slow/0.01")) as load:
            await origin.until(lambda stats: stats["open"] == 23)
            await take(f, cut)
            await origin.until(lambda stats: stats["open"] == 5)
            await origin.reset()
            await load.answered(load.outcome.answered + 200)
            assert (await origin.stats())["high_water"] == 5
            await take(f, document)
            await origin.until(lambda stats: stats["open"] == 23)
        assert load.outcome.statuses == {200: load.outcome.answered}
        assert not load.outcome.errors


async def test_what_is_leased_above_a_cut_budget_has_until_the_drain_deadline(forebay: Start, origin: Origin) -> None:
    """Who is done by then is not disturbed; the others get their 503, and the origin has as many as it bears."""
    document = http_pool(
        origin.port,
        spec={"drain": {"delay": "0s", "timeout": "2s"}},
        pool={"size": 20, "maxOverflow": 0},
        budget={"maxConnections": 12, "linger": "20s"},
    )
    f = await forebay(document)
    await settled(f, 1)
    cut = copy.deepcopy(document)
    cut["spec"]["upstreams"][0]["budget"]["maxConnections"] = 4
    short = [asyncio.create_task(fetch(f.port, "/slow/1", within=10)) for _ in range(4)]
    await origin.until(lambda stats: stats["active"] == 4)
    long = [asyncio.create_task(fetch(f.port, "/slow/6", within=10)) for _ in range(7)]
    await origin.until(lambda stats: stats["active"] == 11)
    await take(f, cut)
    assert [(await task).status for task in short] == [200] * 4
    assert sorted([(await task).status for task in long]) == [200] * 3 + [503] * 4
    assert (await f.metrics()).value("forebay_rejections_total", reason="taken_back") == 4
    await origin.until(lambda stats: stats["open"] <= 4)
    ledger = (await f.state())["supervisor"]["ledger"]
    assert ledger["inForce"] == {"origin": 4}
    assert sum(entry["bound"] for entry in ledger["entries"]) <= 4


async def test_a_budget_is_added_to_a_running_pool(forebay: Start, origin: Origin) -> None:
    document = http_pool(origin.port, spec={"replicas": 2}, pool={"size": 10, "maxOverflow": 0, "timeout": "1900ms"})
    bounded = copy.deepcopy(document)
    bounded["spec"]["upstreams"][0]["budget"] = {"maxConnections": 6, "linger": "1s"}
    f = await forebay(document)
    async with unharmed(f, origin, limit=20, longest_wait=2.0, workers=2):
        async with Load(f.port, clients=40, request=request_bytes("/slow/0.01")) as load:
            await origin.until(lambda stats: stats["open"] == 20)
            await take(f, bounded)
            await origin.until(lambda stats: stats["open"] == 5)
            await take(f, document)
            await origin.until(lambda stats: stats["open"] == 20)
        assert load.outcome.statuses == {200: load.outcome.answered}
        assert not load.outcome.errors


async def test_an_upstream_that_comes_back_counts_what_it_left(forebay: Start, origin: Origin) -> None:
    """Removed and named again while its leases are still under way: the same budget holds for old and new."""
    document = http_pool(
        origin.port,
        pool={"size": 10, "maxOverflow": 0, "timeout": "1900ms"},
        budget={"maxConnections": 6, "linger": "1s"},
    )
    gone = copy.deepcopy(document)
    gone["spec"]["upstreams"][0]["name"] = "another"
    gone["spec"]["upstreams"][0]["budget"] = {"maxConnections": 2, "linger": "1s"}
    f = await forebay(document)
    async with unharmed(f, origin, limit=6, longest_wait=2.0):
        tasks = [asyncio.create_task(fetch(f.port, "/slow/0.8")) for _ in range(4)]
        await origin.until(lambda stats: stats["active"] == 4)
        await take(f, gone)
        await take(f, document)
        outcome = await run_load(f.port, clients=8, requests=2)
        assert outcome.statuses == {200: 16}
        assert [(await task).status for task in tasks] == [200] * 4


async def test_tls_towards_clients_begins_and_ends(forebay: Start, origin: Origin, ca: CA) -> None:
    """New connections are what the document says; each ends as it began, and the upstream is told what it is."""
    pair = ca.server()
    plain = http_pool(origin.port)
    secure = copy.deepcopy(plain)
    secure["spec"]["listen"]["tls"] = {"certFile": str(pair.cert), "keyFile": str(pair.key)}
    f = await forebay(plain)
    last = request_bytes("/headers", headers=[("Connection", "close")])
    another = request_bytes("/headers", host="another")

    def proto(answer: Answer) -> str:
        assert answer.status == 200, answer.body
        return str(dict(json.loads(answer.body)["headers"])["X-Forwarded-Proto"])

    for before, after, tls, scheme in ((plain, secure, unverified(), "https"), (secure, plain, None, "http")):
        async with await Connection.open(f.port, tls=unverified() if before is secure else None) as kept:
            was = proto(await kept.ask(request_bytes("/headers")))
            await take(f, after)
            async with await Connection.open(f.port, tls=tls) as fresh:
                assert proto(await fresh.ask(last)) == scheme
                assert await fresh.rest() == b""
            assert proto(await kept.ask(another)) == was
            assert proto(await kept.ask(last)) == was
            assert await kept.rest() == b""


@pytest.mark.slow
async def test_a_certificate_is_rotated_under_load(forebay: Start, origin: Origin, ca: CA) -> None:
    """The files are replaced; old and new connections go on, and `forebay_tls_certificate_expiry_seconds` moves."""
    pair = ca.server()
    tls = {"certFile": str(pair.cert), "keyFile": str(pair.key)}
    f = await forebay(http_pool(origin.port, spec={"listen": {"port": 0, "tls": tls}}))
    await settled(f, 1)
    before = (await f.metrics()).value("forebay_tls_certificate_expiry_seconds")
    async with unharmed(f, origin, limit=15):
        kept = Load(f.port, clients=5, request=marked, check=own, tls=unverified())
        fresh = Load(f.port, clients=3, tls=unverified(), keep_alive=False)
        async with kept, fresh:
            await fresh.answered(10)
            ca.server(ends=timedelta(days=20))
            await metric(f, "forebay_tls_certificate_expiry_seconds", lambda value: value != before, within=15)
            count = fresh.outcome.answered
            await fresh.answered(count + 30)
            # A broken rotation: the last good one stays.
            good = pair.cert.read_bytes()
            pair.cert.with_suffix(".new").write_text("not a certificate")
            pair.cert.with_suffix(".new").replace(pair.cert)
            await f.child.line("the last good files stay in use", within=15)
            await fresh.answered(fresh.outcome.answered + 30)
            pair.cert.write_bytes(good)
        for outcome in (kept.outcome, fresh.outcome):
            assert outcome.statuses == {200: outcome.answered}
            assert not outcome.errors


async def test_a_pod_follows_its_file(forebay: Start, origin: Origin) -> None:
    document = http_pool(origin.port, pool={"size": 3, "maxOverflow": 0})
    f = await forebay(document, command="worker")
    await take(f, changed(document, size=4))
    assert (await f.metrics()).value("forebay_upstream_connections_limit") == 4
    seen = len(f.child.lines)
    f.write(changed(document, size=0))
    await f.child.line("is not taken", after=seen)
    assert (await f.metrics()).value("forebay_config_last_reload_success") == 0
    assert (await f.metrics()).value("forebay_upstream_connections_limit") == 4


@pytest.mark.parametrize("command", ["run", "worker"])
async def test_tracing_without_its_libraries_is_refused(
    forebay: Start, origin: Origin, tmp_path: Path, command: str
) -> None:
    """At the start it is one line, later the last good document stays in force."""
    (tmp_path / "without" / "opentelemetry").mkdir(parents=True)
    (tmp_path / "without" / "opentelemetry" / "__init__.py").write_text("raise ImportError(name='opentelemetry.sdk')")
    env = {"PYTHONPATH": f"{tmp_path / 'without'}{os.pathsep}{PYTHONPATH}"}
    document = http_pool(origin.port, pool={"size": 3, "maxOverflow": 0})
    traced = {**document, "spec": {**document["spec"], "telemetry": {"tracing": {"endpoint": "http://127.0.0.1:9"}}}}
    refusal = "spec.telemetry.tracing needs the extra forebay[tracing], and opentelemetry.sdk is not installed"

    refused = await Forebay(tmp_path / "refused", traced, command=command, env=env).spawn()
    async with asyncio.timeout(20):
        assert await refused.wait() == 1
    assert refusal in refused.stderr
    assert not refused.tracebacks()

    f = await forebay(document, command=command, env=env)
    seen = len(f.child.lines)
    f.write(traced)
    f.reload()
    await f.child.line("is not taken, the last good document stays in force", after=seen)
    assert refusal in "\n".join(f.child.lines[seen:])
    assert (await fetch(f.port)).status == 200
    await take(f, changed(document, size=4))
