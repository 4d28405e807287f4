"""The operator under load: many pools, each with replicas that are stand-ins but answer `/state` documents of a real
worker over HTTP, at an API server that is a stand-in too. Both run in this process; the operator runs in its own, as
it does in its image, and only that one is measured."""

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.apiserver import ApiServer
from tests.support.forebay import PYTHONPATH, Forebay, Metrics, http_pool
from tests.support.process import ROOT, Child
from tests.support.raw import fetch
from tests.support.standins import StandIns

from bench.kernel import cpu_seconds, resident_bytes
from bench.kinds import ControlPlane
from bench.run import Figures

NAMESPACE = "bench"
SETTLED = 10.0  # seconds without a write of status, after which the pools are taken as settled
LEAST = 4  # seconds of a round: two of the operator's ticks
PATIENCE = 300.0  # seconds until they must be
STATUS = ("PATCH", "proxypools", "status")
UPSTREAM = {"pool": {"size": 10, "maxOverflow": 5}, "budget": {"maxConnections": 100, "reserved": 10, "linger": "2s"}}


async def control_plane(
    scenario: ControlPlane, chosen: list[str], directory: Path, *, rounds: int, seconds: int
) -> Figures:
    """Rounds of `seconds`, after everything has settled; a new operator for each number of pools."""
    seconds = max(seconds, LEAST)
    figures = Figures(settings={"rounds": rounds, "seconds": seconds, "replicas": scenario.replicas})
    state = await real_state(directory)
    for name in chosen:
        await _measured(scenario, name, state, directory, rounds, seconds, figures)
    return figures


async def real_state(directory: Path) -> Mapping[str, Any]:
    """What a worker answers to `/state`, for the upstream of every pool here."""
    document = http_pool(9, **UPSTREAM)  # nobody listens there, and nobody asks
    async with Forebay(directory, document, command="worker") as forebay:
        answer = await fetch(forebay.admin_port, "/state")
    worker: Mapping[str, Any] = json.loads(answer.body)["workers"][0]
    return worker


def pool(number: int, replicas: int) -> dict[str, Any]:
    """One of many: autoscaled, with a budget."""
    upstream = {"name": "origin", "service": {"name": "origin", "port": 80}, **UPSTREAM}
    scaling = {"minReplicas": replicas, "maxReplicas": 2 * replicas, "targetWait": "20ms"}
    return {
        "apiVersion": "forebay.dev/v1alpha1",
        "kind": "ProxyPool",
        "metadata": {"name": f"pool-{number}", "namespace": NAMESPACE},
        "spec": {
            "protocol": "http", "listen": {"port": 8080}, "replicas": replicas, "autoscaling": scaling,
            "upstreams": [upstream],
        },
    }  # fmt: skip


async def _measured(
    scenario: ControlPlane,
    name: str,
    state: Mapping[str, Any],
    directory: Path,
    rounds: int,
    seconds: int,
    figures: Figures,
) -> None:
    pools = scenario.targets[name]
    async with ApiServer() as api, StandIns(api, state) as pods:
        for number in range(pools):
            api.put(pool(number, scenario.replicas))
        operator = await started(api.kubeconfig(directory / "kubeconfig"))
        try:
            port = int((await operator.line(r"metrics on .*?0\.0\.0\.0:(\d+)"))[1])
            await _settle(api, pods, pools * scenario.replicas, operator)
            for _ in range(rounds):
                cpu, asked, writes = cpu_seconds([operator.pid]), pods.asked, api.requests.get(STATUS, 0)
                await asyncio.sleep(seconds)
                figures.add(
                    name,
                    cores=(cpu_seconds([operator.pid]) - cpu) / seconds,
                    rss_mib=resident_bytes([operator.pid]) / 2**20,
                    status_writes_per_pool_minute=(api.requests.get(STATUS, 0) - writes) / pools / seconds * 60,
                    scrapes_per_second=(pods.asked - asked) / seconds,
                )
            metrics = Metrics((await fetch(port, "/metrics")).body.decode())
            looks = metrics.value("forebay_reconcile_seconds_count")
            figures.about[name] = {
                "pools": pools,
                "replicas": pools * scenario.replicas,
                "mean_look_seconds": round(metrics.value("forebay_reconcile_seconds_sum") / looks, 4),
                "errors": metrics.get("forebay_reconcile_errors_total"),
            }
        finally:
            await operator.end()


async def started(kubeconfig: Path, **env: str) -> Child:
    """The operator's process, on ports of its own."""
    own = {
        "PYTHONPATH": PYTHONPATH,
        "KUBECONFIG": str(kubeconfig),
        "FOREBAY_PROXY_IMAGE": "forebay-proxy:bench",
        "FOREBAY_HEALTH_PORT": "0",
        "FOREBAY_METRICS_PORT": "0",
        "FOREBAY_NAMESPACE": NAMESPACE,
    }
    return await Child.start([sys.executable, "-m", "forebay_operator"], env=own | env, cwd=ROOT)


async def _settle(api: ApiServer, pods: StandIns, replicas: int, operator: Child) -> None:
    """Until all pods have a grant and status has not been written for a while. Raises RuntimeError."""
    try:
        async with asyncio.timeout(PATIENCE):
            written = -1
            while written != api.requests.get(STATUS, 0) or sum(p.ready for p in pods.replicas.values()) < replicas:
                written = api.requests.get(STATUS, 0)
                await asyncio.sleep(SETTLED)
    except TimeoutError:
        ready = sum(replica.ready for replica in pods.replicas.values())
        last = "\n".join(line for line in operator.lines[-5:] if not re.search("metrics|health", line))
        raise RuntimeError(f"after {PATIENCE:g} s {ready} of {replicas} replicas have a grant: {last}") from None
