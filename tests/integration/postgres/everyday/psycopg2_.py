"""A day with psycopg2: `python -m tests.integration.postgres.everyday.psycopg2_ URL`, in an empty database."""

import contextlib
import datetime
import decimal
import io
import select
import threading
import time
import uuid
from collections.abc import Iterator

import psycopg2
import psycopg2.errorcodes
from psycopg2 import errors, extensions, extras, sql
from psycopg2.pool import ThreadedConnectionPool
from tests.integration.postgres.everyday.diary import at_once, run, tell

SCHEMA = """
CREATE TABLE authors (id serial PRIMARY KEY, name varchar(40) NOT NULL UNIQUE, born date, rating numeric(4, 2));
CREATE TABLE books (
    id serial PRIMARY KEY, author int REFERENCES authors ON DELETE RESTRICT, title text NOT NULL,
    facts jsonb, tags text[], cover bytea, price numeric(8, 2) CHECK (price > 0), sold int NOT NULL DEFAULT 0);
CREATE TYPE size AS (width int, height int);
CREATE TYPE binding AS ENUM ('soft', 'hard');
CREATE TABLE work (id serial PRIMARY KEY, owner int);
CREATE FUNCTION sell(book int, number int) RETURNS int LANGUAGE plpgsql AS $$
    DECLARE now_sold int;
    BEGIN
        UPDATE books SET sold = sold + number WHERE id = book RETURNING sold INTO now_sold;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no book %', book USING ERRCODE = 'no_data_found', HINT = 'look it up';
        END IF;
        RETURN now_sold;
    END $$;
CREATE PROCEDURE twice() LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO work VALUES (901); COMMIT; INSERT INTO work VALUES (902); COMMIT; END $$;
"""


@contextlib.contextmanager
def connect(url: str, **options: object) -> Iterator[extensions.connection]:
    """psycopg2's own `with` ends a transaction, not the connection."""
    with contextlib.closing(psycopg2.connect(url, **options)) as connection:
        yield connection


def refusal(label: str, error: psycopg2.Error) -> None:
    of = error.diag
    tell(label, type(error).__name__, error.pgcode, psycopg2.errorcodes.lookup(error.pgcode), of.message_primary)
    tell("  at", of.message_detail, of.message_hint, of.constraint_name, of.statement_position, of.context)


def schema(url: str) -> None:
    with connect(url) as connection, connection, connection.cursor() as cursor:
        cursor.execute(SCHEMA)
        tell("made", cursor.statusmessage, connection.encoding, connection.server_version // 10000)
        cursor.execute("COMMENT ON TABLE books IS %s", ("What's in the shop",))
        cursor.execute("SELECT obj_description('books'::regclass), to_regclass('nowhere')")
        tell("comment", cursor.fetchone())
    with connect(url) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in (
                "CREATE INDEX CONCURRENTLY books_by_author ON books (author)",
                "ALTER TABLE books ADD COLUMN IF NOT EXISTS printed timestamptz",
                "ALTER TABLE books ALTER COLUMN title SET STATISTICS 200",
                "VACUUM books",
                "REINDEX TABLE books",
                "CALL twice()",
            ):
                cursor.execute(statement)
                tell("did", cursor.statusmessage)


def crud(url: str) -> None:
    with connect(url) as connection:
        with connection, connection.cursor() as cursor:
            for n in range(20):
                cursor.execute("INSERT INTO authors (name, rating) VALUES (%s, %s) RETURNING id", (f"author {n}", n))
            tell("last", cursor.fetchone(), cursor.rowcount, cursor.lastrowid)
            cursor.executemany(
                "UPDATE authors SET born = %s WHERE id = %s", [(datetime.date(1900, 1, n), n) for n in range(1, 21)]
            )
            books = [(1 + n % 20, f"book {n}", decimal.Decimal(n) / 10 + 1) for n in range(500)]
            made = extras.execute_values(
                cursor,
                "INSERT INTO books (author, title, price) VALUES %s RETURNING id",
                books,
                page_size=90,
                fetch=True,
            )
            tell("values", len(made), made[-1])
            extras.execute_batch(
                cursor, "UPDATE books SET sold = %s WHERE id = %s", [(n, n) for n in range(1, 300)], page_size=50
            )
            cursor.execute("SELECT sum(sold) FROM books")
            tell("batch", cursor.fetchone(), cursor.query, cursor.rownumber)
        with connection, connection.cursor(cursor_factory=extras.RealDictCursor) as cursor:
            cursor.execute("SELECT * FROM authors WHERE id = %(id)s", {"id": 3})
            tell("dict", dict(cursor.fetchone()))
            upsert = """INSERT INTO authors (name, rating) VALUES (%s, 5)
                        ON CONFLICT (name) DO UPDATE SET rating = EXCLUDED.rating RETURNING id, rating"""
            cursor.execute(upsert, ("author 4",))
            tell("upsert", dict(cursor.fetchone()))
            cursor.execute("DELETE FROM books WHERE id > 490")
            tell("deleted", cursor.rowcount)
            connection.rollback()
        with connection, connection.cursor(cursor_factory=extras.NamedTupleCursor) as cursor:
            cursor.execute("""SELECT a.name, count(*) AS books, max(b.price) FILTER (WHERE b.sold > 100) AS dearest
                              FROM authors a JOIN books b ON b.author = a.id GROUP BY a.name
                              HAVING count(*) > 24 ORDER BY dearest DESC NULLS LAST, a.name LIMIT 3""")
            tell("report", cursor.fetchall(), [(of.name, of.type_code) for of in cursor.description])
            cursor.callproc("sell", (5, 10))
            tell("called", cursor.fetchone())
            query = sql.SQL("SELECT {} FROM {} WHERE id IN {}").format(
                sql.Identifier("title"), sql.Identifier("books"), sql.Placeholder()
            )
            cursor.execute(query, ((1, 2, 3),))
            tell("in", cursor.fetchmany(2), cursor.fetchall())
            cursor.execute("SELECT 1; SELECT 2")
            tell("of many the last", cursor.fetchall())


def types(url: str) -> None:
    at = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)
    with connect(url) as connection, connection, connection.cursor() as cursor:
        extras.register_uuid(conn_or_curs=cursor)
        size = extras.register_composite("size", cursor)
        values = (
            *(
                7,
                -(2**62),
                1.5,
                float("nan"),
                decimal.Decimal("1.10"),
                "é\u20ac'\\%",
                b"\0\xff'",
                True,
                None,
                at,
                at.date(),
            ),
            *(
                at.time(),
                datetime.timedelta(days=1, seconds=2),
                uuid.UUID(int=3),
                [1, 2, None],
                ["a", 'b"', "{}"],
                [[1], [2]],
            ),
            *(extras.Json({"a": ["é", None]}), extras.NumericRange(1, 5), extras.DateTimeTZRange(at, None)),
        )
        casts = (
            *("int", "int8", "float8", "float8", "numeric", "text", "bytea", "bool", "text", "timestamptz", "date"),
            *("time", "interval", "uuid", "int[]", "text[]", "int[]", "jsonb", "int4range", "tstzrange"),
        )
        cursor.execute("SELECT " + ", ".join(f"%s::{name}" for name in casts), values)
        row = cursor.fetchone()
        tell("types", *(bytes(each) if isinstance(each, memoryview) else str(each) for each in row))
        cursor.execute("SELECT (3, 4)::size, ARRAY[(5, 6)::size], 'hard'::binding, ARRAY['soft'::binding]")
        tell("composite", *cursor.fetchone(), size.name)
        update = "UPDATE books SET facts = %s, tags = %s, cover = %s WHERE id = 1 RETURNING facts->'n'->>1, tags[2]"
        cover = psycopg2.Binary(bytes(range(256)) * 100)
        cursor.execute(update, (extras.Json({"n": [1, "x"]}), ["a", "b"], cover))
        tell("written", cursor.fetchone())
        cursor.execute("SELECT cover FROM books WHERE id = 1")
        tell("read", bytes(cursor.fetchone()[0]) == bytes(range(256)) * 100)
        cursor.execute("SELECT %s, length(%s)", ("x" * 2_000_000, "é" * 1_000_000))
        large = cursor.fetchone()
        tell("large", len(large[0]), large[1])


def transactions(url: str) -> None:
    with connect(url) as connection, connection.cursor() as cursor:
        states = [connection.get_transaction_status()]
        for label, statement in (
            ("unique", "INSERT INTO authors (name) VALUES ('author 1')"),
            ("check", "UPDATE books SET price = 0 WHERE id = 1"),
            ("foreign", "DELETE FROM authors WHERE id = 1"),
            ("null", "INSERT INTO books (title) VALUES (NULL)"),
            ("long", "UPDATE authors SET name = repeat('x', 41) WHERE id = 1"),
            ("syntax", "SELECT * FRM books"),
            ("function", "SELECT sell(9999, 1)"),
            ("division", "SELECT 1/0"),
            ("ambiguous", "SELECT id FROM books, authors"),
            ("cast", "SELECT 'x'::date"),
        ):
            try:
                cursor.execute(statement)
            except psycopg2.Error as error:
                refusal(label, error)
                states.append(connection.get_transaction_status())
                connection.rollback()
        try:
            cursor.execute("SELECT 1/0")
        except errors.DivisionByZero:
            try:
                cursor.execute("SELECT 1")
            except errors.InFailedSqlTransaction as error:
                refusal("failed", error)
        connection.rollback()
        tell("states", states, connection.get_transaction_status())
        cursor.execute("SAVEPOINT a")
        cursor.execute("DELETE FROM work")
        cursor.execute("ROLLBACK TO SAVEPOINT a")
        cursor.execute("SELECT count(*) FROM work")
        tell("savepoint", cursor.fetchone())
        connection.commit()
        cursor.execute("SET LOCAL statement_timeout = '9s'")
        cursor.execute("SHOW statement_timeout")
        tell("local", cursor.fetchone())
        connection.rollback()
        tell("parameters", connection.get_parameter_status("standard_conforming_strings"), connection.notices)
        cursor.execute("DROP TABLE IF EXISTS nowhere")
        tell("notices", connection.notices)
        connection.rollback()
        for level in ("REPEATABLE READ", "SERIALIZABLE", "DEFAULT"):
            connection.set_session(isolation_level=level, readonly=True)
            cursor.execute("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
            tell(level, cursor.fetchone())
            try:
                cursor.execute("INSERT INTO work DEFAULT VALUES")
            except errors.ReadOnlySqlTransaction as error:
                refusal("read only", error)
            connection.rollback()
        transaction = connection.xid(5, "global", "branch")
        tell("xid", str(transaction))
    with connect(url) as one, connect(url) as two, one.cursor() as first, two.cursor() as second:
        for connection in (one, two):
            connection.set_session(isolation_level="REPEATABLE READ")
        first.execute("SELECT sold FROM books WHERE id = 7")
        second.execute("SELECT sold FROM books WHERE id = 7")
        first.execute("UPDATE books SET sold = sold + 1 WHERE id = 7 RETURNING sold")
        tell("first", first.fetchone())
        one.commit()
        try:
            second.execute("UPDATE books SET sold = sold + 1 WHERE id = 7 RETURNING sold")
        except errors.SerializationFailure as error:
            refusal("second", error)
            two.rollback()
            second.execute("UPDATE books SET sold = sold + 1 WHERE id = 7 RETURNING sold")
            tell("again", second.fetchone())
        two.commit()


def copying(url: str) -> None:
    with connect(url) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE copied (n int, v text)")
        cursor.copy_from(io.StringIO("".join(f"{n}\trow {n}\n" for n in range(5000))), "copied")
        tell("in", cursor.rowcount, cursor.statusmessage)
        cursor.copy_expert(
            "COPY copied FROM STDIN (FORMAT csv, HEADER)", io.StringIO('n,v\n1,"a ""quoted"" one"\n2,\n')
        )
        for query in (
            "COPY copied TO STDOUT (FORMAT csv)",
            "COPY (SELECT * FROM copied ORDER BY n) TO STDOUT (FORMAT binary)",
        ):
            out = io.BytesIO()
            cursor.copy_expert(query, out)
            tell("out", len(out.getvalue()), out.getvalue()[:40], cursor.rowcount)
        text = io.StringIO()
        cursor.copy_to(text, "copied", columns=("v",), null="none")
        tell("text", len(text.getvalue()), text.getvalue()[-20:])
        connection.commit()
        try:
            cursor.copy_from(io.StringIO("1\tx\nno\tnumber\n"), "copied")
        except errors.InvalidTextRepresentation as error:
            refusal("broken", error)
        connection.rollback()
        cursor.execute("SELECT count(*) FROM copied")
        tell("rows", cursor.fetchone())


def streams(url: str) -> None:
    with connect(url) as connection:
        with connection, connection.cursor("walks") as named:
            named.itersize = 700
            named.execute("SELECT n, repeat('y', 300) FROM generate_series(1, 10000) n")
            tell("named", named.fetchone()[0], len(named.fetchmany(50)), sum(n for n, _ in named))
        with connection, connection.cursor("scrolls", scrollable=True) as named:
            named.execute("SELECT generate_series(1, 100)")
            named.scroll(50)
            forward = named.fetchone()
            named.scroll(-20)
            tell("scrolled", forward, named.fetchone())
        with connection.cursor("held", withhold=True) as held:
            held.execute("SELECT generate_series(1, 500)")
            connection.commit()
            tell("held", len(held.fetchall()))
        connection.commit()
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT n FROM generate_series(1, 100000) n")
            tell("rows", cursor.rowcount, sum(row[0] for row in cursor))
            file = connection.lobject(0, "wb")
            tell("written", file.write(b"large" * 100_000))
            number = file.oid
            file.close()
            with contextlib.closing(connection.lobject(number, "rb")) as file:
                file.seek(499_990)
                tell("read", file.read(5), file.tell(), file.read())
                file.unlink()


def settings(url: str) -> None:
    with (
        connect(url, application_name="one") as one,
        connect(url, options="-c statement_timeout=11s -c jit=off") as two,
    ):
        one.set_client_encoding("LATIN1")
        two.autocommit = True
        names = ("client_encoding", "application_name", "statement_timeout", "TimeZone", "DateStyle", "jit")
        query = "SELECT 'é', " + ", ".join(f"current_setting('{name}')" for name in names)
        for _ in range(3):
            for connection in (one, two):
                with connection.cursor() as cursor:
                    cursor.execute(query)
                    tell("settings", cursor.fetchone(), connection.encoding)
                connection.commit()
            with one, one.cursor() as cursor:
                cursor.execute("SET TimeZone = 'Europe/Zurich'; SET DateStyle = 'ISO, DMY'")
                cursor.execute("SELECT '2026-07-01T00:00Z'::timestamptz, '01/02/2026'::date")
                tell("times", str(cursor.fetchone()[0]))
        with two.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE mine AS SELECT 5 AS n")
            cursor.execute("SELECT * FROM mine")
            tell("temporary", cursor.fetchone())
            cursor.execute("DROP TABLE mine")
            cursor.execute("PREPARE plan (int) AS SELECT $1 * 2")
            cursor.execute("EXECUTE plan (%s)", (21,))
            tell("prepared", cursor.fetchone())
            cursor.execute("DEALLOCATE plan")
        two.reset()


def notifications(url: str) -> None:
    with connect(url) as hears, connect(url) as tells:
        hears.autocommit = tells.autocommit = True
        with hears.cursor() as cursor:
            cursor.execute("LISTEN news")
        with tells.cursor() as cursor:
            cursor.execute("NOTIFY news, 'first'; NOTIFY news, 'second'")
        while len(hears.notifies) < 2 and select.select([hears], [], [], 20)[0]:
            hears.poll()
        tell("heard", [(each.channel, each.payload) for each in hears.notifies])
        with hears.cursor() as cursor:
            cursor.execute("UNLISTEN *")


def asynchronous(url: str) -> None:
    """Its own asynchronous mode, as gevent and others use it."""

    def wait(connection: extensions.connection) -> None:
        while (state := connection.poll()) != extensions.POLL_OK:
            reads, writes = ([connection], []) if state == extensions.POLL_READ else ([], [connection])
            select.select(reads, writes, [], 20)

    with contextlib.closing(psycopg2.connect(url, async_=True)) as connection:
        wait(connection)
        with connection.cursor() as cursor:
            for n in range(5):
                cursor.execute("SELECT pg_sleep(0.01), %s", (n,))
                wait(connection)
                tell("asked", cursor.fetchone()[1], connection.isexecuting())
    extensions.set_wait_callback(extras.wait_select)
    try:
        with connect(url) as connection, connection, connection.cursor() as cursor:
            cursor.execute("SELECT repeat('z', 500000)")
            tell("by callback", len(cursor.fetchone()[0]))
    finally:
        extensions.set_wait_callback(None)


def interruptions(url: str) -> None:
    with connect(url) as connection, connection.cursor() as cursor:
        timer = threading.Timer(0.2, connection.cancel)
        timer.start()
        try:
            cursor.execute("SELECT pg_sleep(60)")
        except errors.QueryCanceled as error:
            refusal("cancelled", error)
        timer.join()
        connection.rollback()
        try:
            cursor.execute("SET LOCAL statement_timeout = 30; SELECT pg_sleep(60)")
        except errors.QueryCanceled as error:
            refusal("timeout", error)
        connection.rollback()
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 30")
        time.sleep(0.2)  # what the application does instead of going on
        try:
            cursor.execute("SELECT 1")
        except psycopg2.OperationalError as error:
            tell("idle for too long", type(error).__name__, connection.closed)
    with connect(url) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        except psycopg2.OperationalError as error:
            tell("terminated", type(error).__name__, connection.closed)


def pooled(url: str) -> None:
    clients = ThreadedConnectionPool(1, 12, url)
    try:
        with clients.getconn() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO work SELECT n FROM generate_series(1, 100) n")
        clients.putconn(connection)

        def one(_: int) -> list[int]:
            connection, mine = clients.getconn(), []
            try:
                while True:
                    with connection, connection.cursor() as cursor:
                        cursor.execute("""DELETE FROM work WHERE id = (
                            SELECT id FROM work WHERE id <= 100 LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id""")
                        row = cursor.fetchone()
                        if row is None:
                            return mine
                        mine.append(row[0])
            finally:
                clients.putconn(connection)

        done = [each for mine in at_once(10, one) for each in mine]
        tell("done", len(done), sorted(done) == list(range(1, 101)))
    finally:
        clients.closeall()


if __name__ == "__main__":
    run(
        *(schema, crud, types, transactions, copying, streams, settings, notifications, asynchronous),
        *(interruptions, pooled),
    )
