"""What both PostgreSQL codecs share: the error, its texts, the message types and their lengths (PostgreSQL docs 55.7).

A message is a type byte, a length (int32, big-endian, that counts itself but not the type) and its contents. The
lengths below are those of the length field. Both codecs say the same of the same bytes, error texts included; each
message is looked at for, in this order: 1. its type, 2. its length, 3. is enough of it there, 4. its contents.
"""

from typing import Final

# The types that a client may send after start-up; those of a server are written as one byte (b"Z") where they are used.
QUERY: Final = b"Q"[0]
PARSE: Final = b"P"[0]
BIND: Final = b"B"[0]
DESCRIBE: Final = b"D"[0]
CLOSE: Final = b"C"[0]
EXECUTE: Final = b"E"[0]
SYNC: Final = b"S"[0]
FLUSH: Final = b"H"[0]
COPY_DATA: Final = b"d"[0]
COPY_DONE: Final = b"c"[0]
COPY_FAIL: Final = b"f"[0]
TERMINATE: Final = b"X"[0]

MAX_LENGTH: Final = 0x3FFFFFFE  # PostgreSQL's PQ_LARGE_MESSAGE_LIMIT: one less than the most that it can allocate
MAX_SMALL: Final = 10_000  # its PQ_SMALL_MESSAGE_LIMIT, for client's messages that carry no data of the user's
MAX_SMALL_ANSWER: Final = 30_000  # libpq's limit for a server's: beyond it, it takes the connection for out of step

# By type: the least and the most that the length may be. What may be longer than the small limit can be streamed.
CLIENT_LENGTHS: Final = {
    b"Q": (5, MAX_LENGTH),  # Query
    b"P": (8, MAX_LENGTH),  # Parse
    b"B": (12, MAX_LENGTH),  # Bind
    b"D": (6, MAX_SMALL),  # Describe
    b"C": (6, MAX_SMALL),  # Close
    b"E": (9, MAX_SMALL),  # Execute
    b"S": (4, 4),  # Sync
    b"H": (4, 4),  # Flush
    b"F": (14, MAX_LENGTH),  # FunctionCall
    b"d": (4, MAX_LENGTH),  # CopyData
    b"c": (4, 4),  # CopyDone
    b"f": (5, MAX_SMALL),  # CopyFail
    b"X": (4, 4),  # Terminate
}
SERVER_LENGTHS: Final = {
    b"1": (4, 4),  # ParseComplete
    b"2": (4, 4),  # BindComplete
    b"3": (4, 4),  # CloseComplete
    b"A": (10, MAX_LENGTH),  # NotificationResponse
    b"C": (5, MAX_SMALL_ANSWER),  # CommandComplete
    b"D": (6, MAX_LENGTH),  # DataRow
    b"E": (5, MAX_LENGTH),  # ErrorResponse
    b"G": (7, MAX_SMALL_ANSWER),  # CopyInResponse
    b"H": (7, MAX_SMALL_ANSWER),  # CopyOutResponse
    b"I": (4, 4),  # EmptyQueryResponse
    b"N": (5, MAX_LENGTH),  # NoticeResponse
    b"S": (6, MAX_SMALL_ANSWER),  # ParameterStatus
    b"T": (6, MAX_LENGTH),  # RowDescription
    b"V": (8, MAX_LENGTH),  # FunctionCallResponse
    b"W": (7, MAX_SMALL_ANSWER),  # CopyBothResponse
    b"Z": (5, 5),  # ReadyForQuery
    b"c": (4, 4),  # CopyDone
    b"d": (4, MAX_LENGTH),  # CopyData
    b"n": (4, 4),  # NoData
    b"s": (4, 4),  # PortalSuspended
    b"t": (6, MAX_LENGTH),  # ParameterDescription
}

# A row of a table that `reporting` makes: what a scan of a server's bytes does with a type.
REFUSED: Final = 0
PASSED: Final = 1
REPORTED: Final = 2
COUNTED: Final = 3  # reported, a CommandComplete with a count of rows too


def reporting(kinds: bytes, *, counts: bool = False) -> bytes:
    """The table by which `scan_server` reports messages of these types, passes all others, and refuses unknown ones.
    `counts`: a CommandComplete with a count of rows is reported too.
    """
    table = bytearray(256)
    for kind in SERVER_LENGTHS:
        table[kind[0]] = PASSED if kind not in kinds else COUNTED if counts else REPORTED
    return bytes(table)


class ProtocolError(Exception):
    """A peer's bytes are not the PostgreSQL protocol as we accept it.

    `sqlstate` is what a client is told: 08P01 unless said otherwise; `detail` names the problem and the byte's offset.
    """

    def __init__(self, detail: str, sqlstate: str = "08P01") -> None:
        super().__init__(detail, sqlstate)
        self.detail = detail
        self.sqlstate = sqlstate

    def __str__(self) -> str:
        return f"{self.sqlstate}: {self.detail}"


# Reasons to refuse a message: its type, its offset and a number that was found stand in the braces.
UNKNOWN_CLIENT_TYPE: Final = "unknown message type {kind} at byte {at}, expected one of Q P B D C E S H F d c f X"
UNKNOWN_SERVER_TYPE: Final = "unknown message type {kind} from the server at byte {at}"
BAD_LENGTH: Final = "message {kind} at byte {at} has the length {number}, which its type can't have"
BAD_STRING: Final = "message {kind} at byte {at} is not one string that ends in its only NUL"
UNENDED_NAME: Final = "message {kind} at byte {at} has a name that does not end in it or in its first bytes"
BAD_TARGET: Final = "message {kind} at byte {at} is for {number}, expected 83 (S, a statement) or 80 (P, a portal)"
BAD_PARSE: Final = "message {kind} at byte {at} is not a name, a text, a count and as many types"
BAD_BIND: Final = "message {kind} at byte {at} is too short for what follows its names"
BAD_EXECUTE: Final = "message {kind} at byte {at} is not a portal's name and a row limit"
BAD_STATUS: Final = "message {kind} at byte {at} has the status {number}, expected 73 (I), 84 (T) or 69 (E)"


def refusal(problem: str, data: bytes, at: int, number: int = 0) -> ProtocolError:
    """The error for a problem with the message at offset `at` of what was scanned."""
    return ProtocolError(problem.format(kind=repr(data[at : at + 1])[1:], at=at, number=number))
