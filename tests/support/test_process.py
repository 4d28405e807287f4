"""Children are read, ended, and found when they are left behind; a skip can be made to fail."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import process
from tests.support.process import ROOT, Child, need


async def test_lines_and_the_end_of_a_child() -> None:
    script = "import sys; print('ready 42', file=sys.stderr, flush=True); sys.stdin.read(); sys.exit(3)"
    child = await Child.start([sys.executable, "-c", script])
    assert (await child.line(r"ready (\d+)"))[1] == "42"
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert await child.wait() == 3


async def test_a_child_that_ends_early_is_reported_with_its_words() -> None:
    child = await Child.start([sys.executable, "-c", "import sys; sys.exit('no such file')"])
    with pytest.raises(AssertionError, match=r"ended with 1(.|\n)*no such file"):
        await child.line("ready")
    await child.wait()


async def test_a_stopped_or_stubborn_child_is_ended() -> None:
    script = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('up', file=sys.stderr); signal.pause()"
    child = await Child.start([sys.executable, "-u", "-c", script])
    await child.line("up")
    child.send(signal.SIGSTOP)
    assert await child.end(within=0.1) == -signal.SIGKILL
    child.send(signal.SIGTERM)  # no error


def test_an_orphan_is_found_and_killed() -> None:
    before = process.children()
    started = subprocess.run(
        [
            sys.executable,
            "-c",
            "import subprocess as s; print(s.Popen(['sleep', '1000'], stdout=s.DEVNULL).pid)",
        ],
        stdout=subprocess.PIPE,
        check=True,
    )
    orphan = int(started.stdout)
    assert process.leftovers(before, grace=0.1) == {orphan: "sleep 1000"}
    assert process.leftovers(before, grace=0.0) == {}
    with pytest.raises(ProcessLookupError):
        os.kill(orphan, 0)


def test_what_is_missing_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOREBAY_NO_SKIP", raising=False)
    assert Path(need("sh")).is_file()
    with pytest.raises(pytest.skip.Exception, match="needs no-such-program"):
        need("no-such-program")
    monkeypatch.setenv("FOREBAY_NO_SKIP", "1")
    with pytest.raises(pytest.fail.Exception, match="needs no-such-program"):
        need("no-such-program")


@pytest.mark.parametrize(("no_skip", "code"), [("0", 0), ("1", 1)])
def test_any_skip_fails_the_run_when_told(no_skip: str, code: int) -> None:
    """Runs this file's own sample below in a pytest of its own."""
    options = ["-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]
    command = [sys.executable, "-m", "pytest", *options, f"{__file__}::test_sample_that_skips"]
    env = {**os.environ, "FOREBAY_NO_SKIP": no_skip, "FOREBAY_SAMPLE": "1"}
    assert subprocess.run(command, cwd=ROOT, env=env, capture_output=True).returncode == code


def test_sample_that_skips() -> None:
    if "FOREBAY_SAMPLE" in os.environ:
        pytest.skip("so that its outcome is seen from outside")
