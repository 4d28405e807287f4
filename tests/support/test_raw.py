"""The strict reader takes what RFC 9112 allows and refuses the origin's whole table of hostile answers."""

import asyncio

import pytest
from tests.support.origin import Origin
from tests.support.origin_bad import BAD
from tests.support.raw import Connection, CutAnswer, MalformedAnswer, read_answer, request_bytes

OK = b"HTTP/1.1 200 OK\r\n"


async def read(data: bytes, method: str = "GET") -> object:
    reader = asyncio.StreamReader(limit=1 << 16)
    reader.feed_data(data)
    reader.feed_eof()
    answer = await read_answer(reader, method)
    return answer.status, answer.framing, answer.body, await reader.read()


@pytest.mark.parametrize(
    ("data", "method", "expected"),
    [
        (OK + b"Content-Length: 2\r\n\r\nokREST", "GET", (200, "length", b"ok", b"REST")),
        (OK + b"Content-Length: 2\r\n\r\nREST", "HEAD", (200, "none", b"", b"REST")),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "GET", (200, "chunked", b"ok", b"")),
        (OK + b"\r\nok", "GET", (200, "close", b"ok", b"")),
        (b"HTTP/1.1 204 No Content\r\n\r\nREST", "GET", (204, "none", b"", b"REST")),
        (b"HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\nREST", "GET", (304, "none", b"", b"REST")),
        (OK + b"\r\nTUNNEL", "CONNECT", (200, "none", b"", b"TUNNEL")),
        (
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
            "GET",
            (200, "length", b"", b""),
        ),
    ],
)
async def test_what_is_allowed(data: bytes, method: str, expected: object) -> None:
    assert await read(data, method) == expected


@pytest.mark.parametrize("begun", [True, False])
async def test_a_cut_answer_says_whether_it_had_begun(begun: bool) -> None:
    with pytest.raises(CutAnswer) as caught:
        await read(b"HTTP/1.1 20" if begun else b"")
    assert caught.value.begun is begun


async def test_a_repeated_field_is_not_one_value() -> None:
    with pytest.raises(MalformedAnswer):
        await read(OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok")


# These are well-formed to a client; only what the proxy asked makes them wrong, or only a limit does.
ACCEPTED = {"unasked-101", "endless-head"}


@pytest.mark.parametrize("name", sorted(BAD.keys() - ACCEPTED))
async def test_every_hostile_answer_is_refused(origin: Origin, name: str) -> None:
    async with await Connection.open(origin.port) as connection:
        await connection.send(request_bytes(f"/bad/{name}"))
        connection.half_close()  # so that it does not wait for more than there is
        with pytest.raises((MalformedAnswer, CutAnswer)):
            await connection.answer()
