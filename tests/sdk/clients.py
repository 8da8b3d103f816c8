"""What the tests of official clients share: a gateway with keys, and clients that note the bytes they send."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx2
import openai

from tests.gateway.harness import Gateway, gateway

KEY = "sdk-client-key"

CONFIG = f"""
apiVersion: gateway/v1
server: {{listen: "127.0.0.1:0", admin: "127.0.0.1:0", drain: 5s, default_route: demo}}
keys:
  - {{id: app, hash: "sha256:{hashlib.sha256(KEY.encode()).hexdigest()}", models: [demo, "served-*", slow, gone]}}
targets:
  mock: {{provider: mock, base_url: MOCK_URL}}
  named: {{extends: mock, model: demo-2026}}
  slow: {{extends: mock, timeouts: {{first_token: 200ms, total: 500ms}}}}
routes:
  - {{model: demo, target: mock}}
  - {{model: "served-*", target: named}}
  - {{model: slow, target: slow}}
  - {{model: secret, target: mock}}
"""
"""`KEY` may use everything but `secret`; there is no route for `gone`."""

QUESTION: list[Any] = [{"role": "user", "content": "hi"}]
ANSWER = " ".join(f"tok{n}" for n in range(1, 17))
"""What the mock says to anything, in its 16 tokens."""


@dataclass(slots=True)
class Sent:
    """The bodies of a client's requests, in order: their SHA-256, and what retries said of themselves."""

    digests: list[str] = field(default_factory=list)
    retry_counts: list[str] = field(default_factory=list)

    async def note(self, request: httpx2.Request) -> None:
        """For a client's event hooks."""
        self.digests.append(hashlib.sha256(await request.aread()).hexdigest())
        self.retry_counts.append(request.headers.get("x-stainless-retry-count", ""))


@dataclass(slots=True)
class OpenAI:
    """The official client, at a gateway."""

    gw: Gateway
    sdk: openai.AsyncOpenAI
    sent: Sent


@asynccontextmanager
async def openai_client(mock: str = "", *, key: str = KEY, retries: int = 0) -> AsyncIterator[OpenAI]:
    """A gateway and an OpenAI client that knows its base URL and `key`; `mock` goes along as `x-mock`."""
    sent = Sent()
    async with (
        gateway(CONFIG) as gw,
        openai.AsyncOpenAI(
            base_url=f"{gw.url}/v1",
            api_key=key,
            max_retries=retries,
            default_headers={"x-mock": mock} if mock else None,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"request": [sent.note]}),
        ) as sdk,
    ):
        yield OpenAI(gw, sdk, sent)


@asynccontextmanager
async def anthropic_client(
    mock: str = "", *, api_key: str | None = KEY, auth_token: str | None = None, retries: int = 0
) -> AsyncIterator[tuple[Gateway, anthropic.AsyncAnthropic]]:
    """A gateway and an Anthropic client that knows its base URL and one of the two credentials."""
    async with (
        gateway(CONFIG) as gw,
        anthropic.AsyncAnthropic(
            base_url=gw.url,
            api_key=api_key,
            auth_token=auth_token,
            max_retries=retries,
            default_headers={"x-mock": mock} if mock else None,
        ) as sdk,
    ):
        yield gw, sdk


def last_call(gw: Gateway) -> dict[str, Any]:
    """What the provider was asked last."""
    return gw.mock.log.entries()[-1]
