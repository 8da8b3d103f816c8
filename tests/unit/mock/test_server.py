"""The server in this process, as a process of its own, and the official SDKs against it."""

import asyncio
import os
import signal
import socket
import sys

import anthropic
import openai
import pytest

from gateway.mock.server import MockServer, parse_listen, run, serve
from tests.unit.mock.raw import chat_http, exchange, serving


@pytest.mark.parametrize(
    ("listen", "parsed"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        (":0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_a_listen_address_is_host_and_port(listen: str, parsed: tuple[str, int]) -> None:
    assert parse_listen(listen) == parsed


@pytest.mark.parametrize("listen", ["", "9000", "host", "host:", "host:http", "host:70000", "::1:80"])
def test_another_listen_address_is_refused(listen: str) -> None:
    with pytest.raises(ValueError, match="is no listen address"):
        parse_listen(listen)


@pytest.mark.anyio
async def test_it_listens_until_it_is_closed() -> None:
    server = MockServer()
    await server.start()
    assert server.url == f"http://127.0.0.1:{server.port}"
    waiting = asyncio.open_connection("127.0.0.1", server.port)
    reader, writer = await waiting
    writer.write(chat_http("latency=60s"))
    while server.stats.inflight == 0:
        await asyncio.sleep(0)
    await server.aclose()
    await server.aclose()
    assert await reader.read() == b""
    assert server.stats.inflight == 0
    assert server.log.entries()[0]["closed_early"] is False
    writer.close()


@pytest.mark.anyio
async def test_it_is_reached_over_ipv6_too() -> None:
    server = MockServer()
    try:
        await server.start("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    assert server.url.startswith("http://[::1]:")
    await server.aclose()


@pytest.mark.anyio
async def test_a_reset_forgets_the_calls() -> None:
    async with serving() as server:
        await exchange(server, chat_http(""))
        assert len(server.log) == 1
        server.reset()
        assert len(server.log) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_exit_code_0(signum: signal.Signals) -> None:
    program = "import sys; from gateway.mock.server import run; sys.exit(run('127.0.0.1:0'))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    line = await process.stderr.readline()
    assert line.startswith(b"mock model server on http://127.0.0.1:")
    process.send_signal(signum)
    assert await process.wait() == 0
    assert await process.stderr.read() == b""


@pytest.mark.anyio
async def test_serving_ends_on_sigterm(capsys: pytest.CaptureFixture[str]) -> None:
    serving_task = asyncio.ensure_future(serve("127.0.0.1:0", log_calls=False))
    while "mock model server" not in capsys.readouterr().err:
        await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await serving_task
    assert serving_task.done()


def test_an_address_that_cannot_be_had_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert run(f"127.0.0.1:{taken.getsockname()[1]}") == 1
    assert "mock: " in capsys.readouterr().err
    assert run("nonsense", loop_factory=asyncio.new_event_loop) == 1
    assert "is no listen address" in capsys.readouterr().err


@pytest.mark.anyio
async def test_the_openai_sdk_reads_every_answer() -> None:
    async with serving() as server, openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as sdk:
        chat = await sdk.chat.completions.create(model="demo:tokens=2", messages=[{"role": "user", "content": "hi"}])
        assert chat.choices[0].message.content == "tok1 tok2"
        assert chat._request_id is not None
        stream = await sdk.chat.completions.create(
            model="demo:tokens=2",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 2
        text = await sdk.completions.create(model="demo", prompt="hi", max_tokens=1)
        assert text.choices[0].text == "tok1"
        vectors = await sdk.embeddings.create(model="demo", input=["a", "b"])
        assert [len(row.embedding) for row in vectors.data] == [1536, 1536]
        response = await sdk.responses.create(model="demo:tokens=2", input="hi")
        assert response.output_text == "tok1 tok2"
        async with sdk.responses.stream(model="demo:tokens=2", input="hi") as deltas:
            assert (await deltas.get_final_response()).output_text == "tok1 tok2"
        assert "demo" in [model.id async for model in sdk.models.list()]
        assert (await sdk.models.retrieve("mine")).id == "mine"


@pytest.mark.anyio
async def test_the_openai_sdk_reads_tools_and_relays() -> None:
    async with serving() as server, openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as sdk:
        called = await sdk.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "hi"}],
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
            tool_choice="required",
        )
        calls = called.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].type == "function"
        assert (calls[0].function.name, calls[0].function.arguments) == ("f", "{}")
        async with sdk.chat.completions.stream(
            model="demo",
            messages=[{"role": "user", "content": "call f"}],
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        ) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].finish_reason == "tool_calls"
        assert not (await sdk.moderations.create(input="hi")).results[0].flagged
        assert len((await sdk.audio.speech.create(model="tts", voice="alloy", input="hi")).content) == 16 * 1024
        heard = await sdk.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"abc"))
        assert heard.text == "A sound of 3 bytes."
        images = await sdk.images.generate(model="m", prompt="a cat")
        assert images.data is not None
        made = await sdk.files.create(file=("a.jsonl", b"{}"), purpose="batch")
        assert (await sdk.files.content(made.id)).content == b"{}"
        batch = await sdk.batches.create(
            input_file_id=made.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert (await sdk.batches.cancel(batch.id)).status == "cancelling"
        assert (await sdk.files.delete(made.id)).deleted


@pytest.mark.anyio
async def test_the_openai_sdk_raises_what_the_mock_refuses() -> None:
    """F15, F133."""
    async with serving() as server, openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as sdk:
        with pytest.raises(openai.RateLimitError) as limited:
            await sdk.chat.completions.create(model="demo:status=429", messages=[{"role": "user", "content": "hi"}])
        assert (limited.value.code, limited.value.type) == ("rate_limit_exceeded", "requests")
        assert limited.value.request_id is not None
        with pytest.raises(openai.APIError, match="had an error"):
            async for _ in await sdk.chat.completions.create(
                model="demo:error_after=1", messages=[{"role": "user", "content": "hi"}], stream=True
            ):
                pass


@pytest.mark.anyio
async def test_the_azure_sdk_reads_the_deployment_paths() -> None:
    """F138."""
    async with (
        serving() as server,
        openai.AsyncAzureOpenAI(azure_endpoint=server.url, api_key="k", api_version="2024-10-21", max_retries=0) as sdk,
    ):
        chat = await sdk.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "hi"}])
        assert chat.model == "gpt"
        assert len((await sdk.embeddings.create(model="e", input="a", dimensions=4)).data[0].embedding) == 4
        assert {entry["query"] for entry in server.log.entries()} == {"api-version=2024-10-21"}


@pytest.mark.anyio
async def test_the_anthropic_sdk_reads_every_answer() -> None:
    """F15, F17."""
    async with serving() as server, anthropic.AsyncAnthropic(base_url=server.url, api_key="k", max_retries=0) as sdk:
        message = await sdk.messages.create(
            model="demo:tokens=2", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        )
        assert message.content[0].type == "text"
        assert message.usage.output_tokens == 2
        async with sdk.messages.stream(
            model="demo:tokens=3", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            final = await stream.get_final_message()
        assert final.content[0].type == "text"
        assert (final.content[0].text, final.usage.output_tokens) == ("tok1 tok2 tok3", 3)
        counted = await sdk.messages.count_tokens(model="demo", messages=[{"role": "user", "content": "a b"}])
        assert counted.input_tokens == 2
        async with sdk.messages.stream(
            model="demo",
            max_tokens=9,
            messages=[{"role": "user", "content": "hi"}],
            tools=[{"name": "f", "input_schema": {"type": "object"}}],
            tool_choice={"type": "any"},
        ) as stream:
            final = await stream.get_final_message()
        assert final.content[0].type == "tool_use"
        assert (final.content[0].name, final.content[0].input) == ("f", {})
        with pytest.raises(anthropic.APIStatusError) as overloaded:
            async with sdk.messages.stream(
                model="demo:error_after=1", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
            ) as stream:
                await stream.get_final_message()
        assert overloaded.value.type == "overloaded_error"
        with pytest.raises(anthropic.RateLimitError):
            await sdk.messages.create(
                model="demo:status=429", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
            )
        assert "demo" in [model.id async for model in sdk.models.list()]
