"""The client for the gateway's own calls."""

import logging

import httpx
import pytest

from gateway.telemetry.logs import configure_logging
from gateway.transport.control_client import control_client, poster

pytestmark = pytest.mark.anyio


def client_to(handler: httpx.MockTransport) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=handler, timeout=1.0)


async def test_every_wait_is_bounded_and_no_redirect_is_followed() -> None:
    """F108."""
    seen: list[httpx.AsyncClient] = []
    client = control_client(2.5, seen.append)
    assert client.timeout == httpx.Timeout(2.5)
    assert not client.follow_redirects
    assert client.headers["user-agent"].startswith("llm-gateway/")
    assert seen == [client]
    await client.aclose()
    await control_client(1.0).aclose()


async def test_a_post_gives_the_status_and_reads_no_answer() -> None:
    sent: list[httpx.Request] = []

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> None:  # type: ignore[override]
            raise AssertionError("nobody reads it")

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(202, stream=Endless())

    async with client_to(httpx.MockTransport(answer)) as client:
        assert await poster(client)("https://hooks.example.com/x", {"x-a": "b"}, b"{}") == 202
    assert (sent[0].method, sent[0].content, sent[0].headers["x-a"]) == ("POST", b"{}", "b")


@pytest.mark.parametrize(
    "fault",
    [httpx.ConnectError("to https://hooks.example.com/SECRET"), httpx.ReadTimeout("late"), httpx.InvalidURL("x")],
)
async def test_what_goes_wrong_is_told_by_its_kind_alone(fault: Exception) -> None:
    """F114."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise fault

    async with client_to(httpx.MockTransport(fail)) as client:
        with pytest.raises(ConnectionError) as caught:
            await poster(client)("https://hooks.example.com/SECRET", {}, b"{}")
    assert str(caught.value) == type(fault).__name__


async def test_the_url_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """F114: httpx itself tells every URL at `info`."""
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    configure_logging("debug", None)
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        async with client_to(httpx.MockTransport(lambda request: httpx.Response(200))) as client:
            await poster(client)("https://hooks.example.com/SECRET", {}, b"{}")
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        logging.captureWarnings(False)
    assert "SECRET" not in caplog.text
