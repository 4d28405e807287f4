"""The operator's metrics, made when they are scraped from what the watches have told and the pools' loops have seen.

`METRICS` is the one table: what is exposed, the reference (`python -m forebay_operator.metrics` prints it) and `NAMES`,
which dashboards and alerts are checked against, all come from it. Only a leader has samples of pools, and only of
those that there are.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from forebay_core.exposition import PREFIX, Readings, Row, reference
from forebay_core.histogram import Histogram
from forebay_core.scale.diagnosis import Cause
from forebay_operator.requests import Requests
from forebay_operator.store import Key, Raw, Store

POOL = ("namespace", "proxypool")
FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


@dataclass(slots=True)
class Measures:
    """What the loops count. `open`: connections per pool and upstream, as its replicas said last."""

    leading: bool = False
    reconcile: Histogram = field(default_factory=Histogram)
    errors: Counter[Key] = field(default_factory=Counter)
    open: dict[Key, Mapping[str, int]] = field(default_factory=dict)

    def looked(self, key: Key, seconds: float, open_: Mapping[str, int]) -> None:
        """A look that went well."""
        self.reconcile.observe(seconds)
        self.errors[key] += 0  # a counter that is there from the start shows its first step
        self.open[key] = open_

    def failed(self, key: Key) -> None:
        self.errors[key] += 1

    def forget(self, key: Key) -> None:
        """The pool has gone."""
        self.errors.pop(key, None)
        self.open.pop(key, None)

    def rest(self) -> None:
        """Another leads now, and tells of the pools."""
        self.leading = False
        self.errors.clear()
        self.open.clear()


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the values come from."""

    store: Store
    measures: Measures
    requests: Requests

    def pools(self) -> Iterator[tuple[Key, Raw]]:
        """Those that are looked after."""
        for key in list(self.measures.errors):
            if key in self.store.pools:
                yield key, self.store.pools[key]


# ---------------------------------------------------------------------- how a value is read


def budgets(sources: Sources) -> Readings:
    for key, raw in sources.pools():
        granted = {row["name"]: row.get("granted", 0) for row in raw.get("status", {}).get("upstreams", [])}
        for upstream in raw["spec"]["upstreams"]:
            budget = upstream.get("budget")
            if budget is None:
                continue
            name = upstream["name"]
            kinds = {
                "limit": budget["maxConnections"],
                "reserved": budget.get("reserved", 0),
                "granted": granted.get(name, 0),
                "open": sources.measures.open.get(key, {}).get(name, 0),
            }
            for kind, value in kinds.items():
                yield (*key, name, kind), value


def replicas(sources: Sources) -> Readings:
    for key, raw in sources.pools():
        status, deployment = raw.get("status", {}), sources.store.deployment(key)
        if deployment is not None:
            yield (*key, "wanted"), deployment["spec"].get("replicas", 1)
        yield (*key, "current"), status.get("replicas", 0)
        yield (*key, "ready"), status.get("readyReplicas", 0)


def causes(sources: Sources) -> Readings:
    for key, raw in sources.pools():
        for row in raw.get("status", {}).get("upstreams", []):
            if "limitedBy" in row:
                for cause in Cause:
                    yield (*key, row["name"], cause), int(row["limitedBy"] == cause)


def sequences(sources: Sources) -> Readings:
    for key, raw in sources.pools():
        ledger = raw.get("status", {}).get("ledger")
        if isinstance(ledger, Mapping) and "sequence" in ledger:
            yield key, ledger["sequence"]


def requests(sources: Sources) -> Readings:
    for one, count in sources.requests.counts.items():
        yield (one.verb, one.group, one.resource, str(one.code)), count


# ---------------------------------------------------------------------- the table

METRICS: tuple[Row[Sources], ...] = (
    Row("budget_connections", "gauge", (*POOL, "upstream", "kind"),
        "Connections to the upstream: limit (maxConnections), reserved (of it, for others), granted (that replicas "
        "have been told they may open), open (that replicas say they hold, with what the dead left).", budgets),
    Row("replicas", "gauge", (*POOL, "kind"),
        "Replicas: wanted, current, ready.", replicas),
    Row("limited_by", "gauge", (*POOL, "upstream", "cause"),
        f"1 for the cause that keeps requests waiting, else 0: {', '.join(Cause)}.", causes),
    Row("ledger_sequence", "gauge", POOL,
        "Sequence of the pool's ledger: it rises with every change of a grant or a bound.", sequences),
    Row("reconcile_errors_total", "counter", POOL,
        "Looks at a pool that ended in an error, and were made again.",
        lambda sources: sources.measures.errors.items()),
    Row("reconcile_seconds", "histogram", (),
        "Time that a look at a pool took, with its scrapes and its writes.",
        lambda sources: [((), sources.measures.reconcile.snapshot())]),
    Row("leader", "gauge", (),
        "1 where this process leads, else 0.", lambda sources: [((), int(sources.measures.leading))]),
    Row("api_requests_total", "counter", ("verb", "group", "resource", "code"),
        "Requests to the API server by verb and resource, as a Role names them, and status of the answer "
        "(0: none came).", requests),
)  # fmt: skip

NAMES = frozenset(name for row in METRICS for name in row.series)

# ---------------------------------------------------------------------- exposition


class Collector:
    """For a prometheus_client registry."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        for row in METRICS:
            family: Metric = FAMILIES[row.type](PREFIX + row.name, row.help)
            for values, value in row.read(self._sources):
                for sample in row.samples(dict(zip(row.labels, values, strict=True)), value):
                    family.add_sample(*sample)
            yield family


def registry(sources: Sources) -> CollectorRegistry:
    """What is served, with the process' own figures."""
    made = CollectorRegistry(auto_describe=False)
    made.register(Collector(sources))
    ProcessCollector(namespace="forebay", registry=made)
    return made


def render(made: CollectorRegistry) -> bytes:
    """In Prometheus' text format; `exposition.CONTENT_TYPE` goes with it."""
    return generate_latest(made)


# ---------------------------------------------------------------------- the reference

HEAD = """\
<!-- Made by `python -m forebay_operator.metrics`. Don't edit. -->
# The operator's metrics

What `/metrics` on the operator's port 9090 serves. Samples of pools come from the operator that leads; they go with
the pool. Beside these there are the process' own: `forebay_process_cpu_seconds_total`,
`forebay_process_resident_memory_bytes`, `forebay_process_start_time_seconds`, `forebay_process_open_fds`,
`forebay_process_max_fds`, `forebay_process_virtual_memory_bytes`.

| metric | type | labels | |
|---|---|---|---|
"""


if __name__ == "__main__":
    sys.stdout.write(reference(HEAD, METRICS))
