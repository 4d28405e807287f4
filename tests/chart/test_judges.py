"""What others say of our manifests: kubeconform of all that is applied to a cluster, kube-score of what runs."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.chart import schemas
from tests.chart.rendered import ROOT, text
from tests.controlplane.parts import SETTINGS, pool
from tests.support.process import need

from forebay_core.spec.load import parse
from forebay_operator import objects
from forebay_operator.document import render

EVERYTHING = (
    "replicas=2", "monitoring.enabled=always", "monitoring.alerts.runbooks=https://example.org/",
    "serviceAccount.annotations.team=water", "podAnnotations.team=water", "podLabels.team=water",
    "imagePullSecrets[0].name=registry", "priorityClassName=high", "nodeSelector.pool=system",
    "tolerations[0].operator=Exists", "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    ".nodeSelectorTerms[0].matchExpressions[0].key=arch", "affinity.nodeAffinity"
    ".requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Exists",
)  # fmt: skip
CRD = ROOT / "manifests" / "crd" / "proxypools.forebay.dev.yaml"
MANIFESTS = sorted(path for path in (ROOT / "manifests").rglob("*.yaml") if not path.stem.endswith("local"))
ALL_OK = 10  # kube-score's grades: 1 critical, 5 warning, 7 almost
KEPT = {  # what kube-score finds fault with, and why it stays
    "pod-networkpolicy": "egress: where the API server and the backends are is not known to a chart",
    "container-resources": "a CPU limit throttles: the operator would lose its Lease, a proxy add to every request; "
    "memory of a proxy is bounded by its buffers, a limit is the user's (template)",
    "container-image-pull-policy": "images are named by version, and a node that has one needs no registry to restart",
    "container-ephemeral-storage-request-and-limit": "root is read-only, and what is written is memory (emptyDir)",
    "deployment-has-host-podantiaffinity": "of the proxies: they have a topologySpreadConstraint",
}


def of_a_pool() -> str:
    """What the operator applies for a pool."""
    parsed = parse(pool(), form="cluster")
    wanted = objects.Wanted(parsed, "shop", "pool-uid", render(parsed, "shop"), "t0ken", 2, SETTINGS)
    return yaml.safe_dump_all([*objects.build(wanted), objects.secret(wanted)])


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the schemas of all kinds."""
    need("kubeconform")
    directory = tmp_path_factory.mktemp("schemas")
    schemas.write(directory, CRD)
    return directory


def conforms(kinds: Path, manifest: str) -> str:
    """What kubeconform has to say against it."""
    location = str(kinds / schemas.LOCATION)
    done = subprocess.run(
        [need("kubeconform"), "-strict", "-schema-location", location, "-"],
        input=manifest, text=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode == 0) == (done.stdout == ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("settings", [(), EVERYTHING, ("watchNamespace=shop", "monitoring.enabled=always")])
def test_the_chart_conforms(kinds: Path, settings: tuple[str, ...]) -> None:
    assert conforms(kinds, text(*settings)) == ""


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_manifests_conform(kinds: Path, file: Path) -> None:
    assert conforms(kinds, file.read_text()) == ""


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "how-to").glob("*.md")), ids=lambda page: page.name)
def test_objects_in_pages_conform(kinds: Path, page: Path) -> None:
    blocks = re.findall(r"```yaml\n(apiVersion:.*?)```", page.read_text(), re.DOTALL)
    assert conforms(kinds, "---\n".join(blocks)) == ""


def test_what_the_operator_applies_conforms(kinds: Path) -> None:
    assert conforms(kinds, of_a_pool()) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("readOnlyRootFilesystem", "readonlyRootFilesystem"),
        ("maxUnavailable: 1", "maxUnavailable: [1]"),
        ("honorLabels: true", "honorLabels: maybe"),
        ("alert: ForebayNoLeader", "alarm: ForebayNoLeader"),
        ("verbs: [get, list, watch]", "verbs: get"),
    ],
)
def test_a_mistake_does_not_conform(kinds: Path, right: str, wrong: str) -> None:
    manifest = text("monitoring.enabled=always")
    assert right in manifest
    assert conforms(kinds, manifest.replace(right, wrong)) != ""


def test_kube_score_finds_only_what_is_kept() -> None:
    done = subprocess.run(
        [need("kube-score"), "score", "--kubernetes-version", "v1.34", "--output-format", "json", "-"],
        input=f"{text('replicas=2')}---\n{of_a_pool()}", text=True, capture_output=True, timeout=60,
    )  # fmt: skip
    scored = json.loads(done.stdout)
    assert {one["type_meta"]["kind"] for one in scored} >= {"Deployment", "PodDisruptionBudget", "NetworkPolicy"}
    checks = [check for one in scored for check in one["checks"] if not check["skipped"]]
    assert {check["check"]["id"] for check in checks if check["grade"] < ALL_OK} == KEPT.keys()
