"""Upstreams that no replica reaches: every endpoint fails, or none is known, wherever one looks. Pure.

What the replicas say is taken, not what the API server knows of a Service: the way from them to the backend is what
counts. A replica that has had no traffic and makes no checks knows of no failure.
"""

from collections.abc import Collection, Mapping
from typing import Any

from forebay_core.spec.model import ProxyPool
from forebay_core.spec.upstream import Upstream
from forebay_operator.observed import Report
from forebay_operator.past import Signal
from forebay_operator.status import State, some

UNAVAILABLE = "BackendUnavailable"


def after(
    pool: ProxyPool, reports: Collection[Report], before: Mapping[str, Signal], said: bool, now: float
) -> dict[str, Signal]:
    """By upstream, whether it is out; of one that no replica speaks of, what was known. `said`: the condition holds as
    it stands, which a new leader goes on from."""
    signals: dict[str, Signal] = {}
    if pool.spec.anywhere:  # there is no endpoint that could be out
        return signals
    for upstream in pool.spec.upstreams:
        name = upstream.name
        words = [report.failing[name] for report in reports if name in report.failing]
        if words:
            out = all(all(endpoints.values()) for endpoints in words)
            signals[name] = before.get(name, Signal(said and out)).after(out, now)
        elif name in before:
            signals[name] = before[name]
    return signals


def state(
    pool: ProxyPool,
    reports: Collection[Report],
    signals: Mapping[str, Signal],
    before: Mapping[str, Signal],
    old: Mapping[str, Any] | None,
) -> State:
    """The condition. Its words stand as long as the same upstreams are out; `old`: as it is now."""
    down = {name for name, signal in signals.items() if signal.holds}
    was = {name for name, signal in before.items() if signal.holds}
    if old is not None and (not signals or ((old["status"] == "True") == bool(down) and down in (set(), was))):
        return State(UNAVAILABLE, old["status"] == "True", old["reason"], old["message"])
    if not down:
        return State(UNAVAILABLE, False, "BackendAvailable", "no upstream is known to be out of reach")
    texts = [_why(pool, upstream, reports) for upstream in pool.spec.upstreams if upstream.name in down]
    return State(UNAVAILABLE, True, "NoEndpoint", "; ".join(texts))


def _why(pool: ProxyPool, upstream: Upstream, reports: Collection[Report]) -> str:
    """The endpoints, each with a reason that a replica gives."""
    endpoints: dict[str, str] = {}
    for report in reports:
        endpoints = {**report.failing.get(upstream.name, {}), **endpoints}
    if endpoints:
        found = [f"{endpoint} ({why})" for endpoint, why in sorted(endpoints.items())]
        return f"{upstream.name}: no replica reaches {some(found)}"
    return f"{upstream.name}: {_target(pool, upstream)} resolves to no address"


def _target(pool: ProxyPool, upstream: Upstream) -> str:
    """The name that is to be looked up; endpoints and parents may have several."""
    if pool.spec.forward is not None:
        return some([parent.host for parent in pool.spec.forward.parents])
    if upstream.service is not None:
        return f"Service {upstream.service.name}"
    return upstream.dns.host if upstream.dns is not None else some([each.host for each in upstream.endpoints or ()])
