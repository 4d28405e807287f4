"""What the chart makes for Prometheus and Grafana, and around the operator's pods."""

import json
from typing import Any

import pytest
import yaml
from tests.chart import readme
from tests.chart.rendered import CHART, KUBERNETES, helm, objects
from tests.controlplane.parts import SETTINGS, pool

from forebay_core.spec.load import parse
from forebay_operator import objects as pools
from forebay_operator.document import render

ALWAYS = "monitoring.enabled=always"
MONITORING = {"PodMonitor", "PrometheusRule"}
KNOWN = [f"monitoring.coreos.com/v1/{kind}" for kind in sorted(MONITORING)]
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]

Objects = dict[tuple[str, str], dict[str, Any]]


def kinds(rendered: Objects) -> set[str]:
    return {kind for kind, _ in rendered} & MONITORING


def test_monitors_are_made_where_the_api_server_knows_them_or_when_told() -> None:
    assert kinds(objects()) == set()
    assert kinds(objects(apis=KNOWN)) == MONITORING
    assert kinds(objects(apis=KNOWN[:1])) == {"PodMonitor"}
    assert kinds(objects(ALWAYS)) == MONITORING
    assert kinds(objects("monitoring.enabled=never", apis=KNOWN)) == set()


def test_all_of_it_has_the_labels_that_prometheus_selects_by() -> None:
    for (kind, _), made in objects(ALWAYS, "monitoring.labels.release=prometheus").items():
        assert ("release" in made["metadata"]["labels"]) == (kind in MONITORING), kind


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return selector["matchLabels"].items() <= labels.items() and all(
        expression["operator"] == "Exists" and expression["key"] in labels
        for expression in selector.get("matchExpressions", [])
    )


def ports(template: dict[str, Any]) -> set[str]:
    return {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}


def pool_template() -> Any:
    parsed = parse(pool(), form="cluster")
    wanted = pools.Wanted(parsed, "shop", "pool-uid", render(parsed, "shop"), "t0ken", 2, SETTINGS)
    (template,) = [made["spec"]["template"] for made in pools.build(wanted) if made["kind"] == "Deployment"]
    return template


def test_each_monitor_finds_its_pods_and_no_others_and_a_port_that_they_have() -> None:
    rendered = objects(ALWAYS, "monitoring.interval=30s")
    operator = rendered["Deployment", "forebay"]["spec"]["template"]
    for name, own, other in (
        ("forebay", operator, pool_template()),
        ("forebay-pools", pool_template(), operator),
    ):
        monitor = rendered["PodMonitor", name]["spec"]
        assert matches(monitor["selector"], own["metadata"]["labels"])
        assert not matches(monitor["selector"], other["metadata"]["labels"])
        (endpoint,) = monitor["podMetricsEndpoints"]
        assert endpoint["port"] in ports(own)
        assert endpoint["honorLabels"] is True, "else `namespace` and `endpoint` of our samples are renamed"
        assert endpoint["interval"] == "30s"


def test_pools_are_looked_for_where_the_operator_looks() -> None:
    def found(*settings: str) -> Any:
        return objects(ALWAYS, *settings)["PodMonitor", "forebay-pools"]["spec"]["namespaceSelector"]

    assert found() == {"any": True}
    assert found("watchNamespace=shop") == {"matchNames": ["shop"]}


def test_the_rule_is_the_file() -> None:
    assert objects(ALWAYS)["PrometheusRule", "forebay"]["spec"]["groups"] == ALERTS


def test_alerts_can_be_left_out_and_lead_to_their_runbooks() -> None:
    settings = [
        "monitoring.alerts.without={ForebayNoLeader}",
        "monitoring.alerts.runbooks=https://example.org/runbooks/",
    ]
    (group,) = objects(ALWAYS, *settings)["PrometheusRule", "forebay"]["spec"]["groups"]
    assert "ForebayNoLeader" not in {rule["alert"] for rule in group["rules"]}
    assert len(group["rules"]) == len(ALERTS[0]["rules"]) - 1
    for rule in group["rules"]:
        assert rule["annotations"]["runbook_url"] == f"https://example.org/runbooks/{rule['alert']}.md"


def test_the_schema_knows_every_alert() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    without = schema["properties"]["monitoring"]["properties"]["alerts"]["properties"]["without"]
    assert without["items"]["enum"] == [rule["alert"] for group in ALERTS for rule in group["rules"]]


def test_the_dashboard_is_found_by_its_label() -> None:
    carried = objects("monitoring.dashboard.annotations.grafana_folder=Forebay")["ConfigMap", "forebay-dashboard"]
    assert carried["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert carried["metadata"]["annotations"] == {"grafana_folder": "Forebay"}
    assert carried["data"] == {"forebay.json": (CHART / "files" / "dashboard.json").read_text()}
    assert ("ConfigMap", "forebay-dashboard") not in objects("monitoring.dashboard.enabled=false")


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "NetworkPolicy"])
def test_what_is_around_the_operator_finds_its_pods(kind: str) -> None:
    rendered = objects(release="blue")
    spec = rendered[kind, "blue-forebay"]["spec"]
    labels = rendered["Deployment", "blue-forebay"]["spec"]["template"]["metadata"]["labels"]
    assert matches(spec.get("podSelector") or spec["selector"], labels)


def test_a_lone_operator_can_be_evicted() -> None:
    assert objects()["PodDisruptionBudget", "forebay"]["spec"]["maxUnavailable"] == 1


def test_only_prometheus_gets_in_and_the_operator_gets_out() -> None:
    rendered = objects()
    spec = rendered["NetworkPolicy", "forebay"]["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    (rule,) = spec["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["metrics"]
    assert "metrics" in ports(rendered["Deployment", "forebay"]["spec"]["template"])
    assert rule["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert ("NetworkPolicy", "forebay") not in objects("networkPolicy.enabled=false")


def test_operators_keep_apart_unless_told_where_to_be() -> None:
    def affinity(*settings: str) -> set[str]:
        return set(objects(*settings)["Deployment", "forebay"]["spec"]["template"]["spec"]["affinity"])

    assert affinity() == {"podAntiAffinity"}
    assert affinity("affinity.podAffinity.x=y") == {"podAffinity"}


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("monitoring.enabled=true", "enabled"),
        ("monitoring.interval=often", "interval"),
        ("monitoring.alerts.without={ForebayNobody}", "without"),
        ("monitoring.alerts.runbooks=example.org", "runbooks"),
        ("monitoring.dashboards.enabled=true", "dashboards"),
        ("networkPolicy.enabled=1", "networkPolicy"),
        ("affinity.pod=x", "pod"),
        ("resources.request.cpu=1", "request"),
    ],
)
def test_a_value_that_means_nothing_is_refused(setting: str, field: str) -> None:
    refused = helm("template", "forebay", str(CHART), "--kube-version", KUBERNETES, "--set", setting)
    assert refused.returncode != 0
    assert field in refused.stderr


def test_the_readme_is_fresh_and_every_value_is_explained() -> None:
    stored = (CHART / "README.md").read_text()
    assert stored == readme.rendered(), "run: python -m tests.chart.readme > charts/forebay/README.md"
    assert [value.path for value in readme.values() if not value.text] == []


def test_every_value_is_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    for value in readme.values():
        node = schema
        for part in value.path.split("."):
            node = schema["definitions"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
            node = node["properties"][part]
