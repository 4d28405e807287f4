"""The dashboard is the generated one, names only metrics that exist, and a real Prometheus has data for its panels."""

import asyncio
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Set
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.chart import dashboard
from tests.chart.rendered import CHART, ROOT
from tests.support.certs import CA
from tests.support.dashboard import EVERY, FILE, OPERATOR, PROXY, names, panels_without_data, queries, series
from tests.support.forebay import Forebay, http_pool
from tests.support.load import Load
from tests.support.origin import Origin
from tests.support.prometheus import Prometheus, target, targets
from tests.support.raw import request_bytes

from forebay_operator import metrics as operator

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))


def test_it_is_fresh() -> None:
    assert FILE.read_text() == dashboard.rendered(), f"run: python -m tests.chart.dashboard > {FILE}"


@pytest.mark.parametrize(
    "file", [FILE, CHART / "files" / "alerts.yaml", *RUNBOOKS, *HOW_TO], ids=lambda file: file.name
)
def test_every_metric_exists(file: Path) -> None:
    families = EVERY | {name.removesuffix("_bucket") for name in EVERY}  # a text may speak of the histogram itself
    assert names(file.read_text()) - families == set()


def test_every_panel_has_a_description_and_the_runbooks_that_it_names_exist() -> None:
    panels = [panel for panel in json.loads(FILE.read_text())["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels if len(panel["description"]) < 20] == []
    named = set(re.findall(r"\bForebay[A-Z]\w+", FILE.read_text()))
    assert named <= {file.stem for file in RUNBOOKS}


def test_every_proxy_metric_but_a_few_is_shown() -> None:
    shown = {name for query in queries() for name in query.names}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in PROXY}
    missing = families - {re.sub("_(bucket|count|sum)$", "", name) for name in shown}
    assert missing == {"forebay_worker_restarts_total"}  # local mode only: in a cluster the kubelet restarts


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(FILE.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= dashboard.COLUMNS
        taken |= cells


@pytest.mark.slow
async def test_a_prometheus_has_data_for_every_panel(
    forebay: Callable[..., Awaitable[Forebay]],
    origins: Callable[..., Awaitable[Origin]],
    ca: CA,
    tmp_path: Path,
) -> None:
    """Under a load that waits, is refused, retried, and can't connect to one of two endpoints."""
    alive, gone, echo = await origins(), await origins(), await origins(mode="tcp")
    await gone.kill()
    pair = ca.server()
    pool = await forebay(
        http_pool(
            alive.port,
            gone.port,
            spec={"listen": {"port": 0, "tls": {"certFile": str(pair.cert), "keyFile": str(pair.key)}}, "replicas": 2},
            budget={"maxConnections": 20},
            pool={"size": 2, "maxOverflow": 1, "maxWaiting": 5, "maxUses": 50},
            healthCheck={"passive": {"consecutiveErrors": 1000}},  # the one that is gone goes on being tried
        )
    )
    raw = await forebay(http_pool(echo.port, spec={"protocol": "tcp"}))
    trusted = ssl.create_default_context(cafile=str(ca.cert))
    slow = request_bytes("/?delay=0.02")
    found = [
        target(f"127.0.0.1:{pool.admin_port}", pod="web-0"),
        target(f"127.0.0.1:{raw.admin_port}", pod="raw-0"),
        # None of these is scraped: a port for clients, a pod that has ended, somebody else's.
        target(f"127.0.0.1:{raw.port}", pod="raw-0", port="proxy"),
        target("127.0.0.1:1", pod="raw-1", phase="Succeeded"),
        target("127.0.0.1:1", pod="other", name="other"),
    ]
    async with (
        Prometheus(tmp_path, found) as prometheus,
        Load(pool.port, clients=40, request=slow, tls=trusted),
    ):
        missing = await panels_of(prometheus, PROXY - {"forebay_upstream_pinned"})  # of PostgreSQL alone
        by_pod = {"namespace", "pod", "container", "endpoint"}
        scraped = await asyncio.to_thread(series, prometheus.url, "up")
    assert missing == []
    assert [
        {name: labels[name] for name in by_pod} for labels in sorted(scraped, key=lambda labels: labels["pod"])
    ] == [{"namespace": "shop", "pod": pod, "container": "proxy", "endpoint": "admin"} for pod in ("raw-0", "web-0")]


EXAMPLES = {"namespace": "shop", "proxypool": "orders", "upstream": "db", "code": "200", "verb": "get"}
KINDS = {"replicas": ("wanted", "current", "ready"), "budget_connections": ("limit", "reserved", "granted", "open")}


def operator_page(scrape: int) -> str:
    """What an operator may serve, by the table of its metrics: names, labels, and values that rise by the scrape."""
    lines = []
    for row in operator.METRICS:
        value = 1 if row.type == "gauge" and row.name != "ledger_sequence" else scrape
        for kind in KINDS.get(row.name, ("any",)):
            labels = {label: EXAMPLES.get(label, kind) for label in row.labels}
            for name in row.series:
                for more in ({"le": "0.1"}, {"le": "+Inf"}) if name.endswith("_bucket") else ({},):
                    text = ",".join(f'{key}="{value}"' for key, value in (labels | more).items())
                    lines.append(f"{name}{{{text}}} {value}\n")
    return "".join(lines)


@pytest.mark.slow
async def test_a_prometheus_has_data_for_every_panel_of_the_operator(tmp_path: Path) -> None:
    scrapes = count(1)

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=operator_page(next(scrapes)))

    app = web.Application()
    app.router.add_get("/metrics", page)
    async with TestServer(app) as server:
        found = [
            target(f"127.0.0.1:{server.port}", pod="forebay-0", name="forebay-operator", port="metrics"),
            target(f"127.0.0.1:{server.port}", pod="forebay-1", name="forebay-operator", port="metrics"),
        ]
        async with Prometheus(tmp_path, found) as prometheus:
            missing = await panels_of(prometheus, OPERATOR)
    assert missing == []


async def panels_of(prometheus: Prometheus, about: Set[str]) -> list[str]:
    """Those without data; in vain for a minute. It takes two scrapes: when they are in can only be asked."""
    missing = ["not asked yet"]
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            while missing := await asyncio.to_thread(panels_without_data, prometheus.url, about):
                await asyncio.sleep(0.5)
    return missing


def test_every_port_of_a_pod_is_a_target() -> None:
    container = {
        "name": "proxy",
        "ports": [{"name": "proxy", "containerPort": 8080}, {"name": "admin", "containerPort": 1}],
    }
    pod = {
        "metadata": {"name": "a", "namespace": "shop", "labels": {"app.kubernetes.io/name": "forebay"}},
        "spec": {"containers": [container]},
        "status": {"podIP": "10.0.0.1", "phase": "Running"},
    }
    pending = pod | {"status": {"phase": "Pending"}}
    assert list(targets({"items": [pod, pending]})) == [
        target("10.0.0.1:8080", pod="a", port="proxy"),
        target("10.0.0.1:1", pod="a"),
    ]
