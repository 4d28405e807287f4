"""A real PostgreSQL server for a test, made with initdb and run as another user where we are root."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from tests.support.process import need

READY = r"database system is ready to accept (read-only )?connections"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "wal_level": "replica",
    "log_min_messages": "log",
    "log_connections": "off",
}
HBA = """
local all all trust
host all trusting 127.0.0.1/32 trust
host all postgres 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs; Debian keeps the server's out of PATH. Skips where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else need(name)


def run(*argv: str, **options: Any) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"


def as_owner() -> dict[str, Any]:
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("needs the user postgres, since this is root")
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


class Postgres:
    """One server. `with Postgres() as server: server.port`; `lines` is its log."""

    def __init__(self, settings: Mapping[str, str] | None = None, *, replica_of: "Postgres | None" = None) -> None:
        self._owner = as_owner()
        self.directory = Path(tempfile.mkdtemp(prefix="forebay-pg-"))
        if self._owner:
            shutil.chown(self.directory, "postgres")
        self.data = self.directory / "data"
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._settings = {**SETTINGS, **(settings or {})}
        if replica_of is None:
            self._run(
                "initdb",
                "-D",
                str(self.data),
                "-U",
                "postgres",
                "--no-sync",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            )
            (self.data / "pg_hba.conf").write_text(HBA)
        else:
            source = ("-h", "127.0.0.1", "-p", str(replica_of.port), "-U", "postgres")
            self._run("pg_basebackup", "-D", str(self.data), *source, "-R", "--no-sync", "-c", "fast")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def _run(self, name: str, *arguments: str, **options: Any) -> None:
        run(program(name), *arguments, cwd=self.directory, **self._owner, **options)

    def give(self, name: str, content: bytes) -> None:
        """A file of the data directory, the server's own."""
        file = self.data / name
        file.write_bytes(content)
        file.chmod(0o600)
        if self._owner:
            shutil.chown(file, "postgres")

    def single(self, statement: str) -> None:
        """Before the start: a statement of the single-user mode."""
        self._run("postgres", "--single", "-D", str(self.data), "postgres", input=statement)

    def start(self) -> Self:
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        before = len(self.lines)
        self._process = subprocess.Popen(
            [program("postgres"), "-D", str(self.data), "-p", str(self.port), *settings],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"}, cwd=self.directory, **self._owner,
        )  # fmt: skip
        threading.Thread(target=self._collect, args=(self._process,), daemon=True).start()
        self.line(READY, after=before)
        return self

    def _collect(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        process.stderr.close()

    def line(self, pattern: str, *, after: int = 0, within: float = 30.0) -> str:
        """Wait until a line of the log matches."""

        def found() -> str | None:
            return next((line for line in self.lines[after:] if re.search(pattern, line)), None)

        with self._news:
            assert self._news.wait_for(found, within), "\n".join(self.lines)
            line = found()
        assert line is not None
        return line

    def send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def everyone(self, number: int) -> None:
        """A signal to the server and all of its processes: SIGSTOP is not passed on."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):  # one that has just ended
                os.kill(pid, number)

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT is PostgreSQL's fast shutdown."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
