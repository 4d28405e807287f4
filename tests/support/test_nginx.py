"""A real nginx starts on a free port, as a backend and as a proxy before the test origin."""

from collections.abc import Awaitable, Callable

import pytest
from tests.support.load import run_load
from tests.support.nginx import Nginx
from tests.support.origin import Origin
from tests.support.process import need
from tests.support.raw import fetch

Start = Callable[..., Awaitable[Nginx]]


async def test_nginx_in_front_of_the_origin(origin: Origin, nginx: Start) -> None:
    proxy = await nginx(
        "location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ''; }",
        http=f"upstream origin {{ server 127.0.0.1:{origin.port}; keepalive 3; }}",
    )
    outcome = await run_load(proxy.port, clients=3, requests=50)
    assert (outcome.statuses, outcome.failed) == ({200: 150}, 0)
    stats = await origin.stats()
    assert (stats["requests"], stats["malformed"]) == (150, 0)
    assert stats["high_water"] <= 3


async def test_a_wrong_configuration_is_shown(nginx: Start) -> None:
    need("nginx")
    with pytest.raises(AssertionError, match='unknown directive "nonsense"'):
        await nginx("nonsense on;")


async def test_two_at_once(nginx: Start) -> None:
    first = await nginx("location / { return 200 one; }")
    second = await nginx("location / { return 200 two; }")
    assert [(await fetch(one.port)).body for one in (first, second)] == [b"one", b"two"]
