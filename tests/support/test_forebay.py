"""What the harness of the program under test makes of documents and metrics, without the program."""

import pytest
from tests.support.forebay import Metrics, http_pool

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
