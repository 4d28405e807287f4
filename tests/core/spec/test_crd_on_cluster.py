"""A real API server takes the CRD and the examples, and refuses every bad document that `load` refuses."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.core.spec.cases import CLUSTER, Bad, good
from tests.core.spec.test_forward import WHOLE as FORWARD
from tests.core.spec.test_postgres import WHOLE as POSTGRES

from forebay_core.spec.load import document_hash, load, parse

ROOT = Path(__file__).parents[3]
CRD = ROOT / "manifests" / "crd" / "proxypools.forebay.dev.yaml"
EXAMPLES = sorted(path for path in (ROOT / "manifests" / "examples").glob("*.yaml") if not path.stem.endswith("local"))

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="needs a Kubernetes cluster (KUBECONFIG)"),
]


def kubectl(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *arguments], input=stdin, text=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module", autouse=True)
def definition() -> None:
    """The CRD is in the cluster, as it is in the tree; it stays there."""
    applied = kubectl("apply", "-f", str(CRD))
    assert applied.returncode == 0, applied.stderr
    waited = kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRD))
    assert waited.returncode == 0, waited.stderr


def create(document: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return kubectl("create", "--dry-run=server", "-o", "yaml", "-f", "-", stdin=yaml.safe_dump(document))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_is_taken(path: Path) -> None:
    created = kubectl("create", "--dry-run=server", "-o", "yaml", "-f", str(path))
    assert created.returncode == 0, created.stderr
    # What is stored, with the server's defaults in it, means the same.
    stored = load(created.stdout, form="cluster")
    assert document_hash(stored) == document_hash(load(path.read_text(), form="cluster"))


def test_the_examples_policy_is_taken() -> None:
    created = kubectl("create", "--dry-run=server", "-f", str(ROOT / "manifests/examples/policies/forward-egress.yaml"))
    assert created.returncode == 0, created.stderr


@pytest.mark.parametrize("protocol", ["http", "forward", "tcp", "postgres"])
def test_the_smallest_document_is_taken(protocol: str) -> None:
    created = create(good("cluster", protocol))
    assert created.returncode == 0, created.stderr
    assert load(created.stdout, form="cluster").spec == parse(good("cluster", protocol), form="cluster").spec


@pytest.mark.parametrize("whole", [POSTGRES["cluster"], FORWARD["cluster"]], ids=["postgres", "forward"])
def test_a_whole_document_is_taken(whole: dict[str, Any]) -> None:
    created = create(whole)
    assert created.returncode == 0, created.stderr
    assert load(created.stdout, form="cluster").spec == parse(whole, form="cluster").spec


@pytest.mark.parametrize("bad", CLUSTER, ids=lambda bad: bad.id)
def test_the_bad_document_is_refused(bad: Bad) -> None:
    created = create(bad.document)
    assert created.returncode != 0
    field = bad.path.split(".")[-1].split("[")[0]
    assert ("kind" if field == "apiVersion" else field.lower()) in created.stderr.lower()
