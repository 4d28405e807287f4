"""Parts of the cluster itself, taken away for a while: its API server, the etcd behind it, a kubelet.

FOREBAY_CLUSTER_PART is the command that does it ({part}: etcd, apiserver, controllers or kubelet; {verb}: stop or
start). Without it the tests that need it are skipped; it is for a cluster that has one node.
"""

import contextlib
import os
import shlex
import subprocess
import time
from collections.abc import Iterator

import pytest
from tests.cluster.kubectl import run

VARIABLE = "FOREBAY_CLUSTER_PART"


@contextlib.contextmanager
def without(*parts: str) -> Iterator[None]:
    """Stopped in this order, started in the other; the API server answers again when it is over."""
    command = os.environ.get(VARIABLE)
    if command is None:
        reason = f"needs a command that stops and starts parts of the cluster ({VARIABLE})"
        if os.environ.get("FOREBAY_NO_SKIP") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        for part in parts:
            _do(command, part, "stop")
        yield
    finally:
        for part in reversed(parts):
            _do(command, part, "start")
        until = time.monotonic() + 60
        while (seen := run("kubectl", "get", "--raw", "/readyz")).returncode != 0:
            assert time.monotonic() < until, seen.stderr
            time.sleep(0.5)


def _do(command: str, part: str, verb: str) -> None:
    words = [word.format(part=part, verb=verb) for word in shlex.split(command)]
    # Without our streams: what it starts lives on with them.
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
