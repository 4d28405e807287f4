"""A real Prometheus, on a port of its own choice, that scrapes as docs/how-to/prometheus.yaml says.

`async with Prometheus(tmp_path, [target("127.0.0.1:9901", pod="a")]) as p: p.url`. Discovery is ours (not every build
of Prometheus knows Kubernetes): `targets` makes of pods, as `kubectl get pods -o json` lists them, what it would find.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from tests.support.process import ROOT, Child, need

LISTENING = r'msg="Listening on" address=127\.0\.0\.1:(\d+)'
READY = r'msg="Server is ready to receive web requests\."'
META = "__meta_kubernetes_"

Target = dict[str, Any]


def target(
    address: str,
    *,
    pod: str,
    namespace: str = "shop",
    name: str = "forebay",
    container: str = "proxy",
    port: str = "admin",
    phase: str = "Running",
) -> Target:
    """A port of a pod as Kubernetes' discovery tells of it; `name` is its label app.kubernetes.io/name."""
    labels = {
        "namespace": namespace,
        "pod_name": pod,
        "pod_phase": phase,
        "pod_label_app_kubernetes_io_name": name,
        "pod_container_name": container,
        "pod_container_port_name": port,
    }
    return {"targets": [address], "labels": {META + key: value for key, value in labels.items()}}


def targets(pods: Mapping[str, Any]) -> Iterator[Target]:
    """Every port of every pod of a list."""
    for pod in pods["items"]:
        metadata, address = pod["metadata"], pod["status"].get("podIP")
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", ()):
                if address:
                    yield target(
                        f"{address}:{port['containerPort']}",
                        pod=metadata["name"],
                        namespace=metadata["namespace"],
                        name=metadata.get("labels", {}).get("app.kubernetes.io/name", ""),
                        container=container["name"],
                        port=port.get("name", ""),
                        phase=pod["status"]["phase"],
                    )


class Prometheus:
    """Scrapes every second; its data are in `directory`."""

    def __init__(self, directory: Path, found: Sequence[Target]) -> None:
        self.url = ""
        (job,) = yaml.safe_load((ROOT / "docs" / "how-to" / "prometheus.yaml").read_text())
        del job["kubernetes_sd_configs"]
        job["static_configs"] = list(found)
        self._config = directory / "prometheus.json"  # JSON is YAML
        self._config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        self._data = directory / "data"

    async def __aenter__(self) -> Self:
        argv = [
            need("prometheus"),
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._data}",
            "--web.listen-address=127.0.0.1:0",
        ]
        self._child = await Child.start(argv)
        try:
            found = await self._child.line(LISTENING)
            await self._child.line(READY)
        except BaseException:
            await self._child.end()
            raise
        self.url = f"http://127.0.0.1:{found[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._child.end()
