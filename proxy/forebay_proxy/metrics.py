"""Prometheus metrics, made from a state (`forebay_proxy.state`, as `/state` serves it) when they are scraped.

`METRICS` is the one table: what is exposed, the reference (`python -m forebay_proxy.metrics` prints it) and `NAMES`,
which dashboards and alerts are checked against, all come from it. Samples of several workers with equal labels are
combined; counters and histograms include the workers that have ended, so they never go backwards.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from forebay_core.exposition import PREFIX, Readings, Row, reference
from forebay_core.scale.diagnosis import Cause
from forebay_proxy.gathered import added

COMMON = ("namespace", "proxypool")  # labels of every sample, beside the rows'; one with an empty value is left away

State = Mapping[str, Any]  # as admin's `/state`: name, namespace, workers; in local mode dead and supervisor
FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


# ---------------------------------------------------------------------- how a value is read


def counting(state: State) -> list[State]:
    """The workers, and the sum of those that have ended."""
    return [*state["workers"], *([state["dead"]] if "dead" in state else [])]


def gauge(*keys: str) -> Callable[[State], Readings]:
    """A number per upstream, of several parts where it has them."""
    return lambda state: (
        ((name,), upstream[key])
        for worker in state["workers"]
        for name, upstream in worker["upstreams"].items()
        for key in keys
    )


def count(key: str) -> Callable[[State], Readings]:
    """A counter or a histogram per upstream."""
    return lambda state: (
        ((name,), upstream[key]) for part in counting(state) for name, upstream in part["upstreams"].items()
    )


def counts(key: str) -> Callable[[State], Readings]:
    """A mapping per upstream, from a label's value to a counter or a histogram."""
    return lambda state: (
        ((name, label), value)
        for part in counting(state)
        for name, upstream in part["upstreams"].items()
        for label, value in upstream[key].items()
    )


def connections(state: State) -> Readings:
    for worker in state["workers"]:
        for name, upstream in worker["upstreams"].items():
            for kind, number in upstream["connections"].items():
                yield (name, kind), number


def pinned(state: State) -> Readings:
    for worker in state["workers"]:
        for name, upstream in worker["upstreams"].items():
            for reason, number in upstream.get("pinned", {}).items():
                yield (name, reason), number


def endpoints(state: State) -> Readings:
    for worker in state["workers"]:
        for name, upstream in worker["upstreams"].items():
            for endpoint, facts in upstream["endpoints"].items():
                yield (name, endpoint), int(facts["healthy"])


def requests(state: State) -> Readings:
    """HTTP counts by status code, TCP by outcome; what came to no upstream has no label `upstream`."""
    for part in counting(state):
        for name, source in (("", part), *part["upstreams"].items()):
            for key, number in source["codes"].items():
                yield (name, key, "") if key[:1].isdecimal() else (name, "", key), number


def rejections(state: State) -> Readings:
    for part in counting(state):
        for name, source in (("", part), *part["upstreams"].items()):
            for reason, number in source["rejections"].items():
                yield (name, reason), number


def log_lost(state: State) -> Readings:
    return (((reason,), number) for part in counting(state) for reason, number in part["log_lost"].items())


def each_worker(key: str) -> Callable[[State], Readings]:
    """A number per worker, told apart by process id."""
    return lambda state: (((str(worker["pid"]),), worker[key]) for worker in state["workers"])


def clients(state: State) -> Readings:
    return (((), worker["clients"]) for worker in state["workers"])


def reload_success(state: State) -> Readings:
    return (((), int(part["reload_success"])) for part in (*state["workers"], state.get("supervisor", {})) if part)


def certificate_expiry(state: State) -> Readings:
    ends = (worker["certificate_expiry"] for worker in state["workers"])
    return (((), end) for end in ends if end is not None)


def restarts(state: State) -> Readings:
    return [((), state["supervisor"]["restarts"])] if "supervisor" in state else []


def replicas(state: State) -> Readings:
    return (((kind,), number) for kind, number in state.get("supervisor", {}).get("replicas", {}).items())


def budget_connections(state: State) -> Readings:
    for name, kinds in state.get("supervisor", {}).get("budgets", {}).items():
        for kind, number in kinds.items():
            yield (name, kind), number


def limited_by(state: State) -> Readings:
    if "supervisor" in state:
        for name, upstream in state["supervisor"]["verdict"]["upstreams"].items():
            for cause in Cause:
                yield (name, cause), int(cause == upstream["cause"])


def ledger_sequence(state: State) -> Readings:
    return [((), state["supervisor"]["ledger"]["sequence"])] if "supervisor" in state else []


def build(_: State) -> Readings:
    try:
        return [((version("forebay"),), 1)]
    except PackageNotFoundError:  # run from its sources
        return [(("unknown",), 1)]


def codec(state: State) -> Readings:
    return (((worker["codec"],), 1) for worker in state["workers"])


# ---------------------------------------------------------------------- the table

METRICS: tuple[Row[State], ...] = (
    Row("upstream_connections", "gauge", ("upstream", "state"),
        "Connections to the upstream: idle, leased, opening, draining (leased, closed at the lease's end), or closing "
        "(until the upstream's end is seen closed, with what dead workers left open).", connections),
    Row("upstream_connections_limit", "gauge", ("upstream",),
        "Connections that may be open: per worker the lesser of size + maxOverflow and its grant from the budget.",
        gauge("limit")),
    Row("upstream_waiting", "gauge", ("upstream",),
        "Requests that wait for a connection, or with forward for their turn at an origin (perOrigin), or with "
        "postgres for the RESUME of their database, or for a server that is tried again; there clients that log in "
        "wait, too.",
        gauge("waiting", "gated", "waiting_besides")),
    Row("upstream_wait_oldest_seconds", "gauge", ("upstream",),
        "How long the request that has waited longest has waited.",
        gauge("wait_oldest", "gated_oldest", "waiting_besides_oldest"), max),
    Row("upstream_wait_seconds", "histogram", ("upstream", "outcome"),
        "Time from a request being ready to a connection, or the right to open one, being assigned (served), or to the "
        "end of the wait without one (timeout, refused). Opening is counted apart. A retry is one "
        "wait more, from when it asks again. Outcome origin: with forward, the time that perOrigin has kept a request "
        "before that.", counts("wait")),
    Row("upstream_connect_seconds", "histogram", ("upstream",),
        "Time that opening a connection took, with TLS; failures are not in it.", count("connect")),
    Row("upstream_hold_seconds", "histogram", ("upstream",),
        "Time that a connection was leased for one request.", count("hold")),
    Row("upstream_lease_oldest_seconds", "gauge", ("upstream",),
        "How long the longest lease of all that are under way has lasted; tunnels (CONNECT, WebSocket) are left out.",
        gauge("lease_oldest"), max),
    Row("upstream_connections_opened_total", "counter", ("upstream",),
        "Connections opened.", count("opened")),
    Row("upstream_connections_closed_total", "counter", ("upstream", "reason"),
        "Connections closed: idle, recycle (age, command or other TLS), uses, error, overflow, shrink (above the "
        "grant), drain, or upstream (the other end closed).", counts("closed")),
    Row("upstream_connect_errors_total", "counter", ("upstream", "reason"),
        "Connections that could not be opened; not those that PostgreSQL refused for what only a client has named (a "
        "user, a database, a parameter), which are rejections.", counts("connect_errors")),
    Row("upstream_pinned", "gauge", ("upstream", "reason"),
        "Connections that stay with one client, with postgres: because of session mode, or of state that can't follow "
        "it (listen, temp, cursor, lock, prepare, set, unclear, ...); one may have several reasons.", pinned),
    Row("upstream_endpoint_healthy", "gauge", ("upstream", "endpoint"),
        "1 where every worker sends requests to the endpoint, 0 where one has taken it out. The label is "
        "host:port, and host:port@address for each address of a name.", endpoints, min),
    Row("downstream_connections", "gauge", (),
        "Connections of clients.", clients),
    Row("requests_total", "counter", ("upstream", "code", "outcome"),
        "Requests ended: with http by status code (499: the client left before an answer), with tcp, where a client's "
        "connection is one, by outcome, with postgres transactions (outcome ok). Without the label upstream: "
        "those that came to none.", requests),
    Row("request_seconds", "histogram", ("upstream",),
        "Time from a request's head being there to the end of its answer; with tcp that of the client's connection; "
        "none with postgres.", count("request")),
    Row("rejections_total", "counter", ("upstream", "reason"),
        "Requests that the proxy answered itself or cut off (an answer that had begun keeps its code), or connections "
        "that it refused or cut off, by reason. Without the label upstream: before one was chosen.", rejections),
    Row("retries_total", "counter", ("upstream", "reason"),
        "Requests sent once more, by what had gone wrong.", counts("retries")),
    Row("access_log_lost_total", "counter", ("reason",),
        "Lines of the access log that were lost: full (4 MiB waited for standard output, or it had not taken them a "
        "second after a worker's end), error (it could not be written to).", log_lost),
    Row("loop_lag_seconds", "gauge", ("worker",),
        "How late a worker's event loop runs its timers, averaged over about a second.", each_worker("loop_lag")),
    Row("process_cpu_seconds_total", "counter", ("worker",),
        "CPU time of a worker process.", each_worker("cpu")),
    Row("process_resident_memory_bytes", "gauge", ("worker",),
        "Resident memory of a worker process.", each_worker("rss")),
    Row("process_start_time_seconds", "gauge", ("worker",),
        "When a worker process started, in Unix time.", each_worker("started")),
    Row("worker_restarts_total", "counter", (),
        "Workers replaced because they ended unasked; local mode only.", restarts),
    Row("budget_connections", "gauge", ("upstream", "kind"),
        "Connections to the upstream: limit (maxConnections), reserved (of it, for others), granted (that workers have "
        "been told they may open), open (that they hold, with what the dead left); local mode, else the operator has "
        "it.", budget_connections),
    Row("limited_by", "gauge", ("upstream", "cause"),
        f"1 for the cause that keeps requests waiting, else 0: {', '.join(Cause)}; local mode, else the operator has "
        "it.", limited_by),
    Row("replicas", "gauge", ("kind",),
        "Workers: wanted (by the document or its autoscaling), current, ready; local mode, else the operator has it.",
        replicas),
    Row("ledger_sequence", "gauge", (),
        "The ledger's sequence, +1 per write; local mode, else the operator has it.", ledger_sequence),
    Row("config_last_reload_success", "gauge", (),
        "0 where the document was last refused and an older one is served, or where a file that it names (certificate, "
        "users, password) has become unusable and what was in it before is in force; else 1.", reload_success, min),
    Row("tls_certificate_expiry_seconds", "gauge", (),
        "When the certificate that clients see ends, in Unix time; absent without TLS.", certificate_expiry, min),
    Row("build_info", "gauge", ("version",),
        "Always 1; the version that runs.", build, max),
    Row("codec_info", "gauge", ("implementation",),
        "Always 1; whether the HTTP codec is compiled or pure Python.", codec, max),
)  # fmt: skip

NAMES = frozenset(name for row in METRICS for name in row.series)

# ---------------------------------------------------------------------- exposition


class StateCollector:
    """One state as metric families, for a prometheus_client registry."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._common = (state["namespace"], state["name"])

    def collect(self) -> Iterator[Metric]:
        for row in METRICS:
            values: dict[tuple[str, ...], Any] = {}
            for labels, value in row.read(self._state):
                values[labels] = (row.combine or added)(values[labels], value) if labels in values else value
            yield self._family(row, values)

    def _family(self, row: Row[State], values: Mapping[tuple[str, ...], Any]) -> Metric:
        family: Metric = FAMILIES[row.type](PREFIX + row.name, row.help)
        for own, value in values.items():
            pairs = zip(COMMON + row.labels, self._common + own, strict=True)
            labels = {name: text for name, text in pairs if text}
            for sample in row.samples(labels, value):
                family.add_sample(*sample)
        return family


def render(state: State) -> bytes:
    """The metrics of one state in Prometheus' text format; `exposition.CONTENT_TYPE` goes with it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StateCollector(state))
    return generate_latest(registry)


# ---------------------------------------------------------------------- the reference

HEAD = """\
<!-- Made by `python -m forebay_proxy.metrics`. Don't edit. -->
# Metrics

What `/metrics` on the admin port serves. Every sample has the labels `namespace` (absent in local mode, where the
document names none) and `proxypool`; the table names the others. A label that does not apply is absent.

In local mode one page serves for all workers. Gauges are summed over them, but for ages (the oldest counts), health,
reload and certificate (the worst counts), and what is said of each worker apart (label `worker`, its process id).
Counters and histograms include workers that have ended; what one that was killed had counted since it was last asked,
half a second at most, is lost.

| metric | type | labels | |
|---|---|---|---|
"""


if __name__ == "__main__":
    sys.stdout.write(reference(HEAD, METRICS))
