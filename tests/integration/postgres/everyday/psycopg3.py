"""A day with psycopg 3: `python -m tests.integration.postgres.everyday.psycopg3 URL`, in an empty database."""

import contextlib
import datetime
import decimal
import enum
import ipaddress
import logging
import uuid
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel, errors, sql
from psycopg.rows import class_row, dict_row, namedtuple_row, scalar_row
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Json, Jsonb
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range
from tests.integration.postgres.everyday.diary import at_once, run, tell

MIGRATIONS = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
    "CREATE TYPE address AS (street text, number int, tags text[])",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    """CREATE TABLE customers (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, email text UNIQUE, mood mood,
        home address, credit numeric(12, 2) DEFAULT 0 CHECK (credit >= 0), born date, notes jsonb DEFAULT '{}',
        upper_name text GENERATED ALWAYS AS (upper(name)) STORED)""",
    """CREATE TABLE orders (
        id serial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers ON DELETE CASCADE, amount positive,
        state text NOT NULL DEFAULT 'new', placed timestamptz DEFAULT '2026-01-01T00:00Z')""",
    "CREATE INDEX orders_by_state ON orders (state) WHERE state <> 'done'",
    "CREATE VIEW spent AS SELECT customer, sum(amount) AS total FROM orders GROUP BY customer",
    """CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN NEW.state := lower(NEW.state); RAISE NOTICE 'order % is %', NEW.id, NEW.state; RETURN NEW; END $$""",
    "CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch()",
    "CREATE TABLE jobs (id serial PRIMARY KEY, done bool NOT NULL DEFAULT false)",
    "CREATE TABLE doctors (name text PRIMARY KEY, on_call bool NOT NULL)",
)


class Mood(enum.Enum):
    sad = 1
    ok = 2
    happy = 3


@dataclass
class Customer:
    id: int
    name: str
    credit: decimal.Decimal


def refusal(label: str, error: psycopg.Error) -> None:
    of = error.diag
    tell(label, type(error).__name__, of.sqlstate, of.severity, of.message_primary, of.message_detail)
    tell("  at", of.constraint_name, of.table_name, of.column_name, of.statement_position, of.context)


def migrations(url: str) -> None:
    """As a tool does it: under a lock, each step in a transaction, with a table of what was done; twice."""
    for _ in range(2):
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS versions (n int PRIMARY KEY)")
            connection.commit()
            for n, statement in enumerate(MIGRATIONS):
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(4711)")
                    if connection.execute("SELECT 1 FROM versions WHERE n = %s", (n,)).fetchone():
                        continue
                    connection.execute(statement)
                    connection.execute("INSERT INTO versions VALUES (%s)", (n,))
            tell("versions", connection.execute("SELECT count(*), max(n) FROM versions").fetchone())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE INDEX CONCURRENTLY orders_by_customer ON orders (customer)")
        connection.execute("VACUUM ANALYZE customers")
        connection.execute("ALTER TABLE customers ADD COLUMN vip bool NOT NULL DEFAULT false")
        columns = connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'customers' "
            "ORDER BY ordinal_position"
        )
        tell("columns", columns.fetchall())


def crud(url: str) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO customers (name, email, credit) VALUES (%s, %s, %s) RETURNING id",
            [(f"customer {n}", f"{n}@example.com", decimal.Decimal(n) / 4) for n in range(40)],
            returning=True,
        )
        ids = []
        while True:
            ids.append(cursor.fetchone())
            if not cursor.nextset():
                break
        tell("ids", len(ids), ids[0], ids[-1], cursor.rowcount)
        connection.commit()
        cursor.execute("UPDATE customers SET credit = credit + 1 WHERE id BETWEEN %s AND %s", (5, 14))
        tell("updated", cursor.rowcount, cursor.statusmessage)
        cursor.execute("DELETE FROM customers WHERE id > %(limit)s RETURNING id, name", {"limit": 38})
        tell("deleted", cursor.fetchall(), cursor.statusmessage)
        connection.rollback()
        upsert = """INSERT INTO customers (name, email) VALUES (%s, %s)
                    ON CONFLICT (email) DO UPDATE SET name = EXCLUDED.name RETURNING id, name, xmax = 0"""
        tell("upsert", cursor.execute(upsert, ("renamed", "3@example.com")).fetchone())
        tell("upsert", cursor.execute(upsert, ("fresh", "fresh@example.com")).fetchone())
        cursor.execute("INSERT INTO customers (name, email) VALUES ('x', '4@example.com') ON CONFLICT DO NOTHING")
        tell("nothing", cursor.rowcount, cursor.statusmessage)
        connection.commit()
        cursor.execute(
            "INSERT INTO orders (customer, amount) SELECT 1 + n % 20, 1 + n FROM generate_series(0, 199) n RETURNING id"
        )
        tell("orders", cursor.rowcount, cursor.fetchmany(3))
        connection.commit()
    with psycopg.connect(url, row_factory=dict_row) as connection:
        tell("dict", connection.execute("SELECT id, name, upper_name, mood FROM customers WHERE id = 3").fetchone())
        with connection.cursor(row_factory=class_row(Customer)) as typed:
            tell("class", typed.execute("SELECT id, name, credit FROM customers ORDER BY id LIMIT 3").fetchall())
        with connection.cursor(row_factory=namedtuple_row) as named:
            row = named.execute("SELECT customer, total FROM spent ORDER BY total DESC, customer LIMIT 1").fetchone()
            tell("named", row)
        with connection.cursor(row_factory=scalar_row) as scalar:
            tell("scalar", scalar.execute("SELECT count(*) FROM orders").fetchone())
        table = sql.SQL("SELECT {} FROM {} WHERE {} = {}").format(
            sql.SQL(", ").join(map(sql.Identifier, ("id", "name"))),
            sql.Identifier("customers"), sql.Identifier("email"), sql.Placeholder(),
        )  # fmt: skip
        tell("composed", connection.execute(table, ("5@example.com",)).fetchone())


def reports(url: str) -> None:
    with psycopg.connect(url) as connection:
        ranked = """WITH big AS (SELECT * FROM orders WHERE amount > 150),
                         moved AS (UPDATE orders SET state = 'BIG' FROM big WHERE big.id = orders.id RETURNING orders.*)
                    SELECT customer, amount, state, rank() OVER w, sum(amount) OVER (w ROWS 1 PRECEDING)
                    FROM moved WINDOW w AS (PARTITION BY customer ORDER BY amount DESC) ORDER BY 1, 4 LIMIT 5"""
        notices = []
        connection.add_notice_handler(lambda of: notices.append((of.severity, of.sqlstate, of.message_primary)))
        tell("ranked", connection.execute(ranked).fetchall())
        tell("notices", len(notices), notices[0], notices[-1])
        walk = """WITH RECURSIVE t(n, path) AS (
                      SELECT 1, ARRAY[1] UNION ALL SELECT n * 2, path || n * 2 FROM t WHERE n < 50)
                  SELECT n, path FROM t"""
        tell("walk", connection.execute(walk).fetchall())
        rollup = "SELECT state, count(*), grouping(state) FROM orders GROUP BY ROLLUP (state) ORDER BY 3, 1"
        tell("rollup", connection.execute(rollup).fetchall())
        lateral = """SELECT c.id, o.amount FROM customers c
                     CROSS JOIN LATERAL (SELECT amount FROM orders WHERE customer = c.id ORDER BY amount DESC LIMIT 1) o
                     ORDER BY c.id FETCH FIRST 3 ROWS ONLY"""
        tell("lateral", connection.execute(lateral).fetchall())
        tell("plan", connection.execute("EXPLAIN (COSTS OFF) SELECT generate_series(1, 3)").fetchall())
        empty = connection.execute("SELECT id FROM orders WHERE false")
        tell("empty", empty.fetchall(), empty.rowcount, [(d.name, d.type_code) for d in empty.description or ()])
        many = connection.execute("SELECT 1 AS a; SELECT 2 AS b, 3; UPDATE jobs SET done = true; SELECT 'x'")
        tell("many", [(result.statusmessage, result.rowcount) for result in many.results()])


def types(url: str) -> None:
    now = datetime.datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=datetime.UTC)
    values: tuple[Any, ...] = (
        *(7, -(2**62), 2**70, 1.5, float("inf"), decimal.Decimal("12.340"), decimal.Decimal("-1e-20")),
        *("é\u20ac\\'\"\n", "", b"\0\xff\\", True, None, now, now.date(), now.time(), now.replace(tzinfo=None)),
        *(datetime.timedelta(days=-2, seconds=3), uuid.UUID(int=5), [1, None, 3], [["a", "b,"], ['"', "{}"]]),
        *(ipaddress.ip_address("10.1.2.3"), ipaddress.ip_network("fe80::/10"), Jsonb({"a": [1, {"b": None}]})),
        *(Json([1.5, "x"]), Range(1, 5), Range(now, None, "[]"), Multirange([Range(1, 3), Range(7, 9)])),
    )
    casts = [
        *("int2", "int8", "numeric", "float4", "float8", "numeric", "numeric", "text", "varchar", "bytea", "bool"),
        *("int", "timestamptz", "date", "time", "timestamp", "interval", "uuid", "int[]", "text[]", "inet", "cidr"),
        *("jsonb", "json", "int4range", "tstzrange", "int4multirange"),
    ]
    columns = ", ".join(f"%s::{name}" for name in casts)
    for binary in (False, True):
        for threshold in (None, 0):
            with psycopg.connect(url) as connection, connection.cursor(binary=binary) as cursor:
                connection.prepare_threshold = threshold
                tell(f"binary={binary} prepared={threshold}", cursor.execute(f"SELECT {columns}", values).fetchone())
                tell("mixed", cursor.execute("SELECT %b::int4, %t::int4, %s", (1, 2, 3)).fetchone())
    with psycopg.connect(url) as connection:
        for info, register in ((CompositeInfo, register_composite), (EnumInfo, None)):
            fetched = info.fetch(connection, "address" if register else "mood")
            assert fetched is not None
            if isinstance(fetched, CompositeInfo):
                register_composite(fetched, connection)
                home = fetched.python_type("Main St.", 5, ["a", "b"])  # type: ignore[misc]
            else:
                register_enum(fetched, connection, Mood)
        connection.execute("UPDATE customers SET home = %s, mood = %s, born = %s WHERE id = 1", (home, Mood.ok, now))
        tell("registered", connection.execute("SELECT home, mood, born FROM customers WHERE id = 1").fetchone())
        tell(
            "within", connection.execute("SELECT (home).street, (home).tags[2] FROM customers WHERE id = 1").fetchone()
        )
        merge = "UPDATE customers SET notes = notes || %s WHERE id = 1 RETURNING notes, notes -> 'k', notes #>> '{k,0}'"
        tell("jsonb", connection.execute(merge, (Jsonb({"k": [1, 2]}),)).fetchone())
        found = connection.execute("SELECT count(*) FROM customers WHERE id = ANY(%s)", ([1, 2, 3, 999],))
        tell("any", found.fetchone())


def transactions(url: str) -> None:
    with psycopg.connect(url) as connection:
        states = [connection.info.transaction_status.name]
        connection.execute("SELECT 1")
        states.append(connection.info.transaction_status.name)
        for label, statement in (
            ("unique", "INSERT INTO customers (name, email) VALUES ('x', '5@example.com')"),
            ("check", "UPDATE customers SET credit = -1 WHERE id = 2"),
            ("domain", "INSERT INTO orders (customer, amount) VALUES (1, -5)"),
            ("foreign", "INSERT INTO orders (customer, amount) VALUES (99999, 5)"),
            ("null", "INSERT INTO customers (name) VALUES (NULL)"),
            ("syntax", "SELEC 1"),
            ("column", "SELECT nothing FROM customers"),
            ("table", "SELECT * FROM nowhere"),
            ("cast", "SELECT 'x'::int"),
            ("division", "SELECT 1/0"),
            ("enum", "SELECT 'furious'::mood"),
            ("long", "SELECT 'xxx'::varchar(1)::bit(2)"),
            ("raise", "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ZZ001', DETAIL = 'd', HINT = 'h'; END $$"),
        ):
            try:
                with connection.transaction():
                    connection.execute(statement)
            except psycopg.Error as error:
                refusal(label, error)
        states.append(connection.info.transaction_status.name)
        try:
            connection.execute("SELECT 1/0")
        except errors.DivisionByZero:
            states.append(connection.info.transaction_status.name)
        try:
            connection.execute("SELECT 1")
        except errors.InFailedSqlTransaction as error:
            refusal("failed", error)
        connection.rollback()
        tell("states", *states, connection.info.transaction_status.name)
        with connection.transaction():
            connection.execute("INSERT INTO jobs (done) VALUES (true)")
            with connection.transaction(force_rollback=True):
                connection.execute("DELETE FROM jobs")
            with connection.transaction("named"):
                connection.execute("INSERT INTO jobs (done) VALUES (true)")
        tell("nested", connection.execute("DELETE FROM jobs RETURNING done").fetchall())
        connection.execute("SAVEPOINT a; INSERT INTO jobs DEFAULT VALUES; ROLLBACK TO a; RELEASE a")
        tell("by hand", connection.execute("SELECT count(*) FROM jobs").fetchone())
        connection.commit()
        connection.read_only, connection.isolation_level = True, IsolationLevel.REPEATABLE_READ
        tell("level", connection.execute("SHOW transaction_isolation").fetchone())
        try:
            connection.execute("DELETE FROM jobs")
        except errors.ReadOnlySqlTransaction as error:
            refusal("read only", error)
        connection.rollback()
        connection.read_only, connection.deferrable = None, True
        connection.isolation_level = IsolationLevel.SERIALIZABLE
        tell("level", connection.execute("SHOW transaction_isolation").fetchone())
    with psycopg.connect(url, autocommit=True) as connection:
        tell("autocommit", connection.execute("SHOW transaction_isolation").fetchone())
        connection.execute("BEGIN; SET LOCAL statement_timeout = '7s'; SET LOCAL work_mem = '3MB'")
        tell(
            "local",
            connection.execute("SELECT current_setting('statement_timeout'), current_setting('work_mem')").fetchone(),
        )
        connection.execute("COMMIT")
        tell("after", connection.execute("SELECT current_setting('statement_timeout')").fetchone())


def serialization(url: str) -> None:
    """The two doctors that both go off call; who comes second tries again."""
    with psycopg.connect(url) as one, psycopg.connect(url) as two:
        one.execute("INSERT INTO doctors VALUES ('ann', true), ('bob', true)")
        one.commit()
        one.isolation_level = two.isolation_level = IsolationLevel.SERIALIZABLE
        attempts: list[object] = []

        def leave(connection: Connection[Any], name: str) -> None:
            (left,) = connection.execute("SELECT count(*) FROM doctors WHERE on_call").fetchone() or (0,)
            attempts.append((name, left))
            if left > 1:
                connection.execute("UPDATE doctors SET on_call = false WHERE name = %s", (name,))

        leave(one, "ann")
        leave(two, "bob")
        one.commit()
        try:
            two.commit()
        except errors.SerializationFailure as error:
            tell("refused", error.sqlstate)
            leave(two, "bob")
            two.commit()
        tell("doctors", attempts, one.execute("SELECT * FROM doctors ORDER BY name").fetchall())
        one.rollback()
        one.isolation_level = two.isolation_level = None
        one.execute("UPDATE doctors SET on_call = on_call WHERE name = 'ann'")
        two.execute("SET LOCAL lock_timeout = 50")
        try:
            two.execute("SELECT * FROM doctors WHERE name = 'ann' FOR UPDATE")
        except errors.LockNotAvailable as error:
            tell("lock", error.sqlstate, error.diag.message_primary)
        two.rollback()
        try:
            two.execute("SELECT * FROM doctors FOR UPDATE NOWAIT")
        except errors.LockNotAvailable as error:
            refusal("nowait", error)
        two.rollback()
        one.rollback()


def queue(url: str) -> None:
    """Workers that take jobs as they come: each is done once."""
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO jobs SELECT n FROM generate_series(1001, 1120) n")

    def work(_: int) -> list[int]:
        mine = []
        with psycopg.connect(url) as connection:
            while True:
                with connection.transaction():
                    found = connection.execute(
                        "SELECT id FROM jobs WHERE NOT done ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED"
                    ).fetchall()
                    taken = [each[0] for each in found]
                    connection.execute("UPDATE jobs SET done = true WHERE id = ANY(%s)", (taken,))
                if not found:
                    return mine
                mine += taken

    done = [each for mine in at_once(8, work) for each in mine]
    tell("done", sorted(done) == list(range(1001, 1121)), len(done))


def prepared(url: str) -> None:
    with psycopg.connect(url) as connection:
        for n in range(12):  # by itself from the fifth time on
            row = connection.execute("SELECT name FROM customers WHERE id = %s", (n + 1,)).fetchone()
            connection.commit()
            tell("row", row)
        connection.prepared_max = 4
        for again in range(3):
            for n in range(9):  # more than the cache has places: it deallocates
                row = connection.execute(f"SELECT %s::int + {n}", (again,), prepare=True).fetchone()
                assert row == (again + n,)
                connection.commit()
        connection.execute("SELECT * FROM doctors WHERE name = %s", ("ann",), prepare=True)
        connection.commit()
        with psycopg.connect(url) as other:
            other.execute("ALTER TABLE doctors ADD COLUMN room int")
        for _ in range(2):  # a plan whose columns changed may be refused once
            with contextlib.suppress(errors.FeatureNotSupported), connection.transaction():
                connection.execute("SELECT * FROM doctors WHERE name = %s", ("ann",), prepare=True)
        tell("again", connection.execute("SELECT * FROM doctors WHERE name = %s", ("bob",), prepare=True).fetchone())
        try:
            connection.execute("SELECT * FROM doctors WHERE room = %s::int / 0", (5,), prepare=True)
        except psycopg.Error as error:
            refusal("broken", error)


def pipelines(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.pipeline(), connection.cursor() as cursor:
            found = [connection.execute("SELECT %s::int * 2", (n,)) for n in range(50)]
            cursor.execute("INSERT INTO jobs (done) VALUES (false) RETURNING done")
            tell("piped", [each.fetchone() for each in found][-1], cursor.fetchall())
        found = []
        try:
            with connection.pipeline() as pipeline:
                found.append(connection.execute("SELECT 1"))
                pipeline.sync()
                found.append(connection.execute("SELECT 1/0"))
                found.append(connection.execute("SELECT 2"))
        except errors.DivisionByZero as error:
            refusal("in between", error)
        tell("before it", found[0].fetchone(), connection.info.transaction_status.name)
        with connection.pipeline(), connection.transaction():
            for n in range(20):
                connection.execute("INSERT INTO jobs (id) VALUES (%s)", (2000 + n,))
        tell("rows", connection.execute("SELECT count(*) FROM jobs WHERE id >= 2000").fetchone())


def copying(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE copied (n int, v text, at date)")
        with cursor.copy("COPY copied FROM STDIN") as copy:
            for n in range(3000):
                copy.write_row((n, None if n % 7 == 0 else f"row\t{n}\n\\é", datetime.date(2026, 1, 1)))
        tell("in", cursor.rowcount, cursor.statusmessage)
        with cursor.copy("COPY copied (n, v) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for n in range(2000):
                copy.write_row((n, "x" * 200))
        tell("in binary", cursor.rowcount)
        with cursor.copy("COPY copied (n, v) FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write("n,v\n1,\"a, 'quoted' one\"\n2,\n")
        for options in ("", "(FORMAT csv, FORCE_QUOTE *)", "(FORMAT binary)"):
            with cursor.copy(f"COPY (SELECT * FROM copied ORDER BY n, v) TO STDOUT {options}") as copy:
                data = b"".join(bytes(part) for part in copy)
            tell(f"out {options}", len(data), data[:60], data[-60:], cursor.rowcount)
        with cursor.copy("COPY (SELECT n, v FROM copied ORDER BY n, v LIMIT 9) TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            tell("rows", list(copy.rows()))
        try:
            with cursor.copy("COPY copied (n) FROM STDIN") as copy:
                for _ in range(1000):
                    copy.write("1\nno number\n")
        except errors.InvalidTextRepresentation as error:
            refusal("broken", error)
        try:
            with cursor.copy("COPY copied (n) FROM STDIN") as copy:
                copy.write("1\n" * 1000)
                raise ZeroDivisionError  # psycopg sends CopyFail
        except ZeroDivisionError:
            tell("given up", connection.info.transaction_status.name)
        with contextlib.closing(psycopg.connect(url)) as leaves:
            leaves.execute("DELETE FROM copied")
            with contextlib.suppress(psycopg.OperationalError), leaves.cursor().copy("COPY jobs TO STDOUT") as copy:
                tell("left early", bytes(copy.read())[-2:])
                leaves.close()
        tell("rows", cursor.execute("SELECT count(*), count(v), sum(n) FROM copied").fetchone())
        with cursor.copy("COPY copied TO STDOUT") as source, psycopg.connect(url) as other:
            other.execute("CREATE TABLE copied_too (LIKE copied)")
            with other.cursor().copy("COPY copied_too FROM STDIN") as target:
                for part in source:
                    target.write(part)
            tell("from one to the other", other.execute("SELECT count(*), sum(n) FROM copied_too").fetchone())


if __name__ == "__main__":
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # of errors that it ignores, now and then
    run(migrations, crud, reports, types, transactions, serialization, queue, prepared, pipelines, copying)
