"""One PostgreSQL server for all tests here that don't stop it."""

from collections.abc import Iterator

import pytest
from tests.integration.postgres.server import Postgres
from tests.support.certs import CA


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Roles: postgres (superuser) and trusting, without passwords; scram, whose password is `secret`."""
    with Postgres() as server:
        import psycopg

        with psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", autocommit=True) as connection:
            connection.execute("CREATE ROLE trusting LOGIN")
            connection.execute("CREATE ROLE scram LOGIN PASSWORD 'secret'")
            connection.execute("GRANT ALL ON SCHEMA public TO PUBLIC")
        yield server


@pytest.fixture
def secured(ca: CA) -> Iterator[Postgres]:
    """A server that takes passwords over TLS only."""
    pair = ca.server("localhost", "127.0.0.1", stem="upstream")
    server = Postgres({"ssl": "on"})
    server.give("server.crt", pair.cert.read_bytes())
    server.give("server.key", pair.key.read_bytes())
    server.give("pg_hba.conf", b"hostssl all all 127.0.0.1/32 scram-sha-256\n")
    server.single("CREATE ROLE scram LOGIN PASSWORD 'secret'")
    with server:
        yield server
