"""How we prove to a server who we are, and what it has to prove to us."""

from typing import Any

import pytest

from forebay_core.pgwire import backend, frontend
from forebay_core.postgres.md5 import md5_answer, md5_secret
from forebay_core.postgres.scram import Keys, ServerExchange, derive_keys, make_verifier
from forebay_core.postgres.users import User
from forebay_proxy.connection import CHECKED, LoginError
from forebay_proxy.postgres.server_login import Conversation, Knock, Secret

VERIFIER = make_verifier("secret", b"salt" * 4)
KEYS = derive_keys("secret", b"salt" * 4, 4096)
SCRAM = b"SCRAM-SHA-256\0\0"


class Plain:
    """A transport without TLS."""

    def get_extra_info(self, name: str) -> Any:
        return None


class Encrypted:
    """A transport with TLS, whose certificate says nothing of a binding."""

    def get_extra_info(self, name: str) -> Any:
        return self if name == "ssl_object" else None

    def getpeercert(self, binary_form: bool) -> bytes:
        return b""


def conversation(secret: Secret, *, tls: bool = False, md5: str | None = None) -> Conversation:
    return Conversation(User("alice", md5=md5), secret, Encrypted() if tls else Plain())


def body(message: bytes | None) -> bytes:
    assert message is not None
    return message[5:]


@pytest.mark.parametrize("secret", ["secret", KEYS], ids=["password", "keys"])
def test_scram(secret: str | Keys) -> None:
    mine, theirs = conversation(secret), ServerExchange("SCRAM-SHA-256", VERIFIER, "theirs")
    mechanism, first = frontend.read_sasl_initial(body(mine.reply(backend.SASL, SCRAM)))
    assert mechanism == "SCRAM-SHA-256"
    assert first is not None
    final, _ = theirs.final(body(mine.reply(backend.SASL_CONTINUE, theirs.first(first))))
    assert mine.reply(backend.SASL_FINAL, final) is None
    assert not mine.let_in
    assert mine.reply(backend.OK, b"") is None
    assert mine.let_in


def test_a_server_that_does_not_know_the_secret() -> None:
    mine, theirs = conversation("secret"), ServerExchange("SCRAM-SHA-256", VERIFIER, "theirs")
    _, first = frontend.read_sasl_initial(body(mine.reply(backend.SASL, SCRAM)))
    assert first is not None
    mine.reply(backend.SASL_CONTINUE, theirs.first(first))
    with pytest.raises(LoginError, match="does not know the secret") as caught:
        mine.reply(backend.SASL_FINAL, b"v=" + b"A" * 43 + b"=")
    assert caught.value.refusal.code == "28P01"


def test_a_server_that_leaves_its_proof_out() -> None:
    mine = conversation("secret")
    mine.reply(backend.SASL, SCRAM)
    with pytest.raises(LoginError, match="without showing that it knows the secret"):
        mine.reply(backend.OK, b"")
    assert not mine.let_in


def test_keys_of_another_verifier() -> None:
    """Since the client logged in, the password has changed at the server."""
    mine, theirs = conversation(KEYS), ServerExchange("SCRAM-SHA-256", make_verifier("other", b"pepper" * 3), "theirs")
    _, first = frontend.read_sasl_initial(body(mine.reply(backend.SASL, SCRAM)))
    assert first is not None
    with pytest.raises(LoginError, match="another than the one that the client was checked by"):
        mine.reply(backend.SASL_CONTINUE, theirs.first(first))


@pytest.mark.parametrize(
    ("secret", "md5"), [("secret", None), (None, md5_secret("alice", "secret"))], ids=["password", "md5"]
)
def test_md5(secret: Secret, md5: str | None) -> None:
    answer = frontend.read_password(body(conversation(secret, md5=md5).reply(backend.MD5, b"salt")))
    assert answer.encode() == md5_answer(md5_secret("alice", "secret"), b"salt")


def test_a_password_in_clear_text_needs_tls() -> None:
    assert frontend.read_password(body(conversation("secret", tls=True).reply(backend.CLEARTEXT, b""))) == "secret"
    with pytest.raises(LoginError, match="without TLS: it does not get it"):
        conversation("secret").reply(backend.CLEARTEXT, b"")


@pytest.mark.parametrize(
    ("code", "data", "secret", "says"),
    [
        (backend.SASL, SCRAM, None, "no password is known for user 'alice'"),
        (backend.MD5, b"salt", KEYS, "asks for md5, and no password is known"),
        (backend.CLEARTEXT, b"", KEYS, "asks for a password, and none is known"),
        (backend.SASL, b"OAUTHBEARER\0\0", "secret", "offers OAUTHBEARER; expected SCRAM-SHA-256"),
        (7, b"", "secret", "authentication method 7, which is not spoken here"),
        (backend.SASL_CONTINUE, b"r=x,s=x,i=1", "secret", "method 11, which is not spoken here"),
    ],
)
def test_what_cannot_be_answered(code: int, data: bytes, secret: Secret, says: str) -> None:
    with pytest.raises(LoginError, match=says) as caught:
        conversation(secret, tls=code == backend.CLEARTEXT).reply(code, data)
    assert caught.value.refusal.reason == "login"


@pytest.mark.parametrize("code", [backend.OK, backend.MD5, backend.SASL])
def test_a_knock_is_over_when_somebody_answers(code: int) -> None:
    with pytest.raises(LoginError) as caught:
        Knock().reply(code, b"")
    assert caught.value.refusal.reason == CHECKED
