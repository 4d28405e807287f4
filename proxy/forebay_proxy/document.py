"""The document that local mode runs, and what a changed one may not change."""

from dataclasses import dataclass
from pathlib import Path

from forebay_core.spec.load import DocumentError, load
from forebay_core.spec.model import ProxyPool
from forebay_proxy.files import FileError, read_text
from forebay_proxy.forward.files import read_files
from forebay_proxy.postgres.files import check_files as check_logins
from forebay_proxy.tls import client_tls, server_tls
from forebay_proxy.tracing import check_tracing


class Refused(Exception):
    """The document is not taken; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Document:
    """The text goes to the workers, each of which reads it for itself."""

    text: str
    pool: ProxyPool


def read(path: Path, running: ProxyPool) -> Document:
    """The document in the file, to take the place of the one that runs. Raises Refused."""
    try:
        text = read_text(path)
        pool = load(text, form="local")
    except (DocumentError, FileError) as error:
        raise Refused(str(error)) from None
    old, new = running.spec, pool.spec
    for name, a, b in (
        ("spec.protocol", old.protocol, new.protocol),
        ("spec.listen.port", old.listen.port, new.listen.port),
        ("spec.listen.address", old.listen.address, new.listen.address),
        ("metadata.name", running.metadata.name, pool.metadata.name),
    ):
        if a != b:
            raise Refused(f"{name}: {b!r} instead of {a!r} needs a restart")
    check_files(pool)
    return Document(text, pool)


def check_files(pool: ProxyPool) -> None:
    """What it names can be used: files, and the libraries of an extra. Raises Refused."""
    try:
        for upstream in pool.spec.upstreams:
            if upstream.tls is not None:
                client_tls(upstream, pool.spec.protocol)
        server_tls(pool)
        if pool.spec.forward is not None:
            read_files(pool.spec.forward)
        if pool.spec.postgres is not None:
            check_logins(pool.spec.postgres)
        if pool.spec.telemetry.tracing is not None:
            check_tracing(pool.spec.telemetry.tracing.endpoint)
    except FileError as error:
        raise Refused(str(error)) from None
