"""Logins: of clients by SCRAM, md5 and certificates, over TLS or not; of ours at servers by SCRAM and verified TLS."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import psycopg
import pytest
from tests.integration.postgres.server import Postgres
from tests.support.certs import CA, Pair
from tests.support.forebay import Forebay, postgres_pool

from forebay_core.pgwire import frontend, startup

Start = Callable[..., Awaitable[Forebay]]
SCRAM = {"method": "scram-sha-256"}


async def who(pool: Forebay, user: str, **options: str) -> object:
    connection = await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=pool.port, user=user, dbname="postgres", autocommit=True, **options
    )
    async with connection:
        row = await (await connection.execute("SELECT current_user::text")).fetchone()
        assert row is not None
        return row[0]


def users(path: Path, **secrets: str) -> str:
    file = path / "users.txt"
    file.write_text("".join(f'"{name}" "{secret}"\n' for name, secret in secrets.items()))
    return str(file)


@pytest.mark.parametrize("method", ["scram-sha-256", "md5"])
async def test_passwords(forebay: Start, postgres: Postgres, tmp_path: Path, method: str) -> None:
    auth = {"method": method, "usersFile": users(tmp_path, scram="secret", trusting="other")}
    pool = await forebay(postgres_pool(postgres.port, postgres={"auth": auth}))
    assert await who(pool, "scram", password="secret") == "scram"
    assert await who(pool, "trusting", password="other") == "trusting"
    for user in ("scram", "nobody"):
        with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'):
            await who(pool, user, password="wrong")
    assert (await pool.metrics()).value("forebay_rejections_total", reason="authentication") == 2
    connection = await asyncpg.connect(
        host="127.0.0.1", port=pool.port, user="scram", password="secret", database="postgres", ssl=False
    )
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_a_verifier_is_enough_on_both_sides(forebay: Start, postgres: Postgres, tmp_path: Path) -> None:
    """What the server has stored serves for clients; what a client shows in its login serves at the server."""
    with psycopg.connect(host="127.0.0.1", port=postgres.port, user="postgres") as connection:
        row = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'scram'").fetchone()
    assert row is not None
    auth = {**SCRAM, "usersFile": users(tmp_path, scram=row[0])}
    pool = await forebay(postgres_pool(postgres.port, postgres={"auth": auth}))
    assert await who(pool, "scram", password="secret") == "scram"


async def test_changed_users_are_taken_up(forebay: Start, postgres: Postgres, tmp_path: Path) -> None:
    auth = {**SCRAM, "usersFile": users(tmp_path, trusting="old")}
    pool = await forebay(postgres_pool(postgres.port, postgres={"auth": auth}))
    assert await who(pool, "trusting", password="old") == "trusting"
    users(tmp_path, trusting="new")
    async with asyncio.timeout(20):
        while True:
            try:
                assert await who(pool, "trusting", password="new") == "trusting"
                break
            except psycopg.OperationalError:
                await asyncio.sleep(0.2)
    with pytest.raises(psycopg.OperationalError):
        await who(pool, "trusting", password="old")


async def salts(pool: Forebay, user: str) -> set[bytes]:
    """The salts that a user's logins are asked to use, over so many connections that each worker has some."""
    found = set()
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", pool.port)
        writer.write(startup.write_startup(0, {"user": user}))
        await reader.readuntil(b"SCRAM-SHA-256\0\0")
        writer.write(frontend.sasl_initial("SCRAM-SHA-256", b"n,,n=,r=nonce"))
        found.add((await reader.readuntil(b",i=")).split(b",")[-2])
        writer.close()
        await writer.wait_closed()
    return found


async def test_workers_agree_on_who_is_not_there(forebay: Start, postgres: Postgres, tmp_path: Path) -> None:
    """An unknown user's salt is the same everywhere, as a known one's verifier has the same everywhere."""
    auth = {**SCRAM, "usersFile": users(tmp_path, trusting="old")}
    pool = await forebay(postgres_pool(postgres.port, postgres={"auth": auth}, spec={"replicas": 2}))
    assert len(await pool.worker_pids()) == 2
    assert [len(await salts(pool, user)) for user in ("nobody", "trusting")] == [1, 1]


async def test_pods_agree_too(postgres: Postgres, tmp_path: Path) -> None:
    """By the token that they have in common."""
    document = postgres_pool(postgres.port, postgres={"auth": {**SCRAM, "usersFile": users(tmp_path, a="b")}})
    token = tmp_path / "token"
    token.write_text("common")
    arguments = ("--admin", "127.0.0.1:0", "--token-file", str(token))
    found: set[bytes] = set()
    for name in ("one", "two"):
        async with Forebay(tmp_path / name, document, command="worker", arguments=arguments) as pod:
            found |= await salts(pod, "nobody")
    assert len(found) == 1


@pytest.fixture
def pair(ca: CA) -> Pair:
    return ca.server("localhost", "127.0.0.1")


def listen(pair: Pair, ca: CA | None = None) -> dict[str, object]:
    tls = {"certFile": str(pair.cert), "keyFile": str(pair.key)}
    return {"port": 0, "tls": tls | ({"clientCAFile": str(ca.cert)} if ca is not None else {})}


async def test_tls(forebay: Start, postgres: Postgres, tmp_path: Path, ca: CA, pair: Pair) -> None:
    auth = {**SCRAM, "usersFile": users(tmp_path, trusting="pw")}
    pool = await forebay(postgres_pool(postgres.port, postgres={"auth": auth}, spec={"listen": listen(pair)}))
    secure = {"sslmode": "verify-full", "sslrootcert": str(ca.cert), "password": "pw"}
    assert await who(pool, "trusting", **secure) == "trusting"
    assert await who(pool, "trusting", **secure, channel_binding="require") == "trusting"
    if psycopg.pq.version() >= 170000:
        assert await who(pool, "trusting", **secure, sslnegotiation="direct") == "trusting"
    with pytest.raises(psycopg.OperationalError, match="TLS is required"):
        await who(pool, "trusting", sslmode="disable", password="pw")


async def test_certificates(forebay: Start, postgres: Postgres, ca: CA, pair: Pair) -> None:
    document = postgres_pool(postgres.port, postgres={"auth": {"method": "cert"}}, spec={"listen": listen(pair, ca)})
    pool = await forebay(document)
    mine = ca.client("trusting")
    mine.key.chmod(0o600)
    secure = {"sslmode": "require", "sslcert": str(mine.cert), "sslkey": str(mine.key)}
    assert await who(pool, "trusting", **secure) == "trusting"
    with pytest.raises(psycopg.OperationalError, match='certificate authentication failed for user "postgres"'):
        await who(pool, "postgres", **secure)


async def test_servers_with_tls_and_scram(forebay: Start, secured: Postgres, tmp_path: Path, ca: CA) -> None:
    tls = {"mode": "verify-full", "caFile": str(ca.cert)}
    password = tmp_path / "password"
    password.write_text("secret\n")
    databases = [{"name": "postgres", "user": "scram", "passwordFile": str(password)}]
    document = postgres_pool(secured.port, tls=tls, postgres={"databases": databases})
    pool = await forebay(document)
    assert await who(pool, "anybody") == "scram"
    stranger = CA(tmp_path, "stranger")
    document["spec"]["upstreams"][0]["tls"]["caFile"] = str(stranger.cert)
    other = await forebay(document)
    with pytest.raises(psycopg.OperationalError, match=r"TLS with .* failed"):
        await who(other, "anybody")
