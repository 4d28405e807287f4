"""`telemetry` with protocol postgres: a line for each session, and one for each slow query."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.integration.http.test_access_log import lines, logged, parsed
from tests.integration.postgres.server import Postgres
from tests.integration.postgres.test_logins import SCRAM, users
from tests.support.forebay import Forebay, postgres_pool

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


async def connect(pool: Forebay, user: str = "trusting", **options: Any) -> Connection:
    return await psycopg.AsyncConnection.connect(
        make_conninfo(host="127.0.0.1", port=pool.port, dbname="postgres", user=user, password="pw"), **options
    )


async def test_a_line_for_every_session(postgres: Postgres, tmp_path: Path) -> None:
    auth = {**SCRAM, "usersFile": users(tmp_path, trusting="pw")}
    document = postgres_pool(postgres.port, postgres={"auth": auth}, spec={"telemetry": {"accessLog": "json"}})
    forebay, log = logged(tmp_path, document)
    async with forebay:
        async with await connect(forebay) as connection:
            for _ in range(3):
                await connection.execute("SELECT repeat('x', 1000)")
                await connection.execute("SELECT 1")
                await connection.rollback()
        await lines(log, 1)
        with pytest.raises(psycopg.OperationalError):
            await connect(forebay, "nobody")
        await lines(log, 2)
        _, writer = await asyncio.open_connection("127.0.0.1", forebay.port)  # says nothing, so it is no session
        writer.close()
        await writer.wait_closed()
        connection = await connect(forebay)
        with socket.socket(fileno=connection.fileno()) as sock:
            sock.shutdown(socket.SHUT_RDWR)  # without a Terminate
            sock.detach()
        ordinary, unknown, gone = await lines(log, 3)
        await connection.close()
    assert (ordinary["client"], ordinary["user"], ordinary["database"]) == ("127.0.0.1", "trusting", "postgres")
    assert (ordinary["upstream"], ordinary["error"]) == ("db", None)
    assert (ordinary["transactions"], ordinary["queries"]) == (3, 12)
    assert 3000 < ordinary["bytes_out"] < 6000
    assert 0 < ordinary["bytes_in"] < 2000
    assert 0 < ordinary["total_ms"] < 60_000
    assert (unknown["user"], unknown["upstream"], unknown["error"]) == ("nobody", None, "28P01")
    assert (unknown["transactions"], unknown["queries"]) == (0, 0)
    assert (gone["user"], gone["error"]) == ("trusting", "client_gone")


async def test_slow_queries(postgres: Postgres, tmp_path: Path) -> None:
    """By the time of a query, in a transaction or not; its constants, which may be secrets, are not told."""
    document = postgres_pool(
        postgres.port,
        spec={"telemetry": {"slowRequest": "300ms"}},
        pool={"size": 1, "maxOverflow": 0, "timeout": "500ms"},
        postgres={"auth": {"method": "trust"}, "queryTimeout": "1s"},
    )
    forebay, log = logged(tmp_path, document)
    async with forebay:
        connection = await connect(forebay)
        await connection.execute("SELECT 1")
        await connection.execute("SELECT pg_sleep(0.4), 'secret' -- secret\n")
        await asyncio.sleep(0.4)  # idle in a transaction is not slow
        await connection.execute("SELECT pg_sleep(%s), %s", (0.4, "secret"), prepare=True)
        async with await connect(forebay, autocommit=True) as other:
            with pytest.raises(psycopg.OperationalError, match="no connection"):
                await other.execute("SELECT 2")
        with pytest.raises(psycopg.OperationalError, match="queryTimeout"):
            await connection.execute("SELECT pg_sleep(20)")
        await lines(log, 4)
        await connection.close()
    plain, prepared, refused, cut = parsed(log)
    assert plain["query"] == "select pg_sleep(?.?), ?"
    assert prepared["query"] == "select pg_sleep($1), $2"
    assert (refused["query"], refused["error"], refused["endpoint"]) == ("select ?", "timeout", None)
    assert (cut["query"], cut["error"]) == ("select pg_sleep(?)", "57014")
    assert 400 <= plain["total_ms"] < 700
    assert refused["wait_ms"] >= 500
    for line in (plain, prepared, cut):
        assert (line["user"], line["database"], line["upstream"]) == ("trusting", "postgres", "db")
        assert (line["endpoint"], line["slow"]) == (f"127.0.0.1:{postgres.port}", True)
    assert "secret" not in log.read_text()
