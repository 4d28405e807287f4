"""A day with SQLAlchemy's asyncio: `python -m tests.integration.postgres.everyday.sqlalchemy_asyncio URL`, in an empty
database; the URL's scheme is postgresql+asyncpg."""

import asyncio
import datetime
import decimal
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import joinedload, selectinload
from sqlalchemy.pool import NullPool
from tests.integration.postgres.everyday.diary import run, tell
from tests.integration.postgres.everyday.models import Base, Employee, Kind, Note, Project, Team


def refusal(label: str, error: sa.exc.DBAPIError) -> None:
    of: Any = error.orig
    tell(label, type(error).__name__, of.sqlstate, str(of).splitlines()[0], error.connection_invalidated)


async def schema(url: str) -> None:
    engine = create_async_engine(url)
    for _ in range(2):
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    def look(connection: sa.Connection) -> None:
        inspector = sa.inspect(connection)
        tell("tables", sorted(inspector.get_table_names()))
        tell("columns", [(each["name"], str(each["type"])) for each in inspector.get_columns("employees")])
        tell("keys", inspector.get_foreign_keys("notes"), inspector.get_unique_constraints("teams"))
        reflected = sa.MetaData()
        reflected.reflect(connection)
        tell("reflected", [(table.name, len(table.columns)) for table in reflected.sorted_tables])

    async with engine.connect() as connection:
        await connection.run_sync(look)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE teams ADD COLUMN motto varchar DEFAULT 'none' NOT NULL")
    async with engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("CREATE INDEX CONCURRENTLY by_motto ON teams (motto)")
        await connection.exec_driver_sql("VACUUM teams")
    await engine.dispose()


async def core(url: str) -> None:
    engine = create_async_engine(url)
    metadata = sa.MetaData()
    items = sa.Table(
        "items",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(50), unique=True),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("tags", postgresql.ARRAY(sa.Text)),
        sa.Column("facts", postgresql.JSONB),
        sa.Column("made", sa.DateTime(timezone=True)),
        sa.Column("data", sa.LargeBinary),
        sa.Column("key", sa.Uuid),
        sa.Column("span", postgresql.TSTZRANGE),
        sa.Column("wait", sa.Interval),
        sa.Column("kind", sa.Enum(Kind, name="item_kind")),
        sa.Column("address", postgresql.INET),
        sa.Column("bits", postgresql.BIT(5)),
    )
    made = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        many = [
            {"name": f"item {n}", "price": decimal.Decimal(n) / 4, "tags": ["a", None], "facts": {"n": n}}
            for n in range(2500)
        ]
        found = (
            await connection.execute(items.insert().returning(items.c.id, sort_by_parameter_order=True), many)
        ).all()
        tell("inserted", len(found), found[0], found[-1])
        values = {
            "name": "é", "made": made, "data": bytes(range(256)), "key": uuid.UUID(int=7), "kind": Kind.LARGE,
            "span": postgresql.Range(made, None), "wait": datetime.timedelta(hours=3),
        }  # fmt: skip
        one = await connection.execute(items.insert(), values)
        tell("key", one.inserted_primary_key)
    async with engine.connect() as connection:
        tell("row", (await connection.execute(select(items).where(items.c.key == uuid.UUID(int=7)))).one())
        tell("count", await connection.scalar(select(func.count()).select_from(items)))
        later = select(items.c.name).where(items.c.facts["n"].as_integer() > 2497).order_by(items.c.id)
        tell("json", (await connection.scalars(later)).all())
        upsert = postgresql.insert(items).values(name="item 3", price=9)
        upsert = upsert.on_conflict_do_update(index_elements=["name"], set_={"price": upsert.excluded.price})
        tell("upsert", (await connection.execute(upsert.returning(items.c.id, items.c.price))).one())
        part = func.rank().over(partition_by=items.c.id % 2, order_by=items.c.price.desc().nulls_last())
        tell("ranked", (await connection.execute(select(items.c.name, part).order_by(part, items.c.id).limit(3))).all())
        await connection.rollback()
        streamed = await connection.stream_scalars(select(items.c.id).order_by(items.c.id))
        tell("streamed", sum([each async for each in streamed]))
        async with connection.stream(select(items.c.id).execution_options(yield_per=300)) as parts:
            tell("partitions", [len(part) async for part in parts.partitions()])
    async with engine.begin() as connection:
        for label, statement in (
            ("unique", sa.insert(items).values(name="item 1")),
            ("long", sa.insert(items).values(name="x" * 51)),
            ("division", sa.text("SELECT 1/0")),
            ("syntax", sa.text("SELEC")),
            ("column", sa.text("SELECT nothing FROM items")),
            ("type", sa.text("SELECT CAST(:x AS int)").bindparams(x="no number")),
        ):
            try:
                async with connection.begin_nested():
                    await connection.execute(statement)
            except sa.exc.DBAPIError as error:
                refusal(label, error)
        tell("goes on", await connection.scalar(select(func.max(items.c.id))))
    async with engine.begin() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.copy_records_to_table(
            "items", columns=["id", "name"], records=[(9000 + n, f"c{n}") for n in range(500)]
        )
        tell("copied", await raw.fetchval("SELECT count(*) FROM items WHERE id >= 9000"))
        await connection.run_sync(metadata.tables["items"].drop)
    await engine.dispose()


async def orm(url: str) -> None:
    engine = create_async_engine(url)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    async with sessions.begin() as session:
        for n in range(4):
            team = Team(name=f"team {n}")
            team.employees = [Employee(name=f"worker {n}.{m}", salary=100 * m, kind=Kind.SMALL) for m in range(5)]
            team.employees[0].notes = [Note(text=f"note {m}") for m in range(3)]
            session.add(team)
        await session.flush()
        members = list(await session.scalars(select(Employee).where(Employee.salary > 300)))
        session.add(Project(title="bridge", facts={"length": 12}, members=members))
    async with sessions() as session:
        for load in (joinedload, selectinload):
            teams = (await session.scalars(select(Team).options(load(Team.employees)).order_by(Team.id))).unique().all()
            tell(load.__name__, [(team.name, len(team.employees)) for team in teams])
            session.expunge_all()
        worker = await session.get_one(Employee, 1, options=[selectinload(Employee.notes)])
        tell("notes", [note.text for note in worker.notes])
        worker.salary += 7
        worker.notes.pop()
        await session.commit()
        await session.refresh(worker, ["salary", "notes"])
        tell("refreshed", worker.salary, len(worker.notes))
        await session.execute(sa.update(Employee).where(Employee.salary > 350).values(salary=Employee.salary * 2))
        await session.rollback()
        await session.execute(sa.insert(Note), [{"text": f"bulk {n}", "employee_id": 1 + n % 20} for n in range(700)])
        tell("bulk", await session.scalar(select(func.count(Note.id))))
        try:
            async with session.begin_nested():
                session.add(Team(name="team 1"))
        except sa.exc.IntegrityError as error:
            refusal("nested", error)
        session.add(Team(name="team 9"))
        await session.commit()
        project = await session.scalar(select(Project).options(selectinload(Project.members)))
        assert project is not None
        tell("project", project.facts, sorted(each.name for each in project.members))
        locked = await session.scalars(select(Employee).where(Employee.id < 4).with_for_update(skip_locked=True))
        tell("locked", sorted(each.id for each in locked))
        async with sessions() as other:
            free = select(Employee.id).where(Employee.id < 7).order_by(Employee.id).with_for_update(skip_locked=True)
            tell("free", (await other.scalars(free)).all())
        await session.rollback()
        await session.delete(
            await session.get_one(Team, 2, options=[selectinload(Team.employees).selectinload(Employee.notes)])
        )
        await session.commit()
        tell("left", await session.scalar(select(func.count(Employee.id))))
    await engine.dispose()


async def isolation(url: str) -> None:
    engine = create_async_engine(url, isolation_level="REPEATABLE READ")
    raised = sa.text("UPDATE employees SET salary = salary + 1 WHERE id = 2")
    async with engine.connect() as one, engine.connect() as two:
        for connection in (one, two):
            tell("level", await connection.scalar(sa.text("SHOW transaction_isolation")))
            await connection.scalar(sa.text("SELECT salary FROM employees WHERE id = 2"))
        await one.execute(raised)
        await one.commit()
        try:
            await two.execute(raised)
        except sa.exc.DBAPIError as error:
            refusal("again", error)
            await two.rollback()
            await two.execute(raised)
        await two.commit()
        tell("salary", await one.scalar(sa.text("SELECT salary FROM employees WHERE id = 2")))
    async with engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="SERIALIZABLE", postgresql_readonly=True)
        try:
            await connection.execute(sa.text("DELETE FROM notes"))
        except sa.exc.DBAPIError as error:
            refusal("read only", error)
    await engine.dispose()


async def pools(url: str) -> None:
    """Many tasks with fewer connections; caches of statements with few places, and with none."""
    for name, arguments in (
        ("ordinary", {}),
        ("few", {"statement_cache_size": 3}),
        ("none", {"statement_cache_size": 0}),
    ):
        engine = create_async_engine(url, pool_size=4, max_overflow=4, pool_pre_ping=True, connect_args=arguments)
        sessions = async_sessionmaker(engine)

        async def one(number: int, sessions: async_sessionmaker[AsyncSession] = sessions) -> int:
            for n in range(6):
                async with sessions.begin() as session:
                    assert await session.scalar(select(sa.literal(number) + n)) == number + n
                    query = sa.text(f"SELECT CAST(:number AS int) + {n} FROM employees LIMIT 1")
                    assert await session.scalar(query, {"number": number}) == number + n
                    session.add(Note(text=f"by {number}", employee_id=1))
            return number

        tell(name, await asyncio.gather(*(one(number) for number in range(20))))
        async with engine.connect() as connection:
            try:
                await connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
            except (sa.exc.DBAPIError, ConnectionError) as error:
                tell("terminated", type(error).__name__)
                await connection.invalidate()
        async with engine.connect() as connection:
            tell("pinged", await connection.scalar(sa.text("SELECT 1")))
        await engine.dispose()
    engine = create_async_engine(url, poolclass=NullPool)
    for n in range(10):
        async with engine.begin() as connection:
            assert await connection.scalar(sa.text("SELECT CAST(:n AS int)"), {"n": n}) == n
    async with engine.connect() as connection:
        count = "SELECT count(*), count(DISTINCT text) FROM notes WHERE text LIKE 'by %'"
        tell("written", (await connection.execute(sa.text(count))).one())
    await engine.dispose()


async def settings(url: str) -> None:
    asked = {"application_name": "shop", "TimeZone": "Asia/Tokyo", "lock_timeout": "4s"}
    engine = create_async_engine(url, connect_args={"server_settings": asked, "command_timeout": 30})
    names = ("application_name", "TimeZone", "lock_timeout", "search_path", "jit")
    query = sa.text("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
    for _ in range(3):
        async with engine.connect() as connection:
            tell("settings", (await connection.execute(query)).one())
    async with engine.begin() as connection:
        await connection.execute(sa.text("SET LOCAL statement_timeout = 50"))
        try:
            await connection.execute(sa.text("SELECT pg_sleep(30)"))
        except sa.exc.DBAPIError as error:
            refusal("timeout", error)
    async with engine.connect() as connection:
        try:
            async with asyncio.timeout(0.2):
                await connection.execute(sa.text("SELECT pg_sleep(30)"))
        except TimeoutError:
            tell("given up", connection.closed)
            await connection.invalidate()
    async with engine.connect() as connection:
        tell("goes on", await connection.scalar(sa.text("SELECT 1")))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await engine.dispose()


if __name__ == "__main__":
    run(schema, core, orm, isolation, pools, settings)
