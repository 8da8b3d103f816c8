"""Questions in other words for the tests of the semantic cache, and a model server whose every answer is chosen."""

import asyncio
import hashlib
import json
import math
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx

from tests.gateway.harness import PLAIN, Gateway
from tests.gateway.waiting import until

ENTRY = "x-gateway-cache-entry"
REASON = "x-gateway-cache-reason"
PRICED = PLAIN.replace("provider: mock,", "provider: mock, price: {request: $0.10},")
BY_MOCK = "cache: {embedder: target:mock, embed_timeout: 5s}\n"
"""Vectors by the mock: texts that share words are near each other."""
FIRST = "How do I reset my password?"
AGAIN = "How can I reset my password?"
"""The same in other words: five words of six are shared, and by the mock's vectors they are 0.82 alike."""
_DIMENSIONS = 64
_SPREAD = 0.15
_LEADS = (
    *("how do I", "how can I", "how could I", "how would I", "how should I", "what is the way to", "how to"),
    *(
        "please tell me how to",
        "can you tell me how to",
        "could you tell me how to",
        "explain how to",
        "tell me how to",
    ),
    *("could you please explain how to", "kindly tell me how to", "hello, how do I", "hi, how can I"),
    *("I want to know how to", "I would like to know how to", "show me how to", "what's the best way to"),
)
_TAILS = ("my {}", "the {}", "my {} please", "my {}, thanks")


def wordings(thing: str = "password") -> list[str]:
    """Eighty ways of asking how to reset a thing, no two of which any guard tells apart."""
    return [f"{lead} reset {tail.format(thing)}" for tail in _TAILS for lead in _LEADS]


def similar(semantic: str = "{mode: static, threshold: 0.8}", *, cached: str = "exact: 1h", more: str = BY_MOCK) -> str:
    """One priced target behind the route `demo`, with this semantic cache."""
    return PRICED.replace("target: mock}", f"target: mock, cache: {{{cached}, semantic: {semantic}}}}}") + more


def said(text: str, **more: Any) -> dict[str, Any]:
    """The body of a chat with one message."""
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **more}


async def ask(
    gw: Gateway, text: str, *, key: str = "", body: dict[str, Any] | None = None, **headers: str
) -> httpx.Response:
    """A chat with one message, answered with a 200; `body`: further members. `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        named["authorization"] = f"Bearer {key}"
    answer = await gw.client.post("/v1/chat/completions", json=said(text) | (body or {}), headers=named)
    assert answer.status_code == 200, answer.text
    return answer


def told(answer: httpx.Response) -> str:
    """What the cache says of a reply: `semantic open`, `miss far`, `hit`."""
    return f"{answer.headers['x-gateway-cache']} {answer.headers.get(REASON, '')}".strip()


async def complain(gw: Gateway, entry: str, *, key: str = "") -> httpx.Response:
    """Say that a stored reply was wrong."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return await gw.client.post("/v1/cache/feedback", json={"entry": entry, "wrong": True}, headers=headers)


async def chats(gw: Gateway) -> list[dict[str, Any]]:
    """What the mock was asked but for vectors."""
    return [call for call in await gw.calls() if not str(call["path"]).endswith("/embeddings")]


async def why(gw: Gateway, answer: httpx.Response) -> str:
    """What the gateway tells an operator about a request, as text."""
    return (await gw.admin.get(f"/admin/v1/requests/{answer.headers['x-request-id']}")).text


@cache
def near(text: str) -> tuple[float, ...]:
    """A vector by which texts about one thing are about 0.98 alike, and others 0. The thing is what `reset` names."""
    found = re.search(r"reset (?:my|the) (\w+)", text)
    axis = int(hashlib.sha256((found[1] if found else text).encode()).hexdigest(), 16) % _DIMENSIONS
    rng = random.Random(text)
    stray = [rng.gauss(0, 1) for _ in range(_DIMENSIONS)]
    length = math.sqrt(sum(each * each for each in stray))
    return tuple(float(at == axis) + _SPREAD * each / length for at, each in enumerate(stray))


@dataclass(slots=True)
class World:
    """A model server. What it does can be changed at any time; unchanged, it answers `yes` to everything."""

    url: str = ""
    answer: Callable[[str], str] = lambda _: "yes"
    """A chat's last message -> the answer."""
    verdict: Callable[[str], str] = lambda _: "equal"
    """What a judge is asked -> its word."""
    vector: Callable[[str], Any] = near
    failing: int = 0
    """The status of every answer to a request for vectors, if it is to fail; and to a judge's, where `judge_fails`."""
    judge_fails: bool = False
    going: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, no vectors are given."""
    judging: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, judges say nothing."""
    asked: list[str] = field(default_factory=list)
    """Last messages of chats."""
    judged: list[str] = field(default_factory=list)
    """What judges were asked."""
    embedded: list[str] = field(default_factory=list)
    """Texts that vectors were wanted of."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it closes."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
                status, reply = await self._reply(body)
                sent = json.dumps(reply).encode()
                start = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
                writer.write(start.encode() + sent)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _reply(self, body: dict[str, Any]) -> tuple[int, Any]:
        if "input" in body:
            self.embedded += body["input"]
            await self.going.wait()
            if self.failing:
                return self.failing, {"error": {"message": "down", "type": "server_error"}}
            data = [{"index": at, "embedding": self.vector(text)} for at, text in enumerate(body["input"])]
            return 200, {"object": "list", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        text = body["messages"][-1]["content"]
        if text.startswith("Two answers were given"):
            self.judged.append(text)
            await self.judging.wait()
            if self.judge_fails:
                return 500, {"error": {"message": "down", "type": "server_error"}}
            return 200, _completion(self.verdict(text))
        self.asked.append(text)
        return 200, _completion(self.answer(text))


def _completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A model server until the scope ends."""
    found = World()
    found.going.set()
    found.judging.set()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    found.url = f"http://{host}:{port}/v1"
    try:
        yield found
    finally:
        found.going.set()
        found.judging.set()
        server.close()
        await server.wait_closed()


_SCRIPTED = """
apiVersion: gateway/v1
server: {listen: "127.0.0.1:0", admin: "127.0.0.1:0", drain: 5s}
targets:
  small: {breaker: off, provider: openai, base_url: URL, model: small, price: {request: $0.10}}
  judge: {breaker: off, provider: openai, base_url: URL, model: judge, price: {request: $0.01}}
  vectors: {breaker: off, provider: openai, base_url: URL, model: vectors, price: {request: $0.001}}
cache: {embedder: target:vectors, embed_timeout: TIMEOUT CACHE}
routes:
  - {model: demo, target: small, cache: {exact: 1h SHARE, semantic: SEMANTIC}}
"""


def by(
    found: World, semantic: str, *, share: str = "key", timeout: str = "5s", cached: str = "", more: str = ""
) -> str:
    """A configuration whose models are all that world. `cached`: further settings of the room of all caches."""
    text = _SCRIPTED.replace("URL", found.url).replace(" SHARE", f", share: {share}")
    text = text.replace(" CACHE", f", {cached}" if cached else "")
    return text.replace("SEMANTIC", semantic).replace("TIMEOUT", timeout) + more


async def taught(gw: Gateway, *, key: str = "") -> httpx.Response:
    """The first reply that is given in `verified`, after as many questions as it took."""
    for text in wordings():
        answer = await ask(gw, text, key=key)
        if told(answer) == "semantic open":
            return answer
        await settled(gw)
    raise AssertionError(f"nothing was given: {told(answer)}")


async def settled(gw: Gateway) -> None:
    """Return when no answers are being compared any more, and what was learned has been told."""
    semantics: Any = gw.served.process.caches._semantics
    await until(lambda: not semantics._engine.lessons)


def log_of(gw: Gateway) -> Any:
    """The log of a gateway whose store is a Redis."""
    semantics: Any = gw.served.process.caches._semantics
    return semantics._records
