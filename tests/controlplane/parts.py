"""Small parts that the tests of the operator are made from: a ProxyPool, pods and reports, as the API server and the
pods would give them."""

import copy
from collections.abc import Mapping
from typing import Any

from tests.support import states

from forebay_core.budget.ledger import Entry, Home, Ledger
from forebay_core.budget.proofs import Node
from forebay_core.budget.record import dump
from forebay_operator.budgeting import Look
from forebay_operator.memory import Memory
from forebay_operator.observed import Pod, Report
from forebay_operator.past import Past
from forebay_operator.picture import Gathered
from forebay_operator.settings import Settings

SETTINGS = Settings("forebay-proxy:test", "IfNotPresent", "", "forebay-system", "operator-0")
STAMP = "2030-01-01T00:00:00Z"
NOW = 1_900_000_000.0  # seconds
BOOT = "boot-1"


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
            "name": name, "namespace": "shop", "uid": f"{name}-uid", "creationTimestamp": STAMP,
            "labels": {"app.kubernetes.io/name": "forebay", "forebay.dev/pool": "orders"},
        },
        "spec": {"nodeName": "node1", "containers": [{"name": "proxy"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "proxy", "restartCount": 0, "state": {"running": {}}, "lastState": {}}],
            **status,
        },
    }  # fmt: skip


def raw_ended(name: str) -> dict[str, Any]:
    """One that has run to its end."""
    over = {"name": "proxy", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}, "lastState": {}}
    return raw_pod(name, phase="Succeeded", containerStatuses=[over])


def pod(name: str, **fields: Any) -> Pod:
    values: dict[str, Any] = {
        "name": name, "uid": f"{name}-uid", "node": "node1", "ip": "10.0.0.1", "ready": True, "terminating": False,
        "started": True, "terminal": False, "terminated": False, "farewell": None, "document": None,
    }  # fmt: skip
    return Pod(**values | fields)


def state(life: str, sequence: int = 0, held: int = 0, **fields: Any) -> dict[str, Any]:
    """What the pod of the same name answers on `/state`; `orders` adds to its upstream."""
    orders = states.upstream(**{"grant": 4, "budget": 12, "held": held, **fields.pop("orders", {})})
    own: dict[str, Any] = {
        "life": life, "pod": f"{life}-uid", "sequence": sequence, "life_draining": False,
        "upstreams": {"orders": orders},
    }  # fmt: skip
    return states.state(states.worker(**own | fields))


def report(life: str, sequence: int = 0, held: int = 0, at: float = NOW, **fields: Any) -> Report:
    return Report.of(state(life, sequence, held, **fields), at)


def ledger(sequence: int, in_force: int = 12, **entries: tuple[int, int, int]) -> Ledger:
    """Lives by name, (grant, bound, since) of each, in a pod of the same name."""
    lives = {(life, "orders"): Entry(*entry, Home(f"{life}-uid", "node1", BOOT)) for life, entry in entries.items()}
    return Ledger(sequence, lives, {"orders": in_force})


def gathered(raw: Mapping[str, Any], *pairs: tuple[Pod, Report | None], **fields: Any) -> Gathered:
    """What is seen when the pool is `raw`, its ledger the one in its status, and these pods answer, or don't.

    Fields of `Look` and of `Gathered` alike; `began` is long ago, so that no one is waited for. `memory`: of a loop
    that has seen the pool before.
    """
    memory = fields.pop("memory", None) or Memory()
    blueprint, invalid = memory.blueprint(raw, SETTINGS)
    look: dict[str, Any] = {
        "ledger": memory.ledger(raw),
        "reports": {r.answer.pod: r for _, r in pairs if r is not None},
        "pods": {p.uid: p for p, _ in pairs},
        "nodes": {"node1": Node(BOOT, 0.0)},
        "unseen": frozenset(),
        "confirmed": frozenset(),
        "strangers": False,
        "now": NOW,
    }
    look |= {key: fields.pop(key) for key in look.keys() & fields.keys()}
    values: dict[str, Any] = {
        "raw": raw, "blueprint": blueprint, "invalid": invalid, "look": Look(**look), "past": Past(),
        "deployment": None, "token": "secret", "fresh_token": "fresh", "applied": {}, "refused": "", "mishaps": {},
        "stamp": STAMP, "status_age": 1000.0,
    }  # fmt: skip
    return Gathered(**values | fields)


def with_ledger(made: Ledger, **status: Any) -> dict[str, Any]:
    return pool(status={"ledger": dump(made), **status})
