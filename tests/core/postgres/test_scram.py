"""SCRAM on both sides: the RFC's exchange, ours against ours, and every way to break it."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_core.postgres import scram
from forebay_core.postgres.scram import ClientExchange, Keys, ScramError, ServerExchange, Verifier, WrongSecret

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
PENCIL = scram.make_verifier("pencil", SALT)
BINDING = hashlib.sha256(b"certificate").digest()


def login(client: ClientExchange, server: ServerExchange) -> Keys:
    """A whole exchange, each side checking the other."""
    answer, keys = server.final(client.final(server.first(client.first())))
    client.check(answer)
    return keys


def test_the_exchange_of_the_rfc() -> None:
    """RFC 7677 section 3, but for the user's name, which PostgreSQL leaves empty on the wire."""
    server = ServerExchange(scram.PLAIN, PENCIL, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    first = server.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    answer, keys = server.final(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert answer == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert hashlib.sha256(keys.client_key).digest() == PENCIL.stored_key


def test_a_verifier_is_spelled_as_postgresql_does() -> None:
    """RFC 5803's form, as in pg_authid."""
    assert scram.parse_verifier(str(PENCIL)) == PENCIL
    assert str(PENCIL).startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert "Key" not in repr(PENCIL)  # a repr is logged


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SCRAM-SHA-256$0:aaaa$aaaa:aaaa",
        "SCRAM-SHA-256$4096:aaaa$aaaa:aaaa",
        "SCRAM-SHA-256$4096:a$a:a",
        "SCRAM-SHA-1" + str(PENCIL)[13:],
        str(PENCIL)[:-1],
        str(PENCIL) + "\n",
        str(PENCIL).replace("4096", "\u0664096"),
    ],
)
def test_a_bad_verifier_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        scram.parse_verifier(text)


@pytest.mark.parametrize("bound", [False, True])
@given(password=st.text(min_size=1, max_size=20), salt=st.binary(min_size=1, max_size=20))
def test_the_right_password_logs_in_and_its_keys_do_too(bound: bool, password: str, salt: bytes) -> None:
    binding, mechanism = (BINDING, scram.PLUS) if bound else (None, scram.PLAIN)
    verifier = scram.make_verifier(password, salt, 2)
    client = ClientExchange(password, "abc", binding)
    assert client.mechanism == mechanism
    keys = login(client, ServerExchange(mechanism, verifier, "def", binding))
    assert keys == login(ClientExchange(keys, "ghi", binding), ServerExchange(mechanism, verifier, "jkl", binding))


@pytest.mark.parametrize("verifier", [PENCIL, scram.mock_verifier("nobody", b"k")])
def test_a_wrong_password_and_an_unknown_user_get_one_answer(verifier: Verifier) -> None:
    with pytest.raises(WrongSecret, match=r"^password authentication failed$") as raised:
        login(ClientExchange("pen", "abc"), ServerExchange(scram.PLAIN, verifier, "def"))
    assert raised.value.sqlstate == "28P01"


def test_an_unknown_user_looks_like_a_known_one() -> None:
    """The same salt at every login, of the usual length, and that of the user once there is one."""
    mock = scram.mock_verifier("nobody", b"key")
    assert mock == scram.mock_verifier("nobody", b"key")
    assert mock.salt != scram.mock_verifier("nobody", b"other").salt
    assert mock.salt != scram.mock_verifier("noone", b"key").salt
    assert (len(mock.salt), mock.iterations, mock.salt) == (16, 4096, scram.salt_of("nobody", b"key"))


def test_keys_serve_only_at_a_server_with_the_same_verifier() -> None:
    keys = scram.derive_keys("pencil", SALT, 4096)
    for verifier in (scram.make_verifier("pencil", b"other salt"), scram.make_verifier("pencil", SALT, 4097)):
        with pytest.raises(WrongSecret, match="salt or iterations differ"):
            login(ClientExchange(keys, "abc"), ServerExchange(scram.PLAIN, verifier, "def"))


def test_a_channel_in_the_middle_is_found() -> None:
    client, server = ClientExchange("pencil", "abc", b"theirs"), ServerExchange(scram.PLUS, PENCIL, "def", BINDING)
    with pytest.raises(ScramError, match="channel binding check failed"):
        login(client, server)


def test_taking_plus_out_of_the_offer_is_found() -> None:
    client = ClientExchange("pencil", "abc", plus_possible=True)
    with pytest.raises(ScramError, match="thinks that this server does not"):
        login(client, ServerExchange(scram.PLAIN, PENCIL, "def", BINDING))
    login(ClientExchange("pencil", "abc", plus_possible=True), ServerExchange(scram.PLAIN, PENCIL, "def"))
    login(ClientExchange("pencil", "abc"), ServerExchange(scram.PLAIN, PENCIL, "def", BINDING))  # libpq's disable


@pytest.mark.parametrize("mechanism", ["", "SCRAM-SHA-1", scram.PLUS])
def test_a_mechanism_that_was_not_offered_is_refused(mechanism: str) -> None:
    with pytest.raises(ScramError, match="invalid SASL"):
        ServerExchange(mechanism, PENCIL, "def")


FIRSTS = [
    (b"", "GS2"),
    (b"n,,", "attributes n, r"),
    (b"n,,n=u", "attributes n, r"),
    (b"n,,n=u,r=", "nonce"),
    (b"n,,n=u,r=a\x7f", "nonce"),
    (b"n,,n=u,r=\xc3\xa4", "nonce"),
    (b"n,,m=x,n=u,r=a", "attribute n"),
    (b"n,,n=u,r=a,m=x", "other than m"),
    (b"n,,r=a,n=u", "attribute n"),
    (b"n,a=root,n=u,r=a", "authorization identity"),
    (b"p=tls-server-end-point,,n=u,r=a", "no channel binding"),
    (b"p=tls-unique,,n=u,r=a", "no channel binding"),
    (b"N,,n=u,r=a", "no channel binding"),
    (b"n,,n=u,r=a,x", "attribute=value"),
    (b"n,,n=u,r=a\0", "zero byte"),
    (b"n,,n=\xff,r=a", "UTF-8"),
    (b"n,,n=u,r=" + b"a" * 3000, "2048"),
]


@pytest.mark.parametrize(("message", "says"), FIRSTS)
def test_a_malformed_first_message_is_refused(message: bytes, says: str) -> None:
    with pytest.raises(ScramError, match=says) as raised:
        ServerExchange(scram.PLAIN, PENCIL, "def").first(message)
    assert raised.value.sqlstate == "08P01"


FINALS = [
    (b"", "attributes c, r, p"),
    (b"c=biws,r=abcdef", "attributes c, r, p"),
    (b"c=biws,r=abcdeg,p=AAAA", "nonce does not match"),
    (b"c=biws,r=abcdef,p=AAAA", "32 bytes"),
    (b"c=biws,r=abcdef,p=A", "base64"),
    (b"c=eSws,r=abcdef,p=AAAA", "binding check"),
    (b"c=biws,r=abcdef,m=a,p=AAAA", "other than m"),
    (b"c=biws,r=abcdef,p=AAAA,x=y", "attribute p"),
    (b"r=abcdef,c=biws,p=AAAA", "attribute c"),
]


@pytest.mark.parametrize(("message", "says"), FINALS)
def test_a_malformed_final_message_is_refused(message: bytes, says: str) -> None:
    server = ServerExchange(scram.PLAIN, PENCIL, "def")
    server.first(b"n,,n=,r=abc")
    with pytest.raises(ScramError, match=says):
        server.final(message)


SERVER_FIRSTS = [
    b"",
    b"r=abc,s=AAAA,i=1",
    b"r=xyz,s=AAAA,i=1",
    b"r=abcdef,s=AAAA,i=0",
    b"r=abcdef,s=AAAA,i=1000001",
    "r=abcdef,s=AAAA,i=\u0661".encode(),
    b"r=abcdef,s=A,i=1",
    b"m=x,r=abcdef,s=AAAA,i=1",
]


@pytest.mark.parametrize("message", SERVER_FIRSTS)
def test_a_server_that_breaks_the_rules_is_refused(message: bytes) -> None:
    with pytest.raises(ScramError):
        ClientExchange("pencil", "abc").final(message)


@pytest.mark.parametrize("message", [b"e=invalid-proof", b"v=AAAA", b"v=" + base64.b64encode(bytes(32))])
def test_a_server_without_the_secret_is_found(message: bytes) -> None:
    client, server = ClientExchange("pencil", "abc"), ServerExchange(scram.PLAIN, PENCIL, "def")
    client.final(server.first(client.first()))
    with pytest.raises(WrongSecret):
        client.check(message)


@given(st.binary(max_size=80))
def test_bytes_of_chance_are_refused_and_nothing_else_happens(message: bytes) -> None:
    server = ServerExchange(scram.PLAIN, PENCIL, "def")
    server.first(b"n,,n=,r=abc")
    with pytest.raises(ScramError):
        server.final(message)
    with pytest.raises(ScramError):
        ClientExchange("pencil", "abc").final(message)
