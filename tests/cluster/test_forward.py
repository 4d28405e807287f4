"""A forward proxy in a cluster: its budget and its replicas, over plain requests and tunnels, and who may go where."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from tests.chart.rendered import ROOT
from tests.cluster.conftest import complaints, install
from tests.cluster.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

EXAMPLE = ROOT / "manifests" / "examples" / "forward.yaml"
PROXY = "http://crawler:s3cret@orders-forebay:3128"
USERS = "crawler:$6$forebay$WkbV3xIMqhH0GuvEUXeEB86pgnqnnsxVcqEGv/sxZcZ0YDzOpB8PtUoqEW6wqE36n/Oaapava8F1Omo5SikD5/\n"
BUDGET = 8
# Prints the status of each tunnel's CONNECT, and of the request that has then been sent through it.
TUNNELS = """
import asyncio, base64, sys
where, count = sys.argv[1], int(sys.argv[2])
token = base64.b64encode(b"crawler:s3cret").decode()
async def one():
    reader, writer = await asyncio.open_connection("orders-forebay", 3128)
    head = f"CONNECT {where} HTTP/1.1\\r\\nHost: {where}\\r\\nProxy-Authorization: Basic {token}\\r\\n\\r\\n"
    writer.write(head.encode())
    opened = (await reader.readuntil(b"\\r\\n\\r\\n")).split()[1].decode()
    if opened == "200":
        writer.write(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        await asyncio.sleep(0.5)
        opened += " " + (await reader.readuntil(b"\\r\\n\\r\\n")).split()[1].decode()
    writer.close()
    return opened
async def main():
    print("\\n".join(await asyncio.gather(*(one() for _ in range(count)))))
asyncio.run(main())
"""
# Prints the status of each request: PROXY URL...
ASK = """
import sys, urllib.request as u
opener = u.build_opener(u.ProxyHandler({"http": sys.argv[1]}))
for url in sys.argv[2:]:
    try:
        print(opener.open(url, timeout=10).status)
    except u.HTTPError as error:
        print(error.status, error.read().decode().strip())
"""


@pytest.fixture(scope="module")
def place(places: Callable[[str], Place], system: None) -> Place:
    """A proxy that lets go to the backend's Service only, which is private; 1 or 2 replicas of 5 connections."""
    place = places("forebay-test-forward")
    install(f"watchNamespace={place.name}")
    place.kubectl("create", "secret", "generic", "out-users", f"--from-literal=htpasswd={USERS}")
    document: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    document["metadata"]["name"] = "orders"
    document["spec"] |= {
        "autoscaling": {
            "minReplicas": 1, "maxReplicas": 2, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 10}},
        },
        "drain": {"delay": "2s", "timeout": "10s"},
    }  # fmt: skip
    document["spec"]["upstreams"][0] |= {
        "budget": {"maxConnections": BUDGET, "linger": "5s"},
        "pool": {"size": 5, "maxOverflow": 0, "timeout": "20s"},
    }
    document["spec"]["forward"] |= {
        "allowHosts": [place.get("service", "orders")["spec"]["clusterIP"]], "perOrigin": {"maxConnections": 100},
    }  # fmt: skip
    place.declare(document)
    place.ready(1)
    return place


def test_replicas_follow_the_load_within_the_budget(place: Place) -> None:
    with ThreadPoolExecutor() as threads:
        running = threads.submit(place.load, "orders", 40, 35, PROXY)
        assert place.peak_alone(35) == 5, "one replica opens all that it may before there is another"
        place.ready(2)
        spread = threads.submit(place.load, "orders", 40, 25, PROXY)  # these come to both
        place.kubectl("wait", "--for=condition=BudgetExhausted", "pp/orders", "--timeout=30s")
        tunnels = place.python(TUNNELS, "orders:80", "10").split("\n")
        assert [line for line in tunnels if line] == ["200 200"] * 10
        assert running.result()["failed"] == spread.result()["failed"] == {}
    place.ready(1)
    assert 5 < place.counts()["peak"] <= BUDGET
    conditions = {c["type"]: c["status"] for c in place.get("pp", "orders")["status"]["conditions"]}
    assert conditions["BackendUnavailable"] == "False", "there is no endpoint that could be out"


def test_who_may_go_where(place: Place) -> None:
    targets = ["http://orders/", "http://10.96.0.1/", "http://kubernetes.default/", "http://169.254.169.254/"]
    allowed, *denied = place.python(ASK, PROXY, *targets).splitlines()
    assert allowed == "200"
    assert [line[:3] for line in denied] == ["403"] * 3
    for proxy in (PROXY.replace("s3cret", "guess"), PROXY.replace("crawler:s3cret@", "")):
        assert place.python(ASK, proxy, "http://orders/").startswith("407 ")
    wanted = {
        ("crawler", "orders:80", "allowed", 200),
        ("crawler", "169.254.169.254:80", "denied", 403),
        (None, "orders:80", "denied", 407),
    }
    deadline = time.monotonic() + 15
    while not wanted <= said(logs := place.kubectl("logs", "--selector", "forebay.dev/pool=orders", "--tail=-1")):
        assert time.monotonic() < deadline, said(logs)
        time.sleep(0.5)
    assert "s3cret" not in logs


def said(logs: str) -> set[tuple[str | None, str, str, int]]:
    """By the access log: who, where to, the verdict, the status."""
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
    return {(line["user"], line["host"], line["verdict"], line["status"]) for line in lines}


def test_the_operator_had_every_right_that_it_needed(place: Place) -> None:
    assert complaints() == []
