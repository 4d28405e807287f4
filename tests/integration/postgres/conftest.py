"""One PostgreSQL server for all tests here that don't stop it."""

from collections.abc import Iterator

import pytest
from tests.integration.postgres.server import Postgres


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
