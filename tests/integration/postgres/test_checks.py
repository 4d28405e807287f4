"""`healthCheck.active` with protocol postgres: endpoints that don't answer get no clients, until they do."""

import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
from tests.integration.postgres.scripted import ScriptedServer
from tests.integration.postgres.server import Postgres
from tests.integration.postgres.test_logins import who
from tests.support.forebay import Forebay, postgres_pool
from tests.support.waiting import until

from forebay_core.pgwire import backend

Start = Callable[..., Awaitable[Forebay]]

CHECKS = {"active": {"interval": "100ms", "timeout": "1s", "healthyThreshold": 1, "unhealthyThreshold": 2}}
STARTING = backend.error_response("FATAL", "57P03", "the database system is starting up")
NO_ENTRY = backend.error_response("FATAL", "28000", "no pg_hba.conf entry")
ASKS = backend.authentication_sasl(["SCRAM-SHA-256"])


async def becomes(pool: Forebay, healthy: float, endpoint: int) -> None:
    name = f"127.0.0.1:{endpoint}"

    async def told() -> float:
        return (await pool.metrics()).value("forebay_upstream_endpoint_healthy", endpoint=name)

    await until(told, 20, 0.05, wanted=lambda value: value == healthy)


@pytest.mark.parametrize("greeting", [ASKS, NO_ENTRY, backend.AUTHENTICATION_OK], ids=["asks", "refuses", "lets-in"])
async def test_who_answers_is_there(forebay: Start, greeting: bytes) -> None:
    """No user is needed to see that a server starts up, or has."""
    async with ScriptedServer() as server:
        server.greetings[b"forebay"] = STARTING
        pool = await forebay(postgres_pool(server.port, healthCheck=CHECKS))
        await becomes(pool, 0, server.port)
        with pytest.raises(psycopg.OperationalError, match="every endpoint is out"):
            await who(pool, "anybody")
        server.greetings[b"forebay"] = greeting
        await becomes(pool, 1, server.port)
        assert await who(pool, "anybody") is not None
        metrics = await pool.metrics()
        assert metrics.get("forebay_upstream_connect_errors_total", reason="login") == 0
        assert metrics.get("forebay_upstream_connect_errors_total", reason="checked") == 0
        assert metrics.value("forebay_upstream_connect_errors_total", reason="starting_up") >= 2
        said = [heard for startup, heard in zip(server.startups, server.heard, strict=True) if b"forebay" in startup]
        assert len(said) > 2
        assert not any(said), "a check says no more than who it is"


@pytest.fixture
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.mark.parametrize("monitor", [{}, {"monitor": {"user": "postgres"}}], ids=["no-monitor", "monitor"])
async def test_a_server_that_hangs(forebay: Start, server: Postgres, monitor: dict[str, Any]) -> None:
    checks = {"active": CHECKS["active"] | {"timeout": "300ms"}}
    pool = await forebay(postgres_pool(server.port, healthCheck=checks, postgres=monitor))
    assert await who(pool, "postgres") == "postgres"
    before = len(server.lines)
    server.everyone(signal.SIGSTOP)
    try:
        await becomes(pool, 0, server.port)
    finally:
        server.everyone(signal.SIGCONT)
    await becomes(pool, 1, server.port)
    assert await who(pool, "postgres") == "postgres"
    complaints = [line for line in server.lines[before:] if "FATAL" in line or "ERROR" in line]
    assert not complaints, "a server's log is not for our checks"
