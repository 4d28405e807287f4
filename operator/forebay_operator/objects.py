"""The objects of one pool, as plain values for server-side apply. Pure: the same pool gives the same objects."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forebay_core.spec.model import API_VERSION, ProxyPool
from forebay_operator.document import SECRETS, Document, secrets_of
from forebay_operator.settings import Settings
from forebay_operator.template import laid_over

Object = dict[str, Any]

MANAGER = "forebay-operator"
POOL = "forebay.dev/pool"  # label: the pool that an object belongs to
DOCUMENT = "forebay.dev/document"  # annotation of pods: a changed one makes the kubelet refresh the mounted document
TOKEN = "forebay.dev/token"  # annotation of the pod template: a digest, so that a new token restarts the pods
PROTOCOL = "forebay.dev/protocol"  # annotation of the pod template: a pod speaks one protocol all its life
ADMIN_PORT = 9901
USER = 65532
PROXY = "proxy"  # the name of our container
MEMORY = "memory"  # the name of the volume that outlives the process
POD_UID = "FOREBAY_POD_UID"  # by which a replica's answers name their pod
DRAIN_SLACK = 5.0  # seconds of termination grace beyond drain.delay and drain.timeout


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the objects are made from. `uid`: of the ProxyPool, their owner; `token`: what opens the admin port."""

    pool: ProxyPool
    namespace: str
    uid: str
    document: Document
    token: str
    replicas: int
    settings: Settings


def name_of(pool: str) -> str:
    """The name of a pool's objects: never the pool's own, which is often that of the Service behind it."""
    return f"{pool}-forebay"


def grace(pool: ProxyPool) -> int:
    """The pods' termination grace, seconds."""
    return math.ceil(pool.spec.drain.delay + pool.spec.drain.timeout + DRAIN_SLACK)


def selector(pool: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "forebay", POOL: pool}


def selector_text(pool: str) -> str:
    """The selector as a string, as the scale subresource wants it."""
    return ",".join(f"{key}={value}" for key, value in selector(pool).items())


def secret(wanted: Wanted) -> Object:
    """The admin token. Made once: a token is never replaced while the Secret exists."""
    name = f"{name_of(wanted.pool.metadata.name)}-admin"
    return _object(wanted, "v1", "Secret", name, type="Opaque", stringData={"token": wanted.token})


def build(wanted: Wanted) -> list[Object]:
    """All others, in the order to apply them. Raises DocumentError where the pod template can't be built."""
    pool = wanted.pool
    name = name_of(pool.metadata.name)
    chosen = selector(pool.metadata.name)
    port = {"name": PROXY, "port": pool.spec.listen.port, "targetPort": PROXY, "protocol": "TCP"}
    admin = {"name": "admin", "port": ADMIN_PORT, "targetPort": "admin", "protocol": "TCP"}
    clients = {"type": pool.spec.service_template.type, "selector": chosen, "ports": [port]}
    service = _object(wanted, "v1", "Service", name, spec=clients)
    if pool.spec.service_template.annotations:
        service["metadata"]["annotations"] = dict(pool.spec.service_template.annotations)
    peers = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": chosen, "ports": [port, admin]}
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": chosen}}
    return [
        _object(wanted, "v1", "ConfigMap", name, data={"pool.yaml": wanted.document.text}),
        _object(wanted, "v1", "ServiceAccount", name, automountServiceAccountToken=False),
        service,
        _object(wanted, "v1", "Service", f"{name}-peers", spec=peers),
        _object(wanted, "policy/v1", "PodDisruptionBudget", name, spec=budget),
        _object(wanted, "networking.k8s.io/v1", "NetworkPolicy", name, spec=_network_policy(wanted)),
        _object(wanted, "apps/v1", "Deployment", name, spec=_deployment(wanted)),
    ]


def _object(wanted: Wanted, api_version: str, kind: str, name: str, **fields: Any) -> Object:
    pool = wanted.pool.metadata.name
    owner = {
        "apiVersion": API_VERSION,
        "kind": "ProxyPool",
        "name": pool,
        "uid": wanted.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    metadata = {
        "name": name, "namespace": wanted.namespace, "labels": _labels(pool), "ownerReferences": [owner],
    }  # fmt: skip
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def _labels(pool: str) -> dict[str, str]:
    own = {"app.kubernetes.io/instance": pool, "app.kubernetes.io/managed-by": MANAGER}
    return selector(pool) | own


def _network_policy(wanted: Wanted) -> Object:
    """The listening port from anywhere, the admin port from the operator and from Prometheus wherever it runs."""
    operators = {"kubernetes.io/metadata.name": wanted.settings.operator_namespace}
    prometheus = {"app.kubernetes.io/name": "prometheus"}
    return {
        "podSelector": {"matchLabels": selector(wanted.pool.metadata.name)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": [{"port": wanted.pool.spec.listen.port, "protocol": "TCP"}]},
            {
                "from": [
                    {"namespaceSelector": {"matchLabels": operators}},
                    {"namespaceSelector": {}, "podSelector": {"matchLabels": prometheus}},
                ],
                "ports": [{"port": ADMIN_PORT, "protocol": "TCP"}],
            },
        ],
    }


def _deployment(wanted: Wanted) -> Object:
    spec = wanted.pool.spec
    rolling = {"maxSurge": spec.strategy.max_surge, "maxUnavailable": spec.strategy.max_unavailable}
    return {
        "replicas": wanted.replicas,
        "selector": {"matchLabels": selector(wanted.pool.metadata.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        "template": laid_over(_pod_template(wanted), spec.template, proxy=PROXY, memory=MEMORY, own_env=POD_UID),
    }


def _pod_template(wanted: Wanted) -> Object:
    pool = wanted.pool
    name = name_of(pool.metadata.name)
    volumes: list[Mapping[str, Any]] = [
        {"name": MEMORY, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "document", "configMap": {"name": name}},
        {"name": "admin", "secret": {"secretName": f"{name}-admin"}},
    ]
    mounts: list[Mapping[str, Any]] = [
        {"name": MEMORY, "mountPath": "/run/forebay"},
        {"name": "document", "mountPath": "/etc/forebay/document", "readOnly": True},
        {"name": "admin", "mountPath": "/etc/forebay/admin", "readOnly": True},
    ]
    for secret_name in secrets_of(pool):
        volume = f"secret-{_digest(secret_name)}"  # a Secret's name may be longer than a volume's
        volumes.append({"name": volume, "secret": {"secretName": secret_name}})
        mounts.append({"name": volume, "mountPath": f"{SECRETS}/{secret_name}", "readOnly": True})
    security: Object = {
        "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    if pool.spec.listen.port < 1024:
        security["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": str(pool.spec.listen.port)}]
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(pool.metadata.name)},
    }
    annotations = {TOKEN: _digest(wanted.token), PROTOCOL: pool.spec.protocol}
    return {
        "metadata": {"labels": _labels(pool.metadata.name), "annotations": annotations},
        "spec": {
            "serviceAccountName": name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": grace(pool),
            "securityContext": security,
            "topologySpreadConstraints": [spread],
            "containers": [_container(wanted, mounts)],
            "volumes": volumes,
        },
    }


def _container(wanted: Wanted, mounts: list[Mapping[str, Any]]) -> Object:
    arguments = [
        "worker", "-f", "/etc/forebay/document/pool.yaml", "--admin", f"0.0.0.0:{ADMIN_PORT}",
        "--memory", "/run/forebay/memory", "--token-file", "/etc/forebay/admin/token",
    ]  # fmt: skip
    return {
        "name": PROXY,
        "image": wanted.settings.proxy_image,
        "imagePullPolicy": wanted.settings.pull_policy,
        "args": arguments,
        "env": [
            {"name": POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            {"name": "FOREBAY_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "FOREBAY_PEERS", "value": f"{name_of(wanted.pool.metadata.name)}-peers"},
        ],
        "ports": [
            {"name": PROXY, "containerPort": wanted.pool.spec.listen.port, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "livenessProbe": _probe("/livez", period=10, failures=3),
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _probe(path: str, *, period: int, failures: int) -> Object:
    get = {"path": path, "port": "admin"}
    return {"httpGet": get, "periodSeconds": period, "timeoutSeconds": 2, "failureThreshold": failures}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
