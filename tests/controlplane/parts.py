"""Small parts that the tests of the operator are made from: a ProxyPool, pods and reports, as the API server and the
pods would give them."""

import copy
from collections.abc import Mapping
from typing import Any

from forebay_operator.observed import Pod, Report, UpstreamReport
from forebay_operator.plan import Gathered
from forebay_operator.settings import Settings

SETTINGS = Settings("forebay-proxy:test", "IfNotPresent", "", "forebay-system", "operator-0")
NOW = "2030-01-01T00:00:00Z"


def pool(spec: Mapping[str, Any] | None = None, status: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The ProxyPool `orders`, two replicas, budget 12: a floor of 4."""
    own = {
        "protocol": "http",
        "listen": {"port": 8080},
        "replicas": 2,
        "upstreams": [{"name": "orders", "service": {"name": "orders", "port": 80}, "budget": {"maxConnections": 12}}],
    }
    raw: dict[str, Any] = {
        "apiVersion": "forebay.dev/v1alpha1",
        "kind": "ProxyPool",
        "metadata": {
            "name": "orders", "namespace": "shop", "uid": "pool-uid", "generation": 3, "resourceVersion": "41",
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": own | copy.deepcopy(dict(spec or {})),
    }  # fmt: skip
    if status is not None:
        raw["status"] = dict(status)
    return raw


def raw_pod(name: str, **status: Any) -> dict[str, Any]:
    """A pod of it that runs and is ready."""
    return {
        "metadata": {
            "name": name, "namespace": "shop", "uid": f"{name}-uid", "creationTimestamp": NOW,
            "labels": {"app.kubernetes.io/name": "forebay", "forebay.dev/pool": "orders"},
        },
        "spec": {"nodeName": "node1"},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "proxy", "restartCount": 0, "state": {"running": {}}, "lastState": {}}],
            **status,
        },
    }  # fmt: skip


def pod(name: str, **fields: Any) -> Pod:
    values: dict[str, Any] = {
        "name": name, "uid": f"{name}-uid", "node": "node1", "ip": "10.0.0.1", "created": NOW, "ready": True,
        "terminating": False, "ran": True, "ended": False, "farewell": None, "document": None,
    }  # fmt: skip
    return Pod(**values | fields)


def upstream(held: int = 0, grant: int = 0, **fields: Any) -> UpstreamReport:
    values = {"budgeted": True, "waiting": 0, "wait_oldest": 0.0, "paused": False}
    return UpstreamReport(held=held, grant=grant, **values | fields)


def report(life: str, sequence: int = 0, held: int = 0, grant: int = 0, **fields: Any) -> Report:
    values: dict[str, Any] = {
        "life": life, "sequence": sequence, "document": "", "draining": False, "final": False,
        "upstreams": {"orders": upstream(held, grant)},
    }  # fmt: skip
    return Report(**values | fields)


def gathered(raw: Mapping[str, Any], **fields: Any) -> Gathered:
    values: dict[str, Any] = {
        "raw": raw, "pods": (), "reports": {}, "deployment": None, "token": "secret", "fresh_token": "fresh",
        "applied": {}, "refused": "", "lingered": frozenset(), "now": NOW, "status_age": 1000.0, "settings": SETTINGS,
    }  # fmt: skip
    return Gathered(**values | fields)
