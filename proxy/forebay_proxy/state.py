"""A worker's state as plain JSON: the one source of metrics, `top`, `/state` and the autoscaler's readings.

Counters and histograms are the worker's own, since its start; whoever adds workers up keeps what the dead had counted.
"""

import resource
import time
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from forebay_core.histogram import SECONDS, Histogram
from forebay_proxy.postgres.proxy import PgProxy
from forebay_proxy.upstream import Upstream

if TYPE_CHECKING:
    from forebay_proxy.worker import Worker

PAGE = resource.getpagesize()
BOUNDS = list(SECONDS)  # of every histogram here, in seconds


def worker_state(worker: "Worker") -> dict[str, Any]:
    """See the module's docstring; times in seconds, sizes in bytes."""
    now = monotonic()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    proxy = worker.proxy
    tls = worker.server_tls
    return {
        "pid": worker.pid,
        "name": worker.pool.metadata.name,
        "namespace": worker.pool.metadata.namespace or "",
        "document": worker.document_hash,
        "codec": worker.codec,
        "ready": worker.ready,
        "draining": worker.draining,
        "life_draining": worker.memory.draining,  # later than `draining`: from here on the life opens nothing
        "life": worker.memory.life,
        "pod": worker.pod,
        "sequence": worker.memory.sequence,
        "clients": len(proxy.clients),
        "codes": {str(code): count for code, count in proxy.codes.items()},
        "rejections": proxy.rejections,
        "log_lost": dict(worker.log_lost),  # a thread counts in it
        "tasks": len(worker.tasks),
        "loop_lag": worker.lag.seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": rss(),
        "started": worker.started,
        "time": time.time(),
        "certificate_expiry": tls.not_after if tls is not None else None,
        "reload_success": worker.reload_success and worker.files_good,
        "upstreams": {
            name: upstream_state(upstream, now)
            | (sessions_state(proxy, name, now) if isinstance(proxy, PgProxy) else {})
            for name, upstream in worker.every_upstream.items()
        },
    }


def upstream_state(upstream: Upstream, now: float) -> dict[str, Any]:
    """One upstream's part."""
    pool = upstream.pool
    s = pool.statistics(now)
    budget = upstream.spec.budget
    return {
        "connections": {
            "idle": s.idle, "leased": s.leased, "opening": s.opening, "draining": s.draining,
            "closing": s.closing + s.left,
        },
        "limit": s.limit,
        "left": s.left,
        "spare": pool.spare,
        "grant": pool.grant if budget is not None else None,
        "budget": budget.max_connections - budget.reserved if budget is not None else None,
        "ceiling": pool.size + pool.max_overflow,
        "held": upstream.held,
        "pressed": upstream.pressed,
        "waiting": s.waiting,
        "wait_oldest": s.wait_oldest,
        "waiting_besides": 0,  # with a session protocol: they need no connection more than those who wait in the queue
        "waiting_besides_oldest": 0.0,
        "gated": len(upstream.gated),
        "gated_oldest": max(0.0, now - next(iter(upstream.gated)).ready_at) if upstream.gated else 0.0,
        "lease_oldest": s.lease_oldest,
        "paused": pool.pause_timeout is not None,
        "wait": {outcome: histogram(h) for outcome, h in (pool.wait | upstream.gate_wait).items()},
        "connect": histogram(upstream.connect_seconds),
        "hold": histogram(pool.hold),
        "request": histogram(upstream.request_seconds),
        "opened": pool.opened_total,
        "closed": pool.closed_total,
        "connect_errors": upstream.connect_errors,
        "codes": {str(code): count for code, count in upstream.codes.items()},
        "rejections": upstream.rejections,
        "retries": upstream.retries,
        "endpoints": {
            e.name if e.host == e.address else f"{e.name}@{e.address}": {
                "healthy": e.health.healthy,
                "failing": e.health.failing,
                "reason": e.health.reason,
                "ejections": e.health.ejections_total,
                "busy": e.busy,
                "open": e.open,
            }
            for e in pool.endpoints
            if e.listed
        },
    }  # fmt: skip


def sessions_state(proxy: PgProxy, upstream: str, now: float) -> dict[str, Any]:
    """What a session protocol counts in place of requests: transactions, and connections that stay with a client; and
    who waits elsewhere than in the pool's queue."""
    besides, oldest = proxy.waiting_besides(now).get(upstream, (0, 0.0))
    return {
        "codes": {"ok": proxy.transactions().get(upstream, 0)},
        "pinned": proxy.pinned().get(upstream, {}),
        "waiting_besides": besides,
        "waiting_besides_oldest": oldest,
    }


def histogram(h: Histogram) -> list[Any]:
    """[counts per bucket, sum]; the buckets' bounds are `BOUNDS`, the last one is above all."""
    return list(h.snapshot())


def rss() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE
