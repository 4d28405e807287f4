"""Messages that clients send, written and read (PostgreSQL docs 55.7, those marked F).

Statements' texts and names are bytes: they are in the client's encoding, and nobody here needs to know which.
"""

from typing import Final, NamedTuple

from forebay_core.pgwire.fields import Reader, counted, int16, int32, message, string

SYNC: Final = message(b"S")
FLUSH: Final = message(b"H")
TERMINATE: Final = message(b"X")
COPY_DONE: Final = message(b"c")


def query(text: str | bytes) -> bytes:
    return message(b"Q", string(text))


class Statement(NamedTuple):
    """A Parse message."""

    name: bytes
    text: bytes
    types: bytes  # the count of parameter types and the types, as on the wire


def parse(statement: Statement) -> bytes:
    return message(b"P", string(statement.name) + string(statement.text) + statement.types)


NO_TYPES: Final = int16(0)


def read_parse(data: bytes, start: int, end: int) -> Statement:
    """The Parse message between these offsets, which must all be there."""
    reader = Reader("Parse", data[start + 5 : end])
    return Statement(reader.raw(), reader.raw(), reader.rest())


def read_function(data: bytes, start: int) -> int:
    """The OID of the function that the FunctionCall at this offset calls; of its message the beginning is enough."""
    return int.from_bytes(data[start + 5 : start + 9], "big")


def bind(portal: bytes, statement: bytes, parameters: tuple[bytes | None, ...] = ()) -> bytes:
    """A Bind with parameters as text, for results as text."""
    values = int16(len(parameters)) + b"".join(map(counted, parameters))
    return message(b"B", string(portal) + string(statement) + int16(0) + values + int16(0))


def describe_statement(name: bytes) -> bytes:
    return message(b"D", b"S" + string(name))


def describe_portal(name: bytes) -> bytes:
    return message(b"D", b"P" + string(name))


def close_statement(name: bytes) -> bytes:
    return message(b"C", b"S" + string(name))


def close_portal(name: bytes) -> bytes:
    return message(b"C", b"P" + string(name))


def execute(portal: bytes = b"", most_rows: int = 0) -> bytes:
    """An Execute; 0 rows are all rows."""
    return message(b"E", string(portal) + int32(most_rows))


def copy_fail(reason: str) -> bytes:
    return message(b"f", string(reason))


def password(secret: str) -> bytes:
    """A PasswordMessage: the password, or `md5` and its digest."""
    return message(b"p", string(secret))


def read_password(body: bytes) -> str:
    reader = Reader("PasswordMessage", body)
    secret = reader.text()
    reader.end()
    return secret


def sasl_initial(mechanism: str, first: bytes) -> bytes:
    """A SASLInitialResponse."""
    return message(b"p", string(mechanism) + counted(first))


def read_sasl_initial(body: bytes) -> tuple[str, bytes | None]:
    """The mechanism that a client chose, and its first message if it sent one."""
    reader = Reader("SASLInitialResponse", body)
    choice = reader.text(), reader.counted()
    reader.end()
    return choice


def sasl_response(data: bytes) -> bytes:
    return message(b"p", data)
