"""What a valid document gives up, for whoever did not mean to."""

from collections.abc import Iterator

from forebay_core.spec.forward import Forward
from forebay_core.spec.model import ProxyPool
from forebay_core.spec.problems import Problem


def cautions(pool: ProxyPool) -> Iterator[Problem]:
    """In a Problem's form; none of it is a reason to refuse the document."""
    forward, postgres = pool.spec.forward, pool.spec.postgres
    if forward is not None:
        yield from _of_forward(forward)
    if postgres is None:
        return
    if postgres.auth.method == "trust":
        yield Problem("spec.postgres.auth.method", "trust", "whoever reaches the port is let in as any user")
    if postgres.monitor is None:
        lost = "no watch over roles"
        yield Problem("spec.postgres.monitor", "missing", lost)


def _of_forward(forward: Forward) -> Iterator[Problem]:
    if not forward.deny_private:
        yield Problem(
            "spec.forward.denyPrivate", "false", "clients reach what the replica reaches: itself, its cluster"
        )
    if forward.parents:
        where = "names are resolved by the parents: only addresses that a request names are checked here"
        yield Problem("spec.forward.parents", f"a list of {len(forward.parents)}", where)
    if not (forward.credentials_secret or forward.credentials_file or forward.client_networks):
        yield Problem("spec.forward.credentialsSecret", "missing", "whoever reaches the port may use the proxy")
