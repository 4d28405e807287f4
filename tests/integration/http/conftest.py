"""One proxy before one origin for all the tests of a file."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.integration.http.harness import Pair, document, running
from tests.support.origin import Origin


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Shared by the tests of a file, which say `pytestmark = pytest.mark.asyncio(loop_scope="module")`."""
    async with (
        Origin() as origin,
        running(tmp_path_factory.mktemp("pair"), document(origin.port)) as forebay,
    ):
        yield Pair(forebay, origin)
        stats = await origin.stats()
        assert not stats["malformed"], stats["complaints"]
