"""File descriptors are a limit like any other: who comes beyond it gets 503, rather than nothing.

A worker that has none left can't accept a client even to refuse it, and can't open the connection that would end the
others' waiting. So the number of clients is kept low enough for both.
"""

import logging
import resource
from pathlib import Path

from forebay_core.spec.model import Spec

RESERVE = 32  # for the admin port (`admin.MOST`), look-ups and files; beside those for clients that are being refused
REFUSED = 1024  # of these at most: who behaves is gone at once

log = logging.getLogger(__name__)


def raise_limit() -> None:
    """Use all descriptors that this process may have: shells and systemd start it with 1,024 and allow far more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_clients(spec: Spec, own: int) -> int:
    """`maxClientConnections`, or as many as the descriptors allow beside the pools and those `own` in other use."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return spec.max_client_connections
    pools = sum(upstream.pool.size + upstream.pool.max_overflow for upstream in spec.upstreams)
    left = limit - own - pools - RESERVE - most_refused()
    if left >= spec.max_client_connections:
        return spec.max_client_connections
    log.warning("the limit of %d file descriptors allows for %d clients, not %d: raise it (ulimit -n)",
                limit, max(1, left), spec.max_client_connections)  # fmt: skip
    return max(1, left)


def most_refused() -> int:
    """How many clients that were too many may still be there: a twentieth of the descriptors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return REFUSED if limit == resource.RLIM_INFINITY else min(REFUSED, limit // 20)


def used() -> int:
    """Descriptors that are open now."""
    return len(list(Path("/proc/self/fd").iterdir()))
