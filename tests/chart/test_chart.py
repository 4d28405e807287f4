"""The chart renders what it should, and refuses values that mean nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.chart.rendered import CHART, KUBERNETES, ROOT, helm, install, objects, text

from forebay_core.spec import crd as generator
from forebay_operator import lease

CRD = ("CustomResourceDefinition", "proxypools.forebay.dev")


def container(rendered: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    (only,) = rendered["Deployment", "forebay"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def env(rendered: dict[tuple[str, str], dict[str, Any]]) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "from a field") for variable in container(rendered)["env"]}


def test_lint_is_content() -> None:
    linted = helm("lint", "--strict", str(CHART))
    assert linted.returncode == 0, linted.stdout


def test_the_default_is_the_whole_of_it() -> None:
    assert sorted(kind for kind, _ in objects()) == [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "CustomResourceDefinition",
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Role",
        "Role",
        "RoleBinding",
        "RoleBinding",
        "ServiceAccount",
    ]


def test_the_chart_carries_the_generated_crd() -> None:
    generated = ROOT / "manifests" / "crd" / "proxypools.forebay.dev.yaml"
    carried = CHART / "files" / "proxypools.forebay.dev.yaml"
    assert carried.read_text() == generated.read_text(), f"run: cp {generated} {carried}"


def test_the_crd_is_kept_and_otherwise_the_generated_one() -> None:
    crd = objects()[CRD]
    assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    crd["metadata"].pop("labels")
    assert crd == generator.crd()


def test_the_crd_can_be_left_out() -> None:
    assert CRD not in objects("crds.enabled=false")


def test_the_rendered_manifest_is_fresh() -> None:
    stored = (ROOT / "manifests" / "install.yaml").read_text()
    assert stored == install(), "run: python -m tests.chart.rendered > manifests/install.yaml"


def test_images_are_of_the_charts_version_unless_said_otherwise() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    plain = objects()
    assert container(plain)["image"] == f"forebay-operator:{version}"
    assert env(plain)["FOREBAY_PROXY_IMAGE"] == f"forebay-proxy:{version}"
    other = objects(
        "image.operator.repository=registry.example/operator",
        "image.operator.tag=dev",
        "image.proxy.repository=registry.example/proxy",
        "image.proxy.tag=dev",
        "image.proxy.pullPolicy=Never",
    )
    assert container(other)["image"] == "registry.example/operator:dev"
    assert env(other)["FOREBAY_PROXY_IMAGE"] == "registry.example/proxy:dev"
    assert env(other)["FOREBAY_PROXY_PULL_POLICY"] == "Never"


def test_the_operator_is_confined() -> None:
    pod = objects()["Deployment", "forebay"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(objects())["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_labels_of_the_pods_keep_the_selector() -> None:
    deployment = objects("podLabels.team=water")["Deployment", "forebay"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels["team"] == "water"
    assert deployment["selector"]["matchLabels"].items() <= labels.items()


def test_all_namespaces_are_watched_with_a_cluster_role() -> None:
    rendered = objects()
    assert env(rendered)["FOREBAY_NAMESPACE"] == ""
    binding = rendered["ClusterRoleBinding", "forebay"]
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "forebay",
    }


def test_one_namespace_is_watched_without_rights_in_any_other() -> None:
    rendered = objects("watchNamespace=shop")
    assert env(rendered)["FOREBAY_NAMESPACE"] == "shop"
    assert not any(kind.startswith("Cluster") for kind, _ in rendered)
    assert rendered["Role", "forebay"]["metadata"]["namespace"] == "shop"
    binding = rendered["RoleBinding", "forebay"]
    assert binding["metadata"]["namespace"] == "shop"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "forebay", "namespace": "forebay-system"}]
    assert rendered["Role", "forebay-leader"]["metadata"]["namespace"] == "forebay-system"


def test_nodes_are_read_only_where_all_namespaces_are_watched() -> None:
    """They prove processes dead; a Role can't give a right to them."""
    rendered = objects()
    (nodes,) = [rule for rule in rendered["ClusterRole", "forebay"]["rules"] if "nodes" in rule["resources"]]
    assert nodes["verbs"] == ["get"]
    assert rendered["Role", "forebay"]["metadata"]["namespace"] == "kube-node-lease"
    assert not any("nodes" in rule["resources"] for rule in rules(objects("watchNamespace=shop")))


def test_the_leaders_lease_is_the_one_that_the_operator_takes() -> None:
    create, hold = objects()["Role", "forebay-leader"]["rules"]
    assert create == {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]}
    assert hold["resourceNames"] == [lease.NAME]


def rules(rendered: dict[tuple[str, str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for (kind, _), rendered_object in rendered.items():
        if kind in {"Role", "ClusterRole"}:
            yield from rendered_object["rules"]


@pytest.mark.parametrize("setting", ["watchNamespace=", "watchNamespace=shop"])
def test_no_right_is_a_wildcard_or_reads_foreign_secrets(setting: str) -> None:
    for rule in rules(objects(setting)):
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert not {"deletecollection", "escalate", "bind", "impersonate"} & set(rule["verbs"])
        if "secrets" in rule["resources"]:
            assert not {"list", "watch", "delete"} & set(rule["verbs"])


def test_the_release_names_what_it_installs() -> None:
    rendered = objects(release="blue")
    assert ("Deployment", "blue-forebay") in rendered
    subject = rendered["ClusterRoleBinding", "blue-forebay"]["subjects"][0]
    assert ("ServiceAccount", subject["name"]) in rendered


def test_the_account_can_be_named() -> None:
    rendered = objects("serviceAccount.name=keeper", "serviceAccount.annotations.team=water")
    assert rendered["ServiceAccount", "keeper"]["metadata"]["annotations"] == {"team": "water"}
    assert rendered["Deployment", "forebay"]["spec"]["template"]["spec"]["serviceAccountName"] == "keeper"
    assert rendered["ClusterRoleBinding", "forebay"]["subjects"][0]["name"] == "keeper"


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("watchNamespaces=shop", "watchNamespaces"),
        ("watchNamespace=No_Such", "watchNamespace"),
        ("replicas=two", "replicas"),
        ("crds.enabled=maybe", "enabled"),
        ("image.proxy.pullPolicy=Sometimes", "pullPolicy"),
        ("image.proxy.name=proxy", "name"),
    ],
)
def test_a_value_that_means_nothing_is_refused(setting: str, field: str) -> None:
    refused = helm("template", "forebay", str(CHART), "--kube-version", KUBERNETES, "--set", setting)
    assert refused.returncode != 0
    assert field in refused.stderr


def test_everything_is_labelled_as_the_releases() -> None:
    for rendered in yaml.safe_load_all(text()):
        if rendered:
            assert rendered["metadata"]["labels"]["app.kubernetes.io/instance"] == "forebay"
