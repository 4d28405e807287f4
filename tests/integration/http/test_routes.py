"""Which upstream a request goes to: host and path prefix, the first match wins."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.http.backend import Backend, read_request
from tests.integration.http.harness import TOLERANT, document, running
from tests.support.forebay import Forebay
from tests.support.raw import Connection, fetch, request_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = [
    {"host": "shop.example", "pathPrefix": "/api", "upstream": "api", "stripPrefix": True},
    {"host": "shop.example", "upstream": "shop"},
    {"host": "whole.example", "pathPrefix": "/", "upstream": "api", "stripPrefix": True},
    {"pathPrefix": "/static/", "upstream": "static", "stripPrefix": True},
    {"pathPrefix": "/static", "upstream": "shop"},
]
NAMES = ("api", "shop", "static")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def forebay(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Forebay]:
    """A proxy before upstreams that answer with their name and the request line that they got."""

    def say(name: str) -> Backend:
        async def script(peer: Connection) -> None:
            while True:
                head, _ = await read_request(peer)
                body = name.encode() + b" " + head.partition(b"\r\n")[0]
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

        return Backend(script)

    async with AsyncExitStack() as stack:
        upstreams = []
        for name in NAMES:
            backend = await stack.enter_async_context(say(name))
            endpoints = [{"host": "127.0.0.1", "port": backend.port}]
            upstreams.append({"name": name, "endpoints": endpoints, "healthCheck": TOLERANT})
        pool = document(spec={"upstreams": upstreams, "routes": ROUTES})
        yield await stack.enter_async_context(running(tmp_path_factory.mktemp("routes"), pool))


@pytest.mark.parametrize(
    ("host", "target", "answer"),
    [
        ("shop.example", "/", "shop GET / "),
        ("shop.example", "/api", "api GET / "),
        ("shop.example", "/api/", "api GET / "),
        ("shop.example", "/api?a=/api", "api GET /?a=/api "),
        ("shop.example", "/api/v1?x", "api GET /v1?x "),
        ("shop.example", "/apiary", "shop GET /apiary "),
        ("shop.example", "/x/api", "shop GET /x/api "),
        ("shop.example", "/?/api", "shop GET /?/api "),
        ("SHOP.Example", "/api/a", "api GET /a "),
        ("shop.example:8080", "/api/a", "api GET /a "),
        ("shop.example.", "/api/a", "api GET /a "),
        ("shop.example", "/static/a", "shop GET /static/a "),
        ("other.example", "/static/a.css", "static GET /a.css "),
        ("other.example", "/static/", "static GET / "),
        ("other.example", "/static", "shop GET /static "),
        ("[::1]:80", "/static/a", "static GET /a "),
        ("shop.example", "/api//evil.example/x", "api GET /evil.example/x "),
        ("shop.example", "/api///", "api GET / "),
        ("other.example", "/static///a", "static GET /a "),
        ("shop.example", "//api//x", "shop GET //api//x "),
        (
            "shop.example",
            "/api/.well-known/..a/b.../a%2eb/%2e%2e%2e?../%2e%2e/x",
            "api GET /.well-known/..a/b.../a%2eb/%2e%2e%2e?../%2e%2e/x ",
        ),
    ],
)
async def test_the_first_match_wins(forebay: Forebay, host: str, target: str, answer: str) -> None:
    async with await Connection.open(forebay.port) as client:
        for _ in range(2):
            got = await client.ask(request_bytes(target, host=host))
            assert got.body.decode() == answer + "HTTP/1.1"


DOTTED = [
    "/static/../api/x", "/static/..", "/..", "/static/.", "/./api", "/static/%2e%2E/api", "/static/.%2e/api?x",
    "/static/..%2fapi", "/static%2F../api", "/static%2f%2e%2e%2fapi", "/static/..;a=b/api", "/static/%2e%2e%3b/api",
    "/static\\..\\api", "/static%5c..%5Capi", "/a/b/c/../..", "http://shop.example/static/../api",
]  # fmt: skip


@pytest.mark.parametrize("target", DOTTED)
async def test_a_path_that_a_backend_may_take_for_another_is_a_400(forebay: Forebay, target: str) -> None:
    """Else it would come by the route of one to what is behind another."""
    async with await Connection.open(forebay.port) as client:
        for _ in range(2):
            answer = await client.ask(request_bytes(target, host="shop.example"))
            assert (answer.status, answer.get("connection")) == (400, None)
            assert b"dot segment" in answer.body
        assert (await client.ask(request_bytes("/", host="shop.example"))).status == 200


async def test_where_no_route_looks_at_paths_they_are_passed_on_as_they_come(tmp_path: Path) -> None:
    async def script(peer: Connection) -> None:
        while True:
            head, _ = await read_request(peer)
            body = head.partition(b"\r\n")[0]
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    for routes in [], [{"host": "test.example", "upstream": "origin"}]:
        async with Backend(script) as backend, running(tmp_path, document(backend.port, spec={"routes": routes})) as f:
            for target in DOTTED[:-1]:
                got = await fetch(f.port, target)
                assert got.body.decode() == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize(("host", "answer"), [("shop.example", "shop"), ("whole.example", "api"), ("a", None)])
async def test_options_of_the_server_go_where_all_of_its_host_goes(
    forebay: Forebay, host: str, answer: str | None
) -> None:
    async with await Connection.open(forebay.port) as client:
        got = await client.ask(request_bytes("*", "OPTIONS", host=host))
        if answer is None:
            assert got.status == 404
        else:
            assert got.body.decode() == f"{answer} OPTIONS * HTTP/1.1"


async def test_an_absolute_target_counts_like_host(forebay: Forebay) -> None:
    async with await Connection.open(forebay.port) as client:
        got = await client.ask(request_bytes("http://shop.example/api/a?b", host="shop.example"))
        assert got.body == b"api GET /a?b HTTP/1.1"
        got = await client.ask(b"GET http://shop.example/api/a HTTP/1.0\r\n\r\n")
        assert got.body == b"api GET /a HTTP/1.1"


@pytest.mark.parametrize(("host", "target"), [("other.example", "/"), ("shop.example.evil", "/api"), ("a", "/staticx")])
async def test_no_route_is_a_404_and_the_connection_goes_on(forebay: Forebay, host: str, target: str) -> None:
    async with await Connection.open(forebay.port) as client:
        for _ in range(2):
            answer = await client.ask(request_bytes(target, host=host))
            assert (answer.status, answer.get("connection")) == (404, None)
        answer = await client.ask(request_bytes(target, "HEAD", host=host))
        assert (answer.status, answer.body) == (404, b"")
        assert (await client.ask(request_bytes("/", host="shop.example"))).status == 200


async def test_no_route_in_a_pipeline(forebay: Forebay) -> None:
    lost, found = request_bytes("/", host="nowhere.example"), request_bytes("/", host="shop.example")
    async with await Connection.open(forebay.port) as client:
        await client.send((lost + found) * 3)
        assert [(await client.answer()).status for _ in range(6)] == [404, 200] * 3


@pytest.mark.parametrize("fields", [[("Content-Length", "5")], [("Transfer-Encoding", "chunked")]])
async def test_no_route_for_a_body_that_nobody_will_read(forebay: Forebay, fields: list[tuple[str, str]]) -> None:
    """404, once; and then the end, as what follows belongs to the body."""
    async with await Connection.open(forebay.port) as client:
        head = request_bytes("/", "POST", [*fields, ("Expect", "100-continue")], host="nowhere.example")
        answer = await client.ask(head)
        assert (answer.status, answer.get("connection"), answer.interim) == (404, "close", [])
        await client.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert await client.rest() == b""


async def test_no_route_and_too_large_is_one_answer(tmp_path: Path) -> None:
    pool = document(1, http={"maxBodyBytes": 10}, spec={"routes": [{"host": "a", "upstream": "origin"}]})
    async with running(tmp_path, pool) as other, await Connection.open(other.port) as client:
        answer = await client.ask(request_bytes("/", "POST", body=bytes(100), host="b"))
        assert answer.status == 404
        assert await client.rest() == b""
