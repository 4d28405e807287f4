"""The protocol's part in a worker: files that change, documents that change, what is counted."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.proxy.postgres.harness import Client, Rig, users

from forebay_proxy.files import FileError
from forebay_proxy.secret_files import SecretError

Start = Callable[..., Awaitable[Rig]]


async def lets_in(r: Rig, user: str, password: str) -> bool:
    client = await r.client()
    client.start(user)
    return (await client.scram(password))[0] == b"R"


async def test_changed_users_are_taken_up(rig: Start, tmp_path: Path) -> None:
    r = await rig(postgres={"auth": {"usersFile": users(tmp_path, {"alice": "old", "bob": "b"})}})
    assert await lets_in(r, "alice", "old")
    users(tmp_path, {"alice": "new", "carol": "c"})
    r.proxy.refresh()
    assert [
        await lets_in(r, *login) for login in (("alice", "old"), ("alice", "new"), ("bob", "b"), ("carol", "c"))
    ] == [
        False,
        True,
        False,
        True,
    ]


async def test_bad_files_are_said_once(rig: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For each change; what was there before stays in force."""
    file = Path(users(tmp_path, {"alice": "old"}))
    password = tmp_path / "password"
    password.write_text("secret\n")
    databases = [{"name": "db", "user": "u", "passwordFile": str(password)}]
    r = await rig(postgres={"auth": {"usersFile": str(file)}, "databases": databases})

    def said(path: Path, content: str | None) -> list[str]:
        """What is said when the file has this in it (None: when it is gone), however often it is looked at."""
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
        caplog.clear()
        for _ in range(3):
            r.proxy.refresh()
        return [record.getMessage() for record in caplog.records]

    changes = [
        (file, '"alice" "new"', 0),
        (file, "nonsense", 1),
        (file, "nonsense of the same kind", 0),
        (file, '"alice" "newer"', 0),
        (password, None, 1),
        (password, "", 1),
        (password, "secret", 0),
        (file, "nonsense", 1),
    ]
    with caplog.at_level(logging.WARNING):
        for path, content, count in changes:
            lines = said(path, content)
            assert len(lines) == count
            assert all(str(path) in line for line in lines)
    assert await lets_in(r, "alice", "newer")


@pytest.mark.parametrize(
    "postgres",
    [
        {"auth": {"usersFile": "missing"}},
        {"auth": {"method": "trust"}, "databases": [{"name": "db", "user": "u", "passwordFile": "missing"}]},
        {"auth": {"method": "trust"}, "databases": [{"name": "db", "user": "u", "passwordEnv": "FOREBAY_MISSING"}]},
        {"auth": {"method": "trust"}, "monitor": {"user": "u", "passwordFile": "missing"}},
        {"auth": {"query": {"user": "u", "passwordFile": "missing", "statement": "SELECT $1"}}},
    ],
    ids=["users", "password", "variable", "monitor", "query"],
)
async def test_a_document_whose_files_cannot_be_used(rig: Start, postgres: dict[str, Any]) -> None:
    """It is not taken, and nothing of it is in force."""
    r = await rig(postgres={"databases": [{"name": "db"}]})
    before = r.worker.document_hash
    with pytest.raises(FileError, match=r"missing: No such file|FOREBAY_MISSING: expected it to be set"):
        await r.apply(postgres=postgres, pool={"size": 1})
    assert r.worker.document_hash == before
    assert r.upstream.pool.size == 5
    client = await r.session()
    assert (await client.ask("SELECT 1"))[0][0] == b"T"


async def test_a_database_that_means_another_now(rig: Start) -> None:
    """Sessions that are there go on with what they had, those that come get what the document says."""

    def named(**fields: str) -> dict[str, Any]:
        return {"databases": [{"name": "db", **fields}]}

    r = await rig(postgres=named(database="one"))
    old = await r.session()
    for fields in ({"database": "two"}, {"database": "two", "user": "forced"}, {"settings": {"work_mem": "1MB"}}):
        await r.apply(postgres=named(**fields))
        await (await r.session()).ask("SELECT 1")
    await r.apply(postgres=named(settings={"work_mem": "1MB"}) | {"queryTimeout": "1m"})
    await (await r.session()).ask("SELECT 1")
    assert (await old.ask("SELECT 1"))[0][0] == b"T"
    seen = [packet[4:].split(b"\0") for packet in r.server.startups]
    told = [dict(zip(fields[::2], fields[1::2], strict=False)) for fields in seen]
    assert [(t[b"user"], t[b"database"], t.get(b"work_mem")) for t in told] == [
        (b"somebody", b"one", None),
        (b"somebody", b"two", None),
        (b"forced", b"two", None),
        (b"somebody", b"db", b"1MB"),
    ]


async def test_a_password_that_the_document_has_no_more(rig: Start, tmp_path: Path) -> None:
    """A session from before may still need a connection: the server says whether it gets one without."""
    password = tmp_path / "password"
    password.write_text("secret")
    r = await rig(postgres={"databases": [{"name": "db", "user": "u", "passwordFile": str(password)}]})
    client = await r.session()
    await r.apply(postgres={"databases": [{"name": "db", "user": "u"}]})
    (database,) = r.proxy.databases.values()
    assert database.spec.password_file is None
    assert (await client.ask("SELECT 1"))[0][0] == b"T"


async def test_transactions_are_counted(rig: Start) -> None:
    """Those of databases that are no more, too."""
    r = await rig(postgres={"databases": [{"name": "db"}]})
    client = await r.session()
    for _ in range(3):
        await client.ask("SELECT 1")
    assert r.proxy.transactions() == {"db": 3}
    await r.apply(postgres={"databases": [{"name": "other"}]})
    assert r.proxy.transactions() == {"db": 3}


async def test_a_drain_ends_those_that_are_idle(rig: Start) -> None:
    r = await rig()
    clients: list[Client] = [await r.session(), await r.client()]
    r.proxy.close_idle()
    for client in clients:
        assert (await client.refused()).sqlstate == "57P01"


def test_one_error_for_all_files() -> None:
    assert issubclass(SecretError, FileError)
