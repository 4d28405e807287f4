"""Every test of the scans runs over both implementations."""

import importlib
from types import ModuleType

import pytest


@pytest.fixture(params=["pure", "compiled"])
def codec(request: pytest.FixtureRequest) -> ModuleType:
    """One implementation's module; the compiled one is skipped where it was not built."""
    try:
        return importlib.import_module(f"forebay_core.pgwire.{request.param}")
    except ImportError as missing:
        pytest.skip(f"the {request.param} codec can't be imported: {missing}")
