"""A request leaves nothing behind that only the collector could find."""

import gc

import pytest

from tests.gateway.calls import settled
from tests.gateway.harness import CHAT, Gateway, gateway

pytestmark = pytest.mark.anyio

REQUESTS = 50


async def _ask(gw: Gateway, *, stream: bool) -> None:
    answer = await gw.client.post("/v1/chat/completions", json=CHAT | {"stream": stream})
    assert answer.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_leaves_no_reference_cycle(stream: bool) -> None:
    """F24: a cycle for each request makes memory march on between two collections, and every allocation cold."""
    async with gateway() as gw:
        await _ask(gw, stream=stream)
        gc.collect()
        gc.disable()
        try:
            for _ in range(REQUESTS):
                await _ask(gw, stream=stream)
            await settled(gw)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            ours = [found for found in gc.garbage if type(found).__module__.startswith(("gateway", "uvicorn"))]
            assert len(ours) < REQUESTS / 10, {type(found).__qualname__ for found in ours}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
