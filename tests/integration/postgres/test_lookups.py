"""`auth.query`: users who are looked up at the server."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.integration.postgres.server import Postgres
from tests.integration.postgres.test_logins import SCRAM, users, who
from tests.support.forebay import Forebay, postgres_pool
from tests.support.process import ROOT

Start = Callable[..., Awaitable[Forebay]]
Run = Callable[..., list[tuple[Any, ...]]]

# PgBouncer's documentation has this function; ours counts its calls.
FUNCTION = """
CREATE TABLE lookups (name text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION user_lookup(IN i_username text, OUT uname text, OUT phash text) RETURNS record AS $$
BEGIN
    INSERT INTO public.lookups (name) VALUES (i_username);
    SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END
    FROM pg_authid WHERE rolname = i_username AND rolcanlogin INTO uname, phash;
    RETURN;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
REVOKE ALL ON FUNCTION user_lookup(text) FROM public;
CREATE ROLE lookup LOGIN PASSWORD 'look';
GRANT EXECUTE ON FUNCTION user_lookup(text) TO lookup;
SET password_encryption = md5;
CREATE ROLE md5er LOGIN PASSWORD 'old';
SET password_encryption = 'scram-sha-256';
CREATE ROLE late LOGIN PASSWORD 'late' VALID UNTIL '2001-01-01';
"""


@pytest.fixture(scope="module")
def run(postgres: Postgres) -> Iterator[Run]:
    """Statements as the superuser, and their rows."""
    conninfo = make_conninfo(host="127.0.0.1", port=postgres.port, user="postgres")
    with psycopg.connect(conninfo, autocommit=True) as connection:

        def run(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

        run(FUNCTION)
        yield run
        run("DROP FUNCTION user_lookup; DROP TABLE lookups; DROP ROLE lookup; DROP ROLE md5er; DROP ROLE late")


@pytest.fixture
def role(run: Run) -> Iterator[str]:
    run("TRUNCATE lookups")
    run("CREATE ROLE looked LOGIN PASSWORD 'old'")
    yield "looked"
    run("DROP ROLE looked")


def auth(tmp_path: Path, method: str = "scram-sha-256", **query: str) -> dict[str, Any]:
    file = tmp_path / "lookup"
    file.write_text("look\n")
    asked = {"user": "lookup", "passwordFile": str(file), "statement": "SELECT * FROM user_lookup($1)", **query}
    return {"method": method, "query": asked}


def times(run: Run, name: str) -> int:
    """How often a user has been looked up."""
    ((count,),) = run("SELECT count(*) FROM lookups WHERE name = %s", name)
    return int(count)


async def refused(pool: Forebay, user: str, password: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'):
        await who(pool, user, password=password)


async def test_users_are_looked_up_once(forebay: Start, postgres: Postgres, run: Run, role: str, tmp_path: Path):
    mine = auth(tmp_path, cacheTime="1m") | {"usersFile": users(tmp_path, trusting="in the file")}
    pool = await forebay(postgres_pool(postgres.port, postgres={"auth": mine}))
    assert set(await asyncio.gather(*(who(pool, role, password="old") for _ in range(50)))) == {role}
    assert await who(pool, "trusting", password="in the file") == "trusting"
    for unknown in ("nobody", "late", 'a"; DROP TABLE lookups; --'):
        await asyncio.gather(*(refused(pool, unknown, "late") for _ in range(5)))
    await refused(pool, "x" * 64, "old")
    asked = dict(run("SELECT name, count(*) FROM lookups GROUP BY name"))
    assert asked == {role: 1, "nobody": 1, "late": 1, 'a"; DROP TABLE lookups; --': 1}


async def test_a_new_password_counts(forebay: Start, postgres: Postgres, run: Run, role: str, tmp_path: Path):
    """At once, but for one login; and the old one for no longer than the answer."""
    pool = await forebay(postgres_pool(postgres.port, postgres={"auth": auth(tmp_path, cacheTime="3s")}))
    assert await who(pool, role, password="old") == role
    changed = asyncio.get_running_loop().time()
    run("ALTER ROLE looked PASSWORD 'new'")
    async with asyncio.timeout(20):
        while True:
            try:
                await who(pool, role, password="old")
            except psycopg.OperationalError:
                break
            await asyncio.sleep(0.05)
    assert asyncio.get_running_loop().time() - changed > 2
    assert await who(pool, role, password="new") == role
    assert times(run, role) <= 3


async def test_a_wrong_password_is_looked_up_once(
    forebay: Start, postgres: Postgres, run: Run, role: str, tmp_path: Path
):
    pool = await forebay(postgres_pool(postgres.port, postgres={"auth": auth(tmp_path, cacheTime="1h")}))
    assert await who(pool, role, password="old") == role
    run("ALTER ROLE looked PASSWORD 'new'")
    await asyncio.sleep(1.1)  # what is known is no news any more
    await refused(pool, role, "new")
    assert times(run, role) == 1
    assert await who(pool, role, password="new") == role
    assert times(run, role) == 2
    started = asyncio.get_running_loop().time()
    for _ in range(20):
        await refused(pool, role, "wrong")
    assert times(run, role) <= 2 + (asyncio.get_running_loop().time() - started)


async def test_without_a_memory_each_login_asks(
    forebay: Start, postgres: Postgres, run: Run, role: str, tmp_path: Path
):
    pool = await forebay(postgres_pool(postgres.port, postgres={"auth": auth(tmp_path, cacheTime="0s")}))
    for password in ("old", "new"):
        run(f"ALTER ROLE looked PASSWORD '{password}'")
        assert await who(pool, role, password=password) == role
    assert times(run, role) == 2


async def test_md5(forebay: Start, postgres: Postgres, run: Run, tmp_path: Path):
    named = {"auth": auth(tmp_path, "md5"), "databases": [{"name": "postgres", "user": "trusting"}]}
    pool = await forebay(postgres_pool(postgres.port, postgres=named))
    assert await who(pool, "md5er", password="old") == "trusting"
    await refused(pool, "md5er", "new")
    await refused(pool, "nobody", "old")


async def test_a_lookup_waits_for_its_place(forebay: Start, postgres: Postgres, run: Run, role: str, tmp_path: Path):
    """It takes a connection of the pool, as everybody does."""
    named = {"auth": auth(tmp_path, cacheTime="0s")}
    document = postgres_pool(postgres.port, postgres=named, pool={"size": 1, "maxOverflow": 0, "timeout": "1s"})
    pool = await forebay(document)
    conninfo = make_conninfo(host="127.0.0.1", port=pool.port, user=role, password="old", dbname="postgres")
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        await connection.execute("SELECT 1")  # in a transaction
        with pytest.raises(psycopg.OperationalError, match="too many users wait to be looked up"):
            await who(pool, role, password="old")
        waits = asyncio.create_task(who(pool, role, password="old"))
        await asyncio.sleep(0)
        await connection.rollback()
        assert await waits == role


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        ({"statement": "SELECT * FROM nowhere WHERE $1 = 'a'"}, r'relation "nowhere" does not exist \(42P01\)'),
        ({"user": "stranger"}, 'password authentication failed for user "stranger"'),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
    ids=["error", "user", "database"],
)
async def test_a_bad_query(
    forebay: Start, postgres: Postgres, run: Run, tmp_path: Path, query: dict[str, str], cause: str
):
    """The log has the cause, once; clients, who may be anybody, don't hear it."""
    pool = await forebay(postgres_pool(postgres.port, postgres={"auth": auth(tmp_path, **query)}))
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError, match="users can't be looked up at the server now"):
            await who(pool, "anybody", password="a")
    said = [line for line in pool.child.lines if "can't be looked up at upstream db" in line]
    assert len(said) == 1
    await pool.child.line(cause)
    assert (await pool.metrics()).value("forebay_rejections_total", reason="lookup") == 3


async def test_the_function_of_the_documentation(
    forebay: Start, postgres: Postgres, run: Run, role: str, tmp_path: Path
) -> None:
    """It does what the page says, for the query's user and for nobody else."""
    page = (ROOT / "docs/explanation/postgres.md").read_text()
    block = re.search(r"```sql\n(CREATE ROLE forebay_auth.*?)```", page, re.DOTALL)
    statement = re.search(r'statement: "([^"]*)"', page)
    assert block is not None
    assert statement is not None
    run(block[1].replace("'...'", "'look'"))
    try:
        pool = await forebay(
            postgres_pool(postgres.port, postgres={"auth": auth(tmp_path, user="forebay_auth", statement=statement[1])})
        )
        assert await who(pool, role, password="old") == role
        for unknown in ("nobody", "late"):
            await refused(pool, unknown, "late")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run("SET ROLE trusting; SELECT forebay.user_lookup('postgres')")
    finally:
        run("RESET ROLE; DROP SCHEMA forebay CASCADE; DROP ROLE forebay_auth")


async def test_the_file_is_enough(forebay: Start, postgres: Postgres, tmp_path: Path):
    """Without a query nobody else is asked for."""
    pool = await forebay(
        postgres_pool(postgres.port, postgres={"auth": SCRAM | {"usersFile": users(tmp_path, trusting="a")}})
    )
    await refused(pool, "scram", "secret")
