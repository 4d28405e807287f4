"""The chart as Helm renders it. `python -m tests.chart.rendered` prints manifests/install.yaml."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tests.support.process import need

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "forebay"
KUBERNETES = "1.34.0"  # what it is rendered for; a helm built without its release flags believes in 1.20

HEADER = """\
# Made from charts/forebay by `python -m tests.chart.rendered`. Don't edit.
# kubectl apply --server-side -f manifests/install.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: forebay-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
---
"""


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need("helm"), *arguments], text=True, capture_output=True, timeout=60)


def text(*settings: str, release: str = "forebay", apis: Sequence[str] = ()) -> str:
    """What is applied with `--set` of each of `settings`, to an API server that knows `apis` beside its own."""
    sets = [part for setting in settings for part in ("--set", setting)]
    known = [part for api in apis for part in ("--api-versions", api)]
    rendered = helm(
        "template", release, str(CHART), "--namespace", "forebay-system", "--kube-version", KUBERNETES, *sets, *known
    )
    assert rendered.returncode == 0, rendered.stderr
    return rendered.stdout


def objects(
    *settings: str, release: str = "forebay", apis: Sequence[str] = ()
) -> dict[tuple[str, str], dict[str, Any]]:
    """The same as objects, by kind and name."""
    documents = [document for document in yaml.safe_load_all(text(*settings, release=release, apis=apis)) if document]
    found = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(found) == len(documents)
    return found


def install() -> str:
    """What manifests/install.yaml has to be."""
    return HEADER + text()


if __name__ == "__main__":
    print(install(), end="")
