"""The load generator charges a stall to all that was due meanwhile, and fails where an answer is none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from bench import openloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


@contextlib.asynccontextmanager
async def server(answer: bytes = ANSWER, stall: tuple[float, float] = (0, 0)) -> AsyncIterator[int]:
    """It answers each request with `answer`, and nobody from `stall[0]` to `stall[1]` seconds after the first."""
    clock = asyncio.get_running_loop().time
    began: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # the client has gone
            while await reader.readuntil(b"\r\n\r\n"):
                began.append(clock())
                since = clock() - began[0]
                if stall[0] <= since < stall[1]:
                    await asyncio.sleep(stall[1] - since)
                writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


async def test_a_stall_is_charged_to_every_request_that_was_due() -> None:
    """Four clients that wait for each answer would have had four slow ones, and a median of next to nothing."""
    async with server(stall=(0.2, 1.0)) as port:
        found = await asyncio.to_thread(openloop.run, port, rate=200, seconds=1.2, count=4)
    assert found["answered"] > 100
    assert 100 < found["p50_ms"] < found["p99_ms"]
    assert found["p99_ms"] > 600


@pytest.mark.parametrize("answer", [ANSWER.replace(b"200", b"503"), b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_an_answer_that_is_none_ends_the_run(answer: bytes) -> None:
    async with server(answer) as port:
        with pytest.raises(RuntimeError, match="the answer was"):
            await asyncio.to_thread(openloop.run, port, rate=100, seconds=1, count=1)
