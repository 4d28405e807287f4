"""What a document says about the upstreams that are bounded."""

from typing import Any

import pytest
from tests.support.forebay import http_pool

from forebay_core.budget.ledger import Terms
from forebay_core.budget.terms import terms
from forebay_core.spec.load import parse
from forebay_core.spec.model import Spec

BUDGET = {"maxConnections": 14, "reserved": 2, "linger": "30s"}


def spec(**more: Any) -> Spec:
    document = http_pool(9, spec={"replicas": 2, **more}, pool={"size": 4, "maxOverflow": 1}, budget=BUDGET)
    free = {"name": "free", "endpoints": [{"host": "127.0.0.1", "port": 9}]}
    if "postgres" not in more:
        document["spec"]["upstreams"].append(free)
    return parse(document, form="local").spec


def test_what_is_bounded_has_terms() -> None:
    assert terms(spec()) == {"origin": Terms(12, 4, 1, 5, 30.0)}


@pytest.mark.parametrize(("protocol", "least"), [("http", 1), ("postgres", 2)])
def test_a_session_protocol_is_granted_two_or_none(protocol: str, least: int) -> None:
    own = {"postgres": {"auth": {"method": "trust"}}} if protocol == "postgres" else {}
    assert terms(spec(protocol=protocol, **own))["origin"].least == least
