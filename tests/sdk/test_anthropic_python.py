"""The official Python client of Anthropic, with nothing changed but its base URL and key."""

import time
from typing import Any

import anthropic
import pytest

from tests.gateway.calls import settled
from tests.gateway.waiting import until
from tests.sdk.clients import ANSWER, KEY, QUESTION, anthropic_client, last_call

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"model": "demo", "max_tokens": 100, "messages": QUESTION}
TOOL: Any = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


def text_of(message: anthropic.types.Message) -> str:
    """The text of a message's blocks."""
    return "".join(block.text for block in message.content if block.type == "text")


async def test_a_message_is_answered_and_its_request_id_is_in_the_log() -> None:
    """F134, F138: in the header that this client reads."""
    async with anthropic_client() as (gw, sdk):
        message = await sdk.messages.create(**ASK, system="Be brief.", extra_headers={"anthropic-beta": "a-1"})
        assert text_of(message) == ANSWER and message.stop_reason == "end_turn"
        line = (await until(gw.requests))[-1]
        assert line["request_id"] == message._request_id
        assert (line["key"], line["output_tokens"], line["usage_source"]) == ("app", 16, "provider")
        headers = dict(last_call(gw)["headers"])
        assert headers["anthropic-version"] == sdk.default_headers["anthropic-version"]
        assert headers["anthropic-beta"] == "a-1"
        assert "x-api-key" not in headers and "authorization" not in headers


async def test_both_kinds_of_credential_are_taken() -> None:
    """`api_key` goes in x-api-key, `auth_token` as a bearer."""
    async with anthropic_client(api_key=None, auth_token=KEY) as (_, sdk):
        assert text_of(await sdk.messages.create(**ASK)) == ANSWER
    for wrong in ({"api_key": "wrong"}, {"api_key": None, "auth_token": "wrong"}):
        async with anthropic_client(**wrong) as (gw, sdk):
            with pytest.raises(anthropic.AuthenticationError) as refused:
                await sdk.messages.create(**ASK)
            assert refused.value.status_code == 401 and gw.mock.log.entries() == []
            assert isinstance(refused.value.body, dict)
            assert refused.value.body["error"]["type"] == "authentication_error"
            assert refused.value.request_id == (await until(gw.requests))[-1]["request_id"]


async def test_a_stream_is_put_together() -> None:
    """F135: events one by one, and by the helper; the usage of the last event counts."""
    async with anthropic_client() as (gw, sdk):
        kinds = [event.type async for event in await sdk.messages.create(**ASK, stream=True)]
        assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
        async with sdk.messages.stream(**ASK) as run:
            text = "".join([piece async for piece in run.text_stream])
            final = await run.get_final_message()
        assert text == text_of(final) == ANSWER and final.usage.output_tokens == 16
        assert [line["output_tokens"] for line in gw.requests()] == [16, 16]


async def test_tools_are_called_in_one_piece_and_in_a_stream() -> None:
    """F103: the call, and the turn with its result."""
    choice: Any = {"type": "any"}
    async with anthropic_client() as (_, sdk):
        whole = await sdk.messages.create(**ASK, tools=[TOOL], tool_choice=choice)
        call = whole.content[0]
        assert whole.stop_reason == "tool_use" and call.type == "tool_use"
        assert (call.name, call.input) == ("get_weather", {})
        async with sdk.messages.stream(**ASK, tools=[TOOL], tool_choice=choice) as run:
            final = await run.get_final_message()
        streamed = final.content[0]
        assert streamed.type == "tool_use" and (streamed.name, streamed.input) == ("get_weather", {})
        result: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "20 degrees"}]
        turns: list[Any] = [
            *QUESTION,
            {"role": "assistant", "content": [call.model_dump(exclude_none=True)]},
            {"role": "user", "content": result},
        ]
        done = await sdk.messages.create(model="demo", max_tokens=100, messages=turns, tools=[TOOL])
        assert text_of(done) == ANSWER


async def test_a_picture_passes() -> None:
    """F105."""
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}
    turn: Any = {"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "what?"}]}
    async with anthropic_client() as (gw, sdk):
        assert text_of(await sdk.messages.create(model="demo", max_tokens=100, messages=[turn])) == ANSWER
        assert last_call(gw)["body_bytes"] > 100_000


async def test_tokens_are_counted_and_models_listed() -> None:
    """F133: the list in this dialect's shape."""
    async with anthropic_client() as (_, sdk):
        assert (await sdk.messages.count_tokens(model="demo", messages=QUESTION)).input_tokens == 1
        models = [model async for model in sdk.models.list()]
        assert [model.id for model in models] == ["demo", "slow"] and models[0].display_name
        assert (await sdk.models.retrieve("served-small")).id == "served-small"
        with pytest.raises(anthropic.NotFoundError):
            await sdk.models.retrieve("gone")


@pytest.mark.parametrize(
    ("ask", "mock", "kind", "status", "name"),
    [
        ({"model": "secret"}, "", anthropic.PermissionDeniedError, 403, "permission_error"),
        ({"model": "gone"}, "", anthropic.NotFoundError, 404, "not_found_error"),
        ({}, "status=400", anthropic.BadRequestError, 400, "invalid_request_error"),
        ({}, "status=429", anthropic.RateLimitError, 429, "rate_limit_error"),
        ({}, "status=500", anthropic.InternalServerError, 500, "api_error"),
        ({}, "status=529", anthropic.APIStatusError, 529, "overloaded_error"),
        ({}, "status=401", anthropic.InternalServerError, 502, "api_error"),
        ({"stream": True}, "error_after=0", anthropic.APIStatusError, 529, "overloaded_error"),
        ({"model": "slow", "stream": True}, "ttfb=5s", anthropic.APIStatusError, 504, "timeout_error"),
    ],
)
async def test_errors_have_their_class_type_and_request_id(
    ask: dict[str, Any], mock: str, kind: type[anthropic.APIStatusError], status: int, name: str
) -> None:
    """F26, F133, F134."""
    async with anthropic_client(mock) as (gw, sdk):
        with pytest.raises(kind) as raised:
            await sdk.messages.create(**ASK | ask)
        error = raised.value
        assert error.status_code == status and isinstance(error.body, dict)
        assert error.body["type"] == "error" and error.body["error"]["type"] == name and error.body["error"]["message"]
        assert error.request_id == (await until(gw.requests))[-1]["request_id"]


@pytest.mark.parametrize("fault", ["error_after=3", "eof_after=3", "rst_after=3"])
@pytest.mark.parametrize("split", ["", ",split=7"])
async def test_a_stream_that_breaks_raises_after_what_came(fault: str, split: str) -> None:
    """F15 to F19: an `error` event in this dialect, also where the provider only hung up."""
    async with anthropic_client(fault + split) as (gw, sdk):
        text = ""
        with pytest.raises(anthropic.APIStatusError) as raised:
            async with sdk.messages.stream(**ASK) as run:
                async for piece in run.text_stream:
                    text += piece
        assert text == "tok1 tok2 tok3"
        assert isinstance(raised.value.body, dict) and raised.value.body["error"]["message"]
        assert (await until(gw.requests))[-1]["outcome"] in ("truncated", "upstream_error")
        await settled(gw)


async def test_a_client_that_leaves_a_stream_stops_the_provider() -> None:
    """F1."""
    async with anthropic_client("tokens=1000,gap=20") as (gw, sdk):
        async with sdk.messages.stream(**ASK) as run:
            async for piece in run.text_stream:
                if "tok2" in piece:
                    break
        await until(lambda: last_call(gw)["closed_early"], timeout_s=1)
        assert (await until(gw.requests))[-1]["status"] == 499
        await settled(gw)


async def test_a_wait_is_kept_and_a_refusal_is_not_repeated() -> None:
    """F27, F37, F137: by a client that would try again twice."""
    async with anthropic_client("seq=529|200,retry_after_ms=200", retries=2) as (gw, sdk):
        begun_s = time.monotonic()
        assert text_of(await sdk.messages.create(**ASK)) == ANSWER
        assert time.monotonic() - begun_s >= 0.2 and len(gw.mock.log.entries()) == 2
    async with anthropic_client("status=403", retries=2) as (gw, sdk):
        with pytest.raises(anthropic.InternalServerError):
            await sdk.messages.create(**ASK)
        assert len(gw.mock.log.entries()) == 1
