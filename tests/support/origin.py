"""A test origin in a process of its own: `python -m tests.support.origin`, and Origin, which runs it.

It counts what happens to it from the inside (tests.support.origin_state) and behaves as the request's path
says (tests.support.origin_routes). Commands and counters go over a control port, a JSON object per line.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import uvloop
from tests.support.certs import Pair
from tests.support.origin_http import Echo, Http
from tests.support.origin_state import State
from tests.support.process import ROOT, Child
from tests.support.waiting import until

READY = r"origin: listening on \S+:(\d+), control on \S+:(\d+)"


async def accept(
    listener: socket.socket, kind: type[Http] | type[Echo], state: State, tls: ssl.SSLContext | None
) -> None:
    """Count each connection at accept(), and refuse it over the limit. Its protocol counts it out just before our
    close(): whoever has seen our FIN and opens another is not counted twice."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def take(sock: socket.socket) -> None:
        try:
            await loop.connect_accepted_socket(lambda: kind(state, loop), sock, ssl=tls)
        except OSError:  # a refused handshake: there has been no protocol to count it out
            state.tls_failed += 1
            state.open -= 1

    while True:
        sock, _ = await loop.sock_accept(listener)
        if state.opened():
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.create_task(take(sock), name="taking a connection")
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        else:
            state.open -= 1
            sock.close()


async def control(state: State, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """{"op": "stats" | "reset"} or {"op": "set", "limit": 10, "health": 503}; the answer is the counters."""
    while line := await reader.readline():
        command = json.loads(line)
        match command.pop("op"):
            case "reset":
                state.reset()
            case "set":
                for name, value in command.items():
                    setattr(state, name, value)
        writer.write(json.dumps(state.snapshot()).encode() + b"\n")
    writer.close()


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    state = State(limit=options.limit)
    tls = None
    if options.tls_cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls_cert, options.tls_key)
        if options.tls_client_ca:
            tls.load_verify_locations(options.tls_client_ca)
            tls.verify_mode = ssl.CERT_REQUIRED
    kind = Echo if options.mode == "tcp" else Http
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.create_server((options.host, options.port), family=family, backlog=options.backlog)
    listener.setblocking(False)
    side = await asyncio.start_server(functools.partial(control, state), "127.0.0.1", options.control_port)
    port, control_port = listener.getsockname()[1], side.sockets[0].getsockname()[1]
    ready = f"origin: listening on {options.host}:{port}, control on 127.0.0.1:{control_port}"
    print(ready, file=sys.stderr, flush=True)
    accepting = asyncio.create_task(accept(listener, kind, state, tls), name="accept")
    loop.add_signal_handler(signal.SIGTERM, accepting.cancel)
    loop.add_reader(sys.stdin.fileno(), accepting.cancel)  # the end of whoever started us
    with contextlib.suppress(asyncio.CancelledError):
        await accepting


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.origin", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--mode", choices=("http", "tcp"), default="http")
    parser.add_argument("--backlog", type=int, default=4096)
    parser.add_argument("--limit", type=int, help="connections; more are closed at once")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument("--tls-client-ca", help="ask clients for a certificate signed by this one")
    uvloop.run(serve(parser.parse_args()))


class Origin:
    """Runs the test origin. `async with Origin() as origin: origin.port; await origin.stats()`.

    mode is "http" or "tcp"; over `limit` connections it closes each at once; `client_ca` makes it ask clients
    for a certificate.
    """

    def __init__(
        self,
        *,
        mode: str = "http",
        limit: int | None = None,
        tls: Pair | None = None,
        client_ca: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        backlog: int = 4096,
    ) -> None:
        self.host = host
        self.port = port
        self.control_port = 0
        self._arguments = ["--mode", mode, "--host", host, "--backlog", str(backlog)]
        if limit is not None:
            self._arguments += ["--limit", str(limit)]
        if tls is not None:
            self._arguments += ["--tls-cert", str(tls.cert), "--tls-key", str(tls.key)]
        if client_ca is not None:
            self._arguments += ["--tls-client-ca", str(client_ca)]

    @property
    def pid(self) -> int:
        return self.child.pid

    async def start(self) -> Self:
        ports = ["--port", str(self.port), "--control-port", str(self.control_port)]
        argv = [sys.executable, "-m", "tests.support.origin", *self._arguments, *ports]
        self.child = await Child.start(argv, cwd=ROOT)
        try:
            found = await self.child.line(READY)
        except BaseException:
            await self.close()
            raise
        self.port, self.control_port = int(found[1]), int(found[2])
        return self

    async def stats(self) -> dict[str, Any]:
        """The counters, as named in tests.support.origin_state.State."""
        return await self._command("stats")

    async def until(self, condition: Callable[[dict[str, Any]], bool], within: float = 10.0) -> dict[str, Any]:
        """Wait until the counters satisfy `condition`, and return them."""
        stats: dict[str, Any] = await until(self.stats, within, 0.005, wanted=condition)
        return stats

    async def reset(self) -> dict[str, Any]:
        """Begin to count anew."""
        return await self._command("reset")

    async def set(self, **switches: int | None) -> dict[str, Any]:
        """limit: how many connections are let in (None: all); health: the status that /healthz answers."""
        return await self._command("set", **switches)

    def stop(self) -> None:
        """SIGSTOP: it hangs, while the kernel goes on accepting for it."""
        self.child.send(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT."""
        self.child.send(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, and wait for its end: the port is closed then."""
        self.child.send(signal.SIGKILL)
        await self.child.wait()

    async def restart(self) -> None:
        """End it if it runs, and start it again on the same ports. The counters begin anew."""
        await self.close()
        await self.start()

    async def close(self) -> None:
        await self.child.end()

    async def _command(self, op: str, **arguments: Any) -> dict[str, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.control_port, limit=1 << 24)
        try:
            writer.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
            async with asyncio.timeout(20):
                answer: dict[str, Any] = json.loads(await reader.readline())
            return answer
        finally:
            writer.close()
            await writer.wait_closed()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()


if __name__ == "__main__":
    main()
