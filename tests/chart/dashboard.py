"""The Grafana dashboard, panel by panel. `python -m tests.chart.dashboard` prints charts/forebay/files/dashboard.json.

A row is a question: what do all pools do, what does this one do, why do its requests wait, who has its budget.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

BY_POOL = "namespace, proxypool"
BY = "namespace, proxypool, upstream"
POOL = 'namespace=~"$namespace",proxypool=~"$proxypool"'
UPSTREAM = f'{POOL},upstream=~"$upstream"'
WORKERS = f'{POOL},proxypool!=""'  # an operator's process has no such label
OF_POOL = "{{namespace}}/{{proxypool}}"
OF = "{{namespace}}/{{proxypool}} {{upstream}}"
SOURCE = {"type": "prometheus", "uid": "$datasource"}
COLUMNS = 24  # of Grafana's grid
UNWANTED = 'outcome!="origin"'  # of waits: those that a forward proxy's perOrigin does not make on purpose


class Panel(NamedTuple):
    """`queries`: legend -> PromQL. `stacked`: areas on top of each other."""

    title: str
    description: str
    queries: dict[str, str]
    unit: str = "short"
    type: str = "timeseries"
    width: int = 8
    stacked: bool = False


def chosen(metric: str, more: str = "", of: str = UPSTREAM) -> str:
    return f"{metric}{{{of}{',' if more else ''}{more}}}"


def total(metric: str, more: str = "", by: str = BY, of: str = UPSTREAM) -> str:
    return f"sum by ({by}) ({chosen(metric, more, of)})"


def most(metric: str, more: str = "", by: str = BY, of: str = UPSTREAM) -> str:
    """Of replicas, or of operators, where one leads and the others may remember."""
    return f"max by ({by}) ({chosen(metric, more, of)})"


def rate(metric: str, more: str = "", by: str = BY, of: str = UPSTREAM) -> str:
    return f"sum by ({by}) (rate({chosen(metric, more, of)}[$__rate_interval]))"


def quantile(q: float, metric: str, more: str = "", by: str = BY) -> str:
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', more, by=f'{by}, le')})"


def quantiles(metric: str, more: str = "") -> dict[str, str]:
    return {f"p{q * 100:.0f} {OF}": quantile(q, metric, more) for q in (0.5, 0.95, 0.99)}


FLEET = [
    Panel("Pools", "ProxyPools that have at least one replica which Prometheus scrapes.",
          {"pools": f"count(count by ({BY_POOL}) ({chosen('forebay_build_info', of=POOL)}))"}, type="stat", width=4),
    Panel("Replicas ready", "Replicas that are ready, and those that are wanted. For long fewer than wanted: runbook "
          "ForebayReplicaDown.",
          {"ready": "sum(" + most("forebay_replicas", 'kind="ready"', BY_POOL, POOL) + ")",
           "wanted": "sum(" + most("forebay_replicas", 'kind="wanted"', BY_POOL, POOL) + ")"}, type="stat", width=4),
    Panel("Requests waiting", "Requests that wait for a connection at this moment, over all pools.",
          {"waiting": f"sum({chosen('forebay_upstream_waiting')})"}, type="stat", width=4),
    Panel("Operators that lead", "1: all is well. 0: grants are frozen, and nothing is scaled (runbook "
          "ForebayNoLeader).", {"leaders": "sum(forebay_leader)"}, type="stat", width=4),
    Panel("Operator: time of a look", "How long it takes to look at one pool (gather, plan, apply).",
          {"p95": "histogram_quantile(0.95, sum by (le) (rate(forebay_reconcile_seconds_bucket[$__rate_interval])))"},
          "s"),
    Panel("Operator: looks that fail, per second", "By pool; they are made again. Its log and the pool's events say "
          "why.", {OF_POOL: rate("forebay_reconcile_errors_total", by=BY_POOL, of=POOL)}, "ops"),
    Panel("Operator: requests to the API server, per second", "By what is asked for. Refused ones have a code from 400 "
          "on.", {"{{verb}} {{resource}} {{code}}":
                  "sum by (verb, resource, code) (rate(forebay_api_requests_total[$__rate_interval]))"}, "reqps"),
    Panel("Requests per second", "By pool. With TCP a client's connection is a request.",
          {OF_POOL: rate("forebay_requests_total", by=BY_POOL)}, "reqps", stacked=True),
    Panel("Turned away per second", "Requests that the proxy answered itself, and connections that it refused, by pool "
          "and reason. queue_full, timeout and no_endpoint are the backend's or the budget's part, the others the "
          "client's.",
          {f"{OF_POOL} {{{{reason}}}}": rate("forebay_rejections_total", by=f"{BY_POOL}, reason")}, "reqps"),
    Panel("Wait for a connection, p95", "The one number to watch: what autoscaling.targetWait is about. Timeouts and "
          "refusals are in it; the time to open a connection and the wait that perOrigin wants are not.",
          {OF: quantile(0.95, "forebay_upstream_wait_seconds", UNWANTED)}, "s"),
]  # fmt: skip

ONE = [
    Panel("Requests by status code", "HTTP by code (499: the client left before an answer).",
          {"{{code}}": rate("forebay_requests_total", 'code!=""', by="code")}, "reqps", stacked=True),
    Panel("Time of a request", "From its head being there to the end of its answer, waiting included.",
          quantiles("forebay_request_seconds"), "s"),
    Panel("Connections by state", "idle: ready; leased: with a request; opening; draining: leased, closed at the "
          "lease's end; closing: until the backend's end is seen closed. The limit is what may be open.",
          {"{{state}}": total("forebay_upstream_connections", by="state"),
           "limit": f"sum({chosen('forebay_upstream_connections_limit')})"}, stacked=True),
    Panel("Clients", "Connections of clients, by replica.",
          {"{{pod}}": total("forebay_downstream_connections", by="pod", of=POOL)}, stacked=True),
    Panel("Connections opened and closed per second", "Closed by reason. Many per request: runbook "
          "ForebayConnectionChurn.",
          {"opened": rate("forebay_upstream_connections_opened_total", by="proxypool"),
           "closed: {{reason}}": rate("forebay_upstream_connections_closed_total", by="reason")}, "cps"),
    Panel("Connections that could not be opened, per second", "By reason; runbook ForebayConnectErrors. Empty: none "
          "ever failed.",
          {"{{upstream}} {{reason}}": rate("forebay_upstream_connect_errors_total", by="upstream, reason")}, "cps"),
    Panel("Endpoints", "1: every replica sends requests to it. 0: at least one has taken it out.",
          {"{{upstream}} {{endpoint}}": f"min by (upstream, endpoint) ({chosen('forebay_upstream_endpoint_healthy')})"},
          "bool_yes_no"),
    Panel("Requests sent once more, per second", "Retries, by what had gone wrong. Empty: none ever was.",
          {"{{upstream}} {{reason}}": rate("forebay_retries_total", by="upstream, reason")}, "reqps"),
    Panel("Replicas", "Wanted, existing and ready.",
          {"{{kind}}": most("forebay_replicas", by="kind", of=POOL)}),
    Panel("CPU", "Of one core, by worker process.",
          {"{{pod}} {{worker}}": f"rate({chosen('forebay_process_cpu_seconds_total', of=WORKERS)}[$__rate_interval])"},
          "percentunit"),
    Panel("Memory", "Resident, by worker process.",
          {"{{pod}} {{worker}}": chosen("forebay_process_resident_memory_bytes", of=WORKERS)}, "bytes"),
    Panel("Since the start of the oldest worker", "How long ago the worker that has run longest, and the youngest, "
          "began. A youngest that keeps being young restarts over and over.",
          {"oldest": f"time() - min({chosen('forebay_process_start_time_seconds', of=WORKERS)})",
           "youngest": f"time() - max({chosen('forebay_process_start_time_seconds', of=WORKERS)})"},
          "s", type="stat", width=6),
    Panel("Certificate ends in", "Of the certificate that clients see; runbook ForebayCertificateExpiry. Empty without "
          "TLS.",
          {OF_POOL: f"min by ({BY_POOL}) ({chosen('forebay_tls_certificate_expiry_seconds', of=POOL)}) - time()"},
          "s", type="stat", width=6),
    Panel("Newest document is served", "0: at least one replica has refused it, or a file that it names, and serves an "
          "older one; its log says why.",
          {OF_POOL: f"min by ({BY_POOL}) ({chosen('forebay_config_last_reload_success', of=POOL)})"},
          "bool_yes_no", type="stat", width=6),
    Panel("Versions and codecs", "How many replicas run which version, and which HTTP codec (compiled, or pure Python, "
          "which is slower).",
          {"{{version}}": f"count by (version) ({chosen('forebay_build_info', of=POOL)})",
           "{{implementation}}": f"count by (implementation) ({chosen('forebay_codec_info', of=POOL)})"},
          type="stat", width=6),
    Panel("Lost log lines, per second", "Of the access log: full, as nobody has read them in time, or error, as they "
          "could not be written.",
          {"{{pod}} {{reason}}": rate("forebay_access_log_lost_total", by="pod, reason", of=POOL)}, "cps"),
]  # fmt: skip

WHY = [
    Panel("Why requests wait", "As the autoscaler sees it. Pool: grants are being raised. Ceiling: more replicas, or a "
          "larger pool.size. Budget: the backend may have no more. Replica: CPU. Connect: opening is slow or fails. "
          "Backend: it is slower than it was, and more connections would make it worse. None: nobody waits too long.",
          {"{{upstream}}: {{cause}}": f"{most('forebay_limited_by', by=f'{BY}, cause')} == 1"}, "none",
          type="state-timeline", width=24),
    Panel("Wait for a connection", "Median, p95 and p99, without the wait that perOrigin wants.",
          quantiles("forebay_upstream_wait_seconds", UNWANTED), "s"),
    Panel("Waiting now", "Requests in line, and how long the first of them has stood there.",
          {"waiting {{upstream}}": total("forebay_upstream_waiting"),
           "seconds of the oldest {{upstream}}": most("forebay_upstream_wait_oldest_seconds")}),
    Panel("How waits end, per second", "served: with a connection; timeout: pool.timeout was over; refused: the line "
          "was full, or no endpoint was healthy; origin: the part of it at a forward proxy's perOrigin.",
          {"{{upstream}} {{outcome}}": rate("forebay_upstream_wait_seconds_count", by="upstream, outcome")}, "reqps"),
    Panel("Leased of the limit", "By replica: at 100 % requests wait. One alone at 100 %: its grant or its share of "
          "clients; all: Ceiling or Budget.",
          {"{{pod}} {{upstream}}": total("forebay_upstream_connections", 'state="leased"', "pod, upstream") + " / "
           + total("forebay_upstream_connections_limit", by="pod, upstream")}, "percentunit"),
    Panel("Time a connection is held", "How long one request has it: the backend's time. When this rises, the cause is "
          "the backend, or what it is asked.", quantiles("forebay_upstream_hold_seconds"), "s"),
    Panel("Pinned connections", "PostgreSQL: connections that stay with a client between its transactions, by what of "
          "its session can't follow it.",
          {"{{upstream}} {{reason}}": total("forebay_upstream_pinned", by="upstream, reason")}),
    Panel("Time to open a connection", "With TLS; failures are not in it.",
          quantiles("forebay_upstream_connect_seconds"), "s"),
    Panel("Lateness of the event loop", "By worker: above some 10 ms the replica itself is the bottleneck.",
          {"{{pod}} {{worker}}": chosen("forebay_loop_lag_seconds", of=POOL)}, "s"),
    Panel("Oldest lease", "The longest that one request has held its connection; runbook ForebayLeakSuspected.",
          {OF: most("forebay_upstream_lease_oldest_seconds")}, "s"),
    Panel("Requests and connections opened, per second", "Far apart: connections are reused.",
          {"requests {{upstream}}": rate("forebay_requests_total", 'upstream!=""'),
           "opened {{upstream}}": rate("forebay_upstream_connections_opened_total")}, "cps"),
]  # fmt: skip

BUDGET = [
    Panel("Budget, granted, open", "limit: what the backend bears (maxConnections); reserved: of it, for others; "
          "granted: told to replicas; open: what they hold, with what the dead left. Open never exceeds limit less "
          "reserved.",
          {"{{kind}} {{upstream}}": most("forebay_budget_connections", by="kind, upstream")}, width=12),
    Panel("Held by replica", "Every connection that counts, by replica. Stacked, so the top is what the backend sees.",
          {"{{pod}} {{upstream}}": total("forebay_upstream_connections", by="pod, upstream")}, stacked=True, width=12),
    Panel("Limit by replica", "The lesser of size + maxOverflow and the replica's grant.",
          {"{{pod}} {{upstream}}": total("forebay_upstream_connections_limit", by="pod, upstream")}, stacked=True),
    Panel("Writes of the ledger, per second", "It moves when grants change. Still while requests wait for grants: "
          "runbook ForebayLedgerStuck.",
          {OF_POOL: f"max by ({BY_POOL}) (rate({chosen('forebay_ledger_sequence', of=POOL)}[$__rate_interval]))"},
          "wps"),
    Panel("Given back and still closing", "Connections closed per second because a grant shrank, and those whose end "
          "the backend has not closed yet: they count until it has.",
          {"shrink, per second {{upstream}}": rate("forebay_upstream_connections_closed_total", 'reason="shrink"'),
           "closing {{upstream}}": total("forebay_upstream_connections", 'state="closing"')}),
]  # fmt: skip

ROWS = {"Fleet": FLEET, "One pool": ONE, "Why is it waiting": WHY, "Budget": BUDGET}


def dashboard() -> dict[str, Any]:
    """What Grafana imports."""
    return {
        "title": "Forebay",
        "uid": "forebay",
        "description": "Pools of connections in front of backends. Made by `python -m tests.chart.dashboard`.",
        "tags": ["forebay"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,  # one crosshair over all panels
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "templating": {"list": list(_variables())},
        "panels": list(_laid_out()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    narrowed = ""
    for name in ("namespace", "proxypool", "upstream"):
        query = f"label_values(forebay_upstream_connections_limit{{{narrowed}}}, {name})"
        narrowed += f'{"," if narrowed else ""}{name}=~"${name}"'
        yield {
            "name": name, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name},
            "refresh": 2, "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }  # fmt: skip


def _laid_out() -> Iterator[dict[str, Any]]:
    """Rows of panels, from left to right."""
    number = y = 0
    for title, panels in ROWS.items():
        number += 1
        yield {"id": number, "type": "row", "title": title, "panels": [], "collapsed": False,
               "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}  # fmt: skip
        y += 1
        x = height = 0
        for panel in panels:
            number += 1
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            high = 5 if panel.type in ("stat", "state-timeline") else 8
            yield {"id": number, **_panel(panel), "gridPos": {"x": x, "y": y, "w": panel.width, "h": high}}
            x, height = x + panel.width, max(height, high)
        y += height


def _panel(panel: Panel) -> dict[str, Any]:
    stat = panel.type == "stat"
    custom = {"fillOpacity": 25, "stacking": {"mode": "normal"}} if panel.stacked else {"fillOpacity": 0}
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}}
    if stat:
        options = {"colorMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
    elif panel.type == "state-timeline":
        options["showValue"] = "never"  # the row's name says it
    else:
        options["tooltip"] = {"mode": "multi", "sort": "desc"}
    return {
        "type": panel.type,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0} | ({"custom": custom} if panel.type == "timeseries" else {}),
            "overrides": [],
        },
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": query, "legendFormat": legend, "instant": stat}
            for n, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def rendered() -> str:
    """What the file has to be."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    print(rendered(), end="")
