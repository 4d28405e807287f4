"""Which upstream a request goes to: host and path prefix, the first match wins.

Paths are compared as they come, and passed on so. One with dot segments is read in two ways: /a/../b has the prefix /a,
and a backend takes it for /b. Where prefixes decide, it is refused (`Router.doubtful`).
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from forebay_proxy.upstream import Upstream

ASTERISK: Final = b"*"  # OPTIONS of the server as a whole (RFC 9112 section 3.2.4); a route to all of a host has it

# A segment `.` or `..` (RFC 3986 section 5.2.4) as a backend may see it: percent-decoded, with `\` for `/` (Windows),
# without the parameters of a segment (servlets).
_DOT_SEGMENT = re.compile(rb"(?:[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:[/\\;]|%2f|%5c|%3b|\Z)", re.IGNORECASE)


class Route(NamedTuple):
    """`host` is lower case without a port, b"" for any; `prefix` ends a path segment where it ends."""

    host: bytes
    prefix: bytes
    upstream: Upstream
    strip: bool


class Router:
    """The routes of one document, in its order; without any, everything goes to the first upstream."""

    def __init__(self, routes: Sequence[Route], first: Upstream) -> None:
        self._routes = tuple(routes)
        self.only: Upstream | None = None if routes else first
        self._by_path = any(route.prefix != b"/" for route in routes)

    def route(self, host: bytes, target: bytes) -> Route | None:
        """The route for a Host field's value and a target; None: there is none."""
        name = bare_host(host)
        path = b"/" if target == ASTERISK else target.partition(b"?")[0]
        for route in self._routes:
            if route.host and route.host != name:
                continue
            if is_prefix(route.prefix, path):
                return route
        return None

    def doubtful(self, target: bytes) -> bool:
        """Whether what matches this target need not match what a backend makes of it."""
        if not self._by_path or not (b"/." in target or b"%" in target or b"\\" in target):
            return False
        return _DOT_SEGMENT.search(target.partition(b"?")[0]) is not None


def bare_host(host: bytes) -> bytes:
    """Lower case, without port and trailing dot. bytes.lower() touches ASCII letters only."""
    if host[-1:] != b"]":  # not a bare IPv6 literal
        name, colon, port = host.rpartition(b":")
        if colon and not port.strip(b"0123456789"):
            host = name
    return host.lower().rstrip(b".")


def is_prefix(prefix: bytes, path: bytes) -> bool:
    """By path segment, as Gateway API's PathPrefix: /api matches /api and /api/x, not /apix."""
    if not path.startswith(prefix):
        return False
    return prefix.endswith(b"/") or len(path) == len(prefix) or path[len(prefix) : len(prefix) + 1] == b"/"


def stripped(prefix: bytes, target: bytes) -> bytes:
    """The target without the prefix, always with one leading slash: two would make a host of what follows them, where
    it is read as a reference (RFC 3986 section 4.2)."""
    return b"/" + target[len(prefix) :].lstrip(b"/")
