"""The program under test, run as a user runs it: a document in a file, a process, its ports, its admin page.

When it is ready it prints `forebay: listening on HOST:PORT, admin on HOST:PORT`.
"""

import json
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.support.process import ROOT, Child
from tests.support.raw import Answer, fetch

READY = r"forebay: listening on \S+:(\d+), admin on \S+:(\d+)"
PYTHONPATH = f"{ROOT / 'proxy'}:{ROOT / 'operator'}"


def pool_document(protocol: str, upstream: Mapping[str, Any], spec: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A document for one worker with one upstream, at a free port; `spec` adds to or replaces fields of the spec."""
    return {
        "apiVersion": "forebay.dev/v1alpha1",
        "kind": "ProxyPool",
        "metadata": {"name": "test"},
        "spec": {
            "protocol": protocol,
            "listen": {"port": 0},
            "replicas": 1,
            "upstreams": [dict(upstream)],
            "drain": {"delay": "0s", "timeout": "5s"},
            **(spec or {}),
        },
    }


def http_pool(*ports: int, spec: Mapping[str, Any] | None = None, **upstream: Any) -> dict[str, Any]:
    """A document for one HTTP upstream with an endpoint at each of `ports` on 127.0.0.1.

    Keywords are fields of the upstream (pool=..., budget=...); `spec` adds to or replaces fields of the spec.
    """
    endpoints = [{"host": "127.0.0.1", "port": port} for port in ports]
    return pool_document("http", {"name": "origin", "endpoints": endpoints, **upstream}, spec)


def postgres_pool(
    *ports: int, postgres: Mapping[str, Any] | None = None, spec: Mapping[str, Any] | None = None, **upstream: Any
) -> dict[str, Any]:
    """The same for PostgreSQL; anybody is let in unless `postgres` says how."""
    mine = {"protocol": "postgres", "postgres": {"auth": {"method": "trust"}, **(postgres or {})}}
    fields = {"name": "db", "pool": {"size": 5, "maxOverflow": 0}, **upstream}
    return http_pool(*ports, spec={**mine, **(spec or {})}, **fields)


class Metrics:
    """A scrape of /metrics. Counters are named as they are exposed, with `_total`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name whose labels agree. Raises KeyError when there is none."""
        values = [
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        ]
        if not values:
            raise KeyError(f"no sample {name}{labels}; there are {sorted({s.name for s in self.samples})}")
        return sum(values)

    def get(self, name: str, **labels: str) -> float:
        """As `value`, and 0 when there is no such sample."""
        try:
            return self.value(name, **labels)
        except KeyError:
            return 0.0


class Forebay:
    """Runs `forebay COMMAND -f pool.yaml`. `async with Forebay(tmp_path, document) as f: f.port`."""

    def __init__(
        self,
        directory: Path,
        document: Mapping[str, Any],
        *,
        command: str = "run",
        arguments: Sequence[str] = ("--admin", "127.0.0.1:0"),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.path = directory / "pool.yaml"
        self.write(document)
        if command == "worker":
            arguments = [*arguments, "--memory", str(directory / "memory")]
        self.argv = [sys.executable, "-m", "forebay_proxy.cli", command, "-f", str(self.path), *arguments]
        self.env = {"PYTHONPATH": PYTHONPATH, **(env or {})}
        self.port = 0
        self.admin_port = 0

    def write(self, document: Mapping[str, Any] | str) -> None:
        """Write the document; while it runs this is what it reloads. The file is replaced in one step."""
        text = document if isinstance(document, str) else yaml.safe_dump(dict(document), sort_keys=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.path)

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def stderr(self) -> str:
        return self.child.stderr

    async def spawn(self) -> Self:
        """Start it without waiting for readiness: for documents that it must refuse."""
        self.child = await Child.start(self.argv, env=self.env, cwd=ROOT)
        return self

    async def start(self) -> Self:
        await self.spawn()
        try:
            found = await self.child.line(READY)
        except BaseException:
            await self.close()
            raise
        self.port, self.admin_port = int(found[1]), int(found[2])
        return self

    async def admin(self, target: str, method: str = "GET", **options: Any) -> Answer:
        return await fetch(self.admin_port, target, method, **options)

    async def metrics(self) -> Metrics:
        answer = await self.admin("/metrics")
        assert answer.status == 200, answer
        return Metrics(answer.body.decode())

    async def state(self) -> dict[str, Any]:
        answer = await self.admin("/state")
        assert answer.status == 200, answer
        state: dict[str, Any] = json.loads(answer.body)
        return state

    async def worker_pids(self) -> list[int]:
        """From /state; a single worker that serves its own admin port is itself the worker."""
        workers = (await self.state()).get("workers")
        return [self.pid] if workers is None else [worker["pid"] for worker in workers]

    def reload(self) -> None:
        self.child.send(signal.SIGHUP)

    def terminate(self) -> None:
        self.child.send(signal.SIGTERM)

    async def wait(self, within: float = 30.0) -> int:
        """Wait for its end and return the exit code."""
        return await self.child.wait(within)

    async def close(self) -> None:
        await self.child.end(within=30.0)

    def tracebacks(self) -> list[str]:
        """Lines that no user should ever see."""
        return [
            line
            for line in self.child.lines
            if re.search(r"Traceback|Exception in callback|never (awaited|retrieved)", line)
        ]

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()
