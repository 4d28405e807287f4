"""What the alerts are tested with: series in promtool's notation (`start+stepxcount`, a sample a minute), and whether
they are an alert. Pure values; `test_alerts` runs them."""

from typing import NamedTuple

POOL = 'namespace="shop",proxypool="orders"'
UPSTREAM = f'{POOL},upstream="db"'
OF_POOL = {"namespace": "shop", "proxypool": "orders"}
OF_UPSTREAM = OF_POOL | {"upstream": "db"}
ENDPOINT = f'forebay_upstream_endpoint_healthy{{{UPSTREAM},endpoint="db:80",pod="a"}}'
ELSEWHERE = ENDPOINT.replace('upstream="db"', 'upstream="other"')  # a forward proxy lists no endpoints
HOUR = 60  # minutes


class Case(NamedTuple):
    """`labels`: of the alert that fires at `minute`, beside its severity; None: it doesn't fire."""

    alert: str
    what: str
    minute: int
    series: dict[str, str]
    labels: dict[str, str] | None = None


def waits(within: int, all_of_them: int, outcome: str = "served") -> dict[str, str]:
    """Waits that ended per minute: how many within 20 ms, and in all."""
    name = f'forebay_upstream_wait_seconds_bucket{{{UPSTREAM},outcome="{outcome}",pod="a",le='
    return {
        f'{name}"0.02"}}': f"0+{within}x{HOUR}",
        f'{name}"0.05"}}': f"0+{all_of_them}x{HOUR}",
        f'{name}"+Inf"}}': f"0+{all_of_them}x{HOUR}",
    }


def rejected(reason: str, count: int, requests: int) -> dict[str, str]:
    """Per minute."""
    return {
        f'forebay_rejections_total{{{UPSTREAM},reason="{reason}",pod="a"}}': f"0+{count}x{HOUR}",
        f'forebay_requests_total{{{UPSTREAM},code="200",pod="a"}}': f"0+{requests}x{HOUR}",
    }


def connecting(opened: int, failed: int, endpoints: str = ENDPOINT) -> dict[str, str]:
    return {
        endpoints: f"1x{HOUR}",
        f'forebay_upstream_connections_opened_total{{{UPSTREAM},pod="a"}}': f"0+{opened}x{HOUR}",
        f'forebay_upstream_connect_errors_total{{{UPSTREAM},reason="refused",pod="a"}}': f"0+{failed}x{HOUR}",
    }


def churn(opened: int, requests: int, kind: str = 'code="200"', endpoints: str = ENDPOINT) -> dict[str, str]:
    return {
        endpoints: f"1x{HOUR}",
        f'forebay_upstream_connections_opened_total{{{UPSTREAM},pod="a"}}': f"0+{opened}x{HOUR}",
        f'forebay_requests_total{{{UPSTREAM},{kind},pod="a"}}': f"0+{requests}x{HOUR}",
    }


def limited(cause: str, values: str) -> dict[str, str]:
    return {f'forebay_limited_by{{{UPSTREAM},cause="{cause}",pod="operator"}}': values}


def replicas(wanted: int, ready: str) -> dict[str, str]:
    return {
        f'forebay_replicas{{{POOL},kind="wanted",pod="operator"}}': f"{wanted}x{HOUR}",
        f'forebay_replicas{{{POOL},kind="ready",pod="operator"}}': ready,
    }


def ledger(sequence: str, errors: str = f"0x{HOUR}") -> dict[str, str]:
    return {
        f'forebay_ledger_sequence{{{POOL},pod="operator"}}': sequence,
        f'forebay_reconcile_errors_total{{{POOL},pod="operator"}}': errors,
    }


def held(oldest: str, closing: str, kind: str = 'code="200"') -> dict[str, str]:
    return {
        f'forebay_upstream_lease_oldest_seconds{{{UPSTREAM},pod="a"}}': oldest,
        f'forebay_upstream_connections{{{UPSTREAM},state="closing",pod="a"}}': closing,
        f'forebay_upstream_connections_limit{{{UPSTREAM},pod="a"}}': f"10x{HOUR}",
        f'forebay_requests_total{{{UPSTREAM},{kind},pod="a"}}': f"0+600x{HOUR}",
    }


def leader(values: str, pod: str = "a") -> dict[str, str]:
    return {f'forebay_leader{{namespace="forebay-system",pod="{pod}"}}': values}


def certificate(days: float) -> dict[str, str]:
    """Ends `days` after the start."""
    return {f'forebay_tls_certificate_expiry_seconds{{{POOL},pod="a"}}': f"{int(days * 86400)}x{HOUR}"}


def taken(pod: str, samples: str) -> dict[str, str]:
    return {f'forebay_config_last_reload_success{{{POOL},pod="{pod}"}}': samples}


CASES = [
    Case("ForebayWaitOverTarget", "one in ten waits longer", 30, waits(540, 600), OF_UPSTREAM),
    Case("ForebayWaitOverTarget", "one in fifty waits longer", 30, waits(588, 600)),
    Case("ForebayWaitOverTarget", "not for long enough", 9, waits(540, 600)),
    Case("ForebayWaitOverTarget", "nobody asks", 30, waits(0, 0)),
    Case("ForebayWaitOverTarget", "out of politeness", 30, waits(0, 600, "origin")),
    Case("ForebayRejections", "two in a hundred, the queue is full", 20, rejected("queue_full", 12, 600), OF_POOL),
    Case("ForebayRejections", "all of them, no endpoint", 20, rejected("no_endpoint", 600, 600), OF_POOL),
    Case("ForebayRejections", "one in a thousand", 20, rejected("timeout", 1, 1000)),
    Case("ForebayRejections", "what clients do wrong", 20, rejected("header_timeout", 600, 600)),
    Case("ForebayConnectErrors", "half of the attempts", 20, connecting(6, 6), OF_UPSTREAM),
    Case("ForebayConnectErrors", "the backend is gone", 20, connecting(0, 6), OF_UPSTREAM),
    Case("ForebayConnectErrors", "one in a hundred", 20, connecting(594, 6)),
    Case("ForebayConnectErrors", "none are opened, none fail", 20, connecting(0, 0)),
    Case("ForebayConnectErrors", "a crawler's sites that are gone", 20, connecting(6, 6, ELSEWHERE)),
    Case("ForebayConnectionChurn", "a connection per request", 30, churn(600, 600), OF_UPSTREAM),
    Case("ForebayConnectionChurn", "a connection per ten requests", 30, churn(600, 6000)),
    Case("ForebayConnectionChurn", "hardly any traffic", 30, churn(6, 6)),
    Case("ForebayConnectionChurn", "tunnels of a forward proxy", 30, churn(600, 600, endpoints=ELSEWHERE)),
    Case("ForebayConnectionChurn", "WebSockets, each with its own", 30, churn(600, 600, 'code="101"')),
    Case("ForebayConnectionChurn", "a connection per request, beside WebSockets", 30,
         churn(1200, 600) | churn(1200, 600, 'code="101"'), OF_UPSTREAM),
    Case("ForebayConnectionChurn", "WebSockets, and requests that share connections", 30,
         churn(660, 600) | churn(660, 600, 'code="101"')),
    Case("ForebayConnectionChurn", "TCP, where that is how it is", 30, churn(600, 600, 'outcome="ok"')),
    Case("ForebayBudgetExhausted", "it is what limits", 20, limited("Budget", f"1x{HOUR}"), OF_UPSTREAM),
    Case("ForebayBudgetExhausted", "for a moment", 12, limited("Budget", f"0x9 1x2 0x{HOUR}")),
    Case("ForebayBudgetExhausted", "something else limits", 20, limited("Ceiling", f"1x{HOUR}")),
    Case("ForebayBackendSaturated", "it is what limits", 20, limited("Backend", f"1x{HOUR}"), OF_UPSTREAM),
    Case("ForebayBackendSaturated", "something else limits", 20, limited("Budget", f"1x{HOUR}")),
    Case("ForebayReplicaDown", "one of three is missing", 20, replicas(3, f"2x{HOUR}"), OF_POOL),
    Case("ForebayReplicaDown", "none is there", 20, replicas(3, f"0x{HOUR}"), OF_POOL),
    Case("ForebayReplicaDown", "a rollout", 15, replicas(3, f"3x4 2x4 3x{HOUR}")),
    Case("ForebayReplicaDown", "more than wanted", 20, replicas(2, f"3x{HOUR}")),
    Case("ForebayDocumentRefused", "by one of two replicas", 20,
         taken("a", f"1x{HOUR}") | taken("b", f"1x4 0x{HOUR}"), OF_POOL),
    Case("ForebayDocumentRefused", "for a moment", 20, taken("a", f"1x9 0x2 1x{HOUR}")),
    Case("ForebayDocumentRefused", "by none", 20, taken("a", f"1x{HOUR}")),
    Case("ForebayNoLeader", "two operators, neither leads", 10, leader(f"0x{HOUR}") | leader(f"0x{HOUR}", "b"),
         {"namespace": "forebay-system"}),
    Case("ForebayNoLeader", "no operator", 10, {}, {}),
    Case("ForebayNoLeader", "one of two leads", 10, leader(f"1x{HOUR}") | leader(f"0x{HOUR}", "b")),
    Case("ForebayNoLeader", "the lead changes hands", 10, leader(f"1x5 0x{HOUR}") | leader(f"0x6 1x{HOUR}", "b")),
    Case("ForebayLedgerStuck", "looks fail", 30, ledger(f"7x{HOUR}", f"0+5x{HOUR}"), OF_POOL),
    Case("ForebayLedgerStuck", "surplus that nobody gets", 30,
         ledger(f"7x{HOUR}") | limited("Pool", f"1x{HOUR}"), OF_POOL),
    Case("ForebayLedgerStuck", "looks fail at a pool without a budget", 30,
         {f"forebay_reconcile_errors_total{{{POOL},pod=\"operator\"}}": f"0+5x{HOUR}"}, OF_POOL),
    Case("ForebayLedgerStuck", "some looks failed, long ago", 30, ledger(f"7x{HOUR}", f"0 9 19 19x{HOUR}")),
    Case("ForebayLedgerStuck", "looks fail, but it moves", 30, ledger(f"7+1x{HOUR}", f"0+5x{HOUR}")),
    Case("ForebayLedgerStuck", "surplus is handed out", 30, ledger(f"7+1x{HOUR}") | limited("Pool", f"1x{HOUR}")),
    Case("ForebayLedgerStuck", "nothing has to change", 30, ledger(f"7x{HOUR}")),
    Case("ForebayLeakSuspected", "a lease of an hour and more", 59, held(f"3700+60x{HOUR}", f"0x{HOUR}"), OF_UPSTREAM),
    Case("ForebayLeakSuspected", "the backend does not close", 50, held(f"1x{HOUR}", f"4x{HOUR}"), OF_UPSTREAM),
    Case("ForebayLeakSuspected", "now and then some are closing", 50, held(f"1x{HOUR}", "4 0 4 0 4 0 4x9 0 4x44")),
    Case("ForebayLeakSuspected", "TCP, where clients stay", 59,
         held(f"3700+60x{HOUR}", f"0x{HOUR}", 'outcome="ok"')),
    Case("ForebayCertificateExpiry", "six days left", 30, certificate(6), OF_POOL),
    Case("ForebayCertificateExpiry", "it has ended", 30, certificate(0.001), OF_POOL),
    Case("ForebayCertificateExpiry", "eight days left", 30, certificate(8)),
]  # fmt: skip
