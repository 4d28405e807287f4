"""SASLprep (RFC 4013) as PostgreSQL applies it: a password that can't be prepared is used as it stands.

libpq and the server both fall back to the raw bytes (src/common/saslprep.c), so a client that refused such a
password could not log in where psql can.
"""

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,  # unassigned: a password is a stored string (RFC 4013 section 2.5)
)


def saslprep(password: str) -> bytes:
    """The bytes that a key is derived from. Lone surrogates stand for bytes that were not UTF-8."""
    raw = password.encode("utf-8", "surrogateescape")
    if password.isascii():  # nothing to map; what is prohibited (control characters) is used raw anyway
        return raw
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in password
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared or any(table(character) for table in _PROHIBITED for character in prepared):
        return raw
    if any(map(stringprep.in_table_d1, prepared)) and (  # right to left (RFC 3454 section 6)
        any(map(stringprep.in_table_d2, prepared))
        or not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1]))
    ):
        return raw
    return prepared.encode()
