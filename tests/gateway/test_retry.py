"""The same target again: before the first event only, within a budget, as the provider asks."""

import time

import pytest

from tests.gateway.harness import gateway
from tests.gateway.resilience import ask, asked, config, why

pytestmark = pytest.mark.anyio

OFF = "breaker: off"
TWICE = "target: a, retry: {attempts: 2, max_wait: 1s}"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_failed_call_is_tried_again(stream: bool) -> None:
    async with gateway(config({"a": f"seq=500|200; {OFF}"}, TWICE)) as gw:
        reply = await ask(gw, stream=stream)
        assert (reply.status_code, reply.headers["x-gateway-attempts"]) == (200, "2")
        assert await asked(gw) == {"a": 2}
        assert await gw.metric("gateway_retries_total", route="demo", reason="5xx") == 1
        assert any(step.startswith("retry: ") for step in await why(gw, reply))


async def test_without_a_setting_nothing_is_tried_again() -> None:
    async with gateway(config({"a": f"seq=500|200; {OFF}"}, "target: a")) as gw:
        assert (await ask(gw)).status_code == 500


async def test_a_stream_that_has_begun_is_not_tried_again() -> None:
    """F25."""
    async with gateway(config({"a": f"error_after=1; {OFF}"}, TWICE)) as gw:
        await ask(gw, stream=True)
        assert await asked(gw) == {"a": 1}


@pytest.mark.parametrize("form", ["retry_after=1", "retry_after_ms=300", "retry_date=2"])
async def test_the_providers_wish_is_waited_for(form: str) -> None:
    """F27, F28: in its three forms."""
    async with gateway(config({"a": f"seq=429|200,{form}; {OFF}"}, "target: a, retry: {max_wait: 3s}")) as gw:
        began = time.monotonic()
        assert (await ask(gw)).status_code == 200
        waited = time.monotonic() - began
        assert waited >= {"retry_after=1": 1.0, "retry_after_ms=300": 0.3, "retry_date=2": 0.9}[form]
        assert waited < 3.5


@pytest.mark.parametrize("form", ["retry_after=30", "retry_after=1e9", "retry_after_ms=90000"])
async def test_a_wish_that_is_too_long_is_passed_on_at_once(form: str) -> None:
    """F27, F28, F137: no sleep for hours, and the client is told."""
    async with gateway(config({"a": f"status=429,{form}; {OFF}"}, TWICE)) as gw:
        began = time.monotonic()
        reply = await ask(gw)
        assert (reply.status_code, await asked(gw)) == (429, {"a": 1})
        assert time.monotonic() - began < 0.5
        assert 1 <= int(reply.headers["retry-after"]) <= 60


@pytest.mark.parametrize("form", ["retry_after=-5", "retry_after=nan", "retry_after=soon"])
async def test_a_wish_that_is_none_is_taken_for_none(form: str) -> None:
    """F28."""
    async with gateway(config({"a": f"seq=429|200,{form}; {OFF}"}, TWICE)) as gw:
        began = time.monotonic()
        assert (await ask(gw)).status_code == 200
        assert time.monotonic() - began < 1.5


async def test_a_date_is_passed_on_as_seconds() -> None:
    """F28: the mock writes it as HTTP does."""
    async with gateway(config({"a": f"status=429,retry_date=3; {OFF}"}, "target: a")) as gw:
        assert 1 <= int((await ask(gw)).headers["retry-after"]) <= 4


async def test_when_it_gives_up_the_client_is_told_not_to_try_again() -> None:
    """F30: one layer retries."""
    async with gateway(config({"a": f"status=500; {OFF}"}, TWICE)) as gw:
        reply = await ask(gw)
        assert (reply.status_code, reply.headers["x-should-retry"]) == (500, "false")
        assert await asked(gw) == {"a": 2}


async def test_a_target_that_always_fails_is_asked_little_more_than_without_retries() -> None:
    """F30: 1.2 times the requests, and three."""
    route = "target: a, retry: {attempts: 3, max_wait: 0s}"
    async with gateway(config({"a": f"status=500; {OFF}"}, route)) as gw:
        for _ in range(200):
            await ask(gw)
        assert (await asked(gw))["a"] <= 1.2 * 200 + 3


async def test_every_try_is_paid_for() -> None:
    """F31: the first call was accepted and came to nothing; both are on the bill."""
    slow = f"; {OFF}, timeouts: {{first_token: 100ms}}, price: {{request: $0.01}}"
    async with gateway(config({"a": slow}, "target: a, retry: {attempts: 2, max_wait: 0s}")) as gw:
        reply = await ask(gw, stream=True, x_mock="ttfb=60000")
        assert (reply.status_code, await asked(gw)) == (504, {"a": 2})
        assert gw.requests()[-1]["cost_usd"] == 0.02
