"""Questions beside the leases."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.integration.postgres.scripted import GREETING, READY
from tests.proxy.postgres.harness import Rig

from forebay_core.pgwire import backend
from forebay_core.postgres.users import User
from forebay_proxy.postgres.aside import Asides, NoPlace
from forebay_proxy.postgres.server import Login
from forebay_proxy.postgres.server_login import Conversation

Start = Callable[..., Awaitable[Rig]]


def answering(transport: Any) -> Conversation:
    return Conversation(User("monitor"), None, transport)


LOGIN = Login("monitor", "db", None, answering)


async def test_an_answer_does_not_wait_for_the_servers_end(rig: Start) -> None:
    """The place does: a server that hangs as its connection is closed still has it."""
    r = await rig()
    over = asyncio.Event()

    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await reader.readuntil(b"SELECT\0")
        writer.write(backend.data_row(["t"]) + READY)
        await over.wait()
        raise ConnectionResetError

    r.server.greetings[b"monitor"] = hangs
    asides = Asides(r.worker.tasks)
    (endpoint,) = r.upstream.pool.endpoints

    def ask(patience: float) -> Awaitable[list[bytes] | None]:
        return asides.ask(r.upstream, endpoint, LOGIN, "SELECT", patience)

    async with asyncio.timeout(5):
        assert await ask(2.0) == [b"t"]
        with pytest.raises(NoPlace):
            await ask(0.05)
        over.set()
        assert await ask(2.0) == [b"t"]


async def test_a_server_that_does_not_answer(rig: Start) -> None:
    r = await rig()
    r.server.answers[b"SELECT"] = b""
    asides = Asides(r.worker.tasks)
    (endpoint,) = r.upstream.pool.endpoints
    assert await asides.ask(r.upstream, endpoint, LOGIN, "SELECT", 0.05) is None
    r.server.answers[b"SELECT"] = backend.error_response("ERROR", "42501", "no") + READY
    assert await asides.ask(r.upstream, endpoint, LOGIN, "SELECT", 2.0) is None
