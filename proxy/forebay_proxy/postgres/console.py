"""The admin database `pgbouncer` of one worker: carries out what `forebay_core.postgres.console` has parsed."""

from typing import TYPE_CHECKING

from forebay_core.pgwire import backend
from forebay_core.postgres.console import SQLSTATE

if TYPE_CHECKING:
    from forebay_proxy.postgres.client import PgClient


class Console:
    """One client's session with it."""

    reported = {"server_version": b"1.25.0/forebay", "client_encoding": b"UTF8"}

    def __init__(self, client: "PgClient", user: str, *, admin: bool) -> None:
        self._client = client
        self._admin = admin

    def received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._client.write(backend.error_response("FATAL", SQLSTATE, "not built yet"))
        self._client.close()
