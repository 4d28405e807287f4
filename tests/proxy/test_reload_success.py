"""Whether a worker has all that the document and its files say."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.certs import CA
from tests.support.waiting import until

from forebay_core.spec.load import parse
from forebay_proxy import worker as module
from forebay_proxy.memory import Memory
from forebay_proxy.worker import Worker

HASH = "$5$salt$Gcm6FsVtF/Qa77ZKD.iwsJlCVPY0XSMgLJL0Hnww/c1"  # of `password`


@contextmanager
def spoilt(path: Path) -> Iterator[None]:
    """What is in the file is of no use for a while."""
    good = path.read_bytes()
    path.write_text("\0")
    yield
    path.write_bytes(good)


def document(protocol: str, upstream: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "forebay.dev/v1alpha1",
        "kind": "ProxyPool",
        "metadata": {"name": "orders"},
        "spec": {"protocol": protocol, "upstreams": [{"name": "backend"} | dict(upstream)], **spec},
    }


def http(tmp_path: Path) -> tuple[dict[str, Any], list[Path]]:
    ca = CA(tmp_path)
    pair = ca.server()
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(pair.cert.read_bytes())
    return document(
        "http",
        {"endpoints": [{"host": "127.0.0.1", "port": 1}], "tls": {"mode": "verify-ca", "caFile": str(authorities)}},
        listen={"port": 0, "tls": {"certFile": str(pair.cert), "keyFile": str(pair.key)}},
    ), [pair.cert, pair.key, authorities]


def forward(tmp_path: Path) -> tuple[dict[str, Any], list[Path]]:
    users = tmp_path / "htpasswd"
    users.write_text(f"crawler:{HASH}\n")
    return document("forward", {}, listen={"port": 0}, forward={"credentialsFile": str(users)}), [users]


def postgres(tmp_path: Path) -> tuple[dict[str, Any], list[Path]]:
    users, password = tmp_path / "users", tmp_path / "password"
    users.write_text('"alice" "secret"\n')
    password.write_text("secret\n")
    monitor = {"user": "monitor", "passwordFile": str(password)}
    return document(
        "postgres",
        {"endpoints": [{"host": "127.0.0.1", "port": 1}]},
        listen={"port": 0},
        postgres={"auth": {"usersFile": str(users)}, "monitor": monitor},
    ), [users, password]


@pytest.mark.parametrize("make", [http, forward, postgres])
async def test_a_file_that_goes_bad_while_it_runs_shows(
    make: Callable[[Path], tuple[dict[str, Any], list[Path]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is good again, and without a document that is refused."""
    monkeypatch.setattr(module, "TLS_CHECK", 0.01)
    given, files = make(tmp_path)
    worker = Worker(parse(given, form="local"), Memory.at(tmp_path / "memory"), "", b"secret")
    await worker.start()

    async def says(success: bool) -> None:
        await until(lambda: worker.state()["reload_success"] is success, 5)

    try:
        for path in files:
            await says(True)
            with spoilt(path):
                await says(False)
        await says(True)
    finally:
        await worker.close()
        worker.memory.close()
