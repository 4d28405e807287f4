"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides (RFC 5802, RFC 7677; PostgreSQL documentation, "SASL
Authentication").

Theory of operation. A server keeps a verifier: salt, iterations, StoredKey and ServerKey. The client proves that it
has ClientKey, and its proof shows it to the server: ClientKey = proof XOR HMAC(StoredKey, AuthMessage). So a proxy
that checked a client's proof can log in to a server as that client, without a password, where the server's verifier
is the very same (`Keys`).

As PostgreSQL, and unlike the RFC, the user is the start-up packet's; the name in the exchange is not looked at.
Nonces, salts and the key of mock verifiers are arguments. Deriving keys takes about a millisecond: verifiers of
plain passwords are to be made when users are loaded, not at a login, or an unknown user's answer would come sooner.

Why not a library: scramp (1.5) keeps the client's proof to itself, so that logins could not be passed on, and has
no form for a client that has keys but no password.
"""

import base64
import binascii
import functools
import hashlib
import hmac
import re
from dataclasses import dataclass

from forebay_core.postgres.saslprep import saslprep

PLAIN, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
ITERATIONS = 4096  # PostgreSQL's default, and RFC 7677's least
MOST_ITERATIONS = 1_000_000  # a server that asks for more would hold up the worker for a quarter of a second or longer
LONGEST = 2048  # characters of a message; libpq's and PostgreSQL's are below 300

_VERIFIER = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{0,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)\Z")
_NONCE = re.compile(r"[!-+\--~]+\Z")  # printable ASCII without a comma


class ScramError(Exception):
    """The peer broke the rules of the exchange. `str` is a sentence, `sqlstate` what a client is told."""

    sqlstate = "08P01"


class WrongSecret(ScramError):
    """The proof is not that of the secret, or there is no such user: the answer is the same."""

    sqlstate = "28P01"


@dataclass(frozen=True, slots=True, repr=False)
class Verifier:
    """What a server keeps of a password (RFC 5803); `str` is as PostgreSQL stores it in pg_authid."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __str__(self) -> str:
        salt, stored, server = map(_to_base64, (self.salt, self.stored_key, self.server_key))
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What lets a client log in without the password, where the server's salt and iterations are these."""

    iterations: int
    salt: bytes
    client_key: bytes
    server_key: bytes


def parse_verifier(text: str) -> Verifier:
    """A verifier as PostgreSQL stores it. Raises ValueError."""
    match = _VERIFIER.match(text)
    if not match:
        raise ValueError("expected SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")
    try:
        salt, stored, server = map(_from_base64, match.group(2, 3, 4))
    except ScramError:
        raise ValueError("expected salt and keys of the SCRAM verifier in base64") from None
    if len(stored) != 32 or len(server) != 32:
        raise ValueError("expected keys of 32 bytes in the SCRAM verifier")
    return Verifier(int(match[1]), salt, stored, server)


@functools.lru_cache(maxsize=1024)
def derive_keys(password: str, salt: bytes, iterations: int) -> Keys:
    """The keys of a password. Kept for the next time: a pool opens its connections with the same ones."""
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password), salt, iterations)
    return Keys(iterations, salt, _hmac(salted, b"Client Key"), _hmac(salted, b"Server Key"))


def make_verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> Verifier:
    """The verifier of a plain password."""
    keys = derive_keys(password, salt, iterations)
    return Verifier(iterations, salt, hashlib.sha256(keys.client_key).digest(), keys.server_key)


def salt_of(user: str, secret: bytes) -> bytes:
    """The salt of a user whose verifier is made here: 16 bytes, the same at every login and in every process that
    has the secret.
    """
    return _hmac(secret, user.encode("utf-8", "surrogateescape"))[:16]


def mock_verifier(user: str, secret: bytes) -> Verifier:
    """The verifier of a user that doesn't exist: steady, and no password has it. Its salt is that which a user with
    a plain password would have, so that one can't be told from the other.
    """
    name = user.encode("utf-8", "surrogateescape")
    return Verifier(
        ITERATIONS, salt_of(user, secret), _hmac(secret, b"stored " + name), _hmac(secret, b"server " + name)
    )


class ServerExchange:
    """A client's login. `first` then `final`, once each; ScramError ends it.

    `mechanism` is what the client chose of those offered; `binding` the channel's (see `binding.server_end_point`),
    None where PLUS was not offered.
    """

    __slots__ = ("_bare", "_binding", "_first", "_gs2", "_mechanism", "_nonce", "_verifier")

    def __init__(self, mechanism: str, verifier: Verifier, nonce: str, binding: bytes | None = None) -> None:
        if mechanism != PLAIN and not (mechanism == PLUS and binding):
            raise ScramError("client selected an invalid SASL authentication mechanism")
        self._mechanism, self._verifier, self._nonce, self._binding = mechanism, verifier, nonce, binding

    def first(self, message: bytes) -> bytes:
        """The answer to client-first-message."""
        flag, authorization, bare = _split(_text(message), 3)
        if self._mechanism == PLUS and flag != "p=tls-server-end-point":
            raise ScramError("expected channel binding tls-server-end-point with SCRAM-SHA-256-PLUS")
        if self._mechanism == PLAIN and flag not in ("n", "y"):
            raise ScramError("expected no channel binding with SCRAM-SHA-256")
        if flag == "y" and self._binding:  # somebody took PLUS out of our offer (RFC 5802 section 6)
            raise ScramError("client supports channel binding but thinks that this server does not")
        if authorization:
            raise ScramError("client uses authorization identity, but it is not supported")
        _user, nonce = _fields(bare, "nr")[:2]
        if not _NONCE.match(nonce):
            raise ScramError("expected a nonce of printable characters in the SCRAM message")
        self._gs2, self._bare, self._nonce = f"{flag},,", bare, nonce + self._nonce
        self._first = f"r={self._nonce},s={_to_base64(self._verifier.salt)},i={self._verifier.iterations}"
        return self._first.encode()

    def final(self, message: bytes) -> tuple[bytes, Keys]:
        """The answer to client-final-message, and the keys that the client has shown. Raises WrongSecret."""
        text = _text(message)
        channel, nonce, *_extensions, proof_text = _fields(text, "cr", last="p")
        if nonce != self._nonce:
            raise ScramError("nonce does not match in the SCRAM message")
        expected = self._gs2.encode() + ((self._binding or b"") if self._mechanism == PLUS else b"")
        if not hmac.compare_digest(_from_base64(channel), expected):
            raise ScramError("SCRAM channel binding check failed")
        proof = _from_base64(proof_text)
        if len(proof) != 32:
            raise ScramError("expected a proof of 32 bytes in the SCRAM message")
        verifier = self._verifier
        signed = f"{self._bare},{self._first},{text[: text.rindex(',p=')]}".encode()
        client_key = _xor(proof, _hmac(verifier.stored_key, signed))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key):
            raise WrongSecret("password authentication failed")
        answer = b"v=" + _to_base64(_hmac(verifier.server_key, signed)).encode()
        return answer, Keys(verifier.iterations, verifier.salt, client_key, verifier.server_key)


class ClientExchange:
    """Our login at a server. `first`, `final`, `check`, once each; ScramError ends it.

    `secret` is a password, or keys learnt from a client. `binding` is the server's certificate's where the connection
    has TLS and the server offers PLUS. `plus_possible`: we could bind, but the server didn't offer it.
    """

    __slots__ = ("_bare", "_binding", "_gs2", "_nonce", "_secret", "_signature")

    def __init__(
        self, secret: str | Keys, nonce: str, binding: bytes | None = None, *, plus_possible: bool = False
    ) -> None:
        self._secret, self._binding, self._nonce = secret, binding, nonce
        self._signature: bytes | None = None  # that the server has to show
        self._gs2 = "p=tls-server-end-point,," if binding else "y,," if plus_possible else "n,,"
        self._bare = f"n=,r={nonce}"

    @property
    def mechanism(self) -> str:
        """What is chosen of the server's offer."""
        return PLUS if self._binding else PLAIN

    def first(self) -> bytes:
        """client-first-message."""
        return (self._gs2 + self._bare).encode()

    def final(self, message: bytes) -> bytes:
        """client-final-message, to the server's server-first-message."""
        text = _text(message)
        nonce, salt_text, count = _fields(text, "rsi")[:3]
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or not _NONCE.match(nonce):
            raise ScramError("the server's SCRAM nonce does not begin with ours")
        if not re.fullmatch("[1-9][0-9]{0,8}", count) or int(count) > MOST_ITERATIONS:
            raise ScramError(f"expected 1 to {MOST_ITERATIONS} SCRAM iterations from the server")
        keys = self._keys(_from_base64(salt_text), int(count))
        channel = _to_base64(self._gs2.encode() + (self._binding or b""))
        without_proof = f"c={channel},r={nonce}"
        signed = f"{self._bare},{text},{without_proof}".encode()
        proof = _xor(keys.client_key, _hmac(hashlib.sha256(keys.client_key).digest(), signed))
        self._signature = _hmac(keys.server_key, signed)
        return f"{without_proof},p={_to_base64(proof)}".encode()

    def check(self, message: bytes) -> None:
        """Whether server-final-message is of one who knows the secret too. Raises WrongSecret, ScramError."""
        if self._signature is None:
            raise ScramError("server-final-message before server-first-message")
        text = _text(message)
        if text.startswith("e="):
            raise WrongSecret(f"the server refused the SCRAM exchange: {text[2:]}")
        (signature,) = _fields(text, "v")[:1]
        if not hmac.compare_digest(_from_base64(signature), self._signature):
            raise WrongSecret("the server does not know the secret: its SCRAM signature is wrong")

    def _keys(self, salt: bytes, iterations: int) -> Keys:
        if isinstance(self._secret, str):
            return derive_keys(self._secret, salt, iterations)
        if (self._secret.salt, self._secret.iterations) != (salt, iterations):
            raise WrongSecret(
                "the server's SCRAM verifier is another than the one that the client was checked by (salt or "
                "iterations differ); expected the very same one, or a password"
            )
        return self._secret


def _text(message: bytes) -> str:
    if len(message) > LONGEST:
        raise ScramError(f"expected a SCRAM message of at most {LONGEST} bytes")
    try:
        text = message.decode()
    except UnicodeDecodeError:
        raise ScramError("expected UTF-8 in the SCRAM message") from None
    if "\0" in text:
        raise ScramError("expected no zero byte in the SCRAM message")
    return text


def _split(text: str, parts: int) -> list[str]:
    found = text.split(",", parts - 1)
    if len(found) != parts:
        raise ScramError("malformed SCRAM message: expected a GS2 header")
    return found


def _fields(text: str, names: str, last: str = "") -> list[str]:
    """The values of attributes `names`, in their order, then those of extensions, `last` being the last one.
    A mandatory extension (m=) is refused, as the RFC asks, by not being where it stands.
    """
    parts = text.split(",")
    if len(parts) < len(names) + len(last):
        raise ScramError(f"malformed SCRAM message: expected attributes {', '.join(names + last)}")
    expected = [*names, *(None for _ in parts[len(names) : len(parts) - len(last)]), *last]
    for part, name in zip(parts, expected, strict=True):
        if part[1:2] != "=" or not ("A" <= part[0] <= "Z" or "a" <= part[0] <= "z"):
            raise ScramError("malformed SCRAM message: expected attribute=value")
        if part[0] != name if name else part[0] == "m":
            raise ScramError(f"malformed SCRAM message: expected attribute {name or 'other than m'}")
    return [part[2:] for part in parts]


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ScramError("expected base64 in the SCRAM message") from None
