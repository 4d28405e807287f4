"""Records real traffic into `corpus/`: `python tests/core/pgwire/record.py HOST PORT`, with PGUSER and PGPASSWORD set.

Not a test. It wants a server to write to, with pgbench's tables (`pgbench -i`) in the database `postgres` and a role
`trusting` that needs no password, psql and pgbench on the path, and psycopg and asyncpg to import. Each script's
connection becomes two files, `NAME.client` and `NAME.server`: every byte of each direction, from the start-up on.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import psycopg

CORPUS = Path(__file__).parent / "corpus"
Script = Callable[[str], Awaitable[object]]


class Tap:
    """Relays one connection at a time, and keeps what passes."""

    def __init__(self, host: str, port: str) -> None:
        self.target = host, port
        self.done = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(*self.target)
        self.client, self.server = bytearray(), bytearray()
        await asyncio.gather(
            self.pump(reader, upstream_writer, self.client), self.pump(upstream_reader, writer, self.server)
        )
        self.done.set()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                kept += data
                writer.write(data)
                await writer.drain()
        writer.close()


PSQL = r"""
SELECT 1, 'two', NULL, 3.5;
\d pgbench_accounts
CREATE TEMP TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT g, repeat('x', g) FROM generate_series(1, 200) g;
\copy t TO '/dev/null'
BEGIN; UPDATE t SET v = 'y' WHERE id < 10; SAVEPOINT a; ROLLBACK TO a; COMMIT;
SELECT * FROM nowhere;
BEGIN; SELECT 1/0; SELECT 2; ROLLBACK;
DO $$ BEGIN RAISE NOTICE 'a notice'; RAISE WARNING 'a warning' USING HINT = 'none'; END $$;
SET application_name = 'other'; SET TimeZone = 'Asia/Tokyo'; SET client_encoding = 'LATIN1'; RESET ALL;
LISTEN c; NOTIFY c, 'payload'; UNLISTEN *;
PREPARE p AS SELECT $1::int; EXECUTE p(3); DEALLOCATE p;
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t; FETCH 5 FROM c; CLOSE c;
SELECT 1; SELECT 2 \;  SELECT 3;
;
COPY t FROM STDIN;
1000	a
1001	b
\.
DISCARD ALL;
"""


async def run(*command: str, stdin: str = "", **env: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        env=os.environ | env,
    )
    await process.communicate(stdin.encode())


def psql(port: str) -> Awaitable[None]:
    return run(
        "psql", f"host=127.0.0.1 port={port} dbname=postgres sslmode=disable gssencmode=disable", "-qX", stdin=PSQL
    )


def pgbench(mode: str) -> Script:
    return lambda port: run(
        *("pgbench", "-n", "-h", "127.0.0.1", "-p", port, "-M", mode, "-t", "8", "-S", "postgres"),
        PGSSLMODE="disable",
        PGGSSENCMODE="disable",
    )


def pgbench_tpcb(port: str) -> Awaitable[None]:
    return run(
        *("pgbench", "-n", "-h", "127.0.0.1", "-p", port, "-M", "prepared", "-t", "3", "postgres"),
        PGSSLMODE="disable",
    )


async def psycopg_script(port: str) -> None:
    url = f"host=127.0.0.1 port={port} dbname=postgres sslmode=prefer options='-c statement_timeout=60s'"
    async with await psycopg.AsyncConnection.connect(url, prepare_threshold=2) as connection:
        cursor = connection.cursor()
        for number in range(5):
            await cursor.execute("SELECT %s::int, %s::text, %b::bytea", (number, "é\U0001f409", b"\0\1"))
        await cursor.execute("CREATE TEMP TABLE t (id int, v text) ON COMMIT DROP")
        async with cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(300):
                await copy.write_row((number, "row" * (number % 7)))
        async with cursor.copy("COPY t TO STDOUT (FORMAT binary)") as copy:
            async for _ in copy:
                pass
        await connection.commit()
        async with connection.pipeline():
            for number in range(20):
                await cursor.execute("SELECT %s::int", (number,))
        try:
            async with connection.pipeline():
                await cursor.execute("SELECT 1")
                await cursor.execute("SELECT 1/%s", (0,))
                await cursor.execute("SELECT 2")
        except psycopg.Error:
            await connection.rollback()
        async with connection.cursor("named") as named:
            await named.execute("SELECT generate_series(1, 100)")
            await named.fetchmany(30)
        await cursor.execute("SELECT repeat('long', 5000)")
        await cursor.execute("/* %s */ SELECT 1" % ("pad" * 4000), prepare=False)
        with contextlib.suppress(psycopg.Error):
            async with cursor.copy("COPY pgbench_history FROM STDIN") as copy:
                await copy.write("not a number\n")
        await connection.rollback()
        with contextlib.suppress(RuntimeError):
            async with cursor.copy("COPY pgbench_history FROM STDIN") as copy:
                raise RuntimeError("the client gives up: CopyFail")
        await connection.rollback()


async def asyncpg_script(port: str) -> None:
    connection = await asyncpg.connect(host="127.0.0.1", port=int(port), database="postgres", ssl=False)
    for number in range(4):
        await connection.fetch("SELECT $1::int AS a, $2::text[] AS b", number, ["x", None])
    statement = await connection.prepare("SELECT * FROM generate_series(1, $1)")
    await statement.fetch(150)
    async with connection.transaction():
        async for _ in connection.cursor("SELECT * FROM generate_series(1, 120)", prefetch=50):
            pass
    await connection.execute("CREATE TEMP TABLE t (id int, v text)")
    await connection.executemany("INSERT INTO t VALUES ($1, $2)", [(n, str(n)) for n in range(40)])
    await connection.copy_records_to_table("t", records=[(n, None) for n in range(100)])
    with contextlib.suppress(asyncpg.PostgresError):
        await connection.fetch("SELECT $1::int / 0", 1)
    heard = asyncio.Event()
    await connection.add_listener("c", lambda *_: heard.set())
    await connection.execute("SELECT pg_notify('c', repeat('n', 1000))")
    await heard.wait()
    await connection.reset()
    await connection.close()


async def raw_script(port: str) -> None:
    """What no driver sends: flushes, portals with limits, a function call, an unknown option and version 3.2."""

    def message(kind: bytes, body: bytes = b"") -> bytes:
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    pairs = ("user", "trusting", "database", "postgres", "_pq_.forebay", "1")
    body = (3 << 16 | 2).to_bytes(4, "big") + b"".join(part.encode() + b"\0" for part in pairs) + b"\0"
    writer.write((len(body) + 4).to_bytes(4, "big") + body)
    await reader.readuntil(b"Z\0\0\0\5I")
    writer.write(
        message(b"P", b"s\0SELECT * FROM generate_series(1, $1)\0\0\1\0\0\0\x17")
        + message(b"D", b"Ss\0")
        + message(b"H")
        + message(b"B", b"p\0s\0\0\1\0\1\0\1\0\0\0\4\0\0\0\x14\0\0")
        + message(b"D", b"Pp\0")
        + message(b"E", b"p\0\0\0\0\7") * 3
        + message(b"C", b"Pp\0")
        + message(b"C", b"Ss\0")
        + message(b"S")
        + message(b"P", b"\0\0\0\0")
        + message(b"B", b"\0\0\0\0\0\0\0\0")
        + message(b"E", b"\0\0\0\0\0")
        + message(b"S")
        + message(b"F", (1598).to_bytes(4, "big") + b"\0\0\0\0\0\0")  # random()
        + message(b"Q", b"\0")
        + message(b"X")
    )
    while await reader.read(1 << 16):
        pass
    writer.close()
    await writer.wait_closed()


SCRIPTS: dict[str, Script] = {
    "psql": psql,
    "pgbench-simple": pgbench("simple"),
    "pgbench-extended": pgbench("extended"),
    "pgbench-prepared": pgbench("prepared"),
    "pgbench-tpcb": pgbench_tpcb,
    "psycopg": psycopg_script,
    "asyncpg": asyncpg_script,
    "raw": raw_script,
}


async def main(host: str, port: str) -> None:
    for name, script in SCRIPTS.items():
        tap = Tap(host, port)
        server = await asyncio.start_server(tap, "127.0.0.1", 0, family=socket.AF_INET)
        await script(str(server.sockets[0].getsockname()[1]))
        await tap.done.wait()
        server.close()
        (CORPUS / f"{name}.client").write_bytes(tap.client)
        (CORPUS / f"{name}.server").write_bytes(tap.server)
        print(f"{name}: {len(tap.client)} and {len(tap.server)} bytes")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
