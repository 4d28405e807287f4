"""The answers that the proxy gives itself: one table from what went wrong to status, reason and what the client may do.

`reason` is the label of `forebay_rejections_total`.
"""

from typing import NamedTuple

from forebay_core.forward.credentials import CHALLENGE
from forebay_core.lease import Refusal

REASON_PHRASES = {
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    407: b"Proxy Authentication Required",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
# Fields that an answer has beside the usual ones, by its status.
FIELDS = {
    407: b"Proxy-Authenticate: %b\r\n" % CHALLENGE,
    503: b"Retry-After: 1\r\n",
}


class Failure(NamedTuple):
    """What went wrong, as the client sees it and as it is counted."""

    status: int
    reason: str
    detail: str


NO_CREDENTIALS = Failure(407, "credentials", "this proxy wants a user and password that it knows")
DOT_SEGMENTS = Failure(400, "bad_request", "the path has dot segments, and the routes go by paths")
NO_ROUTE = Failure(404, "no_route", "no route matches this host and path")
HEADER_TIMEOUT = Failure(408, "header_timeout", "the request's head did not arrive in time")
BODY_TIMEOUT = Failure(408, "body_timeout", "the request's body stalled, or came too slowly while others waited")
BODY_TOO_LARGE = Failure(413, "body_too_large", "the request's body is larger than maxBodyBytes")
UPSTREAM_RESET = Failure(502, "upstream_reset", "the upstream closed the connection before it answered")
MAX_CLIENTS = Failure(503, "max_clients", "the proxy has as many client connections as it may")
TAKEN_BACK = Failure(503, "taken_back", "the connection was needed elsewhere: the budget was cut, or has to be shared")
DRAINING = Failure(503, "draining", "the proxy shuts down, and the time for what was under way is over")
CREDENTIALS_BUSY = Failure(503, "credentials_busy", "too many passwords are being checked")
RESPONSE_TIMEOUT = Failure(504, "response_timeout", "the upstream did not answer in time")

# Refusals of the pool engine and of connect(), by their reason.
STATUS_OF_REFUSAL = {
    "queue_full": 503,
    "timeout": 503,
    "no_endpoint": 503,
    "draining": 503,
    "paused": 503,
    "no_descriptors": 503,
    "no_ports": 503,
    "origin": 503,
    "rate": 503,
    "connect_timeout": 504,
    "resolve_timeout": 504,
}


def of_refusal(refusal: Refusal) -> Failure:
    """The answer to a request that got no connection; a failed connect() other than a timeout is a 502."""
    return Failure(STATUS_OF_REFUSAL.get(refusal.reason, 502), refusal.reason, refusal.detail)


def body_of(failure: Failure) -> bytes:
    """What it says."""
    return b"%d %s: %s\n" % (failure.status, REASON_PHRASES[failure.status], failure.detail.encode())


def render(failure: Failure, *, close: bool, head_only: bool) -> bytes:
    """A complete HTTP/1.1 response; `head_only` for HEAD."""
    body = body_of(failure)
    return b"".join(
        (
            b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
            % (failure.status, REASON_PHRASES[failure.status], len(body)),
            FIELDS.get(failure.status, b""),
            b"Via: 1.1 forebay\r\n",
            b"Connection: close\r\n" if close else b"",
            b"\r\n",
            b"" if head_only else body,
        )
    )
