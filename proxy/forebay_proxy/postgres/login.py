"""A client's way in: start-up packet, authentication, and what it is told before its first query.

What it is told (the server's parameters) is learnt from a server connection of its login, once; so a client of an
unknown database hears of it here, in the server's words.
"""

import secrets
from typing import TYPE_CHECKING, Final

from forebay_core.lease import Refusal
from forebay_core.pgwire import ProtocolError, backend, frontend, startup
from forebay_core.pgwire.fields import encoded, read_message, text
from forebay_core.postgres import scram
from forebay_core.postgres.errors import said
from forebay_core.postgres.md5 import md5_matches
from forebay_core.postgres.settings import SettingsError, Startup, initial, split_startup
from forebay_core.postgres.users import User
from forebay_proxy.postgres import refusals
from forebay_proxy.postgres.console import Console
from forebay_proxy.postgres.session import Session

if TYPE_CHECKING:
    from forebay_proxy.postgres.client import PgClient
    from forebay_proxy.postgres.database import Database
    from forebay_proxy.postgres.lookups import Lookups

LONGEST_ANSWER: Final = 65_536  # bytes of a client's message while it logs in
KEY_BYTES: Final = (4, 4, 32)  # of a cancel key, by the protocol's minor version
BY_PASSWORD: Final = ("scram-sha-256", "md5")
OFF: Final = ("off", "false", "no", "0")


class ClientLogin:
    """One client's login. `received` until the client has a session, or was refused."""

    def __init__(self, client: "PgClient", *, admitted: bool) -> None:
        """Clients that are too many are told so after their start-up packet: before it they understand no answer."""
        self._client = client
        self._admitted = admitted
        self._buffer = b""
        self._packet: startup.Startup | None = None
        self._user = ""
        self._scram: scram.ServerExchange | None = None
        self._salt = b""
        self._known = User("")  # whom the file, or a look-up, knows by the name
        self._lookups: Lookups | None = None  # where it was looked up
        self._database: Database | None = None
        self._wanted = Startup({}, ())
        self._waiting = False

    def received(self, data: bytes) -> None:
        """Bytes of the client. Raises ProtocolError."""
        self._buffer += data
        if len(self._buffer) > LONGEST_ANSWER:
            self._client.pause_reading()  # it is answered when it has waited
        while self._client.login is self and not self._waiting and self._buffer:
            if self._packet is None:
                found = startup.read_startup(self._buffer)
                if found is None:
                    return
                packet, end = found
                self._buffer = self._buffer[end:]
                self._take_packet(packet)
            else:
                message = read_message(self._buffer, 0, LONGEST_ANSWER)
                if message is None:
                    return
                kind, body, end = message
                self._buffer = self._buffer[end:]
                if kind != b"p":
                    raise ProtocolError(f"message {kind!r} instead of an answer to the authentication request")
                self._answered(body)

    def close(self) -> None:
        """The client has gone."""
        if self._waiting and self._database is not None:
            self._database.forget(self)
        elif self._waiting and self._lookups is not None:
            self._lookups.forget(self._user, self)

    @property
    def who(self) -> tuple[str, str] | None:
        """Whom it says it is, and the database that it asks for; None: it has not said it yet."""
        return (self._user, self._packet.parameters["database"]) if self._packet is not None else None

    # ------------------------------------------------------------------ start-up

    def _take_packet(self, packet: startup.Packet) -> None:
        client = self._client
        if isinstance(packet, startup.CancelRequest):
            client.proxy.cancel_by(packet)
            client.close()
        elif isinstance(packet, startup.Startup):
            self._packet = packet
            self._begin(packet)
        elif packet is startup.Encryption.DIRECT_TLS:
            raise ProtocolError("a TLS handshake, and this pool has no TLS (spec.listen.tls)")
        else:
            if self._buffer:
                raise ProtocolError(f"bytes right behind the {packet.value}, expected the answer to be waited for")
            client.write(b"N")  # neither TLS nor GSS, or not twice: the client goes on as it is, or goes

    def _begin(self, packet: startup.Startup) -> None:
        client = self._client
        parameters = packet.parameters
        self._user = parameters["user"]
        if not self._admitted:
            client.say("too_many_clients", limit=client.proxy.most_clients)
            return
        if client.proxy.tls_only and client.transport.get_extra_info("ssl_object") is None:
            client.proxy.count_rejection("no_tls")
            client.say("no_tls")
            return
        if packet.negotiates:
            client.write(backend.negotiate_protocol_version(packet.agreed_minor, packet.extensions))
        if parameters.get("replication", "off").lower() not in OFF:
            client.say("replication")
            return
        auth = client.proxy.auth
        self._known = auth.users.get(self._user) or User(self._user)
        if auth.method in BY_PASSWORD and self._user not in auth.users:
            self._look_up(parameters["database"])
        else:
            self._challenge()

    def _look_up(self, database: str) -> None:
        """Who is not in the file is asked for, where there is a query."""
        self._lookups = self._client.proxy.lookups(database)
        if self._lookups is not None:
            self._waiting = True
            known = self._lookups.ask(self._user, self)
            if known is None:
                return
            self._waiting, self._known = False, known
        self._challenge()

    def looked_up(self, user: User) -> None:
        """Who it says it is has been found, or is nobody."""
        self._waiting = False
        self._known = user
        self._challenge()
        self._client.resume_reading()
        self._client.data_received(b"")  # what has come meanwhile

    def not_looked_up(self, refusal: Refusal) -> None:
        """It can't be told."""
        self._waiting = False
        self._client.proxy.count_rejection("lookup")
        self._client.say("lookups_full" if refusal.reason in ("queue_full", "timeout") else "not_looked_up")

    # ------------------------------------------------------------------ authentication

    def _challenge(self) -> None:
        client = self._client
        method = client.proxy.auth.method
        if method == "trust":
            self._authenticated(None)
        elif method == "cert":
            self._certified()
        elif method == "md5":
            self._salt = secrets.token_bytes(4)
            client.write(backend.authentication(backend.MD5, self._salt))
        else:
            offered = (scram.PLUS, scram.PLAIN) if self._binding is not None else (scram.PLAIN,)
            client.write(backend.authentication_sasl(offered))

    @property
    def _binding(self) -> bytes | None:
        """What a SCRAM exchange is bound to: our certificate, over TLS."""
        encrypted = self._client.transport.get_extra_info("ssl_object") is not None
        return self._client.proxy.binding if encrypted else None

    def _certified(self) -> None:
        """By the common name of a certificate that TLS has verified."""
        certificate = self._client.transport.get_extra_info("peercert") or {}
        names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
        if names == [self._user]:
            self._authenticated(None)
        else:
            self._client.proxy.count_rejection("authentication")
            self._client.say("certificate", user=self._user)

    def _answered(self, body: bytes) -> None:
        auth = self._client.proxy.auth
        if auth.method == "md5":
            if md5_matches(auth.md5_of(self._known), self._salt, encoded(frontend.read_password(body))):
                self._authenticated(None)
            else:
                self._wrong()
            return
        try:
            self._sasl(body)
        except scram.WrongSecret:
            self._wrong()
        except scram.ScramError as error:
            raise ProtocolError(str(error), error.sqlstate) from None

    def _sasl(self, body: bytes) -> None:
        client, auth = self._client, self._client.proxy.auth
        if self._scram is None:
            mechanism, first = frontend.read_sasl_initial(body)
            verifier = auth.verifier_of(self._known)
            self._scram = scram.ServerExchange(mechanism, verifier, secrets.token_urlsafe(18), self._binding)
            if first is None:
                raise ProtocolError("an empty first SASL message, expected client-first-message")
            client.write(backend.authentication(backend.SASL_CONTINUE, self._scram.first(first)))
        else:
            final, keys = self._scram.final(body)
            client.write(backend.authentication(backend.SASL_FINAL, final))
            self._authenticated(keys)

    def _wrong(self) -> None:
        if self._lookups is not None:
            self._lookups.doubt(self._user)
        self._client.proxy.count_rejection("authentication")
        self._client.say("wrong_password", user=self._user)

    def _authenticated(self, keys: scram.Keys | None) -> None:
        """Who it is is known; now whether there is what it wants."""
        client, packet = self._client, self._packet
        assert packet is not None
        name = packet.parameters["database"]
        if client.proxy.is_console(name):
            self._enter_console()
            return
        raw = {key: value.encode("utf-8", "surrogateescape") for key, value in packet.parameters.items()}
        try:
            self._wanted = split_startup(raw)
        except SettingsError as error:
            client.say("startup", cause=str(error))
            return
        self._learn(name, client.proxy.database(self._known, name, self._wanted.fixed, keys))

    def _learn(self, name: str, database: "Database | None") -> None:
        """Of a database of this name, if there is one, what the server says of itself."""
        if database is None:
            self._client.say("no_database", database=name)
            return
        self._database = database
        if database.login.welcome is None:
            self._waiting = True
            self._client.arm(None)  # the pool's time counts now
            database.learn(self)
        else:
            self.welcomed()

    # ------------------------------------------------------------------ what the server says of itself

    def refused(self, refusal: Refusal) -> None:
        """There is no connection to learn from."""
        self._waiting = False
        assert self._database is not None
        if self._database.gone:  # from the document, meanwhile
            self._learn(self._database.name, self._client.proxy.successor(self._database))
            return
        self._database.refused(refusal)
        self._client.end_with(refusals.error(refusals.said_of(refusal, self._database)._replace(severity="FATAL")))

    def welcomed(self) -> None:
        """What the server says of itself is known."""
        client, packet, database = self._client, self._packet, self._database
        assert packet is not None
        assert database is not None
        reported = database.login.welcome
        assert reported is not None
        self._waiting = False
        if database.gone:
            self._learn(database.name, client.proxy.successor(database))
            return
        settings = client.proxy.interned(initial(self._wanted.followed, reported))
        session = client.new_session(database, settings)
        session.cancel_key = client.proxy.new_key(session, KEY_BYTES[packet.agreed_minor])
        self._enter(reported | settings, session.cancel_key)
        client.begin(session)
        self._go_on(session)

    def _enter(self, reported: dict[str, bytes], key: tuple[int, bytes]) -> None:
        self._client.write(
            b"".join(
                (
                    backend.AUTHENTICATION_OK,
                    *(backend.parameter_status(name, text(value)) for name, value in reported.items()),
                    backend.backend_key_data(*key),
                    backend.ready_for_query(b"I"),
                )
            )
        )

    def _go_on(self, session: Session | Console) -> None:
        """With what the client has sent behind its login."""
        self._client.resume_reading()
        if self._buffer:
            session.received(self._buffer)

    def _enter_console(self) -> None:
        client, packet = self._client, self._packet
        assert packet is not None
        postgres = client.proxy.postgres
        if self._user not in (*postgres.admin_users, *postgres.stats_users):
            client.end_with(refusals.error(said("not_allowed", user=self._user, database="pgbouncer")))
            return
        console = Console(client, self._user, admin=self._user in postgres.admin_users)
        console.cancel_key = client.proxy.new_key(console, KEY_BYTES[packet.agreed_minor])
        self._enter(console.reported, console.cancel_key)
        client.begin(console)
        self._go_on(console)
