"""States as `/state` serves them (`forebay_proxy.state`), made by hand: what matters to a test is an argument."""

from typing import Any

from forebay_core.histogram import Histogram


def histogram(*seconds: float) -> list[Any]:
    """A histogram that has observed these."""
    made = Histogram()
    for value in seconds:
        made.observe(value)
    counts, total = made.snapshot()
    return [list(counts), total]


def upstream(**fields: Any) -> dict[str, Any]:
    """One upstream of one worker: idle, and nothing counted. `connections` adds to the states that are 0."""
    connections = dict.fromkeys(("idle", "leased", "opening", "draining", "closing"), 0)
    connections |= fields.pop("connections", {})
    wait = {outcome: histogram() for outcome in ("served", "timeout", "refused")} | fields.pop("wait", {})
    return {
        "connections": connections,
        "limit": 15,
        "left": 0,
        "spare": 0,
        "grant": None,
        "budget": None,
        "ceiling": 15,
        "held": sum(connections.values()),
        "pressed": False,
        "waiting": 0,
        "waiting_besides": 0,
        "waiting_besides_oldest": 0.0,
        "gated": 0,
        "gated_oldest": 0.0,
        "wait_oldest": 0.0,
        "lease_oldest": 0.0,
        "paused": False,
        "wait": wait,
        "connect": histogram(),
        "hold": histogram(),
        "request": histogram(),
        "opened": 0,
        "closed": {"idle": 0, "error": 0},
        "connect_errors": {},
        "codes": {},
        "rejections": {},
        "retries": {},
        "endpoints": {"10.0.0.1:80": endpoint()},
        **fields,
    }


def endpoint(healthy: bool = True, reason: str = "") -> dict[str, Any]:
    return {"healthy": healthy, "failing": not healthy, "reason": reason, "ejections": 0, "busy": 0, "open": 0}


def worker(pid: int = 1, **fields: Any) -> dict[str, Any]:
    """One worker; `upstreams` by name, one idle `backend` when left out."""
    return {
        "pid": pid,
        "name": "orders",
        "namespace": "",
        "document": "0" * 16,
        "codec": "compiled",
        "ready": True,
        "draining": False,
        "life": f"life-{pid}",
        "sequence": 1,
        "clients": 0,
        "codes": {},
        "rejections": {},
        "log_lost": {},
        "loop_lag": 0.0,
        "cpu": 0.0,
        "rss": 40 << 20,
        "started": 1_700_000_000.0,
        "time": 1_700_000_100.0,
        "certificate_expiry": None,
        "reload_success": True,
        "upstreams": {"backend": upstream()},
        **fields,
    }


def supervisor(**fields: Any) -> dict[str, Any]:
    """What local mode adds; `cause` and `message` are those of the upstream `backend`."""
    verdict = {"cause": fields.pop("cause", "None"), "message": fields.pop("message", "")}
    return {
        "restarts": 0,
        "reload_success": True,
        "replicas": {"wanted": 1, "current": 1, "ready": 1},
        "budgets": {},
        "ledger": {"sequence": 1, "inForce": {}, "entries": []},
        "verdict": {"replicas": 1, **verdict, "upstreams": {"backend": verdict}},
        **fields,
    }


def state(*workers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A pool's state; `dead` and `supervisor` where they are given."""
    return {"name": "orders", "namespace": "", "workers": list(workers), **fields}
