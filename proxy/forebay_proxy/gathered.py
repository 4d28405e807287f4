"""The counters of workers that have ended, so that sums over workers never go backwards."""

from collections.abc import Mapping
from typing import Any

WORKER = ("codes", "rejections", "log_lost")
UPSTREAM = (
    "wait", "connect", "hold", "request", "opened", "closed", "connect_errors", "codes", "rejections", "retries",
)  # fmt: skip


class Counters:
    """Adds up the counting parts of worker states (`forebay_proxy.state`)."""

    def __init__(self) -> None:
        self._total: dict[str, Any] = {"codes": {}, "rejections": {}, "log_lost": {}, "upstreams": {}}

    def add(self, state: Mapping[str, Any]) -> None:
        """Take over what a worker had counted when it ended."""
        for key in WORKER:
            self._total[key] = added(self._total[key], state[key])
        for name, upstream in state["upstreams"].items():
            counting = {key: upstream[key] for key in UPSTREAM}
            before = self._total["upstreams"].get(name)
            self._total["upstreams"][name] = counting if before is None else added(before, counting)

    def as_state(self) -> dict[str, Any]:
        """The same shape as a worker's state, counters only."""
        return self._total


def added(a: Any, b: Any) -> Any:
    """Sum of two structures of numbers: mappings by key, lists by place."""
    if isinstance(b, Mapping):
        return {key: added(a[key], b[key]) if key in a and key in b else a.get(key, b.get(key)) for key in {**a, **b}}
    if isinstance(b, (list, tuple)):
        return [added(x, y) for x, y in zip(a, b, strict=True)]
    return a + b
