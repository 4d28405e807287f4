"""A forward proxy for these tests: its document, how it is asked, and servers to go to."""

import base64
from collections.abc import Mapping
from typing import Any

from tests.support.forebay import pool_document
from tests.support.raw import Connection

LOOPBACK = "127.0.0.0/8"
# Long enough for a test, short enough for its end.
HTTP = {"headerTimeout": "5s", "bodyTimeout": "5s", "responseTimeout": "5s", "streamIdleTimeout": "60s"}


def document(
    forward: Mapping[str, Any] | None = None,
    *,
    http: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    **upstream: Any,
) -> dict[str, Any]:
    """A proxy for everything on this machine, through any port; `forward` adds to that block."""
    ports = list((forward or {}).get("ports", ()))
    mine = {
        "forward": {"allowHosts": [LOOPBACK], **(forward or {}), "ports": ports or [80, 443]},
        "http": {**HTTP, **(http or {})},
    }
    return pool_document("forward", {"name": "out", **upstream}, {**mine, **(spec or {})})


def basic(user: str, password: str) -> bytes:
    """A value of Proxy-Authorization (RFC 7617)."""
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def connect(authority: str, *fields: bytes) -> bytes:
    """A whole CONNECT request."""
    name = authority.encode()
    return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (name, name, b"".join(f + b"\r\n" for f in fields))


def get(url: str, *fields: bytes, method: bytes = b"GET") -> bytes:
    """A whole request in absolute-form."""
    host = url.removeprefix("http://").partition("/")[0].encode()
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (
        method, url.encode(), host, b"".join(f + b"\r\n" for f in fields),
    )  # fmt: skip


async def tunnel(port: int, authority: str, *fields: bytes, **options: Any) -> Connection:
    """An open tunnel."""
    client = await Connection.open(port, **options)
    await client.send(connect(authority, *fields))
    answer = await client.answer("CONNECT")
    assert answer.status == 200, answer
    return client
