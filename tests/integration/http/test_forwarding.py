"""What an upstream is told of the client, and what never passes: forwarding, hop-by-hop and trace fields."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.integration.http.harness import Pair, document, running
from tests.support.origin import Origin
from tests.support.raw import Connection, request_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")

Fields = Sequence[tuple[str, str]]
LIES = (
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Forwarded-For", "7.7.7.7"),
    ("x-forwarded-proto", "https"),
    ("X-FORWARDED-HOST", "evil.example"),
    ("Forwarded", "for=6.6.6.6"),
)
UNDERSCORED = (("X_Forwarded_For", "6.6.6.6"), ("X_Forwarded-Proto", "https"), ("X_Forwarded_Host", "evil.example"))


async def seen(client: Connection, fields: Fields = (), host: str = "shop.example:80") -> dict[str, list[str]]:
    """The fields that the origin got, by lowercased name."""
    answer = await client.ask(request_bytes("/headers", headers=fields, host=host))
    assert answer.status == 200, answer
    got: dict[str, list[str]] = {}
    for name, value in json.loads(answer.body)["headers"]:
        got.setdefault(name.lower(), []).append(value)
    return got


OURS = {
    "host": ["shop.example:80"],
    "x-forwarded-for": ["127.0.0.1"],
    "x-forwarded-proto": ["http"],
    "x-forwarded-host": ["shop.example:80"],
    "forwarded": ['for=127.0.0.1;proto=http;host="shop.example:80"'],
    "via": ["1.1 forebay"],
}


@pytest.mark.parametrize("fields", [(), LIES, UNDERSCORED, LIES + UNDERSCORED])
async def test_what_a_stranger_claims_is_dropped(pair: Pair, fields: Fields) -> None:
    async with await pair.connect() as client:
        for _ in range(2):
            assert await seen(client, fields) == OURS


async def test_the_host_of_each_request_counts(pair: Pair) -> None:
    """One client, several hosts: nothing of the request before is left."""
    async with await pair.connect() as client:
        for host in ("a.example", "b.example:81", "a.example", "[::1]:8080"):
            got = await seen(client, host=host)
            assert (got["host"], got["x-forwarded-host"]) == ([host], [host])
            assert got["forwarded"] == [f'for=127.0.0.1;proto=http;host="{host}"']


async def test_a_trusted_proxys_fields_are_appended_to(tmp_path: Path) -> None:
    http = {"trustedProxies": ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"]}
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, http=http)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        got = await seen(client, LIES + UNDERSCORED)
        assert got["x-forwarded-for"] == ["6.6.6.6, 7.7.7.7, 127.0.0.1"]
        assert got["x-forwarded-proto"] == ["https"]
        assert got["x-forwarded-host"] == ["evil.example"]
        assert got["forwarded"] == ['for=6.6.6.6, for=127.0.0.1;proto=http;host="shop.example:80"']
        assert not [name for name in got if "_" in name]
        assert await seen(client) == OURS  # and the next request has none


async def test_a_proxy_that_is_not_trusted_is_a_stranger(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, http={"trustedProxies": ["10.0.0.0/8"]})) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        assert await seen(client, LIES) == OURS


async def test_hop_by_hop_fields_end_here(pair: Pair) -> None:
    fields = (
        ("Connection", "keep-alive, X-Private, Host, Content-Length"),
        ("X-Private", "1"),
        ("X_Private", "2"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Proxy_Authorization", "Basic eDp5"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABk"),
        ("X-End-To-End", "kept"),
        ("Authorization", "Basic eDp5"),
    )
    async with await pair.connect() as client:
        got = await seen(client, fields)
        assert got == OURS | {"x-end-to-end": ["kept"], "authorization": ["Basic eDp5"]}


async def test_hop_by_hop_fields_of_an_answer_end_here(pair: Pair) -> None:
    fields = ("Connection:X-Private", "X-Private:1", "Keep-Alive:timeout=9", "Proxy-Authenticate:Basic", "X-End:kept")
    async with await pair.connect() as client:
        for _ in range(2):
            answer = await client.ask(request_bytes("/?" + "&".join(f"h={field}" for field in fields)))
            names = {name.lower() for name, _ in answer.headers}
            assert names == {"x-connection", "x-number", "content-length", "x-end", "via"}
            assert answer.get("via") == "1.1 forebay"


async def test_via_is_added_to_what_is_there(pair: Pair) -> None:
    async with await pair.connect() as client:
        assert (await seen(client, [("Via", "1.0 other")]))["via"] == ["1.0 other", "1.1 forebay"]
        answer = await client.ask(b"GET /headers HTTP/1.0\r\nHost: a\r\n\r\n")
        assert ["Via", "1.0 forebay"] in json.loads(answer.body)["headers"]


@pytest.mark.parametrize("tracing", [None, {"endpoint": "http://127.0.0.1:1", "sampleRatio": 0}])
async def test_trace_context_passes_as_it_came(tmp_path: Path, tracing: dict[str, object] | None) -> None:
    """With tracing off, and with tracing that does not sample: the client's decision stands."""
    sampled = "01" if tracing is None else "00"
    fields = (
        ("traceparent", f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{sampled}"),
        ("tracestate", "a=b,c=d"),
        ("baggage", "k=v"),
    )
    spec = {"telemetry": {"tracing": tracing}} if tracing else {}
    async with (
        Origin() as origin,
        running(tmp_path, document(origin.port, spec=spec)) as forebay,
        await Connection.open(forebay.port) as client,
    ):
        assert await seen(client, fields) == OURS | {name: [value] for name, value in fields}
        assert await seen(client) == OURS
