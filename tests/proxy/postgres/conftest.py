"""A rig for a test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.proxy.postgres.harness import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    """Factory: `await rig(postgres={...}, pool={...}, spec={...})`; everybody is let in if `postgres` has no `auth`."""
    async with AsyncExitStack() as stack:

        async def start(**fields: Any) -> Rig:
            return await stack.enter_async_context(Rig(tmp_path, **fields))

        yield start
