"""kubectl and helm, as a person types them."""

import json
import subprocess
from typing import Any

from tests.support.process import need


def run(program: str, *arguments: str, stdin: str = "", seconds: float = 90) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need(program), *arguments], input=stdin, text=True, capture_output=True, timeout=seconds)


def kubectl(*arguments: str, stdin: str = "", seconds: float = 90) -> str:
    """What it prints; a failure of it is the test's, in its own words."""
    done = run("kubectl", *arguments, stdin=stdin, seconds=seconds)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def get(*arguments: str) -> dict[str, Any]:
    """One object, or a list of them."""
    found = json.loads(kubectl("get", *arguments, "-o", "json"))
    assert isinstance(found, dict)
    return found


def helm(*arguments: str, seconds: float = 120) -> str:
    done = run("helm", *arguments, seconds=seconds)
    assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
    return done.stdout
