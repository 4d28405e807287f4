"""Messages that servers send, written and read (PostgreSQL docs 55.7 those marked B, 55.8 fields of errors)."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from forebay_core.pgwire.fields import Reader, counted, encoded, int16, int32, message, string, text, uint32
from forebay_core.pgwire.types import ProtocolError

# Codes of Authentication messages.
OK: Final = 0
CLEARTEXT: Final = 3
MD5: Final = 5
SASL: Final = 10
SASL_CONTINUE: Final = 11
SASL_FINAL: Final = 12

TEXT_TYPE: Final = (
    25  # the object identifier of `text`; `int4` and `int8` are the other two that an admin console needs
)
INT4_TYPE: Final = 23
INT8_TYPE: Final = 20

PARSE_COMPLETE: Final = message(b"1")
BIND_COMPLETE: Final = message(b"2")
CLOSE_COMPLETE: Final = message(b"3")
EMPTY_QUERY: Final = message(b"I")
NO_DATA: Final = message(b"n")

# The fields of an error or notice by the names that psycopg and the docs use; severity, sqlstate and message apart.
ERROR_FIELDS: Final = {
    "detail": b"D",
    "hint": b"H",
    "position": b"P",
    "internal_position": b"p",
    "internal_query": b"q",
    "context": b"W",
    "schema_name": b"s",
    "table_name": b"t",
    "column_name": b"c",
    "datatype_name": b"d",
    "constraint_name": b"n",
    "source_file": b"F",
    "source_line": b"L",
    "source_function": b"R",
}


def authentication(code: int, data: bytes = b"") -> bytes:
    """An Authentication message; `data` is the salt of MD5, or a SASL challenge."""
    return message(b"R", int32(code) + data)


AUTHENTICATION_OK: Final = authentication(OK)


def authentication_sasl(mechanisms: Sequence[str]) -> bytes:
    """The SASL mechanisms on offer, the preferred one first."""
    return authentication(SASL, b"".join(map(string, mechanisms)) + b"\0")


def read_authentication(body: bytes) -> tuple[int, bytes]:
    """The code and what comes after it."""
    reader = Reader("Authentication", body)
    return reader.int32(), reader.rest()


def read_mechanisms(data: bytes) -> list[str]:
    """The mechanisms of an Authentication message with the code SASL."""
    reader = Reader("AuthenticationSASL", data)
    mechanisms = list(iter(reader.text, ""))
    reader.end()
    return mechanisms


def negotiate_protocol_version(minor: int, extensions: Sequence[str]) -> bytes:
    """The newest minor version of protocol 3 that is spoken, and the protocol options that are not known.

    The version goes out as a whole (3 << 16 | minor), as PostgreSQL does and libpq reads; the docs' words are older.
    """
    return message(b"v", int32(3 << 16 | minor) + int32(len(extensions)) + b"".join(map(string, extensions)))


def read_negotiate_protocol_version(body: bytes) -> tuple[int, list[str]]:
    """The minor version and the unknown protocol options."""
    reader = Reader("NegotiateProtocolVersion", body)
    version, count = reader.int32(), reader.int32()
    extensions = [reader.text() for _ in range(count)]
    reader.end()
    return version & 0xFFFF, extensions


def parameter_status(name: str, value: str | bytes) -> bytes:
    return message(b"S", string(name) + string(value))


def read_parameter_status(body: bytes) -> tuple[str, str]:
    reader = Reader("ParameterStatus", body)
    setting = reader.text(), reader.text()
    reader.end()
    return setting


def backend_key_data(pid: int, key: bytes) -> bytes:
    """What a client cancels by; before protocol 3.2 the key must have 4 bytes."""
    return message(b"K", uint32(pid) + key)


def read_backend_key_data(body: bytes) -> tuple[int, bytes]:
    """The process number and the key, of 4 to 256 bytes."""
    reader = Reader("BackendKeyData", body)
    pid, key = reader.uint32(), reader.rest()
    if not 4 <= len(key) <= 256:
        raise reader.problem(f"a key of {len(key)} bytes, expected 4 to 256")
    return pid, key


def ready_for_query(status: bytes) -> bytes:
    """`status` is I (idle), T (in a transaction) or E (in a failed one)."""
    return message(b"Z", status)


def error_response(severity: str, sqlstate: str, sentence: str, **fields: str) -> bytes:
    """An ErrorResponse; `severity` is ERROR, FATAL or PANIC, `fields` are named as in ERROR_FIELDS."""
    return message(b"E", _error_body(severity, sqlstate, sentence, fields))


def notice_response(severity: str, sqlstate: str, sentence: str, **fields: str) -> bytes:
    """A NoticeResponse; `severity` is WARNING, NOTICE, DEBUG, INFO or LOG."""
    return message(b"N", _error_body(severity, sqlstate, sentence, fields))


def _error_body(severity: str, sqlstate: str, sentence: str, fields: dict[str, str]) -> bytes:
    known = {b"S": severity, b"V": severity, b"C": sqlstate, b"M": sentence}
    known |= {ERROR_FIELDS[name]: value for name, value in fields.items()}
    return b"".join(code + string(value) for code, value in known.items()) + b"\0"


class ErrorFields(NamedTuple):
    """An ErrorResponse or NoticeResponse."""

    severity: str  # not localized, where the server says it so (since PostgreSQL 9.6)
    sqlstate: str
    message: str
    fields: dict[str, str]  # all, by their one-letter codes


def read_error(data: bytes, start: int, end: int) -> ErrorFields:
    """The error or notice between these offsets. A field that does not end there is left out: long ones are clipped."""
    fields: dict[str, str] = {}
    at = start + 5
    while at < end and data[at]:
        stop = data.find(0, at + 1, end)
        if stop < 0:
            break
        fields[chr(data[at])] = text(data[at + 1 : stop])
        at = stop + 1
    severity = fields.get("V") or fields.get("S", "")
    return ErrorFields(severity, fields.get("C", ""), fields.get("M", ""), fields)


def command_complete(tag: str) -> bytes:
    return message(b"C", string(tag))


def row_description(columns: Sequence[tuple[str, int]]) -> bytes:
    """Names and types of columns, all sent as text, of no table."""
    described = (string(name) + uint32(0) + int16(0) + uint32(kind) + _ANY_SIZE for name, kind in columns)
    return message(b"T", int16(len(columns)) + b"".join(described))


_ANY_SIZE = b"\xff\xff" + int32(-1) + int16(0)  # typlen, typmod, format text


def read_row_description(body: bytes) -> list[str]:
    """The names of the columns. Raises ProtocolError if one is sent in binary."""
    reader = Reader("RowDescription", body)
    names = []
    for _ in range(reader.int16()):
        names.append(reader.text())
        reader.take(16)
        if reader.int16():
            raise ProtocolError(f"RowDescription: column {names[-1]!r} is in binary, expected text")
    reader.end()
    return names


def data_row(values: Sequence[str | None]) -> bytes:
    """A row of text values; None is NULL."""
    raw = (None if value is None else encoded(value) for value in values)
    return message(b"D", int16(len(values)) + b"".join(map(counted, raw)))


def read_data_row(body: bytes) -> list[str | None]:
    reader = Reader("DataRow", body)
    raw = [reader.counted() for _ in range(reader.int16())]
    reader.end()
    return [None if value is None else text(value) for value in raw]
