"""What happens while a name is looked up."""

import asyncio
from pathlib import Path

import pytest
from tests.integration.forward.harness import connect, document, get
from tests.integration.forward.name_server import NameServer
from tests.support.forebay import Forebay
from tests.support.raw import Connection
from tests.support.waiting import until

NAME = "private.test"
REQUESTS = {"GET": get(f"http://{NAME}/"), "CONNECT": connect(f"{NAME}:443")}


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_client_that_leaves_before_its_name_is_denied_is_counted_once(tmp_path: Path, method: str) -> None:
    answering = asyncio.Event()
    async with NameServer({NAME: [["10.0.0.1"]]}, {}, answering) as names:
        pool = document({"allowHosts": ["*.test"]})
        async with names.serve(Forebay(tmp_path, pool), tmp_path) as forebay:

            async def clients(wanted: int) -> bool:
                return bool((await forebay.state())["workers"][0]["clients"] == wanted)

            gone = await Connection.open(forebay.port)
            await gone.send(REQUESTS[method])
            await asyncio.wait_for(names.was_asked.wait(), 10)
            gone.reset()
            await until(lambda: clients(0))
            async with await Connection.open(forebay.port) as other:  # waits for the same look-up
                await other.send(REQUESTS[method])
                await until(lambda: clients(1))
                answering.set()
                assert (await other.answer(method)).status == 403
            metrics = await forebay.metrics()
            assert metrics.value("forebay_requests_total", code="403") == 1
            assert metrics.value("forebay_requests_total", code="499") == 1
            assert not forebay.tracebacks(), forebay.stderr
