"""One proxy before one origin for all the tests of a file."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.conformance.http1_cases import MAX_HEAD
from tests.integration.http.backend import Backend, read_head
from tests.integration.http.harness import Pair, document, running
from tests.support.origin import Origin
from tests.support.raw import Connection


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Shared by the tests of a file, which say `pytestmark = pytest.mark.asyncio(loop_scope="module")`; a file's HTTP
    adds to the document's spec.http."""
    http = getattr(request.module, "HTTP", None)
    async with (
        Origin() as origin,
        running(tmp_path_factory.mktemp("pair"), document(origin.port, http=http)) as forebay,
    ):
        yield Pair(forebay, origin)
        stats = await origin.stats()
        assert not stats["malformed"], stats["complaints"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[int, list[bytes]]]:
    """The port of a proxy, and the answer that its upstream gives to every request, whatever it is."""
    next_answer = [b""]

    async def play(peer: Connection) -> None:
        while True:
            await read_head(peer)
            await peer.send(next_answer[0])

    async with (
        Backend(play) as backend,
        running(
            tmp_path_factory.mktemp("played"), document(backend.port, http={"maxHeaderBytes": MAX_HEAD})
        ) as forebay,
    ):
        yield forebay.port, next_answer
