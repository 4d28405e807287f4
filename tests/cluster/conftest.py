"""Tests on a cluster: any that KUBECONFIG leads to, and that may be spoilt.

FOREBAY_IMAGE_BUILDER builds an image ({tag}, {dockerfile} and {context} are put in), FOREBAY_IMAGE_LOADER, with the tag
behind it, brings the image to the cluster's nodes; `true` where they are there already.
"""

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.chart.rendered import CHART, ROOT
from tests.cluster.kubectl import get, helm, kubectl, run
from tests.cluster.place import RESTRICTED, Place
from tests.support.process import need

SYSTEM = "forebay-system"
TAG = "dev"
BUILDER = "docker build --tag {tag} --file {dockerfile} {context}"


LOOKS = (
    ("get", "proxypools,deployments,pods", "--all-namespaces", "-o", "wide"),
    ("logs", "--namespace", SYSTEM, "deployment/forebay", "--tail=100"),
    ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """What the cluster looked like when a test failed."""
    report = yield
    if report.failed and "KUBECONFIG" in os.environ:
        for look in LOOKS:
            seen = run("kubectl", *look)
            report.sections.append((f"kubectl {' '.join(look)}", (seen.stdout or seen.stderr)[-20_000:]))
    return report


@pytest.fixture(autouse=True)
def _no_process_left() -> None:
    """Instead of that of all tests, which would end what belongs to the cluster: `parts` may start it anew."""


@pytest.fixture(scope="session")
def images() -> None:
    """Both images, built from this tree, are on the nodes."""
    for variable, meaning in (("KUBECONFIG", "a Kubernetes cluster"), ("FOREBAY_IMAGE_LOADER", "an image loader")):
        if variable not in os.environ:
            pytest.skip(f"needs {meaning} ({variable})")
    need("kubectl")
    need("helm")
    builder = os.environ.get("FOREBAY_IMAGE_BUILDER", BUILDER)
    loader = os.environ["FOREBAY_IMAGE_LOADER"]
    for part in ("proxy", "operator"):
        tag = f"forebay-{part}:{TAG}"
        values = {"tag": tag, "dockerfile": ROOT / part / "Dockerfile", "context": ROOT}
        for command in ([word.format(**values) for word in shlex.split(builder)], [*shlex.split(loader), tag]):
            done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT)
            assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def places(images: None) -> Iterator[Callable[[str], Place]]:
    """Factory: `places("name")`; its namespace goes when the module's tests are over."""
    made: list[Place] = []

    def make(name: str) -> Place:
        made.append(Place.make(name))
        return made[-1]

    yield make
    for place in made:
        place.remove()


def install(*settings: str) -> str:
    """Install the chart, or bring the release up to it, as the README says; returns Helm's notes."""
    version = ("--set", f"image.operator.tag={TAG}", "--set", f"image.proxy.tag={TAG}")
    more = [part for setting in settings for part in ("--set", setting)]
    # A definition that somebody has applied by hand becomes the release's.
    return helm(
        *("upgrade", "--install", "forebay", str(CHART), "--namespace", SYSTEM, "--take-ownership"),
        *("--wait", "--timeout=60s", *version, *more),
    )


@pytest.fixture(scope="module")
def system(images: None) -> Iterator[None]:
    """A namespace for the operator, with nothing in it."""
    uninstall()
    kubectl("delete", "namespace", SYSTEM, "--ignore-not-found", "--timeout=90s", seconds=120)
    until = time.monotonic() + 120
    while ending := [n["metadata"]["name"] for n in get("namespaces")["items"] if n["status"]["phase"] != "Active"]:
        assert time.monotonic() < until, ending  # of tests before; an operator would try to put right what goes there
        time.sleep(0.5)
    kubectl("create", "namespace", SYSTEM)
    kubectl("label", "namespace", SYSTEM, RESTRICTED)
    yield
    uninstall()
    kubectl("delete", "namespace", SYSTEM, "--wait=false")


def complaints() -> list[str]:
    """Lines of the operator's log that say that a right was missing, or that nobody thought of what happened."""
    told = kubectl("logs", "--namespace", SYSTEM, "deployment/forebay", "--tail=-1")
    lines = [line for line in told.splitlines() if "forbidden" in line.lower() or "Traceback" in line]
    return [line for line in lines if "because it is being terminated" not in line]  # another test's namespace


def uninstall() -> None:
    run("helm", "uninstall", "forebay", "--namespace", SYSTEM, "--ignore-not-found", "--wait", "--timeout=60s")
