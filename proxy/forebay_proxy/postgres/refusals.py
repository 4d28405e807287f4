"""What a client is told where the pool, or the server, gives it no connection."""

from typing import TYPE_CHECKING, Final

from forebay_core.lease import Refusal
from forebay_core.pgwire import backend
from forebay_core.pgwire.backend import ErrorFields
from forebay_core.postgres.errors import Said, said
from forebay_proxy.connection import LoginRefusal

if TYPE_CHECKING:
    from forebay_proxy.postgres.database import Database

CANCELLED: Final = said("cancelled")
FULL_HINT: Final = "The budget is to leave room for all others who connect to this server."
PLAIN: Final = {"queue_full": "queue_full", "draining": "draining", "paused": "not_ready", "timeout": "pool_timeout"}
CAUSES: Final = {"paused": "paused", "no_endpoint": "unhealthy"}  # by the refusal's reason, keys of errors.CAUSES


def error(what: Said) -> bytes:
    """The ErrorResponse."""
    return backend.error_response(
        what.severity, what.sqlstate, what.message, **({"hint": what.hint} if what.hint else {})
    )


def said_of(refusal: Refusal, database: "Database") -> Said:
    """What a refusal is in PostgreSQL's terms; the server's own words where it has said any."""
    if isinstance(refusal, LoginRefusal):
        return Said("ERROR", refusal.code, refusal.detail)
    upstream = database.upstream
    pool = upstream.pool
    cause = CAUSES.get(refusal.reason, refusal.detail)
    if refusal.reason in ("paused", "queue_full") and database.name in database.pauses:
        cause = "database_paused"
    elif refusal.reason in ("timeout", "queue_full"):
        if pool.braked:
            cause = "server_full"
        elif pool.grant is not None and pool.limit < pool.size + pool.max_overflow:
            cause = "budget" if pool.limit else "no_grant"
        else:
            cause = "opening" if pool.leased < pool.limit else "full"
    told = said(
        PLAIN.get(refusal.reason, "unavailable"),
        upstream=upstream.name,
        database=database.name,
        user=database.user,
        timeout=pool.timeout,
        limit=pool.max_waiting if refusal.reason == "queue_full" else pool.limit,
        cause=cause,
    )
    if cause == "server_full":
        told = told._replace(hint=FULL_HINT)
    return told._replace(severity="ERROR") if refusal.reason == "paused" else told


def lost(upstream: str, words: ErrorFields | None, cause: str) -> bytes:
    """The server has gone; `words` are the last that it said, if any."""
    what = said("server_lost", upstream=upstream, cause=cause)
    return error(what._replace(sqlstate=words.sqlstate) if words is not None else what)
