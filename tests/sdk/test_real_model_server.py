"""A real model server as upstream: llama.cpp's, by way of `llama-cpp-python[server]`, with a model made on the spot.

It is built from source for minutes, so it is not among the test dependencies: these tests are skipped unless
`LLAMA_PYTHON` names a Python that has it. CONTRIBUTING.md has the commands.
"""

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.gateway.calls import settled
from tests.gateway.harness import Gateway, gateway
from tests.gateway.waiting import until
from tests.sdk.tiny_model import CONTEXT, write_model

pytestmark = pytest.mark.anyio

START_S = 60.0
_ADDRESS = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")
_CONFIG = """
apiVersion: gateway/v1
server: {listen: "127.0.0.1:0", admin: "127.0.0.1:0", drain: 5s}
targets:
  llama: {provider: openai, base_url: SERVER/v1, model: tiny}
routes:
  - {model: demo, target: llama}
"""
ASK: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}
LONG = CONTEXT - 200
"""Tokens that take the server seconds."""


@dataclass(frozen=True, slots=True)
class ModelServer:
    """The server, and what it says on its output."""

    url: str
    log: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """The model server, started once for this file."""
    python = os.environ.get("LLAMA_PYTHON") or (sys.executable if importlib.util.find_spec("llama_cpp") else "")
    if not python:
        pytest.skip("llama-cpp-python[server] is not installed, and LLAMA_PYTHON names no Python that has it")
    folder = tmp_path_factory.mktemp("llama")
    write_model(folder / "tiny.gguf")
    log = folder / "server.log"
    command = [python, "-u", "-m", "llama_cpp.server", "--model", str(folder / "tiny.gguf"), "--model_alias", "tiny"]
    command += ["--chat_format", "chatml", "--n_ctx", str(CONTEXT), "--n_threads", "1", "--embedding", "true"]
    command += ["--host", "127.0.0.1", "--port", "0"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            yield ModelServer(_address(process, log), log)
        finally:
            process.terminate()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    limit_s = time.monotonic() + START_S
    while time.monotonic() < limit_s:
        found = _ADDRESS.search(log.read_text("utf-8", "replace"))
        if found is not None:
            return found[1]
        assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
        time.sleep(0.1)
    raise AssertionError(log.read_text("utf-8", "replace")[-3000:])


@asynccontextmanager
async def client(server: ModelServer) -> AsyncIterator[tuple[Gateway, openai.AsyncOpenAI]]:
    """A gateway before `server`, and the official client before the gateway."""
    async with (
        gateway(_CONFIG.replace("SERVER", server.url)) as gw,
        openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="any", max_retries=0) as sdk,
    ):
        yield gw, sdk


async def test_a_real_model_answers_whole_and_in_a_stream(server: ModelServer) -> None:
    """F53: this server has no usage in streams, asked for or not; it is estimated, and marked so."""
    async with client(server) as (gw, sdk):
        whole = await sdk.chat.completions.create(**ASK, max_tokens=40)
        assert whole.model == "tiny" and whole.choices[0].finish_reason == "length"
        assert whole.usage and whole.usage.completion_tokens == 40
        for asked in (ASK, ASK | {"stream_options": {"include_usage": True}}):
            run = await sdk.chat.completions.create(**asked, max_tokens=40, stream=True)
            chunks = [chunk async for chunk in run]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert text == whole.choices[0].message.content and len(text.split()) == 40
            assert chunks[-1].choices[0].finish_reason == "length" and chunks[-1].usage is None
        lines = gw.requests()
        assert [line["usage_source"] for line in lines] == ["provider", "estimated", "estimated"]
        assert [line["output_tokens"] for line in lines] == [40, 40, 40]
        assert lines[0]["input_tokens"] == whole.usage.prompt_tokens and lines[1]["input_tokens"] > 0
        assert {(line["outcome"], line["model_served"]) for line in lines} == {("ok", "tiny")}


async def test_a_real_model_completes_and_embeds(server: ModelServer) -> None:
    """F103: this server's own parameters pass (`top_k`, `repeat_penalty`)."""
    async with client(server) as (gw, sdk):
        extra = {"top_k": 1, "repeat_penalty": 1.3}
        whole = await sdk.completions.create(model="demo", prompt="fuku", max_tokens=8, extra_body=extra)
        run = await sdk.completions.create(model="demo", prompt="fuku", max_tokens=8, stream=True, extra_body=extra)
        assert "".join([chunk.choices[0].text async for chunk in run]) == whole.choices[0].text
        vectors = await sdk.embeddings.create(model="demo", input="fuku", encoding_format="float")
        assert vectors.data[0].embedding
        assert {line["outcome"] for line in gw.requests()} == {"ok"}


async def test_a_real_servers_refusal_keeps_its_words(server: ModelServer) -> None:
    """F133: a prompt that is longer than the context."""
    async with client(server) as (gw, sdk):
        turn: Any = {"role": "user", "content": "fuku " * CONTEXT}
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk.chat.completions.create(model="demo", messages=[turn], max_tokens=8)
        assert refused.value.code == "context_length_exceeded" and str(CONTEXT) in refused.value.message
        assert gw.requests()[-1]["outcome"] == "client_error"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_a_real_model(server: ModelServer, stream: bool) -> None:
    """F1, F3: a stream ends at once, and the next caller finds the model free; a whole answer's connection closes."""
    async with client(server) as (gw, sdk):
        before = server.log.read_bytes().count(b"isconnected")
        if stream:
            run = await sdk.chat.completions.create(**ASK, max_tokens=LONG, stream=True)
            async for chunk in run:
                if chunk.choices[0].delta.content:
                    break
            await run.close()
            await until(lambda: server.log.read_bytes().count(b"isconnected") > before, timeout_s=2)
        else:
            with pytest.raises(openai.APITimeoutError):
                await sdk.chat.completions.create(**ASK, max_tokens=LONG, timeout=0.3)
        line = (await until(gw.requests))[-1]
        assert (line["status"], line["outcome"]) == (499, "client_gone")
        await settled(gw)
        if stream:
            assert line["output_tokens"] < LONG / 2 and line["usage_source"] == "estimated"
            begun_s = time.monotonic()
            await sdk.chat.completions.create(**ASK, max_tokens=4)
            assert time.monotonic() - begun_s < 1.0


async def test_a_stream_that_a_real_server_breaks_off_is_an_error(server: ModelServer) -> None:
    """F18: this one drops a stream when another request comes, with a `[DONE]` in mid-sentence."""
    async with client(server) as (gw, sdk):
        run = await sdk.chat.completions.create(**ASK, max_tokens=LONG, stream=True)
        chunks = aiter(run)
        await anext(chunks)
        second = asyncio.ensure_future(sdk.chat.completions.create(**ASK, max_tokens=4))
        with pytest.raises(openai.APIError) as broken:
            async for _ in chunks:
                pass
        assert broken.value.message and not isinstance(broken.value, openai.APIConnectionError)
        assert (await second).choices[0].finish_reason == "length"
        outcomes = sorted(line["outcome"] for line in await until(lambda: _lines(gw, 2)))
        assert outcomes == ["ok", "truncated"]


def _lines(gw: Gateway, count: int) -> list[dict[str, Any]]:
    found = gw.requests()
    return found if len(found) >= count else []
