"""Load without end on a pool, and what is seen meanwhile: by its clients, by its backend, in its status."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.cluster.kubectl import run
from tests.cluster.place import CLIENT, Place

NAME = "traffic"
BETWEEN = 1.0  # seconds between two looks at the status


class Traffic:
    """Keep-alive clients in a pod of their own. `since` tells what became of requests since it was last called."""

    def __init__(self, place: Place, url: str, clients: int) -> None:
        self._place = place
        self._before: dict[str, Any] = {"answered": 0, "failed": {}}
        source = Path(__file__).parent / "traffic.py"
        place.kubectl("create", "configmap", NAME, f"--from-file={source}")
        pod = json.loads(json.dumps(CLIENT))
        pod["metadata"] = {"name": NAME}
        pod["spec"]["volumes"] = [{"name": "source", "configMap": {"name": NAME}}]
        pod["spec"]["containers"][0] |= {
            "command": ["python", "/source/traffic.py", url, str(clients)],
            "volumeMounts": [{"name": "source", "mountPath": "/source"}],
        }
        place.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
        place.kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=60s")

    def since(self) -> tuple[int, dict[str, int]]:
        """How many were answered, and how many were not, by what came instead."""
        told = json.loads(self._place.raw(f"pods/{NAME}:8082/proxy/"))
        before, self._before = self._before, told
        failed = Counter(told["failed"])
        failed.subtract(before["failed"])
        return told["answered"] - before["answered"], {what: n for what, n in failed.items() if n}

    def flows(self) -> None:
        """Wait until requests are answered, and none otherwise for a second."""
        until = time.monotonic() + 60
        while True:
            self.since()
            time.sleep(1)
            answered, failed = self.since()
            if answered and not failed:
                return
            assert time.monotonic() < until, (answered, failed)


class Record:
    """A run, as `chart.py` draws it. Times in seconds since 1970, as the machines tell it.

    `status`: [time, connections granted, budget in force, ready replicas], as often as the API server told of it.
    `open`: [time, the most connections in that second], by the backend itself. `marks`: [time, what was done].
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._status: list[tuple[float, int, int, int]] = []
        self._marks: list[tuple[float, str]] = []
        self._over = threading.Event()

    @contextlib.contextmanager
    def going_on(self) -> Iterator[Self]:
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def mark(self, what: str) -> None:
        self._marks.append((time.time(), what))

    def write(self, path: Path) -> None:
        history = json.loads(self._place.raw("services/orders:counts/proxy/history"))
        rows = {"status": self._status, "marks": self._marks, "open": history}
        path.write_text(json.dumps(rows) + "\n")

    def _look(self) -> None:
        while not self._over.wait(BETWEEN):
            options = ("--namespace", self._place.name, "--request-timeout=5s", "-o", "json")
            seen = run("kubectl", "get", "pp", "orders", *options)
            status = json.loads(seen.stdout).get("status", {}) if seen.returncode == 0 else {}
            row = (status.get("upstreams") or [{}])[0]
            if "budgetInForce" in row:
                ready = status.get("readyReplicas", 0)
                self._status.append((time.time(), row.get("granted", 0), row["budgetInForce"], ready))
