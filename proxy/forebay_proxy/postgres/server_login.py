"""How we prove to a server who we are: SCRAM-SHA-256 with channel binding over TLS, md5, or a password over TLS."""

import secrets
from typing import Any, Final

from forebay_core.pgwire import backend, frontend
from forebay_core.postgres import scram
from forebay_core.postgres.binding import server_end_point
from forebay_core.postgres.md5 import md5_answer, md5_secret
from forebay_core.postgres.users import User
from forebay_proxy.connection import CHECKED, LoginError

Secret = str | scram.Keys | None  # a password, or keys learnt from a client that has shown them; None: there is none

WRONG: Final = "28P01"


class Knock:
    """A login's part where there is nobody to log in as: a server that asks for a password is there, as one is that
    refuses us, unless because it starts up or shuts down. (As pg_isready, PostgreSQL docs.)
    """

    let_in = False
    refused = CHECKED

    def reply(self, code: int, data: bytes) -> bytes | None:
        raise LoginError("", "the server is there", CHECKED)


class Conversation:
    """One login. `secret` as above, `md5` an md5 secret as servers store it, for where only that is known."""

    refused = "login"

    def __init__(self, user: User, secret: Secret, transport: Any) -> None:
        self._user = user
        self._secret = secret
        self._tls = transport.get_extra_info("ssl_object")
        self._scram: scram.ClientExchange | None = None
        self._proved = False  # the server, that it knows the secret
        self.let_in = False

    def reply(self, code: int, data: bytes) -> bytes | None:
        """What to send for an Authentication message; None: nothing. Raises LoginError."""
        try:
            return self._reply(code, data)
        except scram.ScramError as error:
            raise LoginError(error.sqlstate, f"login at the server: {error}") from None

    def _reply(self, code: int, data: bytes) -> bytes | None:
        if code == backend.OK:
            if self._scram is not None and not self._proved:
                raise LoginError("08P01", "the server ended SCRAM without showing that it knows the secret")
            self.let_in = True
            return None
        if code == backend.SASL:
            return self._begin(backend.read_mechanisms(data))
        if code == backend.SASL_CONTINUE and self._scram is not None:
            return frontend.sasl_response(self._scram.final(data))
        if code == backend.SASL_FINAL and self._scram is not None:
            self._scram.check(data)
            self._proved = True
            return None
        if code == backend.MD5:
            return frontend.password(md5_answer(self._md5(), data).decode())
        if code == backend.CLEARTEXT:
            return self._cleartext()
        raise LoginError("0A000", f"the server asks for authentication method {code}, which is not spoken here")

    def _begin(self, offered: list[str]) -> bytes:
        if self._secret is None:
            raise LoginError(WRONG, f"no password is known for user {self._user.name!r} at the server")
        certificate = self._tls.getpeercert(binary_form=True) if self._tls is not None else None
        binding = server_end_point(certificate) if certificate else None
        plus = scram.PLUS in offered
        if not plus and scram.PLAIN not in offered:
            raise LoginError("0A000", f"the server offers {', '.join(offered)}; expected {scram.PLAIN}")
        self._scram = scram.ClientExchange(
            self._secret, secrets.token_urlsafe(18), binding if plus else None, plus_possible=binding is not None
        )
        return frontend.sasl_initial(self._scram.mechanism, self._scram.first())

    def _md5(self) -> str:
        if self._user.md5 is not None:
            return self._user.md5
        if isinstance(self._secret, str):
            return md5_secret(self._user.name, self._secret)
        raise LoginError(WRONG, f"the server asks for md5, and no password is known for user {self._user.name!r}")

    def _cleartext(self) -> bytes:
        if self._tls is None:
            raise LoginError(WRONG, "the server asks for a password in clear text without TLS: it does not get it")
        if not isinstance(self._secret, str):
            raise LoginError(WRONG, f"the server asks for a password, and none is known for user {self._user.name!r}")
        return frontend.password(self._secret)
