"""Hashes of passwords as `$5$` (SHA-256) and `$6$` (SHA-512): "Unix crypt using SHA-256 and SHA-512", U. Drepper, 2008.

Of what password files hold, these are what both a common tool writes (`htpasswd -2` and `-5`, `openssl passwd -5` and
`-6`, `mkpasswd`) and the standard library can check: `crypt` has gone from it, bcrypt was never in it. The step numbers
are the specification's.
"""

import hashlib
import re
from collections.abc import Callable
from hmac import compare_digest
from typing import Final, NamedTuple

DEFAULT_ROUNDS: Final = 5000  # the specification's; about 5 ms of CPU
LEAST_ROUNDS: Final = 1000  # the specification's
MOST_ROUNDS: Final = 100_000  # ours: about 0.1 s of CPU, in which nobody else's password is checked
SLICE: Final = 100  # rounds between two pauses: about 0.1 ms
LONGEST_PASSWORD: Final = 256  # bytes; every round hashes the password, so its length has a price

_HASH = re.compile(r"\$([56])\$(?:rounds=([1-9][0-9]{0,8})\$)?([^$:\n]{0,16})\$([./0-9A-Za-z]+)")
_DIGITS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Variant(NamedTuple):
    """What differs between the two. A digest is written in groups of three bytes (step 22): each group's bytes stand
    a third of the digest apart, and the groups are rotated from one to the next.
    """

    algorithm: str
    third: int  # bytes
    rotation: int  # of the n-th group: to the left, by n times this
    left_over: tuple[int, ...]  # the last bytes, most significant first
    length: int  # characters of the written digest


VARIANTS: Final = {"5": Variant("sha256", 10, 2, (31, 30), 43), "6": Variant("sha512", 21, 1, (63,), 86)}


class ShaCrypt(NamedTuple):
    """A hash as it stands in a file."""

    variant: Variant
    rounds: int
    salt: bytes
    digest: str

    def matches(self, password: bytes, pause: Callable[[], None] = lambda: None) -> bool:
        """Whether it is this password's. Takes about a microsecond per round, the same whatever the answer is; after
        every SLICE of them `pause` is called."""
        fits = len(password) <= LONGEST_PASSWORD
        return compare_digest(_written(self, password if fits else b"", pause), self.digest) and fits


def parse_hash(text: str) -> ShaCrypt:
    """Raises ValueError with a sentence that does not show the hash."""
    match = _HASH.fullmatch(text)
    if match is None or len(match[4]) != VARIANTS[match[1]].length:
        raise ValueError(
            "expected a hash that begins with $5$ or $6$ (openssl passwd -6, htpasswd -5); bcrypt, MD5, {SHA} and "
            "plain passwords are not taken"
        )
    rounds = DEFAULT_ROUNDS if match[2] is None else int(match[2])
    if not LEAST_ROUNDS <= rounds <= MOST_ROUNDS:
        raise ValueError(f"expected a hash of {LEAST_ROUNDS} to {MOST_ROUNDS} rounds, found {rounds}")
    return ShaCrypt(VARIANTS[match[1]], rounds, match[3].encode(), match[4])


def _written(hashed: ShaCrypt, password: bytes, pause: Callable[[], None]) -> str:
    variant, salt = hashed.variant, hashed.salt

    def digest_of(data: bytes) -> bytes:
        return hashlib.new(variant.algorithm, data).digest()

    second = digest_of(password + salt + password)  # steps 4 to 8
    parts = [password, salt, _repeated(second, len(password))]  # 1 to 3, 9 and 10
    bits = len(password)
    while bits:  # 11
        parts.append(second if bits & 1 else password)
        bits >>= 1
    digest = digest_of(b"".join(parts))  # 12
    p = _repeated(digest_of(password * len(password)), len(password))  # 13 to 16
    s = _repeated(digest_of(salt * (16 + digest[0])), len(salt))  # 17 to 20
    # 21: what a round hashes beside the last digest depends on its number modulo 2, 3 and 7 only.
    middles = [(s if number % 3 else b"") + (p if number % 7 else b"") for number in range(42)]
    make = getattr(hashlib, variant.algorithm)
    for begin in range(0, hashed.rounds, SLICE):
        for number in range(begin, min(begin + SLICE, hashed.rounds)):
            middle = middles[number % 42]
            digest = make(p + middle + digest if number & 1 else digest + middle + p).digest()
        pause()
    return _encoded(variant, digest)


def _repeated(data: bytes, length: int) -> bytes:
    return (data * (length // len(data) + 1))[:length]


def _encoded(variant: Variant, digest: bytes) -> str:
    written = []
    for group in range(variant.third):
        places = [(group + variant.third * ((n + variant.rotation * group) % 3)) for n in range(3)]
        written.append(_base64([digest[place] for place in places], 4))
    written.append(_base64([digest[place] for place in variant.left_over], len(variant.left_over) + 1))
    return "".join(written)


def _base64(group: list[int], length: int) -> str:
    """Least significant digit first, in crypt's own order of the digits."""
    value = int.from_bytes(bytes(group), "big")
    return "".join(_DIGITS[value >> 6 * place & 63] for place in range(length))
