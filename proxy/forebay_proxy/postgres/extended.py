"""Prepared statements over changing server connections: carries out what `forebay_core.postgres.statements` decides.

In the usual cases nothing has to be decided: an unnamed statement that is parsed, bound and synced in one go, and a
named one that the server has already. They are passed on at once (`usual`); for all else a lease gets a `Pipeline`,
which hears of each message both ways until nothing is under way.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from forebay_core.pgwire import ProtocolError, backend, frontend, rename, reporting
from forebay_core.pgwire.fields import message
from forebay_core.postgres.marks import NONE, Ends, Marks
from forebay_core.postgres.settings import analysed_under, is_ambiguous
from forebay_core.postgres.statements import Pipeline, Send, Statement, Step, statement

if TYPE_CHECKING:
    from forebay_proxy.postgres.server import PgConnection
    from forebay_proxy.postgres.session import Session

LEAN: Final = reporting(b"ESAGWC")  # what says something of the session
FULL: Final = reporting(b"ESAGWC123TnIsZ", counts=True)  # and what answers each message

COPY: Final = b"dcfHS"  # what a client may send while the server takes a COPY
EMPTY: Final = {kind: message(kind) for kind in (b"1", b"3")}
UNNAMED: Final = frozenset((b"PBDES", b"PBES", b"PDS", b"PBDEHS"))
NAMED: Final = frozenset((b"BES", b"BDES", b"DS"))
# In place of DEALLOCATE of a statement that has another name on servers: it has no effect, and no answer of its own.
NOTHING: Final = b"UNLISTEN forebay_nothing"

Lexing = tuple[bool, bool]  # standard_conforming_strings, and whether the encoding is plain in other bytes than ASCII
USUAL: Final = (True, True)
EITHER: Final = (False, False)  # by identity: something is under way that may change it


def lexing(settings: Mapping[str, bytes]) -> Lexing:
    """How statements are read in a session with these settings."""
    standard = settings.get("standard_conforming_strings", b"on") == b"on"
    plain = not is_ambiguous(settings.get("client_encoding", b"UTF8"))
    return USUAL if standard and plain else (standard, plain)


def read_behind(text: bytes, settled: Lexing) -> Lexing:
    """How a text is read where messages before it are not answered yet; `settled` is as of those that are."""
    return EITHER if b"\\" in text else settled


def usual(
    session: "Session", connection: "PgConnection", data: bytes, kinds: bytes, ends: Sequence[int],
    names: Sequence[bytes | None],
) -> bytes | None:  # fmt: skip
    """What to send where nothing is under way and nothing has to be decided; None where something has."""
    if kinds in UNNAMED:
        if any(names) or "long" in session.pins:
            return None
        session.unnamed = data[: ends[0]]
        return data
    if kinds in NAMED and (name := names[0]):
        mine = session.statements.by_name.get(name)
        if mine is None or mine.name not in connection.statements.present:
            return None
        connection.statements.present.move_to_end(mine.name)
        session.used = mine.name
        return rename(data, 0, ends[0], mine.name) + data[ends[0] :]
    return None


def begin(session: "Session", connection: "PgConnection") -> Pipeline:
    """From now on the lease's messages are followed one by one."""
    if session.unnamed:
        text = frontend.read_parse(session.unnamed, 0, len(session.unnamed))
        session.statements.by_name[b""] = made(session, text)
        session.unnamed = b""
    connection.wanted = FULL
    return Pipeline(session.statements, connection.statements, unnamed_there="long" in session.pins)


def made(session: "Session", parsed: frontend.Statement, found: Marks = NONE) -> Statement:
    """The statement that a Parse of this session makes."""
    context = analysed_under(session.settings, parsed.text)
    return statement(parsed.text, parsed.types, context, found.ends is not Ends.NOTHING)


def translate(
    session: "Session", connection: "PgConnection", pipeline: Pipeline, data: bytes, at: int, kinds: bytes,
    ends: Sequence[int], names: Sequence[bytes | None], texts: Sequence[bytes], *, clipped: bool,
) -> tuple[bytes, int]:  # fmt: skip
    """What to send for a client's messages, of which the first begins at `at`, and the offset up to which they are
    dealt with: what comes from there on has to wait. `clipped`: of the last one bytes are missing. Raises
    ProtocolError, TooManyStatements."""
    pieces: list[bytes] = [data[:at]]
    last = len(kinds) - 1
    unread = iter(texts)
    for index, end in enumerate(ends):
        kind, name = kinds[index : index + 1], names[index] if names else None
        step: Step | None = None
        parsed: frontend.Statement | None = None
        found = NONE
        if pipeline.copying and kind not in COPY:  # the server would end the connection
            raise ProtocolError("a message that is none of a COPY before its end")
        if "long" in session.pins and (kind == b"Q" or (kind == b"P" and not name)):  # it is replaced
            session.pins.discard("long")
        if kind in b"PQ":
            text = next(unread)
            settled = session.lexing
            found = session.database.marks_of(text, settled if pipeline.idle else read_behind(text, settled))
        if kind == b"P" and not (clipped and index == last):
            assert name is not None
            parsed = frontend.read_parse(data, at, end)
            if found.deallocates is not None and session.statements.deallocate(found.deallocates):
                parsed = parsed._replace(text=NOTHING)
            step = pipeline.parse(name, made(session, parsed, found))
        elif kind == b"P":  # too long to be kept: it stays on this connection, and so does the client
            if name:
                pipeline.other()
            else:
                step = pipeline.parse_long()
            session.pins.add("prepare" if name else "long")
        elif kind in b"BD" and name is not None:
            step = pipeline.bind(name)
        elif kind == b"C" and name is not None:
            step = pipeline.close(name)
        elif kind in b"BDCE":
            pipeline.other()
        elif kind == b"S":
            pipeline.sync()
        elif kind == b"Q":
            pipeline.query(found.ends is not Ends.NOTHING)
        elif kind == b"F":
            pipeline.query()
            session.pins.called(connection, data, at)
        elif kind in b"cf":
            pipeline.copy_end()
        if step is None:
            pieces.append(data[at:end])
        elif step.hold:
            return b"".join(pieces), at
        else:
            pieces.extend(ours(send) for send in step.before)
            if step.name is None and clipped and index == last:  # its rest is to come, and the server skips it all
                pieces.append(data[at:end])
            elif step.name is not None and parsed is not None and parsed.text is NOTHING:
                pieces.append(frontend.parse(parsed._replace(name=step.name)))
            elif step.name is not None:
                pieces.append(rename(data, at, end, step.name) if step.name != name else data[at:end])
        if found is not NONE:
            session.pins.mark(found, connection, lone=False)
        for empty in pipeline.due():
            session.client.write(EMPTY[empty])
        at = end
    return b"".join(pieces), at


def ours(send: Send) -> bytes:
    """A message of our own."""
    if send.statement is None:
        return frontend.close_statement(send.name)
    return frontend.parse(frontend.Statement(send.name, send.statement.text, send.statement.types))


def answered(pipeline: Pipeline, data: bytes, events: Sequence[tuple[bytes, int, int]]) -> bytes:
    """What the client gets of a server's bytes. Raises OutOfStep."""
    pieces: list[bytes] = []
    at = 0
    for kind, start, end in events:
        then: tuple[bytes, ...] = ()
        deliver = True
        if kind == b"E":
            pipeline.error(backend.read_error(data, start, end).sqlstate.encode())
        elif kind == b"Z":
            pieces.append(data[at:end])
            at = end
            then = pipeline.ready()
        elif kind == b"G":
            pipeline.copy_in()
        elif kind not in b"SAW":
            if kind == b"C":
                pipeline.complete(data[start + 5 : end - 1])
            deliver, then = pipeline.reply()
        if not deliver:
            pieces.append(data[at:start])
            at = end
        if then:
            pieces.append(data[at:end])
            at = max(at, end)
            pieces.extend(EMPTY[empty] for empty in then)
    if not pieces:
        return data
    pieces.append(data[at:])
    return b"".join(pieces)
