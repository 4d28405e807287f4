"""A worker whose document changes what is logged and traced."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.forebay import http_pool

from forebay_core.spec.load import parse
from forebay_core.spec.model import ProxyPool
from forebay_proxy import telemetry as module
from forebay_proxy.http.proxy import HttpProxy
from forebay_proxy.memory import Memory
from forebay_proxy.worker import Worker


class StuckTracer:
    """Its collector takes nothing until `may_end`."""

    def __init__(self, *_: object) -> None:
        self.may_end = threading.Event()
        self.sent = threading.Event()

    def close(self) -> None:
        if self.may_end.wait(2):
            self.sent.set()


def telemetry(**fields: Any) -> ProxyPool:
    return parse(http_pool(80, spec={"telemetry": fields}), form="local")


def tracing(ratio: float) -> dict[str, Any]:
    return {"endpoint": "http://127.0.0.1:4318", "sampleRatio": ratio}


async def test_nobody_waits_for_a_collector_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Tracer", StuckTracer)
    w = Worker(telemetry(tracing=tracing(1.0)), Memory.at(tmp_path / "memory"), "test", b"")
    await w.start()
    assert isinstance(w.proxy, HttpProxy)
    first: Any = w.proxy.tracer
    await w.apply(telemetry(tracing=tracing(0.5)))
    second: Any = w.proxy.tracer
    assert second is not first
    first.may_end.set()
    assert await asyncio.to_thread(first.sent.wait, 5)
    second.may_end.set()
    await w.close()
    assert second.sent.is_set()


async def test_what_has_not_changed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Tracer", StuckTracer)
    w = Worker(telemetry(accessLog="json", tracing=tracing(1.0)), Memory.at(tmp_path / "memory"), "test", b"")
    await w.start()
    assert isinstance(w.proxy, HttpProxy)
    log: Any = w.proxy.log
    tracer: Any = w.proxy.tracer
    await w.apply(telemetry(slowRequest="1s", tracing=tracing(1.0)))
    assert (w.proxy.log, w.proxy.tracer) == (log, tracer)
    await w.apply(telemetry(accessLog="json"))
    assert (w.proxy.log, w.proxy.tracer) == (log, None)
    await w.apply(telemetry())
    assert w.proxy.log is None
    tracer.may_end.set()
    await w.close()
