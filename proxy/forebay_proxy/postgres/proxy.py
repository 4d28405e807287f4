"""The protocol `postgres` of one worker: its clients, its databases, who may log in, and what is counted."""

import logging
import os
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from forebay_core.pgwire import startup
from forebay_core.postgres import console
from forebay_core.postgres.binding import server_end_point
from forebay_core.postgres.scram import Keys
from forebay_core.postgres.users import User, UsersError, parse_users
from forebay_core.spec.model import Spec
from forebay_core.spec.postgres import Database as DatabaseSpec
from forebay_core.spec.postgres import Monitor, Postgres
from forebay_proxy.postgres.asking import Settings
from forebay_proxy.postgres.auth import Auth
from forebay_proxy.postgres.cancel import Cancels
from forebay_proxy.postgres.client import PgClient
from forebay_proxy.postgres.console import Commands
from forebay_proxy.postgres.database import Database
from forebay_proxy.postgres.peers import Peers
from forebay_proxy.postgres.roles import PRIMARY, STANDBY, RoleWatch
from forebay_proxy.postgres.server import Login, PgConnection
from forebay_proxy.postgres.server_login import Conversation
from forebay_proxy.postgres.session import Session
from forebay_proxy.secret_files import SecretError, read_secret
from forebay_proxy.tasks import Tasks
from forebay_proxy.upstream import Upstream
from forebay_proxy.wheel import Wheel

MOST_SETTINGS: Final = 1024  # different settings of clients that are told apart by identity
MOST_DATABASES: Final = 4096  # users, databases and start-up parameters whose statistics are kept
ROLES: Final = {"readWrite": PRIMARY, "readOnly": STANDBY, "preferReplica": STANDBY}

log = logging.getLogger(__name__)


class PgProxy:
    """See the module's docstring."""

    def __init__(self, wheel: Wheel, tasks: Tasks, commands: Commands) -> None:
        """`commands` is the worker."""
        self.wheel = wheel
        self.commands = commands
        self.draining = False
        self.clients: set[PgClient] = set()
        self.rejections: dict[str, int] = {}
        self.codes: dict[int | str, int] = {}
        self.binding: bytes | None = None  # of our certificate, for SCRAM-SHA-256-PLUS
        self.tls_only = False  # listen.tls is given: a login in clear text is refused
        self.databases: OrderedDict[object, Database] = OrderedDict()
        self._forgotten: dict[str, int] = {}  # transactions of databases that are no longer there, by upstream
        self._cancels = Cancels(tasks)
        self._peers = Peers(self._cancels.by)
        self._tasks = tasks
        self._watches: list[RoleWatch] = []
        self._settings: OrderedDict[object, Settings] = OrderedDict()
        self._secret = secrets.token_bytes(32)
        self._files: dict[str, str] = {}  # the contents of files with users and passwords, as last read

    def configure(self, spec: Spec, upstreams: dict[str, Upstream], max_clients: int) -> None:
        """Take a document; sessions go on as they are. Raises SecretError where a file can't be used."""
        assert spec.postgres is not None
        self.most_clients = max_clients
        self.postgres: Postgres = spec.postgres
        self.upstreams = upstreams
        self._first = upstreams[spec.upstreams[0].name]
        self.named = {database.name: database for database in spec.postgres.databases}
        self._load()
        self._watch(spec)
        for key, database in list(self.databases.items()):
            if upstreams.get(database.upstream.name) is database.upstream and self._still(database):
                database.configure(spec.postgres)
            else:
                self._forget_database(key)

    def _still(self, database: Database) -> bool:
        """Whether the document still means the same by it."""
        entry = self.named.get(database.name)
        if self.named and entry is None:
            return False
        return database.login.database == ((entry and entry.database) or database.name)

    def _watch(self, spec: Spec) -> None:
        """Watch the roles of the endpoints of each upstream, where there is a user for it."""
        for watch in self._watches:
            watch.close()
        self._watches.clear()
        monitor = self.postgres.monitor
        if monitor is None:
            return

        def answer(transport: Any) -> Conversation:
            return Conversation(User(monitor.user), self.password_of(monitor), transport)

        for upstream in spec.upstreams:
            login = Login(monitor.user, monitor.database, None, answer)
            self._watches.append(RoleWatch(self.upstreams[upstream.name], login, self._tasks))

    def use_certificate(self, certificate: bytes | None) -> None:
        """Ours, in DER, as clients see it; None: there is no TLS."""
        self.tls_only = certificate is not None
        self.binding = server_end_point(certificate) if certificate is not None else None

    # ------------------------------------------------------------------ secrets

    def _load(self) -> None:
        users_file = self.postgres.auth.users_file
        users: Mapping[str, User] = {}
        if users_file is not None:
            self._files[users_file] = text = read_secret(users_file)
            try:
                users = parse_users(text)
            except UsersError as error:
                raise SecretError(f"{users_file}: {'; '.join(error.problems)}") from None
        holders: list[DatabaseSpec | Monitor] = [*self.postgres.databases]
        if self.postgres.monitor is not None:
            holders.append(self.postgres.monitor)
        for holder in holders:
            if holder.password_file is not None:
                self._files[holder.password_file] = read_secret(holder.password_file)
        self.auth = Auth(self.postgres.auth.method, users, self._secret)

    def refresh(self) -> None:
        """Take up changed secrets; bad ones are left, and said once."""
        changed = {}
        for path, old in self._files.items():
            try:
                new = read_secret(path)
            except SecretError as error:
                new = old
                log.warning("%s", error)
            if new != old:
                changed[path] = new
        if changed:
            before = self.auth
            try:
                self._load()
            except SecretError as error:
                self.auth = before
                self._files |= changed
                log.warning("%s", error)

    def password_of(self, holder: DatabaseSpec | Monitor) -> str | None:
        """The password that the document gives for a server's user."""
        if holder.password_file is not None:
            return self._files[holder.password_file].removesuffix("\n")
        return os.environ.get(holder.password_env) if holder.password_env is not None else None

    # ------------------------------------------------------------------ clients

    def __call__(self, peer: str | None = None) -> PgClient:
        """The protocol factory of the listeners; `peer` is what a balancer says of the client."""
        return PgClient(self, peer or "")

    def admit(self, client: PgClient) -> bool:
        if len(self.clients) >= self.most_clients:
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
                client.say("ended", cause="this replica drains")

    def cut_all(self) -> None:
        """The drain's deadline has come."""
        for client in list(self.clients):
            client.say("ended", cause="this replica drains")
            client.abort()

    def observe_with(self, log: object, tracer: object, *, log_all: bool) -> None:
        """Transactions are counted, not logged."""

    def close(self) -> None:
        """Nothing is left to write."""

    def end(self) -> None:
        """The worker ends."""
        self._peers.close()

    def pinned(self) -> dict[str, dict[str, int]]:
        """How many connections stay with their client, by upstream and reason."""
        counts: dict[str, dict[str, int]] = {}
        for client in self.clients:
            session = client.session
            if session is not None and session.connection is not None:
                mine = counts.setdefault(session.upstream.name, {})
                for reason in {pin.partition(":")[0] for pin in session.pins}:
                    mine[reason] = mine.get(reason, 0) + 1
        return counts

    def transactions(self) -> dict[str, int]:
        """How many have ended, by upstream."""
        counts: dict[str, int] = dict(self._forgotten)
        for database in self.databases.values():
            counts[database.upstream.name] = counts.get(database.upstream.name, 0) + database.transactions
        return counts

    # ------------------------------------------------------------------ databases

    @property
    def paused(self) -> bool:
        """Whether no connection is leased to anybody."""
        return self._first.pool.pause_timeout is not None

    def upstream_of(self, entry: DatabaseSpec | None) -> Upstream:
        """Which upstream has a database."""
        return self.upstreams[entry.upstream] if entry is not None and entry.upstream is not None else self._first

    def is_console(self, name: str) -> bool:
        return name == console.DATABASE

    def database(
        self, user: str, name: str, fixed: tuple[tuple[str, bytes], ...], keys: Keys | None
    ) -> Database | None:
        """The database of this name for this user; None: there is none. `keys`: what its client has shown."""
        entry = self.named.get(name)
        if entry is None and self.named:
            return None
        key = user, name, fixed
        found = self.databases.get(key)
        if found is None:
            found = self.databases[key] = self._make(user, name, fixed, entry)
            if len(self.databases) > MOST_DATABASES:
                self._forget_database(next(iter(self.databases)))
        if keys is not None:
            found.login.keys = keys
        return found

    def _forget_database(self, key: object) -> None:
        """Its sessions go on, new ones get another."""
        gone = self.databases.pop(key)
        name = gone.upstream.name
        self._forgotten[name] = self._forgotten.get(name, 0) + gone.transactions

    def _make(self, user: str, name: str, fixed: tuple[tuple[str, bytes], ...], entry: DatabaseSpec | None) -> Database:
        upstream = self.upstream_of(entry)
        entry = entry or DatabaseSpec(name=name)
        server_user = entry.user or user

        def answer(transport: Any) -> Conversation:
            who = self.auth.user(server_user)
            password = self.password_of(entry) if entry.user is not None else None
            keys = login.keys if server_user == user else None
            return Conversation(who, password or who.password or keys, transport)

        settings = {name: value.encode() for name, value in entry.settings.items()}
        given = tuple(sorted((settings | dict(fixed)).items()))
        role = ROLES[entry.access] if self.postgres.monitor is not None else None
        login = Login(server_user, entry.database or name, role, answer, given)
        instead = Login(server_user, entry.database or name, PRIMARY, answer, given)
        prefers = entry.access == "preferReplica" and role is not None
        return Database(name, user, upstream, login, self.postgres, instead if prefers else None)

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
        if not self._cancels.by(request) and not self._peers.tell(request):
            self.count_rejection("cancel")

    def cancel(self, connection: PgConnection, session: Session | None) -> None:
        """Cancel what a server connection does."""
        if connection.cancel_key is not None:
            self._cancels.send(connection, session)
        elif session is not None:
            session.cancel_over()
