"""The protocol `postgres` of one worker: its clients, its databases, who may log in, and what is counted."""

import logging
from collections import OrderedDict
from collections.abc import Coroutine, Iterator, Mapping
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Final

from forebay_core.lease import Waiter
from forebay_core.pgwire import startup
from forebay_core.postgres import console
from forebay_core.postgres.binding import server_end_point
from forebay_core.postgres.console import Value
from forebay_core.postgres.scram import Keys
from forebay_core.postgres.users import User
from forebay_core.spec.model import Spec
from forebay_core.spec.postgres import Database as DatabaseSpec
from forebay_core.spec.postgres import Postgres
from forebay_proxy.accesslog import AccessLog
from forebay_proxy.files import reason
from forebay_proxy.postgres.aside import Asides
from forebay_proxy.postgres.asking import Settings
from forebay_proxy.postgres.auth import Auth
from forebay_proxy.postgres.cancel import Cancellable, Cancels
from forebay_proxy.postgres.client import PgClient
from forebay_proxy.postgres.console import SHOWN, Commands
from forebay_proxy.postgres.database import Database
from forebay_proxy.postgres.files import Files, read_files, users_of
from forebay_proxy.postgres.leftovers import Leftovers
from forebay_proxy.postgres.logged import LoggedClient
from forebay_proxy.postgres.lookups import Lookups
from forebay_proxy.postgres.pauses import Asker, Pause
from forebay_proxy.postgres.peers import Peers
from forebay_proxy.postgres.pods import Pods, unmarked
from forebay_proxy.postgres.roles import PRIMARY, STANDBY, RoleWatch
from forebay_proxy.postgres.server import Login, PgConnection, serves
from forebay_proxy.postgres.server_login import Conversation, Knock
from forebay_proxy.postgres.session import Session
from forebay_proxy.postgres.texts import Texts
from forebay_proxy.secret_files import SecretError
from forebay_proxy.tasks import Tasks
from forebay_proxy.turn import Turn
from forebay_proxy.upstream import Upstream
from forebay_proxy.wheel import Wheel

MOST_SETTINGS: Final = 1024  # different settings of clients that are told apart by identity
MOST_DATABASES: Final = 4096  # users, databases and start-up parameters whose statistics are kept
KNOCK: Final = Login("forebay", "postgres", None, lambda transport: Knock())  # whom the server need not know
ROLES: Final = {"readWrite": PRIMARY, "readOnly": STANDBY, "preferReplica": STANDBY}
# SQLSTATEs (appendix A). 28000 is also of pg_hba.conf, which goes by user and database, 42501 of a missing right.
USER_REFUSED: Final = frozenset({"28000", "28P01", "42501"})
DATABASE_REFUSED: Final = frozenset({"3D000", "28000", "42501"})
PARAMETER_REFUSED: Final = frozenset({"22023", "42704", "42501"})

log = logging.getLogger(__name__)


class PgProxy:
    """See the module's docstring."""

    def __init__(self, wheel: Wheel, turn: Turn, tasks: Tasks, commands: Commands, secret: bytes) -> None:
        """`commands` is the worker. `secret`: what all replicas know, and nobody else, so that to all of them who does
        not exist is the same one."""
        self.wheel = wheel
        self.turn = turn
        self.commands = commands
        self.log: AccessLog | None = None
        self.log_all = False
        self.slow = inf  # seconds
        self.clients: set[PgClient] = set()
        self.rejections: dict[str, int] = {}
        self.codes: dict[int | str, int] = {}
        self.binding: bytes | None = None  # of our certificate, for SCRAM-SHA-256-PLUS
        self.tls_only = False  # listen.tls is given: a login in clear text is refused
        self.databases: OrderedDict[object, Database] = OrderedDict()
        self.pauses: dict[str, Pause] = {}  # by the name of the database
        self._forgotten: dict[str, int] = {}  # transactions of databases that are no longer there, by upstream
        self._asides = Asides(tasks)
        self._cancels = Cancels(tasks, self._asides)
        self.leftovers = Leftovers(self._cancels, self._asides, tasks, self._any_login)
        self._others: Peers | Pods | None = None  # whose sessions a cancel request may be for
        self._tasks = tasks
        self._watches: list[RoleWatch] = []
        self._texts = Texts()
        self._settings: OrderedDict[object, Settings] = OrderedDict()
        self._secret = secret
        self.auth = Auth("trust", {}, self._secret)
        self._files = Files("", {})
        self.complaint = ""  # of the last refresh; empty: the files are in force as they are
        self._lookups: dict[str, Lookups] = {}  # by upstream

    def configure(self, spec: Spec, upstreams: dict[str, Upstream], max_clients: int) -> None:
        """Take a document. Sessions go on: what their database is now counts from their next lease on. `load` has read
        its files."""
        assert spec.postgres is not None
        self.most_clients = max_clients
        self.postgres: Postgres = spec.postgres
        self.slow = spec.telemetry.slow_request or inf
        self.upstreams = upstreams
        self._first = upstreams[spec.upstreams[0].name]
        self._proxied = spec.listen.proxy_protocol
        self._pause_timeout = spec.pause_timeout
        if isinstance(self._others, Pods):
            self._others.proxied = self._proxied
        self.named = {database.name: database for database in spec.postgres.databases}
        self._files, self.auth = self._loaded
        self._watch(spec)
        self._configure_lookups()
        sessions = [client.session for client in self.clients if client.session is not None]
        for database in {*self.databases.values(), *(session.database for session in sessions)}:
            database.gone = not self._is_as_before(database)
            if not database.gone:
                database.configure(spec.postgres)
        for key, database in list(self.databases.items()):
            if database.gone:
                self._forget_database(key)
                database.give_up_lesson()
        self._attend()
        for session in sessions:
            session.follow()

    def _attend(self) -> None:
        """What holds for sessions has changed."""
        for client in self.clients:
            if client.session is not None:
                client.session.attend()

    def _is_as_before(self, database: Database) -> bool:
        """Whether what the document says now makes the same of it."""
        entry, monitored = self._entry(database.name), database.login.role is not None
        return (
            entry == database.spec
            and self.upstream_of(entry) is database.upstream
            and monitored == (self.postgres.monitor is not None)
        )

    def _entry(self, name: str) -> DatabaseSpec | None:
        """What the document says of a database; None: there is none of this name."""
        if self.named:
            return self.named.get(name)
        return DatabaseSpec.model_construct(name=name)  # as a client gives it: the server says whether there is one

    def _watch(self, spec: Spec) -> None:
        """Watch the roles of the endpoints of each upstream, where there is a user for it."""
        for watch in self._watches:
            watch.close()
        self._watches.clear()
        self.leftovers.logins.clear()
        monitor = self.postgres.monitor
        if monitor is None:
            for known in self.upstreams.values():
                known.knock = KNOCK
                for endpoint in known.pool.endpoints:
                    known.pool.set_role(endpoint, None, monotonic())
            return

        def answer(transport: Any) -> Conversation:
            return Conversation(User(monitor.user), self._files.password_of(monitor), transport)

        for upstream in spec.upstreams:
            login = Login(monitor.user, monitor.database, None, answer)
            self._watches.append(RoleWatch(self.upstreams[upstream.name], login, self._asides, self._tasks))
            self.leftovers.logins[upstream.name] = login

    def _configure_lookups(self) -> None:
        """Those by another query, or at an upstream that is no more, end when who waits for them has been told."""
        query, before = self.postgres.auth.query, self._lookups
        self._lookups = {}
        if query is None:
            return

        def answer(transport: Any) -> Conversation:
            return Conversation(User(query.user), self._files.password_of(query), transport)

        for name, upstream in self.upstreams.items():
            known = before.get(name)
            if known is None or known.query != query or known.upstream is not upstream:
                known = Lookups(query, upstream, Login(query.user, query.database, None, answer))
            self._lookups[name] = known

    def lookups(self, database: str) -> Lookups | None:
        """Where the users of a database are looked up who are not in the file; None: there are no others."""
        return self._lookups.get(self.upstream_of(self.named.get(database)).name)

    def _any_login(self, upstream: Upstream) -> Login | None:
        """One that has succeeded, if there is any, to ask a server what everybody may ask."""
        logins = [database.login for database in self.databases.values() if database.upstream is upstream]
        return next((login for login in logins if login.welcome is not None), logins[-1] if logins else None)

    def use_certificate(self, certificate: bytes | None) -> None:
        """Ours, in DER, as clients see it; None: there is no TLS."""
        self.tls_only = certificate is not None
        self.binding = server_end_point(certificate) if certificate is not None else None

    # ------------------------------------------------------------------ secrets

    def load(self, spec: Spec) -> None:
        """Read the files that a document names, for the `configure` that follows. Raises SecretError."""
        assert spec.postgres is not None
        self._loaded = self._read(spec.postgres)

    def _read(self, postgres: Postgres) -> tuple[Files, Auth]:
        files = read_files(postgres)
        if files.users == self._files.users and postgres.auth.method == self.auth.method:
            return files, self.auth
        users = users_of(postgres, files)
        return files, Auth(postgres.auth.method, users, self._secret, self.auth)

    def refresh(self) -> None:
        """Take up changed files; bad ones are left, and said once."""
        try:
            self._files, self.auth = self._read(self.postgres)
        except SecretError as error:
            if str(error) != self.complaint:
                log.warning("%s; what it said before stays in force", error)
            self.complaint = str(error)
        else:
            self.complaint = ""

    # ------------------------------------------------------------------ clients

    def __call__(self, peer: str | None = None) -> PgClient:
        """The protocol factory of the listeners; `peer` is what a balancer says of the client."""
        return PgClient(self, peer or "") if self.log is None else LoggedClient(self, peer or "")

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

    def drain(self) -> None:
        """Nothing is said to the clients yet."""

    def close_idle(self) -> None:
        """During a drain: those that do nothing."""
        for client in list(self.clients):
            if client.session is None or client.session.idle:
                client.say("ended", cause="this replica drains")

    def kill(self, database: str) -> None:
        """End the sessions of a database; of all, where it has no name."""
        for client in list(self.clients):
            if client.session is not None and database in ("", client.session.database.name):
                client.say("ended", cause="KILL on the admin console")

    def rows(self, table: str) -> list[Mapping[str, Value]]:
        """What this worker has for a table of the admin database."""
        return list(SHOWN[table](self))

    def spawn(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.spawn(coro, name)

    def cut_all(self) -> None:
        """The drain's deadline has come."""
        for client in list(self.clients):
            client.say("ended", cause="this replica drains")
            client.abort()

    def observe_with(self, log: AccessLog | None, tracer: object, *, log_all: bool) -> None:
        """Where sessions that begin from now on are told when they end, and slow queries of theirs; without `log_all`
        only these."""
        self.log, self.log_all = log, log_all

    def end(self) -> None:
        """The worker ends."""
        if self._others is not None:
            self._others.close()

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

    def waiting_besides(self, now: float) -> dict[str, tuple[int, float]]:
        """By upstream, how many clients wait for a connection besides those in its pool's queue, and held by a pause:
        who logs in behind another one that does, and who is between two attempts. And since how many seconds."""
        found: dict[str, tuple[int, float]] = {}
        for upstream, waiter, clients in self._askers():
            besides = clients - (waiter in upstream.pool.waiters or waiter in upstream.gated)
            if besides:
                number, oldest = found.get(upstream.name, (0, 0.0))
                found[upstream.name] = number + besides, max(oldest, now - waiter.since)
        return found

    def _askers(self) -> Iterator[tuple[Upstream, Waiter, int]]:
        """Who asks for connections, for so many clients."""
        for client in self.clients:
            session = client.session
            if session is not None and session.waiting:
                yield session.upstream, session, 1
        for database in self.databases.values():
            for lesson in database.lessons():
                yield database.upstream, lesson, len(lesson.learners)
        for lookups in self._lookups.values():
            yield lookups.upstream, lookups, lookups.waiting

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

    def pause(self, name: str) -> None:
        """Hold who asks for a connection of the database; those that there are go as their leases end."""
        pause = self.pauses.setdefault(name, Pause(self.wheel, self._pause_timeout))
        self._attend()
        for upstream in self.upstreams.values():
            for waiter in upstream.pool.part_with(lambda kind: serves(kind, name), monotonic()):
                assert isinstance(waiter, Asker)
                pause.hold(waiter, upstream)
            upstream.act()

    def resume(self, name: str) -> None:
        """Serve a database again that may have been paused by its name."""
        pause = self.pauses.pop(name, None)
        if pause is not None:
            pause.end()

    def upstream_of(self, entry: DatabaseSpec | None) -> Upstream:
        """Which upstream has a database."""
        return self.upstreams[entry.upstream] if entry is not None and entry.upstream is not None else self._first

    def is_console(self, name: str) -> bool:
        return name == console.DATABASE

    def database(
        self, user: User, name: str, fixed: tuple[tuple[str, bytes], ...], keys: Keys | None
    ) -> Database | None:
        """The database of this name for this user; None: there is none. `keys`: what its client has shown."""
        entry = self._entry(name)
        if entry is None:
            return None
        key = user.name, name, fixed
        found = self.databases.get(key)
        if found is None:
            found = self.databases[key] = self._make(user.name, name, fixed, entry)
            if len(self.databases) > MOST_DATABASES:
                self._forget_database(next(iter(self.databases)))
        found.login.known = user
        if keys is not None:
            found.login.keys = keys
        return found

    def learn_anew(self) -> None:
        """What servers say of themselves: clients that log in from now on are told what a new connection is."""
        for database in self.databases.values():
            database.login.welcome = None

    def successor(self, gone: Database) -> Database | None:
        """What the document has now for the clients of a database; None: nothing of this name."""
        assert gone.login.known is not None
        return self.database(gone.login.known, gone.name, gone.fixed, gone.login.keys)

    def _forget_database(self, key: object) -> None:
        """New sessions get another."""
        gone = self.databases.pop(key)
        name = gone.upstream.name
        self._forgotten[name] = self._forgotten.get(name, 0) + gone.transactions

    def _make(self, user: str, name: str, fixed: tuple[tuple[str, bytes], ...], entry: DatabaseSpec) -> Database:
        upstream = self.upstream_of(entry)
        server_user = entry.user or user

        def answer(transport: Any) -> Conversation:
            who = self.auth.users.get(server_user) or (server_user == user and login.known) or User(server_user)
            password = self._files.password_of(entry) if entry.user is not None else None
            keys = login.keys if server_user == user else None
            return Conversation(who, password or who.password or keys, transport)

        settings = {name: value.encode() for name, value in entry.settings.items()}
        given = tuple(sorted((settings | dict(fixed)).items()))
        role = ROLES[entry.access] if self.postgres.monitor is not None else None
        login = Login(server_user, entry.database or name, role, answer, given, name)
        instead = Login(server_user, entry.database or name, PRIMARY, answer, given, name)
        login.chosen = instead.chosen = self._chosen(entry, user, fixed)
        prefers = entry.access == "preferReplica" and role is not None
        return Database(
            entry, user, fixed, upstream, login, self.postgres, instead if prefers else None, self.pauses, self._texts
        )

    def _chosen(self, entry: DatabaseSpec, user: str, fixed: tuple[tuple[str, bytes], ...]) -> frozenset[str]:
        """The SQLSTATEs by which a server refuses what the client has chosen: what the document names is not that."""
        found: set[str] = set()
        if entry.user is None and user not in self.auth.users:
            found |= USER_REFUSED
        if not self.named:
            found |= DATABASE_REFUSED
        if fixed:
            found |= PARAMETER_REFUSED
        return frozenset(found)

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

    def new_key(self, session: Cancellable, size: int) -> tuple[int, bytes]:
        return self._cancels.new_key(session, size)

    def forget_key(self, key: tuple[int, bytes]) -> None:
        self._cancels.forget(key)

    def cancel_by(self, request: startup.CancelRequest) -> None:
        """A client's cancel request."""
        request, passed_on = unmarked(request)
        if not self._cancels.by(request) and (passed_on or self._others is None or not self._others.tell(request)):
            self.count_rejection("cancel")

    def join_peers(self, path: Path) -> None:
        """This is one of a supervisor's workers; `path` is for its socket. Where there can't be one (a file system
        without sockets), cancel requests are served for this worker's sessions only."""
        try:
            self._others = Peers(self._cancels.by, path)
        except OSError as error:
            log.warning("cancel requests for other workers' sessions are not passed on: %s: %s", path, reason(error))

    def join(self, address: str, service: str, port: int) -> None:
        """This is one of the pods behind a headless Service."""
        self._others = pods = Pods(address, service, port, self._tasks, lambda: self.count_rejection("cancel"))
        pods.proxied = self._proxied
        self._cancels.tag = pods.tag

    def cancel(self, connection: PgConnection, session: Session | None) -> None:
        """Cancel what a server connection does."""
        if connection.cancel_key is not None:
            self._cancels.send(connection, session)
        elif session is not None:
            session.cancel_over()
