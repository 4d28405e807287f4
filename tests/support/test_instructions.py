"""A request must not take more machine instructions than it did: the guard of the hot path that no load disturbs."""

import subprocess
import sys

import pytest
from bench import instructions
from tests.support.process import ROOT, need

from forebay_core.http1 import IMPLEMENTATION

TOLERANCE = 1.05  # builds of the same Python differ by 2 %


@pytest.mark.slow
def test_requests_take_no_more_instructions_than_recorded() -> None:
    need("valgrind")
    recorded = instructions.recorded()
    if not recorded:
        pytest.skip(f"nothing is recorded for Python {instructions.PYTHON}")
    assert IMPLEMENTATION == "compiled", "the codec is not compiled: what is recorded is of the compiled one"
    counts = instructions.measure()
    more = {name: (counts[name], most) for name, most in recorded.items() if counts[name] > TOLERANCE * most}
    assert not more, f"more than recorded: {more}; if that is wanted: python -m bench.instructions --record"


def test_requests_leave_nothing_to_the_garbage_collector_and_are_one_write_each_way() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.instructions", "--run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
