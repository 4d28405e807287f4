"""The operator's own Deployment: how many there are, and what is done to them."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.conftest import SYSTEM
from tests.cluster.kubectl import get, kubectl, run

PODS = ("pods", "-l", "app.kubernetes.io/name=forebay-operator")
COMMAND = "/spec/template/spec/containers/0/command"
CHAOS = Path(__file__).parent / "chaos.py"


def operators(replicas: int) -> None:
    """So many, and ready; or none, not even one that is on its way out."""
    kubectl("scale", "deployment/forebay", "--namespace", SYSTEM, f"--replicas={replicas}")
    if replicas:
        kubectl("rollout", "status", "deployment/forebay", "--namespace", SYSTEM, "--timeout=60s")
    else:
        kubectl("wait", "--namespace", SYSTEM, "--for=delete", *PODS, "--timeout=60s")


def operator_pods() -> list[str]:
    return [pod["metadata"]["name"] for pod in get("--namespace", SYSTEM, *PODS)["items"]]


@contextlib.contextmanager
def chaotic(replicas: int, *modes: str) -> Iterator[None]:
    """Only such operators (see chaos.py); afterwards one that is sound."""
    command = ["python", "-c", CHAOS.read_text(), *modes]
    operators(0)
    _patch({"op": "add", "path": COMMAND, "value": command})
    kubectl("scale", "deployment/forebay", "--namespace", SYSTEM, f"--replicas={replicas}")
    try:
        yield
    finally:
        operators(0)
        _patch({"op": "remove", "path": COMMAND})
        operators(1)


def done_to_them() -> list[str]:
    """What chaos.py says that it did, over all operators that there are. One that has not begun has no log."""
    logs = [run("kubectl", "logs", "--namespace", SYSTEM, pod, "--tail=-1").stdout for pod in operator_pods()]
    lines = [line for log in logs for line in log.splitlines()]
    return [line.removeprefix("chaos: ") for line in lines if line.startswith("chaos: ")]


def _patch(operation: dict[str, object]) -> None:
    kubectl("patch", "deployment/forebay", "--namespace", SYSTEM, "--type=json", "--patch", json.dumps([operation]))
