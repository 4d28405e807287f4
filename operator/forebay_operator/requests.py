"""What was asked of the API server, counted as it counts: by verb, group, resource and the answer's status. So it can
be seen which rights are used, and that none was missing."""

import re
from collections import Counter
from types import SimpleNamespace
from typing import NamedTuple

import aiohttp

PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/[^/]+)?/(?P<resource>[^/]+)(?:/(?P<name>[^/]+)(?P<sub>/\w+)?)?$"
)
VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
CREATED = 201


class Request(NamedTuple):
    """`resource`: with its subresource, as in a Role's rule; `code`: of HTTP, 0 where no answer came."""

    verb: str
    group: str
    resource: str
    code: int


class Requests:
    """Counts what passes through the sessions that have its `trace`."""

    def __init__(self) -> None:
        self.counts: Counter[Request] = Counter()

    def trace(self) -> aiohttp.TraceConfig:
        """For one session."""
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._ended)
        trace.on_request_exception.append(self._failed)
        return trace

    async def _ended(self, _: aiohttp.ClientSession, __: SimpleNamespace, end: aiohttp.TraceRequestEndParams) -> None:
        self.counts.update(asked(end.method, end.url.path, "watch" in end.url.query, end.response.status))

    async def _failed(
        self, _: aiohttp.ClientSession, __: SimpleNamespace, end: aiohttp.TraceRequestExceptionParams
    ) -> None:
        self.counts.update(asked(end.method, end.url.path, "watch" in end.url.query, 0))


def asked(method: str, path: str, watch: bool, code: int) -> list[Request]:
    """What the API server took it for; nothing where it was about no resource. An apply of what is not there yet
    needs the right to create it as well."""
    found = PATH.search(path)
    if found is None:
        return []
    resource = found["resource"] + (found["sub"] or "")
    verb = VERBS.get(method) or ("get" if found["name"] else "watch" if watch else "list")
    verbs = ("create", verb) if method == "PATCH" and code == CREATED else (verb,)
    return [Request(verb, found["group"] or "", resource, code) for verb in verbs]
