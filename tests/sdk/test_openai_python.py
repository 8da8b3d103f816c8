"""The official Python client of OpenAI, with nothing changed but its base URL and key: what works."""

import asyncio
import base64
import hashlib
import io
import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.gateway.calls import settled
from tests.gateway.harness import gateway
from tests.gateway.waiting import until
from tests.sdk.clients import ANSWER, CONFIG, KEY, QUESTION, last_call, openai_client

pytestmark = pytest.mark.anyio

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
SECOND: Any = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}


async def test_chat_answers_and_its_request_id_is_in_the_log() -> None:
    """F134: one id for the client, the log and whoever asks later."""
    async with openai_client() as at:
        chat = await at.sdk.chat.completions.create(model="demo", messages=QUESTION)
        assert chat.choices[0].message.content == ANSWER and chat.choices[0].finish_reason == "stop"
        assert chat.usage and (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (1, 16)
        line = (await until(at.gw.requests))[-1]
        assert line["request_id"] == chat._request_id
        assert (line["key"], line["route"], line["outcome"], line["output_tokens"]) == ("app", "demo", "ok", 16)
        raw = await at.sdk.chat.completions.with_raw_response.create(model="demo", messages=QUESTION)
        assert raw.headers["x-gateway-route"] == "demo" and raw.headers["x-gateway-attempts"] == "1"
        assert last_call(at.gw)["body_sha256"] == at.sent.digests[-1]


async def test_the_synchronous_client_works_too() -> None:
    """F133: its own connection pool, in another thread."""
    async with openai_client() as at:

        def ask() -> tuple[str | None, str]:
            with openai.OpenAI(base_url=f"{at.gw.url}/v1", api_key=KEY, max_retries=0) as sdk:
                chat = sdk.chat.completions.create(model="demo", messages=QUESTION)
                pieces = sdk.chat.completions.create(model="demo", messages=QUESTION, stream=True)
                return chat.choices[0].message.content, "".join(each.choices[0].delta.content or "" for each in pieces)

        assert await asyncio.to_thread(ask) == (ANSWER, ANSWER)


async def test_a_stream_has_usage_only_when_asked() -> None:
    """F53, F135: the gateway asks for it on its own account and keeps that from the client."""
    async with openai_client() as at:
        asked = await at.sdk.chat.completions.create(
            model="demo", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in asked]
        assert [len(chunk.choices) for chunk in chunks] == [1] * (len(chunks) - 1) + [0]
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 16
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == ANSWER
        assert last_call(at.gw)["body_sha256"] == at.sent.digests[-1]
        unasked = await at.sdk.chat.completions.create(model="demo", messages=QUESTION, stream=True)
        chunks = [chunk async for chunk in unasked]
        assert all(chunk.choices and "usage" not in chunk.model_fields_set for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert [line["output_tokens"] for line in at.gw.requests()] == [16, 16]
        assert {line["usage_source"] for line in at.gw.requests()} == {"provider"}


async def test_the_stream_helper_puts_an_answer_together() -> None:
    """F135: `chat.completions.stream`, whose state machine wants every chunk in its place."""
    async with (
        openai_client() as at,
        at.sdk.chat.completions.stream(model="demo", messages=QUESTION, stream_options={"include_usage": True}) as run,
    ):
        kinds = [event.type async for event in run]
        final = await run.get_final_completion()
        assert {"chunk", "content.delta", "content.done"} <= set(kinds)
        assert final.choices[0].message.content == ANSWER and final.usage and final.usage.completion_tokens == 16


async def test_a_client_that_leaves_a_stream_stops_the_provider() -> None:
    """F1: the way applications leave: out of the loop, and the response is closed."""
    async with openai_client("tokens=1000,gap=20") as at:
        run = await at.sdk.chat.completions.create(model="demo", messages=QUESTION, stream=True)
        async for chunk in run:
            if "tok2" in (chunk.choices[0].delta.content or ""):
                break
        await run.close()
        await until(lambda: last_call(at.gw)["closed_early"], timeout_s=1)
        assert last_call(at.gw)["tokens_sent"] < 40
        assert (await until(at.gw.requests))[-1]["status"] == 499
        await settled(at.gw)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_time"}}], ids=str)
async def test_tools_are_called_in_one_piece_and_in_a_stream(choice: Any) -> None:
    """F103: tools pass through as they are written, and calls come back as they are made."""
    expected = "get_weather" if choice == "required" else "get_time"
    async with openai_client() as at:
        ask: dict[str, Any] = {"model": "demo", "messages": QUESTION, "tools": [WEATHER, SECOND], "tool_choice": choice}
        chat = await at.sdk.chat.completions.create(**ask)
        calls = chat.choices[0].message.tool_calls
        assert chat.choices[0].finish_reason == "tool_calls" and calls
        assert calls[0].type == "function" and calls[0].function.name == expected
        assert json.loads(calls[0].function.arguments) == {}
        assert last_call(at.gw)["body_sha256"] == at.sent.digests[-1]
        async with at.sdk.chat.completions.stream(**ask) as run:
            final = await run.get_final_completion()
        streamed = final.choices[0].message.tool_calls
        assert streamed and streamed[0].function.name == expected and streamed[0].function.arguments == "{}"
        answered = [
            *QUESTION,
            chat.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": calls[0].id, "content": "12:00"},
        ]
        done = await at.sdk.chat.completions.create(model="demo", messages=answered)
        assert done.choices[0].message.content == ANSWER
        assert last_call(at.gw)["body_sha256"] == at.sent.digests[-1]


async def test_a_picture_in_a_data_uri_reaches_the_provider_byte_for_byte() -> None:
    """F103, F105: half a megabyte of base64, and a URL that nobody fetches."""
    picture = base64.b64encode(hashlib.shake_128(b"picture").digest(400_000)).decode()
    parts: list[Any] = [
        {"type": "text", "text": "What is this? \u00e9\u2028\U0001f600"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}},
    ]
    async with openai_client() as at:
        chat = await at.sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": parts}])
        assert chat.choices[0].message.content == ANSWER
        (call,) = at.gw.mock.log.entries()
        assert call["body_sha256"] == at.sent.digests[-1] and isinstance(call["body_bytes"], int)
        assert call["body_bytes"] > 500_000


async def test_structured_output_is_parsed() -> None:
    """F103: `response_format` with a schema passes through; the mock says what it was asked to say."""

    class Point(BaseModel):
        x: int
        y: int

    async with openai_client("echo") as at:
        told: list[Any] = [{"role": "user", "content": '{"x": 1, "y": 2}'}]
        chat = await at.sdk.chat.completions.parse(model="demo", messages=told, response_format=Point)
        assert chat.choices[0].message.parsed == Point(x=1, y=2)


async def test_a_model_is_served_under_another_name() -> None:
    """The name that the client asks for is the route's; what served it is in the answer."""
    async with openai_client() as at:
        chat = await at.sdk.chat.completions.create(model="served-large", messages=QUESTION, user="u-1")
        assert last_call(at.gw)["model"] == "demo-2026" and chat.model == "demo-2026"
        line = (await until(at.gw.requests))[-1]
        assert (line["model_requested"], line["model_served"]) == ("served-large", "demo-2026")


async def test_completions_answer_whole_and_in_a_stream() -> None:
    """F133."""
    async with openai_client() as at:
        whole = await at.sdk.completions.create(model="demo", prompt="hi")
        assert whole.choices[0].text == ANSWER and whole.usage and whole.usage.completion_tokens == 16
        run = await at.sdk.completions.create(model="demo", prompt="hi", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in run]) == ANSWER


async def test_embeddings_come_as_floats_and_as_base64() -> None:
    """The client asks for base64 unless told otherwise, and decodes it."""
    async with openai_client() as at:
        decoded = await at.sdk.embeddings.create(model="demo", input=["one", "two"])
        floats = await at.sdk.embeddings.create(model="demo", input=["one", "two"], encoding_format="float")
        packed = await at.sdk.embeddings.create(model="demo", input="one", encoding_format="base64")
        short = await at.sdk.embeddings.create(model="demo", input=[[1, 2, 3]], dimensions=8)
        assert [len(each.embedding) for each in floats.data] == [len(each.embedding) for each in decoded.data]
        assert floats.data[0].embedding == pytest.approx(decoded.data[0].embedding, rel=1e-6)
        assert isinstance(packed.data[0].embedding, str) and base64.b64decode(packed.data[0].embedding)
        assert len(short.data[0].embedding) == 8
        assert all(line["outcome"] == "ok" and line["input_tokens"] for line in at.gw.requests())


async def test_responses_answer_whole_streamed_and_with_tools() -> None:
    """F135: every event in its order, the usage in the last."""
    tool: Any = {"type": "function", "name": "get_time", "parameters": {"type": "object"}, "strict": False}
    async with openai_client() as at:
        whole = await at.sdk.responses.create(model="demo", input="hi")
        assert whole.output_text == ANSWER and whole.status == "completed"
        assert whole.usage and whole.usage.output_tokens == 16
        events = [event async for event in await at.sdk.responses.create(model="demo", input="hi", stream=True)]
        assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
        assert [event.sequence_number for event in events] == list(range(len(events)))
        async with at.sdk.responses.stream(model="demo", input="hi") as run:
            final = await run.get_final_response()
        assert final.output_text == ANSWER
        called = await at.sdk.responses.create(model="demo", input="hi", tools=[tool], tool_choice="required")
        assert called.output[0].type == "function_call" and called.output[0].name == "get_time"
        image: Any = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}]
        await at.sdk.responses.create(model="demo", input=image)
        assert last_call(at.gw)["body_sha256"] == at.sent.digests[-1]
        assert [line["output_tokens"] for line in at.gw.requests()] == [16, 16, 16, 1, 16]


async def test_models_are_those_that_the_key_may_use() -> None:
    """F133: a glob is no name, so it is not listed; a name that it matches can be looked up."""
    async with openai_client() as at:
        assert [model.id async for model in at.sdk.models.list()] == ["demo", "slow"]
        assert (await at.sdk.models.retrieve("served-large")).id == "served-large"
        for name in ("gone", "secret"):
            with pytest.raises(openai.NotFoundError) as missing:
                await at.sdk.models.retrieve(name)
            assert missing.value.code == "model_not_found"


async def test_azures_client_speaks_through_deployments() -> None:
    """F138: the key in `api-key`, the model in the path, every operation that Azure has by deployment."""
    async with (
        gateway(CONFIG) as gw,
        openai.AsyncAzureOpenAI(
            azure_endpoint=gw.url, api_key=KEY, api_version="2025-01-01-preview", max_retries=0
        ) as sdk,
    ):
        chat = await sdk.chat.completions.create(model="demo", messages=QUESTION)
        assert chat.choices[0].message.content == ANSWER
        run = await sdk.chat.completions.create(model="demo", messages=QUESTION, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in run if chunk.choices]) == ANSWER
        assert (await sdk.completions.create(model="demo", prompt="hi")).choices[0].text == ANSWER
        assert (await sdk.embeddings.create(model="demo", input="hi")).data[0].embedding
        sound = await sdk.audio.speech.create(model="demo", input="hi", voice="alloy")
        assert len(await sound.aread()) == 16 * 1024
        with pytest.raises(openai.NotFoundError) as missing:
            await sdk.chat.completions.create(model="gone", messages=QUESTION)
        assert missing.value.code == "model_not_found" and missing.value.request_id
        with pytest.raises(openai.AuthenticationError):
            await sdk.with_options(api_key="wrong").chat.completions.create(model="demo", messages=QUESTION)
        assert {line["route"] for line in gw.requests() if line["outcome"] == "ok"} == {"demo"}


async def test_files_go_up_are_listed_and_come_back() -> None:
    """F89: multipart as the client writes it; pages, content and deletion."""
    content = bytes(range(256)) * 400
    async with openai_client() as at:
        made = await at.sdk.files.create(file=("batch.jsonl", io.BytesIO(content)), purpose="batch")
        assert (made.bytes, made.filename, made.purpose) == (len(content), "batch.jsonl", "batch")
        assert [each.id async for each in at.sdk.files.list(limit=5)] == [made.id]
        assert last_call(at.gw)["query"] == "limit=5"
        assert (await at.sdk.files.content(made.id)).content == content
        assert (await at.sdk.files.retrieve(made.id)).id == made.id
        assert (await at.sdk.files.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError) as missing:
            await at.sdk.files.retrieve(made.id)
        assert missing.value.request_id
        asked = {"input_file_id": made.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = await at.sdk.batches.create(**asked)  # type: ignore[arg-type]
        assert (await at.sdk.batches.retrieve(batch.id)).id == batch.id
        assert [each.id async for each in at.sdk.batches.list()] == [batch.id]
        assert (await at.sdk.batches.cancel(batch.id)).status == "cancelling"
        headed = at.sdk.with_options(default_headers={"x-gateway-route": "served-*"})
        await headed.files.create(file=("a.txt", b"text"), purpose="user_data")
        assert (await until(at.gw.requests))[-1]["target"] == "named"


async def test_sounds_pictures_and_moderations_pass() -> None:
    """F90, F103: binary down, multipart up, JSON both ways."""
    sound = hashlib.shake_128(b"sound").digest(300_000)
    async with openai_client() as at:
        speech = await at.sdk.audio.speech.create(model="demo", input="hello", voice="alloy")
        assert len(await speech.aread()) == 16 * 1024
        async with at.sdk.audio.speech.with_streaming_response.create(
            model="demo", input="hello", voice="alloy", response_format="wav"
        ) as run:
            assert run.headers["content-type"] == "audio/wav"
            assert len(b"".join([piece async for piece in run.iter_bytes()])) == 16 * 1024
        heard = await at.sdk.audio.transcriptions.create(file=("a.mp3", sound), model="demo")
        assert heard.to_dict()["file_sha256"] == hashlib.sha256(sound).hexdigest()
        verdict = await at.sdk.moderations.create(model="demo", input=["kind", "violence"])
        assert [result.flagged for result in verdict.results] == [False, True]
        picture = await at.sdk.images.generate(model="demo", prompt="a dot", n=2)
        assert picture.data and len(picture.data) == 2 and picture.data[0].b64_json
        edited = await at.sdk.images.edit(image=("a.png", sound), prompt="a dot", model="demo")
        assert edited.data
        await settled(at.gw)
