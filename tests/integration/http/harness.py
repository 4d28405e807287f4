"""A proxy for these tests: its document, its process, and what must hold whenever it ends."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.forebay import Forebay, http_pool
from tests.support.origin import Origin
from tests.support.raw import Connection

# Nothing is ejected, as many of these tests make an upstream look bad; nothing takes longer than a test may.
TOLERANT = {"passive": {"consecutiveErrors": 1000}}
HTTP = {"headerTimeout": "5s", "bodyTimeout": "5s", "responseTimeout": "5s", "streamIdleTimeout": "5s"}


def document(
    *ports: int, http: Mapping[str, Any] | None = None, spec: Mapping[str, Any] | None = None, **upstream: Any
) -> dict[str, Any]:
    """A document for these tests; `http` adds to the timeouts above, `spec` to the spec, the rest to the upstream."""
    upstream = {"healthCheck": TOLERANT, **upstream}
    return http_pool(*ports, spec={"http": {**HTTP, **(http or {})}, **(spec or {})}, **upstream)


@asynccontextmanager
async def running(directory: Path, pool: Mapping[str, Any], **options: Any) -> AsyncIterator[Forebay]:
    """A proxy that must not print a traceback."""
    async with Forebay(directory, pool, **options) as forebay:
        yield forebay
    assert not forebay.tracebacks(), forebay.stderr
    assert "Warning" not in forebay.stderr, forebay.stderr


@dataclass
class Pair:
    """A proxy and the origin behind it."""

    forebay: Forebay
    origin: Origin

    async def connect(self, **options: Any) -> Connection:
        """A client."""
        return await Connection.open(self.forebay.port, **options)


async def worker_rss(forebay: Forebay) -> int:
    """Resident bytes of the worker."""
    (worker,) = (await forebay.state())["workers"]
    return int(worker["rss"])


async def upstream_state(forebay: Forebay, name: str = "origin") -> dict[str, Any]:
    """The one worker's state of an upstream."""
    (worker,) = (await forebay.state())["workers"]
    state: dict[str, Any] = worker["upstreams"][name]
    return state
