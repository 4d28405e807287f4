"""The harness of the program under test: documents, metrics, and a start and an end of each command."""

import os
from collections.abc import Awaitable, Callable

import pytest
from tests.support.forebay import Forebay, Metrics, http_pool
from tests.support.origin import Origin
from tests.support.raw import fetch

TEXT = """\
# HELP forebay_requests_total Requests.
# TYPE forebay_requests_total counter
forebay_requests_total{code="200",upstream="a"} 5
forebay_requests_total{code="200",upstream="b"} 2
forebay_requests_total{code="503",upstream="a"} 1
# HELP forebay_upstream_waiting Waiting.
# TYPE forebay_upstream_waiting gauge
forebay_upstream_waiting{upstream="a"} 0
"""


def test_metrics_are_summed_over_what_agrees() -> None:
    metrics = Metrics(TEXT)
    assert metrics.value("forebay_requests_total") == 8
    assert metrics.value("forebay_requests_total", code="200") == 7
    assert metrics.value("forebay_requests_total", code="200", upstream="b") == 2
    assert metrics.get("forebay_requests_total", code="404") == 0
    with pytest.raises(KeyError, match="forebay_upstream_waiting"):
        metrics.value("forebay_no_such_metric")


def test_the_document_takes_overrides() -> None:
    spec = http_pool(1, 2, spec={"replicas": 3}, pool={"size": 5})["spec"]
    assert spec["replicas"] == 3
    assert [endpoint["port"] for endpoint in spec["upstreams"][0]["endpoints"]] == [1, 2]
    assert spec["upstreams"][0]["pool"] == {"size": 5}


@pytest.mark.parametrize("command", ["run", "worker"])
async def test_it_starts_serves_and_ends(
    command: str, origin: Origin, forebay: Callable[..., Awaitable[Forebay]]
) -> None:
    one = await forebay(http_pool(origin.port), command=command)
    assert (await fetch(one.port)).body == b"ok\n"
    assert (await one.metrics()).value("forebay_requests_total") == 1
    (worker,) = await one.worker_pids()
    assert (worker == one.pid) is (command == "worker")
    os.kill(worker, 0)
    one.terminate()
    assert await one.wait() == 0
    assert one.tracebacks() == []


async def test_what_it_says_when_it_does_not_start(forebay: Callable[..., Awaitable[Forebay]]) -> None:
    with pytest.raises(AssertionError, match=r"ended with 2 before(.|\n)*spec\.protocol"):
        await forebay(http_pool(1, spec={"protocol": "gopher"}))
