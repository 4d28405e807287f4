"""The PostgreSQL codec in pure Python: a chunk of bytes is divided into messages, and what decides is named.

Theory of operation. A relay hands each chunk that it receives, with what it kept of the last one in front, to a scan.
The scan says up to where the bytes may be passed on (`end`), and which messages there are of those that mean
something. What stands behind `end` is the beginning of a message that has to be seen whole: the relay keeps it.

A large message is never kept whole. CopyData and what a server sends unreported is passed on as it comes: the scan
says how many bytes are still `missing`, and gets this number back as `skip` with the next chunk. Of other types that
can be large (Query, Parse, Bind, FunctionCall; a server's reported errors and notices) the first `max_held` bytes are
waited for, so that names, and a text's beginning, are there; the rest is passed on as it comes.

No message is read twice, contents are not copied but for names and texts, and nothing depends on how bytes were cut
into chunks but where a long text is clipped.
"""

import re
from collections.abc import Sequence
from struct import Struct

from forebay_core.pgwire.types import (
    BAD_BIND,
    BAD_EXECUTE,
    BAD_LENGTH,
    BAD_PARSE,
    BAD_STATUS,
    BAD_STRING,
    BAD_TARGET,
    BIND,
    CLIENT_LENGTHS,
    CLOSE,
    COPY_DATA,
    COPY_FAIL,
    DESCRIBE,
    EXECUTE,
    MAX_SMALL,
    MAX_SMALL_ANSWER,
    PARSE,
    QUERY,
    REPORTED,
    SERVER_LENGTHS,
    TERMINATE,
    UNENDED_NAME,
    UNKNOWN_CLIENT_TYPE,
    UNKNOWN_SERVER_TYPE,
    ProtocolError,
    refusal,
)

# end, missing, kinds, ends, names, texts: see scan_client
ClientScan = tuple[int, int, bytes, list[int], list[bytes | None], list[bytes]]
# end, missing, ready, events: see scan_server
ServerScan = tuple[int, int, bytes, list[tuple[bytes, int, int]]]

_header = Struct(">BI").unpack_from
_write_header = Struct(">BI").pack
_count = Struct(">H").unpack_from

_CLIENT = {kind[0]: lengths for kind, lengths in CLIENT_LENGTHS.items()}
_SERVER = {kind[0]: lengths for kind, lengths in SERVER_LENGTHS.items()}
_REFERRING = b"PBDC"  # the types that may refer to a prepared statement
_READY = b"Z"[0]
_COMPLETE = b"C"[0]
_STATUSES = b"ITE"
_DIGITS = b"0123456789"
_LONE = re.compile(rb"Q|P[BDEH]*S")
_STATEMENT = b"S"[0]
_PORTAL = b"P"[0]


def scan_client(data: bytes, skip: int, max_held: int) -> ClientScan:
    """Divides a client's bytes, after its start-up, into messages (PostgreSQL docs 55.2, 55.7).

    `skip` is what the last scan said was missing. Returned are

    - end: everything before this offset may be passed on; the rest is kept and scanned again with more behind it,
    - missing: bytes of the last message that are yet to come, and may be passed on as they do (then end is len(data)),
    - kinds: the types of the messages, in order; CopyData in a row counts as one,
    - ends: the offset of each one's end; the first begins at `skip`, each other where the one before it ends,
    - names: for each the statement that it refers to, b"" is the unnamed one; None for Describe and Close of a portal
      and for other types. The list is empty when there is no Parse, Bind, Describe or Close among the messages,
    - texts: of each Query and Parse, in order; where bytes are missing the last one's is clipped.

    Nothing is read after Terminate. Raises ProtocolError at the first message that is wrong.
    """
    size = len(data)
    at = min(skip, size)
    missing = skip - at
    kinds = bytearray()
    ends: list[int] = []
    names: list[bytes | None] = []
    texts: list[bytes] = []
    while at < size:
        if data[at] not in _CLIENT:
            raise refusal(UNKNOWN_CLIENT_TYPE, data, at)
        if size - at < 5:
            break
        kind, length = _header(data, at)
        least, most = _CLIENT[kind]
        if not least <= length <= most:
            raise refusal(BAD_LENGTH, data, at, length)
        stop = at + 1 + length
        if stop > size:
            if kind != COPY_DATA and (most <= MAX_SMALL or size - at < max_held):
                break
            missing = stop - size
            stop = size
        name = _look(data, at, stop, kind, not missing, texts)
        if kind == COPY_DATA and kinds.endswith(b"d"):
            ends[-1] = stop
        else:
            if names:
                names.append(name)
            elif kind in _REFERRING:
                names = [None] * len(ends)
                names.append(name)
            kinds.append(kind)
            ends.append(stop)
        at = stop
        if kind == TERMINATE:
            break
    return at, missing, bytes(kinds), ends, names, texts


def _look(data: bytes, at: int, stop: int, kind: int, whole: bool, texts: list[bytes]) -> bytes | None:
    """Checks the contents of the message at `at`, takes its text if it has one; returns the statement's name."""
    body = at + 5
    if kind in (QUERY, COPY_FAIL):
        end = data.find(0, body, stop)
        if end != (stop - 1 if whole else -1):
            raise refusal(BAD_STRING, data, at)
        if kind == QUERY:
            texts.append(data[body : end if whole else stop])
        return None
    if kind == PARSE:
        end = _name_end(data, at, body, stop)
        text_end = data.find(0, end + 1, stop)
        if whole and (not 0 <= text_end <= stop - 3 or stop != text_end + 3 + 4 * _count(data, text_end + 1)[0]):
            raise refusal(BAD_PARSE, data, at)
        texts.append(data[end + 1 : text_end if text_end >= 0 else stop])
        return data[body:end]
    if kind == BIND:
        portal_end = _name_end(data, at, body, stop)
        end = _name_end(data, at, portal_end + 1, stop)
        if whole and stop - end < 7:
            raise refusal(BAD_BIND, data, at)
        return data[portal_end + 1 : end]
    if kind in _REFERRING:  # Describe or Close
        if data[body] != _STATEMENT and data[body] != _PORTAL:
            raise refusal(BAD_TARGET, data, at, data[body])
        if data.find(0, body + 1, stop) != stop - 1:
            raise refusal(BAD_STRING, data, at)
        return data[body + 1 : stop - 1] if data[body] == _STATEMENT else None
    if kind == EXECUTE and _name_end(data, at, body, stop) != stop - 5:
        raise refusal(BAD_EXECUTE, data, at)
    return None


def _name_end(data: bytes, at: int, start: int, stop: int) -> int:
    end = data.find(0, start, stop)
    if end < 0:
        raise refusal(UNENDED_NAME, data, at)
    return end


def scan_server(data: bytes, skip: int, max_held: int, wanted: bytes) -> ServerScan:
    """Divides a server's bytes, after its start-up, into messages (PostgreSQL docs 55.2, 55.7).

    `skip` is what the last scan said was missing; `wanted` is a table from `reporting`. Returned are

    - end: everything before this offset may be passed on; the rest is kept and scanned again with more behind it,
    - missing: bytes of the last message that are yet to come, and may be passed on as they do (then end is len(data)),
    - ready: the status bytes of each ReadyForQuery, in order: I idle, T in a transaction, E in a failed one,
    - events: type, start and end of each message of a wanted type, in order, but for a CommandComplete with a count
      of rows (unless the table has `counts`): what counts rows (SELECT, INSERT, COPY, FETCH, ...) says nothing of the
      session. Where bytes are missing, the last event's end is len(data).

    Raises ProtocolError at the first message that is wrong.
    """
    size = len(data)
    at = min(skip, size)
    missing = skip - at
    ready = bytearray()
    events: list[tuple[bytes, int, int]] = []
    while at < size:
        fate = wanted[data[at]]
        if not fate:
            raise refusal(UNKNOWN_SERVER_TYPE, data, at)
        if size - at < 5:
            break
        kind, length = _header(data, at)
        least, most = _SERVER[kind]
        if not least <= length <= most:
            raise refusal(BAD_LENGTH, data, at, length)
        stop = at + 1 + length
        if stop > size:
            held = kind == _READY or fate >= REPORTED
            if held and (most <= MAX_SMALL_ANSWER or size - at < max_held):
                break
            missing = stop - size
            stop = size
        if kind == _READY:
            if data[at + 5] not in _STATUSES:
                raise refusal(BAD_STATUS, data, at, data[at + 5])
            ready.append(data[at + 5])
        if fate >= REPORTED and not (fate == REPORTED and kind == _COMPLETE and data[stop - 2] in _DIGITS):
            events.append((data[at : at + 1], at, stop))
        at = stop
    return at, missing, bytes(ready), events


def rename(data: bytes, start: int, end: int, name: bytes) -> bytes:
    """The Parse, Bind, Describe or Close from `start` to `end`, as scanned, with another name of its statement.

    Its length is written anew; if bytes of it are missing they are to follow unchanged. Raises ProtocolError if
    with the new name it is longer or shorter than PostgreSQL takes, ValueError if there is no such message.
    """
    if not 0 <= start <= end - 6 or end > len(data) or data[start] not in _REFERRING:
        raise ValueError("no Parse, Bind, Describe or Close there")
    kind, length = _header(data, start)
    at = start + (6 if kind in (DESCRIBE, CLOSE) else 5)
    if kind == BIND:
        at = data.find(0, at, end) + 1
    after = data.find(0, at, end)
    if at == 0 or after < 0:
        raise ValueError("no name there")
    length += len(name) - (after - at)
    least, most = _CLIENT[kind]
    if not least <= length <= most:
        raise refusal(BAD_LENGTH, data, start, length)
    return b"".join((_write_header(kind, length), data[start + 5 : at], name, data[after:end]))


class Plain:
    """Tells texts of which nothing has to be known: they begin with one of `starts`, there is none of `never` in them,
    both in any case of their ASCII letters, and a `;` at most as the last byte.

    Words are given in lower case: at most 30 each, of at most 15 bytes.
    """

    def __init__(self, starts: Sequence[bytes], never: Sequence[bytes]) -> None:
        self._starts = tuple(starts)
        self._never = re.compile(b"|".join((rb";.", *map(re.escape, never))), re.DOTALL)

    def __call__(self, data: bytes) -> bool:
        text = data.lower()
        return text.startswith(self._starts) and self._never.search(text) is None


def lone(data: bytes, plain: Plain) -> int:
    """Where `data` is, whole and alone, one Query: 1; one unnamed statement from its Parse to its Sync (nothing but
    Bind, Describe, Execute and Flush between them): the end of the Parse. Else, or where its text is not plain: 0.
    """
    try:
        end, missing, kinds, ends, names, texts = scan_client(data, 0, len(data) + 1)
    except ProtocolError:
        return 0
    if end < len(data) or missing or not _LONE.fullmatch(kinds) or any(names) or not plain(texts[0]):
        return 0
    return 1 if kinds == b"Q" else ends[0]


def answered(data: bytes, wanted: bytes) -> bool:
    """Whether `data` is a whole answer and nothing else: messages of which none is reported (`wanted` as for
    `scan_server`), and at their end the only ReadyForQuery, which says that the server is idle.
    """
    try:
        end, missing, ready, events = scan_server(data, 0, len(data) + 1, wanted)
    except ProtocolError:
        return False
    return end == len(data) and not missing and ready == b"I" and data[-6:-5] == b"Z" and not events
