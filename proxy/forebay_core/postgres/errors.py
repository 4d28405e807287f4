"""What the proxy itself says to PostgreSQL's clients: severity, SQLSTATE and sentence, in one table.

SQLSTATEs are those of PostgreSQL's "Error Codes" that drivers and frameworks act on. After FATAL the connection ends;
after ERROR the session stays. Sentences name the pool, the limit and the cause, never a secret; where PostgreSQL has
a sentence of its own that clients match on, it is that one.
"""

from typing import Literal, NamedTuple


class Said(NamedTuple):
    """The fields S and V, C, M, and H (a hint, or "") of an ErrorResponse."""

    severity: Literal["ERROR", "FATAL"]
    sqlstate: str
    message: str
    hint: str = ""


# Why a client waited in vain; the facts `limit`, `size` and so on are those of the moment.
CAUSES = {
    "full": "all {limit} connections of this replica are in use",
    "budget": "all {limit} connections that the budget grants this replica are in use",
    "no_grant": "the budget has not granted this replica a connection yet",
    "opening": "opening a connection took too long",
    "server_full": "the server takes no further connections (SQLSTATE 53300)",
    "paused": "the pool is paused",
    "database_paused": "the database is paused",
    "no_primary": "no endpoint is known to be the primary",
    "no_replica": "no endpoint is known to be a replica",
    "unhealthy": "every endpoint is out",
}

_TABLE = {
    # Waiting
    "pool_timeout": Said(
        "ERROR",
        "53300",
        'no connection to upstream "{upstream}" for database "{database}" and user "{user}" within {timeout:g} s: '
        "{cause}",
        "Raise pool.size or the budget, shorten transactions, or look at SHOW POOLS.",
    ),
    "queue_full": Said(
        "ERROR", "53300", 'too many clients wait for upstream "{upstream}": pool.maxWaiting is {limit}; {cause}'
    ),
    "too_many_clients": Said("FATAL", "53300", "sorry, too many clients already: maxClientConnections is {limit}"),
    "draining": Said("FATAL", "57P03", "the database system is shutting down: this replica drains"),
    "not_ready": Said("FATAL", "57P03", "the database system is starting up: {cause}"),
    "unavailable": Said("ERROR", "57P03", 'upstream "{upstream}" cannot be reached: {cause}'),
    "cancelled": Said("ERROR", "57014", "canceling statement due to user request"),
    # Ends
    "ended": Said("FATAL", "57P01", "terminating connection due to administrator command: {cause}"),
    "server_lost": Said("ERROR", "08006", 'the connection to the server of upstream "{upstream}" was lost: {cause}'),
    "server_lost_fatal": Said(
        "FATAL",
        "08006",
        'the connection to the server of upstream "{upstream}" was lost in the middle of an answer: {cause}',
    ),
    "state_lost": Said("FATAL", "08006", "the session's {state} was lost with the connection to the server: {cause}"),
    "not_settable": Said("FATAL", "22023", "a parameter's value can't be set safely on the server that serves now"),
    "idle_transaction": Said(
        "FATAL", "25P03", "terminating connection due to idle-in-transaction timeout of {timeout:g} s"
    ),
    "query_timeout": Said("FATAL", "57014", "canceling statement due to queryTimeout of {timeout:g} s"),
    "client_idle": Said("FATAL", "57P05", "terminating connection due to clientIdleTimeout of {timeout:g} s"),
    # Logins
    "wrong_password": Said("FATAL", "28P01", 'password authentication failed for user "{user}"'),
    "not_looked_up": Said("FATAL", "57P03", "users can't be looked up at the server now", "Try again."),
    "lookups_full": Said("FATAL", "53300", "too many users wait to be looked up, or for a connection to do so"),
    "login_timeout": Said("FATAL", "57014", "canceling authentication due to timeout of {timeout:g} s"),
    "no_tls": Said("FATAL", "28000", "TLS is required: connect with sslmode=require or stricter"),
    "certificate": Said("FATAL", "28000", 'certificate authentication failed for user "{user}"'),
    "no_user": Said("FATAL", "28000", "no PostgreSQL user name specified in startup packet"),
    "not_allowed": Said("FATAL", "28000", 'user "{user}" may not use database "{database}"'),
    "no_database": Said("FATAL", "3D000", 'database "{database}" does not exist'),
    "server_login": Said("FATAL", "08006", 'the server of upstream "{upstream}" refused the login: {cause}'),
    # The protocol
    "protocol": Said("FATAL", "08P01", "protocol violation: {cause}"),
    "replication": Said("FATAL", "0A000", "replication connections can't be pooled: connect to the server itself"),
    "version": Said("FATAL", "0A000", "unsupported frontend protocol {version}: server supports 3.0 to 3.2"),
    "startup": Said("FATAL", "22023", "{cause}"),
    "too_many_statements": Said("FATAL", "54000", "expected at most {limit} prepared statements of a client"),
    # Modes
    "statement_mode": Said("FATAL", "0A000", "transaction blocks not allowed in statement pooling mode"),
}


def said(kind: str, **facts: object) -> Said:
    """What is said in the case `kind`, with its facts; `cause` may be a key of CAUSES. Raises KeyError where there is
    no such case, or a fact is missing.
    """
    entry = _TABLE[kind]
    if facts.get("cause") in CAUSES:
        facts["cause"] = CAUSES[str(facts["cause"])].format_map(facts)
    return entry._replace(message=entry.message.format_map(facts))
