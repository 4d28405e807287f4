"""The CRD is fresh, structural and bounded. What a real API server says of it is in test_crd_on_cluster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from forebay_core.spec import crd as generator

CRD = Path(__file__).parents[3] / "manifests" / "crd" / "proxypools.forebay.dev.yaml"
VERSION = generator.crd()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]


def nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from nodes(node[key], f"{path}[]")


SPEC = list(nodes(SCHEMA["properties"]["spec"], "spec"))
ALL = [*SPEC, *nodes(SCHEMA["properties"]["status"], "status")]


def test_the_file_is_fresh() -> None:
    assert CRD.read_text() == generator.render(), "run: python -m forebay_core.spec.crd > manifests/crd/..."


def test_the_file_is_what_the_generator_means() -> None:
    assert yaml.safe_load(CRD.read_text()) == generator.crd()


@pytest.mark.parametrize(("path", "node"), ALL, ids=[path for path, _ in ALL])
def test_a_node_is_structural_and_bounded(path: str, node: dict[str, Any]) -> None:
    assert not {"$ref", "anyOf", "oneOf", "allOf", "const", "title", "nullable"} & set(node)
    assert not any(key.startswith("x-") and not key.startswith("x-kubernetes-") for key in node)
    assert ("type" in node) != ("x-kubernetes-int-or-string" in node)
    match node.get("type"):
        case "string":
            assert "maxLength" in node or "enum" in node
        case "array":
            assert "maxItems" in node
        case "integer" | "number":
            assert "minimum" in node
            assert isinstance(node["minimum"], int | float)
        case "object":
            assert (
                "properties" in node or "maxProperties" in node or node["x-kubernetes-preserve-unknown-fields"] is True
            )


@pytest.mark.parametrize(("path", "node"), ALL, ids=[path for path, _ in ALL])
def test_a_field_is_described(path: str, node: dict[str, Any]) -> None:
    if not path.endswith("[]"):
        assert node["description"].endswith((".", ".)"))


def test_what_a_protocol_refuses_has_no_default() -> None:
    """The API server would set it, and its own rule would then refuse the document."""
    for path, node in SPEC:
        if "Only with " in node.get("description", ""):
            assert "default" not in node, path
    pool = dict(SPEC)["spec.upstreams[].pool"]["properties"]
    assert pool["recycle"]["description"].endswith("Default: 30m. Only with http or forward or postgres.")
    assert pool["timeout"]["default"] == "5s"


def test_what_differs_by_protocol_has_no_default() -> None:
    """The API server would set that of another protocol."""
    upstream = dict(SPEC)["spec.upstreams[]"]["properties"]
    per = upstream["budget"]["properties"]["per"]
    assert "default" not in per
    assert per["description"].endswith("Default: upstream; with postgres endpoint.")
    idle = upstream["pool"]["properties"]["idleTimeout"]
    assert idle["description"].endswith("Default: 55s; with postgres 5m. Only with http or forward or postgres.")


def test_local_fields_are_left_out() -> None:
    names = {path.split(".")[-1] for path, _ in SPEC}
    assert not {"address", "certFile", "keyFile", "clientCAFile", "caFile", "clientCertFile"} & names
    assert {"certSecret", "clientCASecret", "caSecret", "clientCertSecret", "service"} <= names


def test_scale_and_columns_point_at_what_exists() -> None:
    paths = {f".{path}" for path, _ in ALL}
    scale = VERSION["subresources"]["scale"]
    assert set(scale.values()) <= paths
    assert dict(ALL)["status.selector"]["type"] == "string"  # or an HPA refuses the resource
    columns = [column["jsonPath"] for column in VERSION["additionalPrinterColumns"]]
    plain = [path for path in columns if "[" not in path and path != ".metadata.creationTimestamp"]
    assert set(plain) <= paths
    assert [column["name"] for column in VERSION["additionalPrinterColumns"]] == [
        *("Ready", "Replicas", "Granted", "Budget"),
        *("Waiting", "WaitP95", "LimitedBy", "Age"),
    ]
