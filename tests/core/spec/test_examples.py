"""Every example is a document of its form."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from forebay_core.forward.special import BLOCKS, Network
from forebay_core.spec.load import DocumentError, load
from forebay_core.spec.values import Form

FOLDER = Path(__file__).parents[3] / "manifests" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))


def form_of(path: Path) -> Form:
    return "local" if path.stem.endswith("local") else "cluster"


def test_the_examples_are_there() -> None:
    assert {path.stem for path in EXAMPLES} >= {
        "http",
        "tcp",
        "http-routes",
        "tls",
        "local",
        "postgres",
        "postgres-local",
        "forward",
        "forward-local",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_loads(path: Path) -> None:
    assert load(path.read_text(), form=form_of(path)).spec.upstreams


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_in_the_other_form_a_hint_says_what_to_change(path: Path) -> None:
    with pytest.raises(DocumentError, match="expected only in"):
        load(path.read_text(), form="cluster" if form_of(path) == "local" else "local")


def _egress() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "policies" / "forward-egress.yaml").read_text()))


def test_the_egress_policy_is_of_the_forward_example() -> None:
    pool = load((FOLDER / "forward.yaml").read_text(), form="cluster")
    assert pool.spec.forward is not None
    clients, proxy = _egress()
    label = {"forebay.dev/pool": pool.metadata.name}
    assert proxy["spec"]["podSelector"]["matchLabels"] == label
    (kept_apart,) = clients["spec"]["podSelector"]["matchExpressions"]
    assert (kept_apart["key"], kept_apart["values"]) == ("forebay.dev/pool", [pool.metadata.name])
    to_the_proxy = clients["spec"]["egress"][0]
    assert to_the_proxy["to"] == [{"podSelector": {"matchLabels": label}}]
    assert [port["port"] for port in to_the_proxy["ports"]] == [pool.spec.listen.port]
    assert tuple(port["port"] for port in proxy["spec"]["egress"][0]["ports"]) == pool.spec.forward.ports


def test_the_egress_policy_lets_out_what_the_proxy_does() -> None:
    """Every block of the proxy's own table is out of the policy's reach."""
    blocks = [peer["ipBlock"] for peer in _egress()[1]["spec"]["egress"][0]["to"]]
    allowed = [(ip_network(block["cidr"]), list(map(ip_network, block["except"]))) for block in blocks]
    for special in BLOCKS:
        for cidr, exceptions in allowed:
            kept_out = not _overlap(special.network, cidr) or any(_within(special.network, one) for one in exceptions)
            assert kept_out, (special.network, cidr)


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _within(inner: Network, outer: Network) -> bool:
    return _overlap(inner, outer) and inner.prefixlen >= outer.prefixlen
