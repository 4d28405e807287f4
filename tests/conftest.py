"""Fixtures of the integration tests. Nothing that a test starts outlives it, and a skip can fail."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.support import process
from tests.support.certs import CA
from tests.support.forebay import Forebay
from tests.support.nginx import Nginx
from tests.support.origin import Origin

os.environ.pop("PYTHONASYNCIODEBUG", None)  # children would inherit it, and be slow
process.adopt_orphans()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """FOREBAY_NO_SKIP=1: a skipped test is a failed one, so that a run can't pass by leaving things out."""
    report = yield
    return _no_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    report = yield
    return _no_skip(report)


def _no_skip(report: Any) -> Any:
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("FOREBAY_NO_SKIP") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, and FOREBAY_NO_SKIP=1 forbids it: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    """Fail a test that leaves a process behind, be it an orphan of a killed supervisor."""
    before = process.children()
    yield
    left = process.leftovers(before)
    assert not left, f"processes left behind (now killed): {left}"


@pytest.fixture
async def origins() -> AsyncIterator[Callable[..., Awaitable[Origin]]]:
    """Factory: `await origins(mode="tcp", limit=10, tls=pair)`; the arguments are those of Origin."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Origin:
            return await stack.enter_async_context(Origin(**options))

        yield start


@pytest.fixture
async def origin(origins: Callable[..., Awaitable[Origin]]) -> Origin:
    """A plain HTTP origin."""
    return await origins()


@pytest.fixture
async def forebay(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Forebay]]]:
    """Factory: `await forebay(document, command="run", env={...})`. Each is ended afterwards, and none may
    have printed a traceback."""
    async with AsyncExitStack() as stack:
        started: list[Forebay] = []

        async def start(document: Mapping[str, Any], **options: Any) -> Forebay:
            one = Forebay(tmp_path / f"forebay-{len(started)}", document, **options)
            started.append(await stack.enter_async_context(one))
            return one

        yield start
    for one in started:
        assert not one.tracebacks(), one.stderr


@pytest.fixture
async def nginx(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Nginx]]]:
    """Factory: `await nginx("location / {...}", http="upstream ...")`."""
    async with AsyncExitStack() as stack:
        count = 0

        async def start(server: str, **options: Any) -> Nginx:
            nonlocal count
            count += 1
            return await stack.enter_async_context(Nginx(tmp_path / f"nginx-{count}", server, **options))

        yield start


@pytest.fixture
def ca(tmp_path: Path) -> CA:
    """A certificate authority; its files are in tmp_path."""
    return CA(tmp_path)
