"""SASLprep, md5, channel binding and the users file."""

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from forebay_core.postgres import md5, scram
from forebay_core.postgres.binding import server_end_point
from forebay_core.postgres.saslprep import saslprep
from forebay_core.postgres.users import User, UsersError, parse_users


@pytest.mark.parametrize(
    ("password", "prepared"),
    [  # RFC 4013 section 3
        ("I\u00adX", b"IX"),
        ("user", b"user"),
        ("USER", b"USER"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("\x07", b"\x07"),  # prohibited, so used as it stands
        ("\u0627\u0031", "\u0627\u0031".encode()),  # bidirectional, refused by the RFC, so raw
        ("\u00ad", "\u00ad".encode()),  # nothing would be left
        ("\u06ddx", "\u06ddx".encode()),
        ("\udcff", b"\xff"),  # a byte that is not UTF-8
    ],
)
def test_saslprep(password: str, prepared: bytes) -> None:
    assert saslprep(password) == prepared


@given(st.text())
def test_preparing_a_prepared_password_changes_nothing_more(password: str) -> None:
    if not any("\ud800" <= character <= "\udfff" for character in password):
        once = saslprep(password).decode()
        assert saslprep(once).decode() == once


def test_md5_as_in_pgbouncers_documentation() -> None:
    secret = md5.md5_secret("admin", "1234")
    assert secret == "md545f2603610af569b6155c45067268c6b"
    assert md5.is_md5_secret(secret)
    assert not md5.is_md5_secret("md5" + "g" * 32)
    answer = md5.md5_answer(secret, b"salt")
    assert answer == b"md5" + hashlib.md5(secret[3:].encode() + b"salt").hexdigest().encode()
    assert md5.md5_matches(secret, b"salt", answer)
    assert not md5.md5_matches(secret, b"tlas", answer)
    assert not md5.md5_matches(secret, b"salt", b"")


def certificate(key: object, algorithm: object, **options: object) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "db")])
    start = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(1))  # type: ignore[attr-defined]
    return builder.sign(key, algorithm, **options).public_bytes(Encoding.DER)  # type: ignore[arg-type]


RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
PSS = {"rsa_padding": padding.PSS(padding.MGF1(hashes.SHA512()), 20)}


@pytest.mark.parametrize(
    ("der", "name"),
    [
        (certificate(RSA, hashes.SHA256()), "sha256"),
        (certificate(RSA, hashes.SHA384()), "sha384"),
        (certificate(RSA, hashes.SHA512(), **PSS), "sha512"),
        (certificate(EC, hashes.SHA512()), "sha512"),
        (certificate(EC, hashes.SHA256()), "sha256"),
    ],
)
def test_the_binding_is_hashed_as_the_certificate_is_signed(der: bytes, name: str) -> None:
    assert server_end_point(der) == hashlib.new(name, der).digest()


def test_what_has_no_binding() -> None:
    assert server_end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None)) is None
    der = certificate(EC, hashes.SHA256())
    for cut in range(len(der)):
        assert server_end_point(der[:cut]) is None


VERIFIER = str(scram.make_verifier("pencil", b"salt"))


def test_a_users_file() -> None:
    users = parse_users(
        '; comment\n\n"a" "plain"\r\n  "b ""q"""\t"p""w" "ignored" and this\n'
        f'"c" "{md5.md5_secret("c", "x")}"\n"d" "{VERIFIER}"\n"e" ""\n"f" "md5short"'
    )
    assert users == {
        "a": User("a", password="plain"),
        'b "q"': User('b "q"', password='p"w'),
        "c": User("c", md5=md5.md5_secret("c", "x")),
        "d": User("d", verifier=scram.parse_verifier(VERIFIER)),
        "e": User("e"),
        "f": User("f", password="md5short"),
    }
    assert users["a"].scram_verifier(b"k") == scram.make_verifier("plain", scram.salt_of("a", b"k"))
    assert users["d"].scram_verifier(b"k") == scram.parse_verifier(VERIFIER)
    assert users["c"].scram_verifier(b"k") is None
    assert "plain" not in repr(users["a"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a b", '"user" "secret"'),
        ('"a"', '"user" "secret"'),
        ('"a" "b', '"user" "secret"'),
        ('"a""b"', '"user" "secret"'),
        ('"a" "b"c', '"user" "secret"'),
        ('"" "b"', "an empty one"),
        ('"first" "again"', "line 1 has this one"),
        (f'"{"a" * 128}" "b"', "127 bytes"),
        (f'"a" "{"b" * 65531}"', "65530 bytes"),
        ('"a\0" "b"', "zero byte"),
        ('"a" "SCRAM-SHA-256$x"', "expected SCRAM-SHA-256$<iterations>"),
    ],
)
def test_a_bad_line_is_named_without_its_secret(line: str, says: str) -> None:
    with pytest.raises(UsersError) as raised:
        parse_users(f'"first" "x"\n{line}\n"second" oops')
    assert len(raised.value.problems) == 2
    assert raised.value.problems[0].startswith("line 2: ")
    assert says in raised.value.problems[0]
    assert "oops" not in str(raised.value)
