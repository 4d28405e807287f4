"""The objects of a pool."""

from typing import Any

import pytest
from tests.controlplane.parts import SETTINGS, pool

from forebay_core.spec.load import DocumentError, parse
from forebay_operator import objects
from forebay_operator.document import render


def wanted(spec: dict[str, Any] | None = None) -> objects.Wanted:
    parsed = parse(pool(spec), form="cluster")
    return objects.Wanted(parsed, "shop", "pool-uid", render(parsed, "shop"), "t0ken", 2, SETTINGS)


def built(spec: dict[str, Any] | None = None) -> dict[tuple[str, str], Any]:
    return {(body["kind"], body["metadata"]["name"]): body for body in objects.build(wanted(spec))}


def pod_spec(spec: dict[str, Any] | None = None) -> Any:
    return built(spec)["Deployment", "orders-forebay"]["spec"]["template"]["spec"]


def test_names_labels_and_owner_of_everything() -> None:
    names = set(built())
    assert names == {
        ("ConfigMap", "orders-forebay"),
        ("ServiceAccount", "orders-forebay"),
        ("Service", "orders-forebay"),
        ("Service", "orders-forebay-peers"),
        ("PodDisruptionBudget", "orders-forebay"),
        ("NetworkPolicy", "orders-forebay"),
        ("Deployment", "orders-forebay"),
    }
    for body in [*built().values(), objects.secret(wanted())]:
        metadata = body["metadata"]
        assert metadata["namespace"] == "shop"
        assert metadata["labels"] == {
            "app.kubernetes.io/name": "forebay",
            "app.kubernetes.io/instance": "orders",
            "app.kubernetes.io/managed-by": "forebay-operator",
            "forebay.dev/pool": "orders",
        }
        assert metadata["ownerReferences"][0]["uid"] == "pool-uid"


def test_the_longest_name_still_fits() -> None:
    assert len(f"{objects.name_of('a' * 45)}-peers") <= 63


def test_the_pod_is_what_the_restricted_policy_asks_for() -> None:
    spec = pod_spec()
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False


def test_grace_is_delay_and_timeout_and_five() -> None:
    assert pod_spec({"drain": {"delay": "1500ms", "timeout": "10s"}})["terminationGracePeriodSeconds"] == 17


def test_a_low_port_may_be_listened_on_without_rights() -> None:
    assert pod_spec({"listen": {"port": 80}})["securityContext"]["sysctls"] == [
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}
    ]
    assert "sysctls" not in pod_spec()["securityContext"]


def test_secrets_are_mounted_by_name() -> None:
    spec = pod_spec({"listen": {"port": 8443, "tls": {"certSecret": {"name": "web"}}}})
    (volume,) = [v["name"] for v in spec["volumes"] if v.get("secret", {}).get("secretName") == "web"]
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == volume]
    assert mount["mountPath"] == "/etc/forebay/secrets/web"


def test_a_changed_document_does_not_restart_pods_and_a_new_token_or_protocol_does() -> None:
    def template(made: objects.Wanted) -> Any:
        return objects.build(made)[-1]["spec"]["template"]

    before = wanted()
    assert template(wanted({"maxClientConnections": 5})) == template(before)
    token = objects.Wanted(before.pool, "shop", "pool-uid", before.document, "other", 2, SETTINGS)
    assert template(token) != template(before)
    tcp = {"protocol": "tcp", "upstreams": [{"name": "o", "dns": {"host": "o", "port": 1}}]}
    assert template(wanted(tcp)) != template(before)


def test_the_users_template_is_laid_over_and_can_not_break_what_we_rest_on() -> None:
    spec = pod_spec(
        {
            "template": {
                "metadata": {"labels": {"team": "a", "forebay.dev/pool": "stolen"}},
                "spec": {
                    "nodeSelector": {"disk": "fast"},
                    "terminationGracePeriodSeconds": 1,
                    "volumes": [{"name": "memory", "emptyDir": None}, {"name": "extra", "emptyDir": {}}],
                    "containers": [
                        {
                            "name": "proxy",
                            "ports": [],
                            "resources": {"requests": {"cpu": "2"}},
                            "env": [{"name": "A", "value": "1"}, {"name": "FOREBAY_POD_UID", "value": "another"}],
                            "volumeMounts": [{"name": "memory", "mountPath": "/elsewhere"}],
                        },
                        {"name": "sidecar", "image": "sidecar:1"},
                    ],
                },
            }
        }
    )
    proxy, sidecar = spec["containers"]
    plain = pod_spec()
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["terminationGracePeriodSeconds"] == plain["terminationGracePeriodSeconds"]
    assert spec["volumes"] == [*plain["volumes"], {"name": "extra", "emptyDir": {}}]
    assert proxy["resources"] == {"requests": {"cpu": "2", "memory": "64Mi"}}
    assert proxy["ports"] == plain["containers"][0]["ports"]
    assert proxy["volumeMounts"] == plain["containers"][0]["volumeMounts"]
    assert proxy["env"] == [*plain["containers"][0]["env"], {"name": "A", "value": "1"}]
    assert sidecar == {"name": "sidecar", "image": "sidecar:1"}


def test_the_users_mounts_are_known_by_their_path() -> None:
    """One volume may be mounted twice."""
    mounts = [{"name": "data", "mountPath": "/a", "subPath": "a"}, {"name": "data", "mountPath": "/b"}]
    own = pod_spec()["containers"][0]["volumeMounts"]
    memory = next(mount for mount in own if mount["name"] == "memory")
    stolen = [{"name": "data", "mountPath": memory["mountPath"]}]
    container = {"name": "proxy", "volumeMounts": [*mounts, *stolen]}
    spec = pod_spec({"template": {"spec": {"volumes": [{"name": "data"}], "containers": [container]}}})
    assert spec["containers"][0]["volumeMounts"] == [*own, *mounts]


def test_a_label_may_be_called_like_a_list() -> None:
    labels = {"env": "prod", "app.kubernetes.io/env": "prod", "volumes": "many"}
    template = built({"template": {"metadata": {"labels": labels}}})["Deployment", "orders-forebay"]["spec"]["template"]
    assert labels.items() <= template["metadata"]["labels"].items()


def test_a_replica_knows_its_pod_and_the_others() -> None:
    env = {each["name"]: each for each in pod_spec()["containers"][0]["env"]}
    assert env["FOREBAY_POD_UID"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert env["FOREBAY_POD_IP"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert built()["Service", env["FOREBAY_PEERS"]["value"]]["spec"]["clusterIP"] == "None"


def test_labels_of_the_selector_stay() -> None:
    template = {"metadata": {"labels": {"team": "a", "forebay.dev/pool": "stolen"}}}
    deployment = built({"template": template})["Deployment", "orders-forebay"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "a"
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ({"spec": "x"}, "spec.template.spec: expected a mapping"),
        ({"spec": {"containers": "x"}}, "spec.template.spec.containers: expected a list of objects with a name"),
        ({"spec": {"volumes": [{}]}}, "spec.template.spec.volumes: expected a list of objects with a name"),
    ],
)
def test_a_template_of_the_wrong_shape_is_refused(template: dict[str, Any], path: str) -> None:
    with pytest.raises(DocumentError) as caught:
        built({"template": template})
    assert str(caught.value) == path
