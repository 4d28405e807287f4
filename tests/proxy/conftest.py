"""The product's code runs in the test's own loop here, so that is the product's loop. asyncio's differs where it
matters: a server of its that is closed loses the clients that it has accepted just now
(github.com/python/cpython/issues/109564).
"""

import asyncio
from collections.abc import Callable

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
