"""Webhooks, from the configuration to the calls that tell them."""

import asyncio
import random

import pytest

from gateway.assembly.hooks import Caller, open_webhooks, wanted
from tests.fakes import MOCK_CONFIG, FakeClock, Sightings, loaded

pytestmark = pytest.mark.anyio

TEXT = MOCK_CONFIG + (
    "webhooks:\n"
    "  - {url: env:HOOK_URL, events: [budget, store], headers: {x-token: env:HOOK_TOKEN}}\n"
    "  - {url: env:NOT_SET}\n"
)


def test_only_those_whose_secrets_are_there_are_told() -> None:
    environ = {"HOOK_URL": "https://hooks.example/abc", "HOOK_TOKEN": "t"}
    [hook] = wanted(loaded(TEXT, environ).config)
    assert (hook.url, hook.kinds, hook.headers) == (
        "https://hooks.example/abc",
        frozenset({"budget", "store"}),
        {"x-token": "t"},
    )
    assert "abc" not in repr(hook)


async def test_an_event_is_posted_to_a_real_server() -> None:
    got: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        got.append(head + await reader.readexactly(size))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    environ = {"HOOK_URL": f"http://127.0.0.1:{port}/secret-path", "HOOK_TOKEN": "t"}
    clock = FakeClock()
    caller = Caller(Sightings(clock).tracer)
    webhooks = open_webhooks(caller, clock, random.Random(1))
    async with server:
        webhooks.configure("prod", wanted(loaded(TEXT, environ).config))
        webhooks.notify("budget_alert", {"limit": "team"})
        webhooks.notify("breaker_opened", {"target": "a"})
        await webhooks.aclose(5.0)
        await caller.aclose()
    [post] = got
    assert post.startswith(b"POST /secret-path HTTP/1.1")
    assert b'"event":"budget_alert"' in post and b'"limit":"team"' in post
    assert webhooks.counts == {"sent": 1, "failed": 0, "dropped": 0}


async def test_a_caller_that_was_never_used_has_nothing_to_close() -> None:
    caller = Caller(Sightings(FakeClock()).tracer)
    await caller.aclose()
    with pytest.raises(ConnectionError):
        await caller.post("http://127.0.0.1:1/", {}, b"{}")
    await caller.aclose()
