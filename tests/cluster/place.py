"""A namespace with a backend and a client in it, where the pools of a test live."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.chart.rendered import ROOT
from tests.cluster.kubectl import get, kubectl

HERE = Path(__file__).parent
EXAMPLE = ROOT / "manifests" / "examples" / "http.yaml"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
CLIENT = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "client"},
    "spec": {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "client",
                "image": "forebay-proxy:dev",
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "infinity"],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    },
}
# Goes on by itself: the one who asked for it may not be able to wait.
KILL = """
import os, signal, sys, time
if os.fork():
    os._exit(0)
os.setsid()
null = os.open("/dev/null", os.O_RDWR)
for stream in range(3):
    os.dup2(null, stream)
time.sleep(float(sys.argv[1]))
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if b"\\0worker\\0" in open(f"/proc/{pid}/cmdline", "rb").read():
            os.kill(int(pid), signal.SIGKILL)
    except OSError:
        pass  # it has ended since, or is none of ours
"""

# What answers at an address that no rule is about may be anybody: it has to be the backend.
ANSWERED = """
import contextlib, http.client, json, sys, time, urllib.request
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        if "peak" in json.load(urllib.request.urlopen(f"http://{sys.argv[1]}:81/", timeout=1)):
            sys.exit()
    time.sleep(0.2)
sys.exit("the Service has not been answered for")
"""


@dataclass(frozen=True)
class Place:
    """`name` is the namespace's. The backend is the Service `orders`: port 80 takes at most 100 connections, port 81
    tells how many there were."""

    name: str

    @classmethod
    def make(cls, name: str) -> "Place":
        """A fresh namespace that takes only confined pods; returns when backend and client are ready."""
        kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=90s", seconds=120)
        kubectl("create", "namespace", name)
        kubectl("label", "namespace", name, RESTRICTED)
        place = cls(name)
        place.kubectl("apply", "-k", str(HERE / "backend"))
        place.kubectl("apply", "-f", "-", stdin=json.dumps(CLIENT))
        place.kubectl("wait", "--for=condition=Available", "deployment/orders", "--timeout=60s")
        place.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
        return place

    def remove(self) -> None:
        kubectl("delete", "namespace", self.name, "--wait=false")

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 90) -> str:
        return kubectl("--namespace", self.name, *arguments, stdin=stdin, seconds=seconds)

    def get(self, *arguments: str) -> dict[str, Any]:
        return get("--namespace", self.name, *arguments)

    def python(self, source: str, *arguments: str, seconds: float = 90) -> str:
        """What `source` prints, run in the client pod."""
        return self.kubectl("exec", "-i", "client", "--", "python", "-", *arguments, stdin=source, seconds=seconds)

    def load(self, service: str, clients: int, seconds: float, *proxy: str) -> dict[str, Any]:
        """What load.py tells."""
        source = (HERE / "load.py").read_text()
        told = self.python(source, f"http://{service}/", str(clients), str(seconds), *proxy, seconds=seconds + 60)
        outcome = json.loads(told)
        print(f"load on {service}: {outcome}", file=sys.stderr)
        assert isinstance(outcome, dict)
        return outcome

    def raw(self, path: str) -> str:
        """What a port of a pod or a Service answers (`pods/NAME:PORT/proxy/`), by way of the API server."""
        return self.kubectl("get", "--raw", f"/api/v1/namespaces/{self.name}/{path}")

    def counts(self) -> dict[str, int]:
        """What the backend has counted: `open`, `peak` (the most at once), `refused`, `answered`."""
        counted = json.loads(self.raw("services/orders:counts/proxy/"))
        assert isinstance(counted, dict)
        return counted

    def tell_backend(self, what: str) -> None:
        """`reset`, `slow` or `fast`."""
        path = f"/api/v1/namespaces/{self.name}/services/orders:counts/proxy/{what}"
        self.kubectl("create", "--raw", path, "-f", "-", stdin="{}")

    def declare(self, document: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(document))

    def ready(self, replicas: int, seconds: float = 60) -> None:
        """Wait until pool `orders` has so many replicas, all of them ready."""
        states = [f"jsonpath={{.status.{path}}}={replicas}" for path in ("replicas", "readyReplicas")]
        for state in (*states, "condition=Ready"):
            self.kubectl("wait", f"--for={state}", "pp/orders", f"--timeout={seconds}s", seconds=seconds + 10)

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods of pool `orders` that are not on their way out, by name."""
        listed = self.get("pods", "-l", "forebay.dev/pool=orders")["items"]
        return {pod["metadata"]["name"]: pod for pod in listed if "deletionTimestamp" not in pod["metadata"]}

    def restarts(self) -> dict[str, int]:
        """How often each of them has been restarted in place."""
        return {name: pod["status"]["containerStatuses"][0]["restartCount"] for name, pod in self.pods().items()}

    def kill(self, pod: str, after: float = 0) -> None:
        """SIGKILL for its process, in so many seconds; the pod's containers share their processes."""
        self.kubectl("exec", pod, "--", "python", "-c", KILL, str(after))

    def entries(self) -> list[dict[str, Any]]:
        """Of the ledger, in the order in which lives joined; none where there is no ledger yet."""
        status = self.get("pp", "orders").get("status", {})
        entries = status.get("ledger", {}).get("entries", [])
        assert isinstance(entries, list)
        return entries

    def bounds(self) -> dict[str, int]:
        """The most that each pod may yet hold, by UID: what the ledger says."""
        return {entry["home"]["pod"]: entry["bound"] for entry in self.entries()}

    def routed(self, seconds: float = 90) -> None:
        """Wait until the node's rules follow the API server's Services and EndpointSlices: a Service made now is
        answered. After the API server was away kube-proxy may watch again a minute later, and until then it sends
        some of those who connect to pods that are no more."""
        self.kubectl("expose", "deployment", "orders", "--name=anew", "--port=81", "--target-port=counts")
        address = self.get("service", "anew")["spec"]["clusterIP"]
        self.python(ANSWERED, address, str(seconds), seconds=seconds + 10)
        self.kubectl("delete", "service", "anew")

    def peak_alone(self, seconds: float) -> int:
        """Wait until there is more than one replica; the most that the backend has had open before that."""
        alone, until = 0, time.monotonic() + seconds
        while self.get("pp", "orders")["status"]["replicas"] == 1:
            alone = self.counts()["peak"]
            assert time.monotonic() < until
            time.sleep(0.5)
        return alone

    def lives(self) -> list[str]:
        """The pods of those who are in the ledger: one that is there twice has a dead life, too."""
        return sorted({entry["life"]: entry["home"]["pod"] for entry in self.entries()}.values())

    def settled(self, replicas: int, seconds: float = 60) -> None:
        """Wait until so many replicas serve, and nobody else may hold anything."""
        self.ready(replicas, seconds)
        until = time.monotonic() + seconds
        while (lives := self.lives()) != sorted(pod["metadata"]["uid"] for pod in self.pods().values()):
            assert time.monotonic() < until, lives
            time.sleep(0.5)


def fixed(replicas: int, connections: int, reserved: int) -> dict[str, Any]:
    """The example with a fixed number of replicas, this budget, a drain and a linger within a test's patience."""
    document: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    document["spec"] |= {"replicas": replicas, "drain": {"delay": "2s", "timeout": "10s"}}
    del document["spec"]["autoscaling"]
    budget = {"maxConnections": connections, "reserved": reserved, "linger": "5s"}
    document["spec"]["upstreams"][0]["budget"] = budget
    return document
