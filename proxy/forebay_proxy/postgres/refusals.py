"""What a client is told where the pool, or the server, gives it no connection (design section 6)."""

from typing import Final

from forebay_core.pgwire import backend
from forebay_core.pool import Refusal
from forebay_proxy.connection import LoginRefusal
from forebay_proxy.upstream import Upstream

CODES: Final = {  # by the refusal's reason
    "timeout": "53300",
    "queue_full": "53300",
    "paused": "57P03",
    "draining": "57P01",
    "no_endpoint": "08006",
    "cancelled": "57014",
}
CANCELLED: Final = Refusal("cancelled", "canceling statement due to user request")
OTHER: Final = "08006"  # connecting failed


def error(refusal: Refusal, upstream: Upstream, severity: str = "ERROR") -> bytes:
    """The ErrorResponse for a refusal."""
    if isinstance(refusal, LoginRefusal):
        return backend.error_response(severity, refusal.code, refusal.detail)
    code = CODES.get(refusal.reason, OTHER)
    pool = upstream.pool
    why = f"pool {upstream.name!r}, at most {pool.limit} connections here, {len(pool.waiters)} clients wait"
    detail = {"detail": why} if code == "53300" else {}
    return backend.error_response(severity, code, refusal.detail, **detail)


def lost() -> bytes:
    """The server has gone in the middle of a transaction."""
    return backend.error_response("ERROR", "08006", "the server closed the connection in the middle of a transaction")
