"""A table of texts, and what each shows."""

import contextlib
import time
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_core.postgres.lexer import Unreadable, tokens
from forebay_core.postgres.marks import (
    MOST_TOKENS,
    NONE,
    UNCLEAR,
    Ends,
    marks,
    marks_either,
    marks_of_call,
    perhaps,
    plain,
    undo,
)

TABLE = [
    # nothing
    ("", ""),
    (";;", ""),
    ("SELECT 1", ""),
    ("SELECT 'SET a = 1; LISTEN x'", ""),
    ("/* ; SET a = 1 */ SELECT 1", ""),
    ("-- SET a = 1\nSELECT 1", ""),
    ("--\nSELECT '\nSET a = 1'", ""),
    ("SELECT $$\nSET a = 1;$$", ""),
    ("SELECT $x$ $$; SET a = 1; $x$", ""),
    ('SELECT 1 AS ";\nset a"', ""),
    ("UPDATE t SET a = 1", ""),
    ("BEGIN", ""),
    ("COMMIT", ""),
    ("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1", ""),
    ("INSERT INTO temperature VALUES (1)", ""),
    ("SELECT temp FROM weather", ""),
    ("SELECT * INTO temperature FROM t", ""),
    ("CREATE TABLE t (temp int)", ""),
    ("NOTIFY x", ""),
    ("FETCH 1 FROM c", ""),
    ("EXECUTE p", ""),
    ("SAVEPOINT a; ROLLBACK TO a", ""),
    ("VACUUM", ""),
    # settings
    ("SET a = 1", "set:a"),
    ("  set  Work_Mem to '1MB' ; ", "set:work_mem"),
    ("SET SESSION statement_timeout = 0", "set:statement_timeout"),
    ("SET my.Thing = 'x'", "set:my.thing"),
    ('SET "DateStyle" TO iso', "set:datestyle"),
    ("SET TIME ZONE 'UTC'", "set:timezone"),
    ("SET SESSION TIME ZONE 'local'", "set:timezone"),
    ("SET a = 'default'", "set:a"),
    ('SET a = "default"', "set:a"),
    ("SET a TO local", "set:a"),
    ("SET LOCAL a TO DEFAULT", ""),
    ("SET LOCAL TIME ZONE LOCAL", ""),
    ("SET NAMES 'UTF8'", "set:client_encoding"),
    ("SET SCHEMA 'x'", "set:search_path"),
    ("SET ROLE admin", "set:role"),
    ("SET SESSION ROLE admin", "set:role"),
    ("SET SESSION AUTHORIZATION x", "set:session_authorization"),
    ("SET SESSION SESSION AUTHORIZATION x", "set:session_authorization"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "set:session-characteristics"),
    ("SET seed TO 0.5", "seed"),
    ("SELECT set_config('Seed', '0.5', false)", "seed"),
    ("SET XML OPTION DOCUMENT", "set:xmloption"),
    ("SET SESSION", "set:*"),
    ("SET LOCAL a = 1", ""),
    ("SET LOCAL ROLE x", ""),
    ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", ""),
    ("SET CONSTRAINTS ALL DEFERRED", ""),
    ("BEGIN; SET a = 1; COMMIT", "set:a"),
    ("SELECT 1;SET a=1", "set:a"),
    ("SELECT 1;--x\nSET a=1", "set:a"),
    ("/* a /* b */ c */SET a=1", "set:a"),
    ("SELECT E'\\'';SET a=1;--'", "set:a"),
    ("SELECT E'a'\n'\\'';SET a=1;--'", "set:a"),
    ("SELECT e'a' -- c\n -- d\n '\\'';SET a=1;--'", "set:a"),
    ("SELECT 'a\\';SET a=1;--'", "set:a"),
    ("SELECT fooe'\\';SET a=1;--'", "set:a"),
    ("SELECT 1e'\\'';SET a=1;--'", "set:a"),
    ("SELECT a$b$;SET a=1;--$b$", "set:a"),
    ("SELECT $1$$;SET b=1;$$;SET a=1", "set:a"),
    ("SELECT U&'\\';SET a=1;--'", "set:a"),
    ("SELECT set_config('a.b', 'x', false)", "set:a.b"),
    ("SELECT pg_catalog.set_config('Work_Mem', 'x', false)", "set:work_mem"),
    ("SELECT \"set_config\"('a', 'x', false)", "set:a"),
    ("SELECT set_config('a', 'x', true)", ""),
    ("SELECT set_config('a', f('x', 1), 't')", ""),
    ("SELECT set_config('a', 'x', $1)", "set:a"),
    ("SELECT set_config($1, $2, $3)", "set:*"),
    ("SELECT set_config($1, $2, true)", ""),
    ("SELECT set_config('a', 'x', true and false)", "set:a"),
    ("SELECT set_config(is_local => true, setting_name => 'a', new_value => 'b')", "set:*"),
    ("SELECT set_config(a, 'b', false) FROM t", "set:*"),
    ("SELECT set_config($$a$$, 'b', false)", "set:*"),
    ("UPDATE pg_settings SET setting = 1 WHERE name = 'a'", "set:*"),
    ("SELECT * FROM pg_settings", ""),
    # listen
    ("LISTEN a", "listen"),
    ('listen "A"; SELECT 1', "listen"),
    # temp
    ("CREATE TEMP TABLE a (b int)", "temp"),
    ("create temporary table a as select 1", "temp"),
    ("CREATE GLOBAL TEMPORARY TABLE a (b int)", "temp"),
    ("CREATE LOCAL TEMP TABLE a (b int)", "temp"),
    ("CREATE OR REPLACE TEMP VIEW a AS SELECT 1", "temp"),
    ("CREATE TEMP SEQUENCE a", "temp"),
    ("CREATE TABLE pg_temp.a (b int)", "temp"),
    ("CREATE FUNCTION \"pg_temp\".f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "temp"),
    ("SELECT 1 AS a INTO TEMP t", "temp"),
    ("WITH a AS (SELECT 1) SELECT * INTO LOCAL TEMPORARY TABLE t FROM a", "temp"),
    ("EXPLAIN ANALYZE CREATE TEMP TABLE a AS SELECT 1", "temp"),
    ("CREATE TEMP TABLE a (b int) ON COMMIT DROP", ""),
    ("CREATE TEMP TABLE a ON COMMIT DROP AS SELECT (1)", ""),
    ("CREATE TEMP TABLE a (b int) ON COMMIT DELETE ROWS", "temp"),
    ("CREATE TEMP TABLE a AS SELECT ('ON COMMIT DROP')", "temp"),
    # where the session's own schema is what things are made in, they need not be called temporary
    ("SET LOCAL search_path = pg_temp", "temp"),
    ("BEGIN; SET LOCAL search_path TO public, 'PG_TEMP'; CREATE TABLE a (b int); COMMIT", "temp"),
    ('SET LOCAL search_path = "pg_temp"', "temp"),
    ("SET LOCAL search_path = pg_temp_3", "temp"),
    ("SET search_path = Pg_Temp", "set:search_path temp"),
    ("SELECT set_config('search_path', 'pg_temp', true)", "temp"),
    ("SELECT set_config('search_path', $$public,\"pg_temp\"$$, true)", "temp"),
    ("CREATE TABLE pg_temp_3.a (b int)", "temp"),
    ("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_temp_'", ""),
    ("SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg_temp%'", ""),
    ("SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_temp\\_%'", ""),
    ("SELECT pg_my_temp_schema(), pg_temperature, 'pg_temperature' FROM t", ""),
    # the others
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "cursor"),
    ("declare c no scroll cursor with hold for select 1", "cursor"),
    ("DECLARE c CURSOR FOR SELECT 1", ""),
    ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", ""),
    ("EXPLAIN ANALYZE DECLARE c CURSOR WITH HOLD FOR SELECT 1", "cursor"),
    ("SELECT pg_advisory_lock(1)", "lock"),
    ("SELECT pg_catalog.pg_try_advisory_lock_shared (1, 2)", "lock"),
    ("SELECT PG_ADVISORY_LOCK /* x */ (1)", "lock"),
    ("SELECT pg_advisory_xact_lock(1)", ""),
    ("SELECT pg_advisory_unlock(1)", ""),
    ("SELECT 'pg_advisory_lock(1)'", ""),
    ("PREPARE p AS SELECT 1", "prepare"),
    ("PREPARE p AS SELECT pg_advisory_lock(1)", "lock prepare"),
    ("PREPARE TRANSACTION 'x'", ""),
    ("LOAD 'x'", "load"),
    ("DO $$BEGIN END$$", "unclear"),
    ('SELECT U&"\\0070g_advisory_lock"(1)', "unclear"),
    ("SELECT dblink_connect('x')", "dblink"),
    ("SELECT pg_create_logical_replication_slot('a', 'b', true)", "slot"),
    ("SELECT pg_start_backup('x')", "backup"),
    ("SELECT setseed(0.5)", "seed"),
    ("SET a = 1; LISTEN b; CREATE TEMP TABLE c ()", "listen set:a temp"),
    ("SET a = 'x", "unclear"),
    ("/* SET a = 1\nSET a = 1", "unclear"),
    ('SET "a', "unclear"),
    ("SET a = $x$ $y$", "unclear"),
]


@pytest.mark.parametrize(("text", "reasons"), TABLE)
def test_reasons(text: str, reasons: str) -> None:
    assert marks(text.encode()).reasons == frozenset(reasons.split())


@pytest.mark.parametrize(("text", "reasons"), [row for row in TABLE if row[1] and "unclear" not in row[1]])
def test_a_mark_is_found_behind_another_statement_and_a_comment(text: str, reasons: str) -> None:
    for before in ("SELECT 1;", "/* x */", "-- x\n", "\t\f\v\r\n", ";", "SELECT '\\', $$'$$, \"'\"; "):
        found = marks((before + text).encode())
        assert found.reasons == frozenset(reasons.split()), before
        assert not found.clears & found.reasons


@pytest.mark.parametrize(
    ("text", "clears", "ends", "name"),
    [
        ("UNLISTEN *", "listen", Ends.NOTHING, None),
        ("UNLISTEN a", "", Ends.NOTHING, None),
        ("CLOSE ALL", "cursor", Ends.NOTHING, None),
        ("CLOSE a", "", Ends.NOTHING, None),
        ("DISCARD TEMP", "temp", Ends.NOTHING, None),
        ("DISCARD PLANS", "", Ends.NOTHING, None),
        ("RESET ALL", "set:", Ends.NOTHING, None),
        ("RESET work_mem", "set:work_mem", Ends.NOTHING, None),
        ("SET work_mem TO DEFAULT", "set:work_mem", Ends.NOTHING, None),
        ("set session Work_Mem=default;", "set:work_mem", Ends.NOTHING, None),
        ("SET TIME ZONE DEFAULT", "set:timezone", Ends.NOTHING, None),
        ("SET SESSION TIME ZONE LOCAL", "set:timezone", Ends.NOTHING, None),
        ("SET NAMES DEFAULT", "set:client_encoding", Ends.NOTHING, None),
        ("SET SESSION AUTHORIZATION DEFAULT", "set:session_authorization", Ends.NOTHING, None),
        ("SET LOCAL work_mem TO DEFAULT", "", Ends.NOTHING, None),
        ("BEGIN; SET work_mem TO DEFAULT", "", Ends.NOTHING, None),
        ("RESET SESSION AUTHORIZATION", "set:session_authorization", Ends.NOTHING, None),
        ("DEALLOCATE ALL", "prepare", Ends.PREPARED, None),
        ("DEALLOCATE PREPARE ALL;", "prepare", Ends.PREPARED, None),
        ("DEALLOCATE a", "", Ends.NOTHING, b"a"),
        ('DEALLOCATE PREPARE "_pg3_0"', "", Ends.NOTHING, b"_pg3_0"),
        ("DEALLOCATE prepare", "", Ends.NOTHING, b"prepare"),
        (
            "DISCARD ALL",
            "listen temp cursor lock prepare unclear set: set:role set:session_authorization set:*",
            Ends.EVERYTHING,
            None,
        ),
        ("SELECT 1; DISCARD TEMP", "temp", Ends.NOTHING, None),
        ("SELECT pg_advisory_unlock_all()", "lock", Ends.NOTHING, None),
        ("select pg_catalog.pg_advisory_unlock_all ( );", "lock", Ends.NOTHING, None),
        ("SELECT pg_advisory_unlock_all() FROM a", "", Ends.NOTHING, None),
        (
            "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
            "lock cursor listen set:",
            Ends.NOTHING,
            None,
        ),
        ("RESET ALL; ROLLBACK", "", Ends.NOTHING, None),
        ("BEGIN; RESET ALL", "", Ends.NOTHING, None),
        ("SELECT 1; DEALLOCATE a", "", Ends.NOTHING, None),
        ("SELECT 1", "", Ends.NOTHING, None),
    ],
)
def test_what_a_statement_takes_away(text: str, clears: str, ends: Ends, name: bytes | None) -> None:
    found = marks(text.encode())
    assert (found.reasons, found.clears) == (frozenset(), frozenset(clears.split()))
    assert (found.ends, found.deallocates) == (ends, name)


@pytest.mark.parametrize(
    ("text", "reasons", "clears"),
    [
        ("RESET ALL; SET work_mem = 1", "set:work_mem", ""),
        ("SET work_mem = 1; RESET ALL; UNLISTEN *", "set:work_mem", "listen"),
        ("UNLISTEN *; LISTEN a; RESET a", "listen", "set:a"),
        ("SET a = 1; SET b = DEFAULT; SET a = DEFAULT; SET b = 1", "set:a set:b", ""),
        ("SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock_all(); CLOSE ALL", "lock", "cursor"),
    ],
)
def test_what_several_statements_set_up_they_do_not_take_away(text: str, reasons: str, clears: str) -> None:
    found = marks(text.encode())
    assert (found.reasons, found.clears) == (frozenset(reasons.split()), frozenset(clears.split()))


@pytest.mark.parametrize(
    ("text", "reasons", "prepared"),
    [
        ("PREPARE p AS SELECT pg_advisory_lock(1)", "prepare lock", "lock"),
        ("LISTEN a; PREPARE p AS SELECT set_config('role', 'x', false)", "listen prepare set:role", "set:role"),
        ("PREPARE p AS SELECT 1", "prepare", ""),
        ("SELECT pg_advisory_lock(1)", "lock", ""),
        ("SET LOCAL search_path = pg_temp", "temp", "temp"),
        ("SELECT set_config('search_path', 'pg_temp', false)", "temp set:search_path", "temp"),
        ("CREATE TABLE pg_temp.a (b int)", "temp", ""),
    ],
)
def test_what_an_execute_or_any_other_statement_brings_again(text: str, reasons: str, prepared: str) -> None:
    found = marks(text.encode())
    assert (found.reasons, found.prepared) == (frozenset(reasons.split()), frozenset(prepared.split()))


@pytest.mark.parametrize(
    ("reasons", "statement"),
    [
        ("listen", b"UNLISTEN *"),
        ("temp cursor", b"CLOSE ALL; DEALLOCATE ALL; DISCARD TEMP"),
        ("set:session-characteristics", b"DISCARD ALL"),
        ("lock prepare", b"SELECT pg_catalog.pg_advisory_unlock_all(); DEALLOCATE ALL"),
        ("set:work_mem set:a.b", b'DEALLOCATE ALL; RESET "a"."b"; RESET "work_mem"'),
        (
            "set:role set:session_authorization set:a listen",
            b'RESET SESSION AUTHORIZATION; UNLISTEN *; DEALLOCATE ALL; RESET "a"; RESET ROLE',
        ),
        ("set:*", b"DISCARD ALL"),
        ('set:a"b', b"DISCARD ALL"),
        ("unclear listen", b"DISCARD ALL"),
        ("load", None),
        ("set:a backup", None),
        ("long", b""),
        ("", b""),
    ],
)
def test_undo(reasons: str, statement: bytes | None) -> None:
    assert undo(frozenset(reasons.split())) == statement


def test_a_backslash_escapes_where_strings_are_not_standard() -> None:
    text = b"SELECT 'a\\';\nSET a=1;--'"
    assert marks(text).reasons == {"set:a"}
    assert marks(text, standard_strings=False) == NONE
    other = b"SELECT 'a\\'';\nSET a=1;--'"
    assert marks(other).reasons == frozenset()
    assert marks(other, standard_strings=False).reasons == {"set:a"}


def test_what_may_be_read_in_two_ways_is_unclear_only_where_that_makes_a_difference() -> None:
    for text in (b"SELECT 'a\\'; SET a = 1; --'", b"SELECT 'a\\'' ; SET a = 1; --'"):
        assert marks_either(text) == UNCLEAR
    assert marks_either(b"SELECT '\\d'; SET a = 1").reasons == {"set:a"}
    assert marks_either(b"SELECT '\\d', '; SET a = 1'") == NONE
    assert marks_either("SELECT 'é\\d'; SELECT 1".encode()) == NONE
    assert marks_either("SELECT 'é\\d'; SET a = 1".encode()) == UNCLEAR, "in one encoding é may take the backslash"


def test_what_cant_be_read_is_unclear_only_where_it_may_have_a_mark() -> None:
    assert marks(b"SELECT '\x95\x5c'", readable=False) == NONE
    assert marks(b"SET a = '\x95\x5c'", readable=False) == UNCLEAR
    assert marks(b"SET a = 1" + b";b" * (MOST_TOKENS // 2 - 10)) != UNCLEAR
    assert marks(b"SET a = 1" + b";LISTEN b" * MOST_TOKENS) == UNCLEAR
    assert marks(b"SET a = 1" + b" b" * MOST_TOKENS) == UNCLEAR
    assert marks(b"SELECT pg_temp.f()" + b";b" * MOST_TOKENS) == UNCLEAR
    assert marks(b"SELECT 1" + b";b" * MOST_TOKENS) == NONE


@pytest.mark.parametrize(
    ("first", "reasons"),
    [
        ("SELECT set_config('app.user', '7', true)", ""),
        ("SET LOCAL a = 1; SELECT set_config('app.user', '7', true)", ""),
        ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", ""),
        ("SET a = 1", "set:a"),
    ],
)
def test_what_comes_behind_what_is_read_may_be_ordinary(first: str, reasons: str) -> None:
    """And long: then it has no say but that a ROLLBACK may be in it, so nothing is taken away."""
    found = marks(first.encode() + b"; INSERT INTO t VALUES " + b",".join([b"(1, 'a; set b')"] * 3000))
    assert (found.reasons, found.clears) == (frozenset(reasons.split()), frozenset())
    assert not marks(b"UNLISTEN *" + b"; INSERT INTO t VALUES (1)" * 1000 + b"; ROLLBACK").clears


ROWS = b",".join(b"(%d, 'a; temp\nset b', '%d')" % (number, number) for number in range(5000))


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO t (a, temp, temperature) VALUES " + ROWS,
        b'/* x */ INSERT INTO "t" VALUES ' + ROWS + b" ON CONFLICT (a) DO UPDATE\nSET b = excluded.b -- as well",
        b";".join(b"UPDATE t\nSET a = E'\\'%d', b = $$;\nset$$ WHERE temp = %d" % (n, n) for n in range(1000)),
        b"BEGIN; SET LOCAL a = 1; INSERT INTO t VALUES " + ROWS + b"; COMMIT",
    ],
    ids=["insert", "upsert", "updates", "transaction"],
)
def test_a_long_text_of_values_has_no_mark(text: bytes) -> None:
    """It is longer than what is read, and in its values stands whatever may."""
    assert not plain(text)
    assert perhaps(text)
    assert marks(text) == NONE


def taken(text: bytes) -> float:
    """The CPU time of `marks`, in seconds: the best of three, without the garbage collector's work for others."""
    return min(timeit.repeat(lambda: marks(text), timer=time.process_time, number=1, repeat=3))


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (b"SET a = 1", b";a"),
        (b"SET ", b","),
        (b"", b"SET a = 1;"),
        (b"", b"\n"),
        (b"SELECT ", b"set_config("),
        (b"SELECT temp", b" a"),
        (b"SET ", b"/*"),
    ],
)
def test_no_text_that_is_waited_for_takes_long(before: bytes, piece: bytes) -> None:
    """All clients of a worker wait meanwhile."""
    text = before + piece * ((1 << 18) // len(piece))
    assert taken(text) < 0.1


@pytest.mark.parametrize(
    ("function", "found"),
    [(2078, UNCLEAR), (2880, UNCLEAR), (16384, UNCLEAR), (952, NONE), (953, NONE), (954, NONE), (955, NONE)],
    ids=["set_config", "pg_advisory_lock", "a user's", "lo_open", "lo_close", "loread", "lowrite"],
)
def test_a_function_call_is_unclear_but_for_large_objects(function: int, found: object) -> None:
    assert marks_of_call(function) == found


PIECES = [
    *(b"'", b"''", b"\\'", b"/*", b"/**/", b"$$", b"$a", b'"', b"--", b"-", b"a ", b"a.", b"(", b";", b"E'a'\n", b"u&"),
    *(
        b"\n",
        b"\r\n",
        b"\n" + b"\t" * 255 + b"x",
        b"temp ",
        b"with ",
        b"set_config(",
        b"set_config('a',",
        b"on commit ",
    ),
]


@pytest.mark.parametrize("first", [b"SET a = ", b"x", b"CREATE TEMP TABLE t "], ids=["set", "other", "temp"])
@pytest.mark.parametrize("piece", PIECES)
def test_time_grows_with_the_text_only(first: bytes, piece: bytes) -> None:
    """A text that is hard to read takes no more than a few times as long as one of words."""
    size = 200_000
    usual = max(taken(b"SET a = " + b"bc " * (size // 3)), 0.02)
    assert taken(first + piece * (size // len(piece))) < 10 * usual


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    for standard in (True, False):
        marks(text, standard_strings=standard)
        with contextlib.suppress(Unreadable):
            assert sum(len(token.text) for token in tokens(text, standard)) <= len(text)


WORDS = st.sampled_from(
    [
        *("select", "insert", "update", "delete", "begin", "with", "end", "fetch", "set", "reset", "listen", "do"),
        *("temp", "pg_temp", "into", "create", "table", "x", "hold", "declare", "explain", "discard", "all", "prepare"),
        *("pg_advisory_lock", "set_config", "pg_settings", "pg_backup_start", "dblink_connect", "setseed", "close"),
        *(
            "pg_create_logical_replication_slot",
            "'a'",
            "'",
            '"',
            'u&"a"',
            ";",
            "\n",
            "(",
            ")",
            ".",
            ",",
            "--",
            "/*",
            "*/",
        ),
        *(" ", " ", "1", "$$", "\\", "E'", "false", "true", "as", "SELECT", "Temp"),
    ]
)


@given(st.lists(WORDS, max_size=12), st.booleans())
def test_what_is_plain_has_no_mark(words: list[str], standard: bool) -> None:
    for between in (" ", ""):
        text = between.join(words).encode()
        if plain(text) and marks(text, standard_strings=standard) != NONE:
            with pytest.raises(Unreadable):  # a quote that does not end: the server refuses it whole
                list(tokens(text, standard))


@pytest.mark.parametrize(
    "first", ["select", "insert into t", "update t set a = 1", "with a as (select 1) select", "fetch"]
)
@pytest.mark.parametrize(
    "rest",
    [text for text, reasons in TABLE if reasons and not text.startswith(("SET", "LISTEN", "DO", "PREPARE", "LOAD"))],
)
def test_a_mark_behind_a_plain_beginning_is_seen(first: str, rest: str) -> None:
    text = f"{first} {rest}".encode()
    assert not plain(text) or marks(text) == NONE


def test_usual_texts_are_plain() -> None:
    for text in (b"SELECT abalance FROM pgbench_accounts WHERE aid = 1;", b"BEGIN", b"UPDATE t SET a = 1", b"COMMIT"):
        assert plain(text)
    for text in (b"INSERT INTO room_temperature VALUES (1)", b"SELECT attempts FROM t"):
        assert plain(text)


@pytest.mark.parametrize("column", ["temperature", "t.temp_max", "_temp", "attempt", "temps"])
def test_a_name_with_temp_in_it_may_have_no_mark(column: str) -> None:
    assert not perhaps(f"CREATE TABLE t AS SELECT {column} FROM s".encode())
