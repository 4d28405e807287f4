"""How many machine instructions a request takes on its way through us: `python -m bench.instructions` prints them.

Wall time and CPU time depend on the machine and on who else is at work; the number of instructions hardly does. Real
worker, real protocols, real pool, the compiled codec: only the transports are stand-ins that keep what is written, so
that neither the kernel nor the event loop is counted, and nothing depends on time. One request is handed over after
the other, each answered at once; in the scripts `-queue` two at a time, of which one waits for the other's connection.
What PostgreSQL's side reads is dealt with at once here but for a few, as turns of the loop are short (`turn.py`).

valgrind's callgrind counts inside of one C function, and from zero each time that it is entered. That is
PyObject_Dir: `dir()` calls it, and it calls the script, dressed as a `__dir__` method; a profile is written each time
that it is left. The collector of garbage is off meanwhile.

Two builds of Python 3.11 (one with, one without profile-guided optimisation) differ by 2 %, the presence of AVX by
0.1 %, two runs by less.
"""

import argparse
import asyncio
import gc
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.request import HEADERS, TARGET
from forebay_core.http1 import IMPLEMENTATION
from forebay_core.spec.load import parse
from forebay_proxy.connection import UpstreamConnection
from forebay_proxy.memory import Memory
from forebay_proxy.worker import Worker

KEPT: list[socket.socket] = []
WARM, COUNTED = 50, 100  # requests
SCRIPTS = ("http", "upload", "http-queue", "postgres", "postgres-queue")
RECORD = Path(__file__).parent / "results" / "instructions.json"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

REQUEST = "\r\n".join([f"GET {TARGET} HTTP/1.1", "Host: 127.0.0.1:8080", *HEADERS, "", ""]).encode()
ANSWER_FIELDS = (
    "HTTP/1.1 200 OK", "Server: nginx/1.22.1", "Date: Sun, 22 Nov 2026 10:00:00 GMT", "Content-Type: application/json",
    "Content-Length: 1024", "Connection: keep-alive", "Cache-Control: private, max-age=0, must-revalidate",
    'ETag: "5d8c72a5edda8d6a"', "Vary: Accept-Encoding, Origin", "X-Request-Id: 7b1c3f5e9d2a4c68b0e1f2a3c4d5e6f7",
    "X-Content-Type-Options: nosniff", "", "",
)  # fmt: skip
ANSWER = "\r\n".join(ANSWER_FIELDS).encode() + b"0123456789abcdef" * 64
UPLOAD = REQUEST.replace(b"GET", b"POST", 1).replace(b"\r\n\r\n", b"\r\nContent-Length: 1024\r\n\r\n") + bytes(1024)


def message(kind: bytes, body: bytes) -> bytes:
    """Of PostgreSQL."""
    return kind + (len(body) + 4).to_bytes(4, "big") + body


READY = message(b"Z", b"I")
START_UP = message(b"", b"\0\3\0\0user\0postgres\0database\0postgres\0\0")
WELCOME = b"".join(
    (
        message(b"R", bytes(4)),
        *(message(b"S", pair) for pair in (b"client_encoding\0UTF8\0", b"server_version\x0015.0\0")),
        message(b"K", bytes(8)),
        READY,
    )
)
QUERY = message(b"Q", b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;\0")
ROW = b"".join(
    (
        message(b"T", b"\0\1abalance\0" + bytes(18)),
        message(b"D", b"\0\1\0\0\0\1" + b"0"),
        message(b"C", b"SELECT 1\0"),
        READY,
    )
)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append
        self.protocol: Any = None
        self._info = {"peername": ("127.0.0.1", 50000), "socket": socket.socket()}

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str) -> object:
        return self._info.get(name)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Callable[..., None]:  # pause_reading, set_write_buffer_limits, ...
        return lambda *_, **__: None


async def exchange(
    pool: dict[str, Any], memory: Path, login: bytes, asked: bytes, answered: bytes
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A function that carries one request through a worker, there and back; and one that does so with those of two
    clients at once, of whom the second waits for the only connection to the backend.

    `login` is what a client says first, and answered by WELCOME; empty: there is no login. Until then the
    connection to the backend is a real one.
    """
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        endpoints = [{"host": "127.0.0.1", "port": listener.getsockname()[1]}]
        upstream = {"name": "bench", "endpoints": endpoints, "pool": {"size": 1, "maxOverflow": 0}}
        spec = {"listen": {"port": 0}, "upstreams": [upstream], **pool}
        document = {
            "apiVersion": "forebay.dev/v1alpha1",
            "kind": "ProxyPool",
            "metadata": {"name": "bench"},
            "spec": spec,
        }
        worker = Worker(parse(document, form="local"), Memory.at(memory), "bench", b"")
        await worker.start()
        wires = [Wire(), Wire()]
        for wire in wires:
            wire.protocol = worker.proxy(None)
            wire.protocol.connection_made(wire)
            wire.protocol.data_received(login or asked)
        backend, _ = await loop.sock_accept(listener)
        for _ in wires[:1] if login else wires:
            await loop.sock_recv(backend, 1 << 16)
            await loop.sock_sendall(backend, WELCOME if login else answered)
        while not all(wire.written and (not login or wire.written[-1].endswith(READY)) for wire in wires):
            await asyncio.sleep(0.001)
    (there,) = worker.upstreams["bench"].pool.connections
    assert isinstance(there, UpstreamConnection)
    there.connection_made(Wire())
    sent, (come, come_too) = there.transport.written, (wire.written for wire in wires)
    client, waiting = (wire.protocol for wire in wires)
    turn = worker.turn  # of the loop

    def end_turn() -> None:
        if turn.answers or turn.requests:
            turn.end()

    end = end_turn if login else bool  # a turn means nothing to HTTP

    def one() -> None:
        sent.clear()
        come.clear()
        client.data_received(asked)
        end()
        there.data_received(answered)
        end()
        if len(sent) != 1 or len(come) != 1:
            raise RuntimeError(f"{len(sent)} writes to the upstream and {len(come)} to the client, not one of each")

    def two() -> None:
        sent.clear()
        come.clear()
        come_too.clear()
        client.data_received(asked)
        waiting.data_received(asked)
        end()
        there.data_received(answered)
        end()
        there.data_received(answered)
        end()
        if len(sent) != 2 or len(come) != 1 or len(come_too) != 1:
            raise RuntimeError(f"{len(sent)} writes to the upstream, {len(come)} and {len(come_too)} to the clients")

    KEPT.append(backend)
    return one, two


def nothing(*_: object) -> None:
    """In place of what is not to be counted."""


class Counted:
    """`dir()` of it runs the script COUNTED times: see the module's docstring."""

    def __init__(self, script: Callable[[], None]) -> None:
        self._script = script

    def __dir__(self) -> list[str]:
        for _ in range(COUNTED):
            self._script()
        return []


async def run() -> None:
    """All scripts, each a `dir()` of its own: nothing else calls it from here on. Raises RuntimeError where one leaves
    garbage, that is, objects in cycles: they cost memory until the collector runs, and its runs cost all others."""
    http = {"protocol": "http"}
    postgres = {"protocol": "postgres", "postgres": {"auth": {"method": "trust"}}}
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        request, requests = await exchange(http, here / "http", b"", REQUEST, ANSWER)
        upload, _ = await exchange(http, here / "upload", b"", UPLOAD, ANSWER)
        query, queries = await exchange(postgres, here / "postgres", START_UP, QUERY, ROW)
        scripts = [request, upload, requests, query, queries]
    gc.disable()  # a collection, or none, is luck
    asyncio.get_running_loop().call_soon = nothing  # the scripts end the turns of the loop
    for name, script in zip(SCRIPTS, scripts, strict=True):
        gc.collect()
        for _ in range(WARM):
            script()
        if garbage := gc.collect():
            raise RuntimeError(f"{WARM} requests of {name} leave {garbage} objects to the garbage collector")
        dir(Counted(script))
    os._exit(0)  # no instruction after these is of interest


def measure(**env: str) -> dict[str, int]:
    """Instructions of one request of each script, over a process of its own. Raises RuntimeError."""
    with tempfile.TemporaryDirectory() as directory:
        options = [f"--{what}=PyObject_Dir" for what in ("toggle-collect", "zero-before", "dump-after")]
        done = subprocess.run(
            [
                *("valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out", *options),
                *(sys.executable, "-m", "bench.instructions", "--run"),
            ],
            env={**os.environ, "PYTHONHASHSEED": "0", **env},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
        )
        # One profile for each time that the function was left, numbered; `out` itself is the end of the program.
        profiles = sorted(Path(directory).glob("out.*"), key=lambda path: int(path.suffix[1:]))[-len(SCRIPTS) :]
        totals = [re.search(r"^totals: (\d+)", path.read_text(), re.MULTILINE) for path in profiles]
    if done.returncode or len(totals) < len(SCRIPTS):
        raise RuntimeError(f"nothing was counted:\n{done.stderr[-2000:]}")
    return {name: round(int(found[1]) / COUNTED) for name, found in zip(SCRIPTS, totals, strict=True) if found}


def recorded() -> dict[str, int]:
    """For this version of Python; empty where there is none."""
    counts: dict[str, int] = json.loads(RECORD.read_text()).get(PYTHON, {})
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions")
    parser.add_argument("--run", action="store_true", help="only run the scripts: this is what valgrind is given")
    parser.add_argument("--record", action="store_true", help="from now on these are the numbers to hold")
    options = parser.parse_args()
    if options.run:
        asyncio.run(run())
        return
    counts = measure()
    print(f"Python {PYTHON}, {IMPLEMENTATION} codec: {counts}, recorded: {recorded()}")
    if options.record:
        RECORD.write_text(json.dumps({**json.loads(RECORD.read_text()), PYTHON: counts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
