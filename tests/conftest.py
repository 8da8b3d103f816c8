"""What every test may ask for."""

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, and no folder that remembers earlier ones.
settings.register_profile("gateway", derandomize=True, database=None, deadline=None)
settings.load_profile("gateway")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def anyio_backend() -> str:
    """The loop that asynchronous tests run on."""
    return "asyncio"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded answers of providers and the OpenTelemetry model, where they lie beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no recorded data at {SHARED_DATA}")
    return SHARED_DATA
