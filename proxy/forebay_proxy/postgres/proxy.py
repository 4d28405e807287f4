"""The protocol `postgres` of one worker: its clients, its databases, who may log in, and what is counted."""

import secrets
from collections import OrderedDict
from typing import Any

from forebay_core.pgwire import startup
from forebay_core.pool import Refusal
from forebay_core.postgres.marks import NONE, Marks, marks
from forebay_core.postgres.scram import Keys
from forebay_core.spec.model import Spec
from forebay_proxy.postgres.auth import Auth
from forebay_proxy.postgres.cancel import Cancels
from forebay_proxy.postgres.client import PgClient
from forebay_proxy.postgres.server import Login, PgConnection
from forebay_proxy.postgres.server_login import Conversation
from forebay_proxy.postgres.session import Session, Settings
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream
from forebay_proxy.wheel import Wheel

MOST_TEXTS = 4096  # statement texts whose marks are remembered, per database
LONGEST_TEXT = 4096  # bytes; longer ones are read each time
MOST_SETTINGS = 1024  # different settings of clients that are told apart by identity
MOST_DATABASES = 1000  # user, database and start-up parameters; beyond it the one unused longest goes


PLAIN_STARTS = (b"select", b"insert", b"update", b"delete", b"begin", b"commit", b"rollback", b"with", b"end", b"fetch")


def plain(text: bytes) -> bool:
    """Whether a text surely has no mark: most have none, and are never the same twice where values stand in them."""
    low = text.lower()
    return low.startswith(PLAIN_STARTS) and not (
        b";" in low[:-1]
        or b"temp" in low
        or b"--" in low
        or b"/*" in low
        or b"advisory_" in low
        or b"set_config" in low
        or b"pg_settings" in low
        or b"_slot" in low
        or b"_backup" in low
        or b"dblink" in low
        or b"setseed" in low
        or b'u&"' in low
    )


class Database:
    """What clients of one user, one database and the same start-up parameters have in common."""

    def __init__(self, name: str, upstream: Upstream, login: Login, *, session: bool, reset_always: bool) -> None:
        self.name = name
        self.upstream = upstream
        self.login = login
        self.session = session
        self.reset_always = reset_always
        self.welcome: dict[str, bytes] | None = None  # what the server reports at login; None: nobody was there yet
        self.transactions = 0
        self._marks: OrderedDict[bytes, Marks] = OrderedDict()

    def marks_of(self, text: bytes) -> Marks:
        """`marks`, remembered."""
        if plain(text):
            return NONE
        found = self._marks.get(text)
        if found is None:
            found = marks(text)
            if len(text) <= LONGEST_TEXT:
                self._marks[text] = found
                if len(self._marks) > MOST_TEXTS:
                    self._marks.popitem(last=False)
        return found

    def refused(self, refusal: Refusal) -> None:
        """Count it."""
        counts = self.upstream.rejections
        counts[refusal.reason] = counts.get(refusal.reason, 0) + 1


class PgProxy:
    """See the module's docstring."""

    def __init__(self, wheel: Wheel, tasks: Tasks) -> None:
        self.wheel = wheel
        self.draining = False
        self.clients: set[PgClient] = set()
        self.rejections: dict[str, int] = {}
        self.codes: dict[int | str, int] = {}
        self.binding: bytes | None = None  # of our certificate, for SCRAM-SHA-256-PLUS
        self._cancels = Cancels(tasks)
        self._databases: OrderedDict[object, Database] = OrderedDict()
        self._settings: OrderedDict[object, Settings] = OrderedDict()

    def configure(self, spec: Spec, upstreams: dict[str, Upstream], max_clients: int) -> None:
        """Take a document; sessions go on as they are."""
        self._max_clients = max_clients
        self._upstream = upstreams[spec.upstreams[0].name]
        self.postgres = spec.postgres
        self.auth = Auth(spec.postgres.auth.method, {}, secrets.token_bytes(32))
        self._reset_always = spec.upstreams[0].pool.reset_on_return == "always"

    # ------------------------------------------------------------------ clients

    def __call__(self, peer: str | None = None) -> PgClient:
        """The protocol factory of the listeners; `peer` is what a balancer says of the client."""
        return PgClient(self, peer or "")

    def admit(self, client: PgClient) -> bool:
        if len(self.clients) >= self._max_clients:
            self.count_rejection("max_clients")
            return False
        self.clients.add(client)
        return True

    def forget(self, client: PgClient) -> None:
        self.clients.discard(client)

    def count_rejection(self, reason: str) -> None:
        """A client was refused before it could ask for anything."""
        self.rejections[reason] = self.rejections.get(reason, 0) + 1

    def close_idle(self) -> None:
        """During a drain: those that do nothing."""
        for client in list(self.clients):
            if client.session is None or client.session.idle:
                client.fail("57P01", "the proxy is shutting down")

    def cut_all(self) -> None:
        """The drain's deadline has come."""
        for client in list(self.clients):
            client.fail("57P01", "the proxy is shutting down")
            if client.transport is not None:
                client.transport.abort()

    def observe_with(self, log: object, tracer: object, *, log_all: bool) -> None:
        """Transactions are counted, not logged."""

    def close(self) -> None:
        """Nothing to write."""

    # ------------------------------------------------------------------ databases

    def is_console(self, name: str) -> bool:
        return name == "pgbouncer"

    def database(
        self, user: str, name: str, fixed: tuple[tuple[str, bytes], ...], keys: Keys | None
    ) -> Database | None:
        """The database of this name for this user; None: there is none. `keys`: what its client has shown."""
        key = user, name, fixed
        found = self._databases.get(key)
        if found is None:
            who = self.auth.user(user)

            def answer(transport: Any) -> Conversation:
                return Conversation(who, who.password or login.keys, transport)

            login = Login(user, name, None, answer, fixed)
            session = self.postgres.pool_mode == "session"
            found = Database(name, self._upstream, login, session=session, reset_always=self._reset_always)
            self._databases[key] = found
        if keys is not None:
            found.login.keys = keys
        return found

    def interned(self, settings: Settings) -> Settings:
        """One dictionary for all that are equal, so that `is` tells."""
        key = tuple(settings.items())
        known = self._settings.get(key)
        if known is None:
            known = self._settings[key] = settings
            if len(self._settings) > MOST_SETTINGS:
                self._settings.popitem(last=False)
        return known

    # ------------------------------------------------------------------ cancel requests

    def new_key(self, session: Session, size: int) -> tuple[int, bytes]:
        return self._cancels.new_key(session, size)

    def forget_key(self, key: tuple[int, bytes]) -> None:
        self._cancels.forget(key)

    def cancel_by(self, request: startup.CancelRequest) -> None:
        """A client's cancel request."""
        if not self._cancels.by(request):
            self.count_rejection("cancel")

    def cancel(self, connection: PgConnection, session: Session | None) -> None:
        """Cancel what a server connection does."""
        if connection.cancel_key is not None:
            self._cancels.send(connection.upstream, connection.endpoint, connection.cancel_key, session)
