"""What the text of a Query or Parse shows about the session's state: why its connection must stay with the client.

Looked at once per text; the caller keeps the answers. Conservative: what is unsure is marked, what fails or is rolled
back is marked all the same. What happens inside functions can't be seen, nor what is done by sequences (`lastval`).

Precedents: PgBouncer's "SQL feature map for pooling modes" lists what breaks in transaction pooling; here it pins.

| reason       | seen                                                        | undone by                          |
|--------------|-------------------------------------------------------------|------------------------------------|
| listen       | LISTEN                                                      | UNLISTEN *                         |
| temp         | CREATE TEMP, INTO TEMP (not ON COMMIT DROP), pg_temp        | DISCARD TEMP, DEALLOCATE ALL       |
| cursor       | DECLARE ... WITH HOLD                                       | CLOSE ALL                          |
| lock         | session-level advisory locks                                | SELECT pg_advisory_unlock_all()    |
| prepare      | PREPARE                                                     | DEALLOCATE ALL                     |
| set:<name>   | SET, set_config(..., false); `*` where the name is unknown  | RESET <name>, DEALLOCATE ALL       |
| unclear      | DO, text that can't be read, or in more ways than one, an   | DISCARD ALL                        |
|              | identifier with escapes, a FunctionCall (of a mere number)  |                                    |
| long         | an unnamed Parse too long to be kept (`extended`)           | nothing needed: it is replaced     |
| load, slot, backup, dblink, seed | LOAD; temporary slots, backup mode, dblink connections, (set)seed | nothing  |
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from forebay_core.pgwire import Plain
from forebay_core.postgres.lexer import Token, TooMany, Unreadable, tokens
from forebay_core.postgres.ordinary import Ordinary

# Tokens that are read of a text that may have a mark and is not ordinary; one with more is unclear. All clients wait
# while the text of one is read: this many take under 10 ms, and so does what tells that a text need not be read.
MOST_TOKENS = 4000
LONGEST_CALL = 64  # tokens of a set_config(...) that are looked at: calls can be nested, and each is looked at


class Ends(Enum):
    """What a statement takes away when it succeeds."""

    NOTHING = "nothing"
    PREPARED = "prepared"  # every prepared statement, those of the protocol too
    EVERYTHING = "everything"  # as DISCARD ALL


@dataclass(frozen=True, slots=True)
class Marks:
    """What a text shows. `reasons` as in the table above; `prepared`: those of them that another statement may bring
    again which does not show it, as EXECUTE does. `clears`: reasons that hold no more once all of it has succeeded,
    `set:` with an empty name for all but those in LEFT_BY_RESET_ALL. `deallocates`: the name in a lone DEALLOCATE,
    which may be one of the protocol's (drivers close theirs so).
    """

    reasons: frozenset[str] = frozenset()
    prepared: frozenset[str] = frozenset()
    clears: frozenset[str] = frozenset()
    ends: Ends = Ends.NOTHING
    deallocates: bytes | None = None


NONE = Marks()
UNCLEAR = Marks(frozenset({"unclear"}))

_UNDO = {
    "listen": b"UNLISTEN *",
    "temp": b"DISCARD TEMP",
    "cursor": b"CLOSE ALL",
    "lock": b"SELECT pg_catalog.pg_advisory_unlock_all()",
    "prepare": b"DEALLOCATE ALL",
}
_SIMPLE_NAME = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)*\Z")
# GUC_NO_RESET_ALL in PostgreSQL's guc_tables.c; a setting whose name is not known may be one of them.
LEFT_BY_RESET_ALL = frozenset({"set:role", "set:session_authorization", "set:*"})
# What was prepared meanwhile may have been analysed under it.
PREPARED_UNDER = ("set:", "temp")
_NEVER_UNDONE = frozenset({"load", "slot", "backup", "dblink", "seed"})

_SPACE = rb"[ \t\n\r\f\v]"
_STARTS = (
    rb"(?:set|reset|listen|unlisten|load|prepare|deallocate|discard|declare|close|do|explain)(?![a-z0-9_$\x80-\xff])"
)
# Text in which, in lower case, none of this stands can have no mark. The first words count only where a statement may
# begin: behind white space that has a new line in it, which is gone through once, from its first byte. Each
# alternative begins with a certain byte or set of bytes: so most of a text is skipped (no IGNORECASE for that reason).
_BEGINS = re.compile(_SPACE + rb"*+" + _STARTS)
_PERHAPS = re.compile(
    rb"(?:;|\*/|" + _SPACE + rb"(?<!" + _SPACE + _SPACE + rb")(?:(?<=[\n\r])|[ \t\f\v]*+[\n\r]))"
    + _SPACE + rb"*+" + _STARTS
    + rb"|t(?<=[ \t\n\r\f\v/]t)emp(?:orary)?(?![a-z0-9_$\x80-\xff])"
    + rb"|pg_temp|advisory_|set_config|pg_settings|replication_slot|_backup|dblink|setseed|u&\""
)  # fmt: skip
# Whether a text surely has no mark, told at a fraction of the cost of a search for _PERHAPS: most have none, and are
# never the same twice where values stand in them. It is one statement that begins with one of the usual words, with
# nothing in it that may be a mark or a comment. (A quote in it that does not end makes the server refuse it whole.)
plain = Plain(
    starts=(
        *(b"select", b"insert", b"update", b"delete", b"begin", b"commit", b"rollback", b"with", b"end", b"fetch"),
    ),
    never=(
        *(b"--", b"/*", b"advisory_", b"set_config", b"pg_settings", b"_slot", b"_backup", b"dblink", b"setseed"),
        *(b'u&"', b"pg_temp", b" temp", b"\ttemp", b"\ntemp", b"\rtemp", b"\ftemp", b"\vtemp"),
    ),
)
_FUNCTIONS = {
    b"pg_advisory_lock": "lock",
    b"pg_advisory_lock_shared": "lock",
    b"pg_try_advisory_lock": "lock",
    b"pg_try_advisory_lock_shared": "lock",
    b"pg_create_physical_replication_slot": "slot",
    b"pg_create_logical_replication_slot": "slot",
    b"pg_copy_physical_replication_slot": "slot",
    b"pg_copy_logical_replication_slot": "slot",
    b"pg_backup_start": "backup",
    b"pg_start_backup": "backup",
    b"dblink_connect": "dblink",
    b"dblink_connect_u": "dblink",
    b"setseed": "seed",
}
# The schema of a session's temporary objects, and a string that says so where a name may stand, not a pattern as of
# LIKE: where it is first in search_path, what is made is temporary, called so or not.
_OWN_SCHEMA = re.compile(rb"pg_temp(?:_[0-9]+)?\Z")
_SAYS_OWN_SCHEMA = re.compile(
    rb"(?<![A-Za-z0-9_^\x80-\xff])pg_temp(?:_[0-9]+)?(?![A-Za-z0-9_$%\\\x80-\xff])", re.IGNORECASE
)
ordinary = Ordinary((*(b"set_config", b"pg_settings", rb"pg_temp(?:_[0-9]+)?", b"pg_advisory_unlock_all"), *_FUNCTIONS))
_TEMP = frozenset({b"temp", b"temporary"})
# What libpq and pgJDBC call by FunctionCall, and nothing of it outlives its transaction: lo_open, lo_close, loread,
# lowrite, lo_lseek, lo_creat, lo_tell, lo_unlink, lo_create, lo_truncate, lo_lseek64, lo_tell64, lo_truncate64. Their
# OIDs are written down in PostgreSQL's pg_proc.dat, the same in all versions.
LARGE_OBJECTS = frozenset({*range(952, 959), 964, 715, 1004, 3170, 3171, 3172})
_UNLOCKS = (b"select", b"pg_advisory_unlock_all", b"(", b")")
_OF_TRANSACTIONS = frozenset(
    {b"begin", b"start", b"commit", b"end", b"rollback", b"abort", b"savepoint", b"release", b"prepare"}
)
_PASSING = frozenset({b"local", b"transaction", b"constraints"})  # of SET: at the end of the transaction
# SET's own spellings: the words after SET (SESSION left out), and the setting that they change.
_SPELLINGS = {
    (b"time", b"zone"): "timezone",
    (b"session", b"authorization"): "session_authorization",
    (b"session", b"characteristics"): "session-characteristics",  # default_transaction_isolation and others
    (b"xml", b"option"): "xmloption",
}
_ALIASES = {b"names": "client_encoding", b"schema": "search_path"}


def perhaps(text: bytes) -> bool:
    """Whether a text, or a part of one, may have a mark."""
    lower = text.lower()
    return _BEGINS.match(lower) is not None or _PERHAPS.search(lower) is not None


def marks(text: bytes, *, standard_strings: bool = True, readable: bool = True) -> Marks:
    """What `text` shows. `standard_strings` is the session's standard_conforming_strings; `readable` is False where
    the client's encoding is one of `lexer.AMBIGUOUS_ENCODINGS` and the text is not all ASCII.
    """
    if not perhaps(text):
        return NONE
    if not readable:
        return UNCLEAR
    own = b"pg_temp" in text.lower()
    if not own and ordinary(text, standard_strings):
        return NONE
    whole = True
    try:
        read = tokens(text, standard_strings, MOST_TOKENS)
    except TooMany as more:  # as of a row-level security's set_config(..., true) before an INSERT of many rows
        if own or not ordinary(text[more.rest :], standard_strings):
            return UNCLEAR
        read, whole = more.read, False
    except Unreadable:
        return UNCLEAR
    statements = list(_statements(read))
    found = [_of_statement(statement, own) for statement in statements]
    if len(found) == 1 and whole:
        return found[0]
    ends = max((each.ends for each in found), key=list(Ends).index, default=Ends.NOTHING)
    reasons = frozenset[str]().union(*(each.reasons for each in found))
    prepared = frozenset[str]().union(*(each.prepared for each in found))
    if not whole or any(statement[0].text in _OF_TRANSACTIONS for statement in statements):  # not all of it may last
        return Marks(reasons, prepared, ends=ends)
    every_set = any(reason.startswith("set:") for reason in reasons)
    clears = frozenset[str]().union(*(each.clears for each in found)) - reasons - ({"set:"} if every_set else set())
    return Marks(reasons, prepared, clears, ends)


def marks_either(text: bytes) -> Marks:
    """What `text` shows where what comes before it may still change how it is read: whether a backslash escapes, and
    whether it is one. Without any, it is read as ever."""
    if not perhaps(text):
        return NONE
    found = marks(text)
    return found if text.isascii() and found == marks(text, standard_strings=False) else UNCLEAR


def marks_of_call(function: int) -> Marks:
    """What a FunctionCall of the function with this OID shows."""
    return NONE if function in LARGE_OBJECTS else UNCLEAR


def undo(reasons: frozenset[str]) -> bytes | None:
    """What takes `reasons` away, as one simple Query that must succeed; None where only closing does."""
    if reasons & _NEVER_UNDONE:
        return None
    if "unclear" in reasons:
        return b"DISCARD ALL"
    statements: dict[bytes, None] = {}  # a set that keeps its order
    reasons -= {"long"}
    if any(reason.startswith(PREPARED_UNDER) for reason in reasons):
        reasons |= {"prepare"}
    for reason in sorted(reasons, key=lambda reason: (not reason.startswith("set:session_auth"), reason)):
        if not reason.startswith("set:"):
            statements[_UNDO[reason]] = None
        elif reason == "set:session_authorization":  # first, and it resets the role too
            statements[b"RESET SESSION AUTHORIZATION"] = None
        elif reason == "set:role":  # RESET ALL leaves it
            statements[b"RESET ROLE"] = None
        elif _SIMPLE_NAME.match(reason[4:]):
            statements[b'RESET "' + reason[4:].replace(".", '"."').encode() + b'"'] = None
        else:  # which may be anything, so also what RESET ALL leaves
            return b"DISCARD ALL"
    return b"; ".join(statements)


def _statements(found: list[Token]) -> Iterator[list[Token]]:
    statement: list[Token] = []
    for token in found:
        if token.kind != ";":
            statement.append(token)
        elif statement:
            yield statement
            statement = []
    if statement:
        yield statement


def _of_statement(statement: list[Token], own: bool) -> Marks:
    """`own`: the text may speak of the session's own schema."""
    words = [token.text if token.kind == "w" else b"" for token in statement]
    reasons = set(_anywhere(statement, words))
    lasting = frozenset({"temp"}) if own and _speaks_of_own_schema(statement) else frozenset[str]()
    reasons |= lasting
    first, second = words[0], words[1] if len(words) > 1 else b""
    match first:
        case b"set" if _to_default(words):
            return Marks(frozenset(reasons), clears=frozenset({f"set:{_setting(statement[1:])}"}))
        case b"set":
            reasons |= _of_set(statement[1:])
        case b"reset":
            name = _setting(statement[1:])
            return Marks(clears=frozenset({"set:" if name == "all" else f"set:{name}"}))
        case b"listen":
            reasons.add("listen")
        case b"load":
            reasons.add("load")
        case b"do":
            reasons.add("unclear")
        case b"prepare" if second != b"transaction":
            return Marks(frozenset({"prepare", *reasons}), frozenset(reasons))
        case b"select" if tuple(t.text for t in statement if t.text not in (b"pg_catalog", b".")) == _UNLOCKS:
            return Marks(clears=frozenset({"lock"}))
        case b"unlisten" if len(statement) == 2 and statement[1].kind == "*":
            return Marks(clears=frozenset({"listen"}))
        case b"close" if second == b"all":
            return Marks(clears=frozenset({"cursor"}))
        case b"discard" if second == b"all":
            return Marks(clears=frozenset({*_UNDO, "unclear", "set:", *LEFT_BY_RESET_ALL}), ends=Ends.EVERYTHING)
        case b"discard" if second in _TEMP:
            return Marks(clears=frozenset({"temp"}))
        case b"deallocate":
            names = statement[2:] if second == b"prepare" and len(statement) > 2 else statement[1:]
            if names and names[0] == ("w", b"all", False):
                return Marks(clears=frozenset({"prepare"}), ends=Ends.PREPARED)
            return Marks(deallocates=names[0].text if len(names) == 1 and names[0].kind in "wq" else None)
    return Marks(frozenset(reasons), lasting) if reasons else NONE


def _anywhere(statement: list[Token], words: list[bytes]) -> Iterator[str]:
    """Reasons that can stand at any place of a statement, under EXPLAIN ANALYZE and in WITH too."""
    if any(token.escaped for token in statement):
        yield "unclear"
    if b"update" in words and any(token.kind in "wq" and token.text == b"pg_settings" for token in statement):
        yield "set:*"
    if _has(words, b"with", b"hold") and words[0] in (b"declare", b"explain"):
        yield "cursor"
    if _makes_temporary(statement, words):
        yield "temp"
    for place, token in enumerate(statement[:-1]):
        if token.kind not in "wq":
            continue
        following = statement[place + 1].kind
        if following == "." and _OWN_SCHEMA.match(token.text):
            yield "temp"
        elif following == "(" and token.text == b"set_config":
            yield from _of_set_config(statement[place + 2 : place + 2 + LONGEST_CALL])
        elif following == "(" and token.text in _FUNCTIONS:
            yield _FUNCTIONS[token.text]


def _speaks_of_own_schema(statement: list[Token]) -> bool:
    """Unless it is of something in it."""
    for token, following in zip(statement, (*statement[1:], None), strict=True):
        if token.kind == "s":
            if _SAYS_OWN_SCHEMA.search(token.text):
                return True
        elif token.kind in "wq" and _OWN_SCHEMA.match(token.text) and (following is None or following.kind != "."):
            return True
    return False


def _has(words: list[bytes], *run: bytes) -> bool:
    return any(words[place : place + len(run)] == list(run) for place, word in enumerate(words) if word == run[0])


def _makes_temporary(statement: list[Token], words: list[bytes]) -> bool:
    """CREATE [OR REPLACE] [GLOBAL | LOCAL] TEMP and INTO TEMP, unless the table goes with its transaction."""
    for place, word in enumerate(words):
        before = [each for each in words[max(0, place - 4) : place] if each not in (b"global", b"local")]
        if word in _TEMP and before and (before[-1] in (b"create", b"into") or before[-2:] == [b"or", b"replace"]):
            break
    else:
        return False
    if words[0] == b"create" and _has(words, b"on", b"commit", b"drop"):
        depth = 0
        for token, word in zip(statement, words, strict=True):
            depth += (token.kind == "(") - (token.kind == ")")
            if word == b"commit" and depth == 0:
                return False
    return True


def _to_default(words: list[bytes]) -> bool:
    """Whether a SET is the other spelling of a RESET."""
    if words[1:2] and words[1] in _PASSING:
        return False
    return words[-1] == b"default" or words[-3:] == [b"time", b"zone", b"local"]


def _of_set(rest: list[Token]) -> set[str]:
    words = [token.text if token.kind == "w" else b"" for token in rest[:2]] + [b"", b""]
    if words[0] in _PASSING:
        return set()
    name = _setting(rest)
    return {"seed" if name == "seed" else f"set:{name}"}


def _setting(rest: list[Token]) -> str:
    """The name, in lower case, of what stands after SET or RESET; `*` where that is not clear."""
    words = tuple(token.text if token.kind == "w" else b"" for token in rest[:2])
    if words[:1] == (b"session",) and words not in _SPELLINGS:
        return _setting(rest[1:])
    if words in _SPELLINGS:
        return _SPELLINGS[words]
    name = b""
    for token in rest:  # a name may have dots
        if (token.kind in "wq") if not name or name.endswith(b".") else token.kind == ".":
            name += token.text
        else:
            break
    try:
        text = name.decode("ascii").lower()
    except UnicodeDecodeError:
        return "*"
    return _ALIASES.get(name, text) or "*"


def _of_set_config(arguments: list[Token]) -> Iterator[str]:
    """set_config(name, value, is_local): nothing where is_local is plainly true."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in arguments:
        depth += (token.kind in "([") - (token.kind in ")]")
        if depth < 0:
            break
        if token.kind == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    else:  # its end is too far away
        yield "set:*"
        return
    plain = [[(token.kind, token.text) for token in part] for part in parts]
    named = any(("=", b"=") in part for part in plain)  # => or :=, in any order
    if len(parts) == 3 and not named and plain[2] in ([("w", b"true")], [("s", b"'true'")], [("s", b"'t'")]):
        return
    if len(parts) == 3 and not named and len(plain[0]) == 1 and plain[0][0][0] == "s":
        literal = plain[0][0][1]
        name = literal[1:-1].decode("latin-1").lower()
        if name == "seed":
            yield name
        else:
            yield f"set:{name}" if literal[:1] == b"'" and _SIMPLE_NAME.match(name) else "set:*"
    else:
        yield "set:*"
