"""What a valid document gives up, for whoever did not mean to."""

from collections.abc import Iterator

from forebay_core.spec.model import ProxyPool
from forebay_core.spec.problems import Problem


def cautions(pool: ProxyPool) -> Iterator[Problem]:
    """In a Problem's form; none of it is a reason to refuse the document."""
    postgres = pool.spec.postgres
    if postgres is None:
        return
    if postgres.auth.method == "trust":
        yield Problem("spec.postgres.auth.method", "trust", "whoever reaches the port is let in as any user")
    if postgres.monitor is None:
        lost = "no watch over roles"
        yield Problem("spec.postgres.monitor", "missing", lost)
