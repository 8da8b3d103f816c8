"""The official Python client of OpenAI: what an application catches when something goes wrong, and what is retried."""

import time
from typing import Any

import openai
import pytest

from tests.gateway.calls import settled
from tests.gateway.waiting import until
from tests.sdk.clients import ANSWER, QUESTION, OpenAI, openai_client

pytestmark = pytest.mark.anyio


async def chat(at: OpenAI, model: str = "demo", **more: Any) -> Any:
    """One chat call."""
    return await at.sdk.chat.completions.create(model=model, messages=QUESTION, **more)


async def caught(at: OpenAI, kind: type[openai.APIStatusError], model: str = "demo", **more: Any) -> Any:
    """The error of a chat call that fails, with the id that is in the log."""
    with pytest.raises(kind) as raised:
        await chat(at, model, **more)
    error = raised.value
    assert type(error) is kind
    assert error.request_id == (await until(at.gw.requests))[-1]["request_id"]
    assert error.message and error.body
    return error


@pytest.mark.parametrize("stream", [False, True])
async def test_a_wrong_key_is_an_authentication_error(stream: bool) -> None:
    """F113, F133."""
    async with openai_client(key="wrong") as at:
        error = await caught(at, openai.AuthenticationError, stream=stream)
        assert (error.status_code, error.code, error.type) == (401, "invalid_api_key", "invalid_request_error")
        assert "wrong" not in str(error) and at.gw.mock.log.entries() == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_of_others_is_forbidden_and_an_unknown_one_not_found(stream: bool) -> None:
    """F133."""
    async with openai_client() as at:
        error = await caught(at, openai.PermissionDeniedError, "secret", stream=stream)
        assert (error.status_code, error.code, error.param) == (403, "model_not_allowed", "model")
        error = await caught(at, openai.NotFoundError, "gone", stream=stream)
        assert (error.status_code, error.code, error.param) == (404, "model_not_found", "model")
        assert at.gw.mock.log.entries() == []


async def test_a_bad_request_is_one_whoever_refuses_it() -> None:
    """F133: the gateway itself (a timeout without its unit), or the provider."""
    async with openai_client() as at:
        error = await caught(at, openai.BadRequestError, extra_headers={"x-gateway-timeout": "5"})
        assert (error.status_code, error.type) == (400, "invalid_request_error") and error.code
        error = await caught(at, openai.BadRequestError, extra_headers={"x-mock": "status=400"})
        assert (error.status_code, error.type, error.code) == (400, "invalid_request_error", None)
        assert "told to refuse" in error.message and len(at.gw.mock.log.entries()) == 1


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (409, openai.ConflictError, "conflict"),
        (422, openai.UnprocessableEntityError, "unprocessable_entity"),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, None),
        (503, openai.InternalServerError, "server_is_overloaded"),
    ],
)
async def test_a_providers_error_keeps_its_class_code_and_type(
    status: int, kind: type[openai.APIStatusError], code: str | None
) -> None:
    """F133, F134."""
    async with openai_client(f"status={status}") as at:
        for stream in (False, True):
            error = await caught(at, kind, stream=stream)
            assert (error.status_code, error.code) == (status, code) and error.type


async def test_the_gateways_own_account_is_not_the_callers_fault() -> None:
    """F37: a provider's 401 must not look like a wrong key of the application, nor be repeated."""
    async with openai_client("status=401", retries=2) as at:
        error = await caught(at, openai.InternalServerError)
        assert (error.status_code, error.code) == (502, "upstream_error")
        assert len(at.gw.mock.log.entries()) == 1


@pytest.mark.parametrize("mock", ["error_after=0", "event_error,error_after=0", "html,status=502", "badjson_after=1"])
async def test_an_error_before_the_first_event_has_a_status(mock: str) -> None:
    """F26, F43: a stream that fails at once raises where it is created, not where it is read."""
    async with openai_client(mock) as at:
        error = await caught(at, openai.InternalServerError, stream="badjson" not in mock)
        assert error.status_code >= 500


@pytest.mark.parametrize("fault", ["error_after=3", "event_error,error_after=3", "eof_after=3", "rst_after=3"])
@pytest.mark.parametrize("split", ["", ",split=7"])
async def test_a_stream_that_breaks_raises_after_what_came(fault: str, split: str) -> None:
    """F15, F16, F18, F19: an APIError, whether the provider said why or not; never an end that looks like one."""
    async with openai_client(fault + split) as at:
        text = ""
        with pytest.raises(openai.APIError) as raised:
            async for chunk in await chat(at, stream=True):
                text += chunk.choices[0].delta.content or ""
        assert not isinstance(raised.value, openai.APIConnectionError)
        assert text == "tok1 tok2 tok3" and raised.value.message
        assert isinstance(raised.value.body, dict) and raised.value.body.keys() == {"message", "type", "param", "code"}
        line = (await until(at.gw.requests))[-1]
        assert line["outcome"] in ("truncated", "upstream_error") and line["status"] == 200
        await settled(at.gw)


@pytest.mark.parametrize("fault", ["error_after=3", "eof_after=3", "rst_after=3"])
async def test_a_response_that_breaks_raises_or_says_so(fault: str) -> None:
    """F17: the Responses API has an event of its own for errors, which the client hands out or raises."""
    async with openai_client(fault) as at:
        kinds: list[str] = []
        try:
            async for event in await at.sdk.responses.create(model="demo", input="hi", stream=True):
                kinds.append(event.type)
        except openai.APIError:
            kinds.append("error")
        assert kinds[-1] == "error" and kinds.count("response.output_text.delta") == 3
        assert "response.completed" not in kinds


async def test_a_slow_provider_is_a_504_and_a_stalled_one_an_error() -> None:
    """F13, F14: the target's own limits, not the client's."""
    async with openai_client() as at:
        error = await caught(at, openai.InternalServerError, "slow", stream=True, extra_headers={"x-mock": "ttfb=5s"})
        assert (error.status_code, error.code) == (504, "upstream_timeout")
        error = await caught(at, openai.InternalServerError, "slow", extra_headers={"x-mock": "latency=5s"})
        assert (error.status_code, error.code) == (504, "upstream_timeout")
        with pytest.raises(openai.APIError) as stalled:
            async for _ in await chat(at, "slow", stream=True, extra_headers={"x-mock": "stall_after=2"}):
                pass
        assert stalled.value.code == "upstream_timeout"
        error = await caught(
            at, openai.APIStatusError, extra_headers={"x-mock": "latency=5s", "x-gateway-timeout": "100ms"}
        )
        assert (error.status_code, error.code) == (408, "deadline_exceeded")
        await settled(at.gw)


async def test_a_clients_own_timeout_stops_the_provider() -> None:
    """F3: the SDK gives up and closes; so does the gateway."""
    async with openai_client("latency=10s") as at:
        with pytest.raises(openai.APITimeoutError):
            await chat(at, timeout=0.2)
        await until(lambda: at.gw.mock.log.entries()[-1]["closed_early"], timeout_s=1)
        assert (await until(at.gw.requests))[-1]["outcome"] == "client_gone"


async def test_a_429_is_tried_again_after_the_wait_that_it_names() -> None:
    """F27, F28, F137: the finer figure of the two; both requests tell their number."""
    async with openai_client("seq=429|200,retry_after_ms=300", retries=2) as at:
        begun_s = time.monotonic()
        assert (await chat(at)).choices[0].message.content == ANSWER
        assert 0.3 <= time.monotonic() - begun_s < 0.3 + 1.5
        assert at.sent.retry_counts == ["0", "1"]
        first, second = at.gw.mock.log.entries()
        assert isinstance(first["t"], float) and isinstance(second["t"], float)
        assert second["t"] - first["t"] >= 0.3
        assert first["body_sha256"] == second["body_sha256"]


async def test_whole_seconds_are_waited_for_too() -> None:
    """F27: Retry-After alone, in seconds."""
    async with openai_client("seq=503|200,retry_after=1", retries=1) as at:
        begun_s = time.monotonic()
        assert (await chat(at)).choices and 1 <= time.monotonic() - begun_s < 3


@pytest.mark.parametrize("model", ["gone", "secret"])
async def test_what_cannot_succeed_is_asked_once(model: str) -> None:
    """F30: even by a client that would try five times."""
    async with openai_client(retries=5) as at:
        with pytest.raises(openai.APIStatusError):
            await chat(at, model)
        assert at.sent.retry_counts == ["0"]


async def test_retries_end_where_the_application_says() -> None:
    """F30: one layer retries, and it is the client's: the gateway adds no attempt of its own."""
    async with openai_client("status=500,retry_after_ms=1") as at:
        with pytest.raises(openai.InternalServerError):
            await at.sdk.with_options(max_retries=2).chat.completions.create(model="demo", messages=QUESTION)
        assert at.sent.retry_counts == ["0", "1", "2"] and len(at.gw.mock.log.entries()) == 3
        with pytest.raises(openai.InternalServerError):
            await at.sdk.with_options(max_retries=0).chat.completions.create(model="demo", messages=QUESTION)
        assert len(at.gw.mock.log.entries()) == 4
