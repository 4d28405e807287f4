"""A day with SQLAlchemy: `python -m tests.integration.postgres.everyday.sqlalchemy_ URL`, in an empty database; the
URL's scheme says by which driver (postgresql+psycopg, postgresql+psycopg2)."""

import datetime
import decimal
import time
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, aliased, joinedload, selectinload, subqueryload
from sqlalchemy.pool import NullPool
from tests.integration.postgres.everyday.diary import at_once, run, tell
from tests.integration.postgres.everyday.models import Base, Employee, Kind, Note, Project, Team, Versioned


def refusal(label: str, error: sa.exc.DBAPIError) -> None:
    of: Any = error.orig
    code = getattr(of, "sqlstate", None) or getattr(of, "pgcode", None)
    tell(label, type(error).__name__, code, str(of).splitlines()[0], error.connection_invalidated)


def schema(url: str) -> None:
    engine = sa.create_engine(url)
    for _ in range(2):
        Base.metadata.create_all(engine)  # looks first whether they are there
    inspector = sa.inspect(engine)
    tell("tables", sorted(inspector.get_table_names()))
    for column in inspector.get_columns("employees"):
        tell("column", column["name"], str(column["type"]), column["nullable"], column["default"])
    tell("keys", inspector.get_pk_constraint("employees"), inspector.get_foreign_keys("employees"))
    tell("indexes", inspector.get_indexes("employees"), inspector.get_unique_constraints("teams"))
    tell("enums", inspector.get_enums(), inspector.get_check_constraints("employees"))
    reflected = sa.MetaData()
    reflected.reflect(engine)
    tell("reflected", [(table.name, len(table.columns)) for table in reflected.sorted_tables])
    with engine.begin() as connection:  # a migration, as Alembic emits it
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
        connection.execute(sa.text("ALTER TABLE teams ADD COLUMN motto varchar DEFAULT 'none' NOT NULL"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES (:v) RETURNING version_num"), {"v": "1a2b"})
        connection.exec_driver_sql("CREATE VIEW heads AS SELECT name, motto FROM teams")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CREATE INDEX CONCURRENTLY by_motto ON teams (motto)")
        connection.exec_driver_sql("VACUUM teams")
    tell("views", sa.inspect(engine).get_view_names(), engine.dialect.server_version_info[0])
    engine.dispose()


def core(url: str) -> None:
    engine = sa.create_engine(url)
    metadata = sa.MetaData()
    items = sa.Table(
        "items",
        metadata,
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("name", sa.String(50), unique=True),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("tags", postgresql.ARRAY(sa.Text)),
        sa.Column("facts", postgresql.JSONB),
        sa.Column("made", sa.DateTime(timezone=True)),
        sa.Column("data", sa.LargeBinary),
        sa.Column("key", sa.Uuid),
        sa.Column("span", postgresql.INT4RANGE),
        sa.Column("wait", sa.Interval),
        sa.Column("kind", sa.Enum(Kind, name="item_kind")),
    )
    metadata.create_all(engine)
    made = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    with engine.begin() as connection:
        many = [
            {"name": f"item {n}", "price": decimal.Decimal(n) / 4, "tags": ["a", str(n)], "facts": {"n": n}}
            for n in range(2500)
        ]
        found = connection.execute(items.insert().returning(items.c.id, sort_by_parameter_order=True), many).all()
        tell("inserted", len(found), found[0], found[-1])
        one = connection.execute(items.insert(), {
            "name": "é", "made": made, "data": b"\0\xff", "key": uuid.UUID(int=7), "span": postgresql.Range(1, 5),
            "wait": datetime.timedelta(hours=3), "kind": Kind.LARGE,
        })  # fmt: skip
        tell("key", one.inserted_primary_key)
    with engine.connect() as connection:
        row = connection.execute(select(items).where(items.c.name == "é")).one()
        tell(
            "row",
            *(bytes(each) if isinstance(each, memoryview) else each for each in row[:6]),
            row.key,
            row.wait,
            row.kind,
        )
        tell("data", bytes(row.data), row.span.lower, row.span.upper)
        tell("count", connection.scalar(select(func.count()).select_from(items)))
        json_query = select(items.c.name).where(items.c.facts["n"].as_integer() > 2497).order_by(items.c.id)
        tell("json", connection.scalars(json_query).all())
        tell("array", connection.scalars(select(items.c.id).where(items.c.tags.contains(["77"]))).all())
        expanding = select(items.c.id).where(items.c.name.in_([f"item {n}" for n in range(5)])).order_by(items.c.id)
        tell("in", connection.scalars(expanding).all())
        upsert = postgresql.insert(items).values(name="item 3", price=9)
        upsert = upsert.on_conflict_do_update(index_elements=["name"], set_={"price": upsert.excluded.price})
        tell("upsert", connection.execute(upsert.returning(items.c.id, items.c.price)).one())
        rank = func.rank().over(partition_by=items.c.id % 2, order_by=items.c.price.desc().nulls_last())
        tell("ranked", connection.execute(select(items.c.name, rank).order_by(rank, items.c.id).limit(3)).all())
        cheap = select(items.c.id).where(items.c.price < 1).cte("cheap")
        raised = items.update().where(items.c.id.in_(select(cheap.c.id))).values(price=items.c.price + 1)
        tell("updated", connection.execute(raised).rowcount)
        connection.rollback()
        streamed = connection.execution_options(yield_per=100).execute(select(items.c.id).order_by(items.c.id))
        tell("partitions", sum(1 for _ in streamed.partitions()))
    with engine.connect().execution_options(stream_results=True, max_row_buffer=50) as connection:
        tell("streamed", sum(connection.scalars(select(items.c.id))))
    with engine.begin() as connection:
        for label, statement in (
            ("unique", sa.insert(items).values(name="item 1")),
            ("long", sa.insert(items).values(name="x" * 51)),
            ("division", sa.text("SELECT 1/0")),
            ("syntax", sa.text("SELEC")),
            ("column", sa.text("SELECT nothing FROM items")),
        ):
            try:
                with connection.begin_nested():
                    connection.execute(statement)
            except sa.exc.DBAPIError as error:
                refusal(label, error)
        tell("goes on", connection.scalar(select(func.max(items.c.id))))
    metadata.drop_all(engine, tables=[items])
    engine.dispose()


def orm(url: str) -> None:
    engine = sa.create_engine(url)
    with Session(engine) as session, session.begin():
        for n in range(4):
            team = Team(name=f"team {n}")
            team.employees = [Employee(name=f"worker {n}.{m}", salary=100 * m, kind=Kind.SMALL) for m in range(5)]
            team.employees[0].notes = [Note(text=f"note {m}") for m in range(3)]
            session.add(team)
        project = Project(title="bridge", facts={"length": 12})
        session.add(project)
        session.flush()
        project.members.extend(session.scalars(select(Employee).where(Employee.salary > 300)))
    with Session(engine) as session:
        for load in (joinedload, selectinload, subqueryload):
            teams = session.scalars(select(Team).options(load(Team.employees)).order_by(Team.id)).unique().all()
            tell(load.__name__, [(team.name, len(team.employees)) for team in teams])
            session.expire_all()
        worker = session.get_one(Employee, 1)
        tell("lazy", worker.team.name, [note.text for note in worker.notes], worker in session)
        tell("members", sorted(each.name for each in session.scalars(select(Project)).one().members))
        boss, clerk = aliased(Employee), aliased(Employee)
        pairs = (
            select(boss.name, clerk.name)
            .join(clerk, boss.team_id == clerk.team_id)
            .where(boss.salary > clerk.salary + 300)
        )
        tell("pairs", session.execute(pairs.order_by(boss.id, clerk.id)).all())
        by_team = select(Team.name, func.sum(Employee.salary).label("cost")).join(Team.employees).group_by(Team.name)
        tell("costs", session.execute(by_team.having(func.count() > 3).order_by(Team.name)).all())
        worker.salary += 7
        worker.notes.pop()
        session.commit()
        tell("refreshed", session.get_one(Employee, 1).salary, len(worker.notes))
        session.execute(sa.update(Employee).where(Employee.salary > 350).values(salary=Employee.salary * 2))
        session.execute(sa.delete(Note).where(Note.text == "note 1"))
        session.rollback()
        session.execute(sa.insert(Note), [{"text": f"bulk {n}", "employee_id": 1 + n % 20} for n in range(700)])
        rows = session.execute(sa.insert(Note).returning(Note.id), [{"text": "r", "employee_id": 1}] * 30)
        tell("bulk", len(rows.all()), session.scalar(select(func.count(Note.id))))
        try:
            with session.begin_nested():
                session.add(Team(name="team 1"))
                session.flush()
        except sa.exc.IntegrityError as error:
            refusal("nested", error)
        session.add(Team(name="team 9"))
        session.commit()
        locked = session.scalars(select(Employee).where(Employee.id < 4).with_for_update(skip_locked=True)).all()
        tell("locked", sorted(each.id for each in locked))
        with Session(engine) as other:
            free = select(Employee.id).where(Employee.id < 7).order_by(Employee.id).with_for_update(skip_locked=True)
            tell("free", other.scalars(free).all())
        session.delete(session.get_one(Team, 2))
        session.commit()
        tell("left", session.scalar(select(func.count(Employee.id))))
        merged = session.merge(Employee(id=1, name="merged"))
        session.commit()
        tell("merged", merged.name, merged.salary)
        tell(
            "batches",
            [len(part) for part in session.scalars(select(Note).execution_options(yield_per=250)).partitions()],
        )
    with Session(engine) as one, Session(engine) as two:
        one.add(Versioned(id=1, value="first"))
        one.commit()
        mine, theirs = one.get_one(Versioned, 1), two.get_one(Versioned, 1)
        mine.value = "second"
        one.commit()
        theirs.value = "third"
        try:
            two.commit()
        except sa.orm.exc.StaleDataError:
            two.rollback()
            tell("stale", two.get_one(Versioned, 1).value, two.get_one(Versioned, 1).version)
    engine.dispose()


def isolation(url: str) -> None:
    engine = sa.create_engine(url, isolation_level="SERIALIZABLE")
    attempts: list[object] = []

    def total(connection: sa.Connection) -> int:
        return connection.scalar(sa.text("SELECT coalesce(sum(salary), 0)::int FROM employees WHERE team_id = 1")) or 0

    with engine.connect() as one, engine.connect() as two:
        tell(
            "level",
            one.scalar(sa.text("SHOW transaction_isolation")),
            one.get_isolation_level(),
            one.default_isolation_level,
        )
        add = sa.text("INSERT INTO employees (name, team_id, salary, kind) VALUES (:name, 1, :salary, 'SMALL')")
        one.execute(add, {"name": "one", "salary": total(one)})
        two.execute(add, {"name": "two", "salary": total(two)})
        one.commit()
        try:
            two.commit()
        except sa.exc.OperationalError as error:
            attempts.append(getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None))
            two.rollback()
            two.execute(add, {"name": "two", "salary": total(two)})
            two.commit()
        tell("attempts", attempts, total(one))
    for level in ("READ COMMITTED", "REPEATABLE READ", "AUTOCOMMIT"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            tell(level, connection.scalar(sa.text("SHOW transaction_isolation")))
    read = {"postgresql_readonly": True, "postgresql_deferrable": True}
    with engine.connect().execution_options(**read) as connection:
        try:
            connection.execute(sa.text("DELETE FROM notes"))
        except sa.exc.DBAPIError as error:
            refusal("read only", error)
    engine.dispose()


def pools(url: str) -> None:
    engine = sa.create_engine(url, pool_size=4, max_overflow=4, pool_pre_ping=True, pool_recycle=600, pool_timeout=30)
    made = []
    event.listen(engine, "connect", lambda *_: made.append(1))

    def one(number: int) -> int:
        for n in range(8):
            with Session(engine) as session, session.begin():
                assert session.scalar(select(sa.literal(number) + n)) == number + n
                session.add(Note(text=f"by {number}", employee_id=1))
        return number

    tell("threads", at_once(12, one))
    with engine.connect() as connection:
        by_thread = "SELECT text, count(*) FROM notes WHERE text LIKE 'by %' GROUP BY 1 ORDER BY 1"
        tell("written", connection.execute(sa.text(by_thread)).all())
    with engine.connect() as connection:
        try:
            connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
        except sa.exc.DBAPIError as error:
            tell("terminated", error.connection_invalidated)
    with engine.connect() as connection:
        tell("pinged", connection.scalar(sa.text("SELECT 1")), len(made) > 1)
    engine.dispose()
    engine = sa.create_engine(url, poolclass=NullPool)
    for n in range(10):
        with engine.begin() as connection:
            assert connection.scalar(sa.text("SELECT :n"), {"n": n}) == n
    tell("without a pool", "done")


def settings(url: str) -> None:
    """What applications do in their connect events; timeouts."""
    engine = sa.create_engine(
        url, connect_args={"application_name": "shop", "options": "-c lock_timeout=4s -c TimeZone=Asia/Tokyo"}
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '5s'")
        connection.commit()

    names = ("application_name", "lock_timeout", "statement_timeout", "TimeZone")
    query = sa.text("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
    for _ in range(3):
        with engine.connect() as connection:
            tell("settings", connection.execute(query).one())
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 50"))
        started = time.monotonic()
        try:
            connection.execute(sa.text("SELECT pg_sleep(30)"))
        except sa.exc.DBAPIError as error:
            refusal("timeout", error)
        tell("soon", time.monotonic() - started < 20)
    engine.dispose()
    engine = sa.create_engine(url).execution_options(schema_translate_map={None: "tenant"})
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema("tenant"))
        Base.metadata.create_all(connection)
        connection.execute(sa.insert(Team), {"name": "theirs"})
        tell("tenant", connection.scalars(select(Team.name)).all())
    with engine.begin() as connection:
        Base.metadata.drop_all(connection)
        connection.execute(sa.schema.DropSchema("tenant", cascade=True))
    engine.dispose()


if __name__ == "__main__":
    run(schema, core, orm, isolation, pools, settings)
