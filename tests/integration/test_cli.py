"""The command line with bad input: one clear line (or one per problem), the right exit code, never a traceback."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.certs import CA
from tests.support.forebay import PYTHONPATH, Forebay, http_pool, postgres_pool
from tests.support.process import ROOT

Start = Callable[..., Awaitable[Forebay]]

RUN = ("run", "--admin", "127.0.0.1:0")


def forebay(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "forebay_proxy.cli", *arguments],
        env={**os.environ, "PYTHONPATH": PYTHONPATH, **(env or {})},
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], code: int, *said: str) -> list[str]:
    """The lines of stderr; the command has failed with this code and said all of this, and nothing ugly."""
    assert done.returncode == code, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not re.search(r"^\w+(\.\w+)*(Error|Exception)\b", done.stderr, re.MULTILINE), done.stderr
    for text in said:
        assert text in done.stderr, done.stderr
    return done.stderr.splitlines()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Any], str]:
    """Writes a document (or any text) and returns its path."""

    def write(document: Any) -> str:
        path = tmp_path / "pool.yaml"
        path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        return str(path)

    return write


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


Written = Callable[[Any], str]


@pytest.mark.parametrize("command", [RUN, ("worker", "--memory", "unused"), ("validate",)], ids=lambda c: c[0])
def test_a_bad_document_is_refused_whole(written: Written, command: tuple[str, ...]) -> None:
    document = http_pool(1, pool={"size": 0, "timeout": "soon"})
    document["spec"]["lisen"] = {"port": 1}
    lines = refused(
        forebay(*command, "-f", written(document)), 2,
        "is refused:", "spec.upstreams[0].pool.size", "spec.upstreams[0].pool.timeout", '"soon"', "spec.lisen",
    )  # fmt: skip
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spec: [", "line 2, column 1: expected valid YAML"),
        ("", "expected"),
        ("- a list\n", "expected"),
        ("a: &a [*a]\n", "expected"),
        ("kind: ProxyPool\n---\nkind: ProxyPool\n", "document"),
    ],
)
def test_text_that_is_no_document(written: Written, text: str, said: str) -> None:
    refused(forebay("validate", "-f", written(text)), 2, said)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"spec: \xff\xfe")
    assert len(refused(forebay("validate", "-f", str(tmp_path / "none")), 2, "none", "No such file")) == 1
    assert len(refused(forebay("validate", "-f", str(binary)), 2, "byte 6 is not UTF-8")) == 1
    refused(forebay("validate", "-f", str(tmp_path)), 2, "director")
    refused(forebay("validate"), 2, "--file")
    refused(forebay("no-such-command"), 2, "no-such-command")
    refused(forebay("run", "-f", "pool.yaml", "--admin", "localhost"), 2, "'localhost' is not HOST:PORT")
    refused(forebay("run", "-f", "pool.yaml", "--admin", "127.0.0.1:99999"), 2, "HOST:PORT")


def test_validate_says_what_is_wrong_to_programs(written: Written) -> None:
    done = forebay("validate", "-o", "json", "-f", written(http_pool(1, pool={"size": -1})))
    assert done.returncode == 2
    said = json.loads(done.stdout)
    assert said["valid"] is False
    assert [problem["path"] for problem in said["problems"]] == ["spec.upstreams[0].pool.size"]
    done = forebay("validate", "-o", "json", "-f", written(http_pool(1)))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"valid": True, "name": "test"})


def test_validate_warns_of_what_a_valid_document_gives_up(written: Written) -> None:
    spec = {"protocol": "postgres", "postgres": {"auth": {"method": "trust"}}}
    done = forebay("validate", "-f", written(http_pool(1, spec=spec)))
    assert done.returncode == 0
    assert done.stdout.endswith("is valid\n")
    trust, monitor = done.stderr.splitlines()
    assert trust.startswith("warning: spec.postgres.auth.method: trust: ")
    assert monitor.startswith("warning: spec.postgres.monitor: missing: ")


def test_a_port_in_use(written: Written, taken: int, tmp_path: Path) -> None:
    path = written(http_pool(1, spec={"listen": {"port": taken, "address": "127.0.0.1"}}))
    said = f"can't listen on 127.0.0.1:{taken}: Address already in use"
    assert refused(forebay(*RUN, "-f", path), 1) == [f"forebay: {said}"]
    memory = str(tmp_path / "memory")
    done = forebay("worker", "--admin", "127.0.0.1:0", "--memory", memory, "-f", path)
    assert refused(done, 1) == [f"forebay: {said}"]


def test_an_admin_port_in_use(written: Written, taken: int, tmp_path: Path) -> None:
    path = written(http_pool(1))
    said = f"can't listen on 127.0.0.1:{taken}: Address already in use"
    assert refused(forebay("run", "--admin", f"127.0.0.1:{taken}", "-f", path), 1) == [f"forebay: {said}"]
    memory = str(tmp_path / "memory")
    done = forebay("worker", "--admin", f"127.0.0.1:{taken}", "--memory", memory, "-f", path)
    assert refused(done, 1) == [f"forebay: {said}"]


def test_an_address_that_is_not_here(written: Written) -> None:
    path = written(http_pool(1, spec={"listen": {"port": 0, "address": "192.0.2.1"}}))
    assert len(refused(forebay(*RUN, "-f", path), 1, "can't listen on 192.0.2.1:0: Cannot assign")) == 1
    done = forebay("run", "--admin", "no-such-host.invalid:0", "-f", written(http_pool(1)))
    (line,) = refused(done, 1, "can't listen on no-such-host.invalid:0: ")
    assert "Unknown error" not in line


def test_an_address_that_is_a_name_without_one(written: Written, tmp_path: Path) -> None:
    memory = str(tmp_path / "memory")
    path = written(http_pool(1))
    done = forebay("worker", "--admin", "no-such-host.invalid:0", "--memory", memory, "-f", path)
    (line,) = refused(done, 1, "can't listen on no-such-host.invalid:0: ")
    assert "Unknown error" not in line


async def test_warnings_are_called_so(forebay: Start) -> None:
    document = http_pool(1, spec={"protocol": "postgres", "postgres": {"auth": {"method": "trust"}}})
    f = await forebay(document)
    assert any(line.startswith("forebay: warning: spec.postgres.auth.method: trust: ") for line in f.child.lines)


def test_certificates_that_cannot_be_used(written: Written, ca: CA, tmp_path: Path) -> None:
    pair, other = ca.server(), ca.server("other", stem="other")
    for cert, key, said in (
        (tmp_path / "missing.crt", pair.key, "missing.crt"),
        (pair.cert, other.key, "key"),
        (pair.key, pair.key, "server.key"),
    ):
        tls = {"certFile": str(cert), "keyFile": str(key)}
        path = written(http_pool(1, spec={"listen": {"port": 0, "tls": tls}}))
        assert len(refused(forebay(*RUN, "-f", path), 1, said)) == 1
    path = written(http_pool(1, tls={"caFile": str(tmp_path / "no-ca.crt")}))
    assert len(refused(forebay(*RUN, "-f", path), 1, "no-ca.crt")) == 1
    done = forebay("worker", "--admin", "127.0.0.1:0", "--memory", str(tmp_path / "memory"), "-f", path)
    assert len(refused(done, 1, "no-ca.crt")) == 1


def test_users_and_passwords_that_cannot_be_used(written: Written, tmp_path: Path) -> None:
    users, password = tmp_path / "users.txt", tmp_path / "password"
    named = {
        "auth": {"usersFile": str(users)},
        "databases": [{"name": "a", "user": "b", "passwordFile": str(password)}],
    }
    path = written(postgres_pool(1, postgres=named))
    worker = ("worker", "--admin", "127.0.0.1:0", "--memory", str(tmp_path / "memory"), "-f", path)
    faults: list[tuple[Path, str, str]] = [  # a file, what is in it then, and what is said next
        (users, "nonsense", f"{password}: No such file"),
        (password, "", f"{password}: expected a password, found nothing"),
        (password, "secret", f"{users}: line 1: expected"),
    ]
    said = f"{users}: No such file"
    for file, content, next_said in [*faults, (users, "", "")]:
        for command in ((*RUN, "-f", path), worker):
            assert len([line for line in refused(forebay(*command), 1, said) if said in line]) == 1
        file.write_text(content)
        said = next_said


def test_a_state_directory_that_cannot_be_made(written: Written, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = forebay(*RUN, "-f", written(http_pool(1)), env={"XDG_RUNTIME_DIR": str(file)})
    assert len(refused(done, 1, f"{file}/forebay/", "Not a directory")) == 1


def test_a_memory_that_cannot_be_used(written: Written, tmp_path: Path) -> None:
    path = written(http_pool(1))
    done = forebay("worker", "--admin", "127.0.0.1:0", "--memory", str(tmp_path / "no" / "memory"), "-f", path)
    assert len(refused(done, 1, "no/memory: No such file or directory")) == 1
    arguments = ("worker", "--admin", "127.0.0.1:0", "--memory", str(tmp_path / "memory"), "-f", path)
    done = forebay(*arguments, "--token-file", str(tmp_path / "token"))
    assert len(refused(done, 1, "token: No such file or directory")) == 1


def test_a_memory_that_is_another_file(written: Written) -> None:
    path = written(http_pool(1))
    before = Path(path).read_bytes()
    done = forebay("worker", "--admin", "127.0.0.1:0", "--memory", path, "-f", path)
    assert len(refused(done, 1, f"{path} is no replica's memory")) == 1
    assert Path(path).read_bytes() == before


async def test_a_memory_that_another_lives_with(forebay: Start) -> None:
    f = await forebay(http_pool(1), command="worker")
    second = Forebay(f.path.parent, http_pool(1), command="worker")
    await second.spawn()
    assert await second.wait() == 1
    assert second.child.lines == ["forebay: another process holds this replica's memory"]


async def test_a_name_that_does_not_resolve_is_said_once_and_the_pool_runs(forebay: Start) -> None:
    document = http_pool(1)
    document["spec"]["upstreams"][0].pop("endpoints")
    document["spec"]["upstreams"][0]["dns"] = {"host": "no-such-host.invalid", "port": 80}
    f = await forebay(document)
    await f.child.line("can't resolve no-such-host.invalid: ")
    f.child.send(signal.SIGINT)
    assert await f.wait() == 0
    assert len(f.child.lines) == 2


async def test_top_of_a_pool_that_is_not_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert len(refused(forebay("top", url, "--once"), 1, url)) == 1
    refused(forebay("top", "not a url", "--once"), 1)
