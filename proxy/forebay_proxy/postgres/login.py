"""A client's way in: start-up packet, authentication, and what it is told before its first query.

What it is told (the server's parameters) is learnt from a server connection of its login, once; so a client of an
unknown database hears of it here, in the server's words.
"""

import secrets
from typing import TYPE_CHECKING, Final

from forebay_core.pgwire import ProtocolError, backend, frontend, startup
from forebay_core.pgwire.fields import read_message
from forebay_core.pool import Connection, Refusal, Refused, Waiter
from forebay_core.postgres import scram
from forebay_core.postgres.md5 import md5_matches
from forebay_core.postgres.settings import FOLLOWED, SettingsError, split_startup
from forebay_proxy.postgres import refusals
from forebay_proxy.postgres.session import Session

if TYPE_CHECKING:
    from forebay_proxy.postgres.client import PgClient
    from forebay_proxy.postgres.proxy import Database

from time import monotonic

LONGEST_ANSWER: Final = 65_536  # bytes of a client's message while it logs in
KEY_BYTES: Final = {0: 4, 2: 32}  # of a cancel key, by the protocol's minor version


class ClientLogin(Waiter):
    """One client's login. `received` until the client has a session, or was refused."""

    def __init__(self, client: "PgClient") -> None:
        super().__init__()
        self._client = client
        self._buffer = b""
        self._packet: startup.Startup | None = None
        self._user = ""
        self._scram: scram.ServerExchange | None = None
        self._started = False  # the SASL exchange
        self._salt = b""
        self._database: Database | None = None
        self._settings: dict[str, bytes] = {}
        self._waiting = False

    def received(self, data: bytes) -> None:
        """Bytes of the client. Raises ProtocolError."""
        self._buffer += data
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
            self._database.upstream.pool.cancel(self, monotonic())

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
            client.write(b"N")  # neither TLS nor GSS: the client goes on in clear text, or goes
            if self._buffer:
                raise ProtocolError(f"bytes right behind the {packet.value}, expected the answer to be waited for")

    def _begin(self, packet: startup.Startup) -> None:
        client = self._client
        if packet.negotiates:
            client.write(backend.negotiate_protocol_version(startup.NEWEST_MINOR, packet.extensions))
        parameters = packet.parameters
        self._user = parameters["user"]
        if parameters.get("replication", "off").lower() not in ("off", "false", "no", "0"):
            raise ProtocolError("replication connections can't be pooled; connect to the server itself", "0A000")
        method = client.proxy.auth.method
        if method == "trust":
            self._authenticated(None)
        elif method == "md5":
            self._salt = secrets.token_bytes(4)
            client.write(backend.authentication(backend.MD5, self._salt))
        else:
            offered = (scram.PLUS, scram.PLAIN) if client.proxy.binding is not None else (scram.PLAIN,)
            client.write(backend.authentication_sasl(offered))

    # ------------------------------------------------------------------ authentication

    def _answered(self, body: bytes) -> None:
        auth = self._client.proxy.auth
        if auth.method == "md5":
            if not md5_matches(auth.md5_of(self._user), self._salt, frontend.read_password(body).encode()):
                self._wrong()
                return
            self._authenticated(None)
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
            verifier = auth.verifier_of(self._user)
            binding = client.proxy.binding
            self._scram = scram.ServerExchange(mechanism, verifier, secrets.token_urlsafe(18), binding)
            if first is None:
                raise ProtocolError("an empty first SASL message, expected client-first-message")
            client.write(backend.authentication(backend.SASL_CONTINUE, self._scram.first(first)))
        else:
            final, keys = self._scram.final(body)
            client.write(backend.authentication(backend.SASL_FINAL, final))
            self._authenticated(keys)

    def _wrong(self) -> None:
        self._client.proxy.count_rejection("authentication")
        self._client.fail("28P01", f'password authentication failed for user "{self._user}"')

    def _authenticated(self, keys: scram.Keys | None) -> None:
        """Who it is is known; now whether there is what it wants."""
        client, packet = self._client, self._packet
        assert packet is not None
        name = packet.parameters["database"]
        if client.proxy.is_console(name):
            client.begin_console(self._user, self._buffer)
            return
        raw = {key: value.encode("utf-8", "surrogateescape") for key, value in packet.parameters.items()}
        try:
            wanted = split_startup(raw)
        except SettingsError as error:
            raise ProtocolError(str(error), "22023") from None
        database = client.proxy.database(self._user, name, wanted.fixed, keys)
        if database is None:
            client.fail("3D000", f'database "{name}" does not exist')
            return
        self._database = database
        self._settings = wanted.followed
        if database.welcome is None:
            self._learn(database)
        else:
            self._welcome(database, database.welcome)

    # ------------------------------------------------------------------ what the server says of itself

    def _learn(self, database: "Database") -> None:
        self.kind = database.login
        self._waiting = True
        now = monotonic()
        try:
            connection = database.upstream.pool.acquire(self, now)
        except Refused as refused:
            self.refuse(refused.refusal, now)
            return
        if connection is not None:
            self.take(connection, now)
        database.upstream.act()

    def take(self, connection: Connection, now: float) -> bool:
        """A connection, to see what its server has reported."""
        database = self._database
        assert database is not None
        self._waiting = False
        database.welcome = dict(connection.reported)  # type: ignore[attr-defined]
        if self._client.transport is None:
            return False
        connection.owner = None
        connection.owner = self
        database.upstream.pool.release(connection, self, now, count=False)
        self._welcome(database, database.welcome)
        return True

    def refuse(self, refusal: Refusal, now: float) -> None:
        """There is no connection to learn from."""
        self._waiting = False
        assert self._database is not None
        self._database.refused(refusal)
        if self._client.transport is not None:
            self._client.write(refusals.error(refusal, self._database.upstream, "FATAL"))
            self._client.close()

    def _welcome(self, database: "Database", reported: dict[str, bytes]) -> None:
        client, packet = self._client, self._packet
        assert packet is not None
        followed = {name: value for name, value in self._settings.items() if name in reported}
        values = reported | followed
        settings = client.proxy.interned({name: values[name] for name in FOLLOWED if name in values})
        session = Session(client, database, settings)
        pid, key = client.proxy.new_key(session, KEY_BYTES[packet.agreed_minor if packet.agreed_minor == 2 else 0])
        client.write(
            b"".join(
                (
                    backend.AUTHENTICATION_OK,
                    *(backend.parameter_status(name, text(value)) for name, value in values.items()),
                    backend.backend_key_data(pid, key),
                    backend.ready_for_query(b"I"),
                )
            )
        )
        client.begin(session)
        if self._buffer:
            session.received(self._buffer)


def text(value: bytes) -> str:
    """As `pgwire` has text."""
    return value.decode("utf-8", "surrogateescape")
