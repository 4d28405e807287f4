"""Load without end on a pool, and what is seen meanwhile: by its clients, by its backend, in its status."""

import contextlib
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.cluster.place import CLIENT, Place
from tests.support.process import need

NAME = "traffic"
FOLLOWED = "{.status.upstreams[0].granted} {.status.upstreams[0].budgetInForce} {.status.readyReplicas}"


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

    `status`: [time, connections granted, budget in force, ready replicas], whenever the API server told of another.
    `open`: [time, the most connections in the second before], by the backend itself. `marks`: [time, what was done].
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._status: list[tuple[float, int, int, int]] = []
        self._marks: list[tuple[float, str]] = []
        self._over = threading.Event()
        self._watch: subprocess.Popen[str] | None = None

    @contextlib.contextmanager
    def going_on(self) -> Iterator[Self]:
        thread = threading.Thread(target=self._follow)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._end_watch()
            thread.join()

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.kill()

    def mark(self, what: str) -> None:
        self._marks.append((time.time(), what))

    def write(self, path: Path) -> None:
        history = json.loads(self._place.raw("services/orders:counts/proxy/history"))
        rows = {"status": self._status, "marks": self._marks, "open": history}
        record = {name: [[round(at, 1), *rest] for at, *rest in each] for name, each in rows.items()}
        path.write_text(json.dumps(record) + "\n")

    def _follow(self) -> None:
        """A watch, and another one after it: the API server is among what is taken away."""
        options = ("--namespace", self._place.name, "--watch", "-o", f"jsonpath={FOLLOWED}{{'\\n'}}")
        while not self._over.wait(1):
            argv = [need("kubectl"), "get", "pp", "orders", *options]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as self._watch:
                if self._over.is_set():
                    self._end_watch()
                for line in self._watch.stdout or ():
                    with contextlib.suppress(ValueError):  # not all of it is there yet
                        granted, budget, ready = map(int, line.split())
                        self._status.append((time.time(), granted, budget, ready))
