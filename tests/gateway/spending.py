"""What tests of limits and budgets share: configurations, storms of requests, and the ledger as operators see it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from gateway.mock.server import MockServer
from tests.gateway.calls import request
from tests.gateway.harness import CHAT
from tests.gateway.processes import Serving, serving
from tests.gateway.waiting import until

NUSD = 1_000_000_000
"""Nano-dollars in a dollar."""
STORE_TIMEOUT = "2s"
"""Of a Redis that is there: four test processes share a few cores, and its absence is not what is tested."""

_CONFIG = """
apiVersion: gateway/v1
server:
  listen: "127.0.0.1:0"
  admin: "127.0.0.1:0"
  drain: 2s
  overload: {loop_lag: 1m}
MORE
targets:
  mock: {breaker: off, provider: mock, base_url: MOCK_URL, price: PRICE}
TARGETS
routes:
  - {model: demo, target: mock ROUTE}
ROUTES
limits:
"""


def limited(
    *limits: str,
    price: str = "{request: $0.10}",
    route: str = "",
    targets: str = "",
    routes: str = "",
    more: str = "",
) -> str:
    """One priced target behind the route `demo`, under these limits. `more`: further sections, a line each."""
    text = _CONFIG.replace("PRICE", price).replace(" ROUTE}", f", {route}}}" if route else "}")
    for name, lines in (("MORE", more), ("TARGETS", targets), ("ROUTES", routes)):
        text = text.replace(f"{name}\n", f"{lines}\n" if lines else "")
    return text + "".join(f"  - {{{limit}}}\n" for limit in limits)


def redis_store(
    timeout: str = STORE_TIMEOUT, *, rate_limits: str = "local", budgets: str = "closed", share: str = "100%"
) -> str:
    """The sections of a store in the Redis of `REDIS_URL`."""
    return (
        f"store: {{redis: env:REDIS_URL, timeout: {timeout}}}\n"
        f"on_store_failure: {{rate_limits: {rate_limits}, budgets: {budgets}, share: {share}}}"
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of many requests."""

    responses: Sequence[httpx.Response]
    broken: int
    """How many connections ended without an answer."""

    @property
    def outcomes(self) -> Counter[str]:
        """How often what came: `200`, or the status and the code of the error."""
        return Counter(outcome(response) for response in self.responses)


def outcome(response: httpx.Response) -> str:
    """`200`, or `429 insufficient_quota`."""
    if response.status_code == 200:
        return "200"
    error = response.json()["error"]
    return f"{response.status_code} {error.get('code') or error.get('type')}"


async def storm(
    addresses: Sequence[tuple[str, int]], count: int, body: Mapping[str, Any] = CHAT, **headers: str
) -> Answers:
    """`count` chat requests at once, each on a connection of its own, the addresses taking turns.

    Not by httpx, whose pool takes half a minute for a thousand. `_` in a header's name stands for `-`.
    """
    sent = request("/v1/chat/completions", json.dumps(dict(body)).encode(), connection="close", **headers)
    found = await asyncio.gather(*[_ask(addresses[number % len(addresses)], sent) for number in range(count)])
    responses = [_parsed(raw) for raw in found if raw]
    return Answers(responses, count - len(responses))


async def _ask(address: tuple[str, int], sent: bytes) -> bytes:
    """The whole reply; nothing when the connection broke."""
    try:
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(sent)
            return await reader.read()
        finally:
            writer.transport.abort()
    except OSError:
        return b""


def _parsed(raw: bytes) -> httpx.Response:
    head, _, content = raw.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=content)


async def counters(admin: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Every counter of every budget, as `GET budgets` shows it."""
    answer = await admin.get("/admin/v1/budgets")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["budgets"]
    return found


async def ledger(admin: httpx.AsyncClient, name: str = "money") -> tuple[int, int]:
    """Nano-dollars of the budget `name` that are spent and held, over all its counters."""
    found = [each for each in await counters(admin) if each["name"] == name]
    return sum(each["spent_nusd"] for each in found), sum(each["held_nusd"] for each in found)


async def quiet(admin: httpx.AsyncClient, name: str = "money", timeout_s: float = 5.0) -> int:
    """Nano-dollars that the budget `name` has spent, once nothing of it is held any more."""

    async def is_free() -> bool:
        return (await ledger(admin, name))[1] == 0

    await until(is_free, timeout_s)
    return (await ledger(admin, name))[0]


def served(mock: MockServer) -> int:
    """How many calls the mock has answered with a 200: what a provider would bill."""
    return sum(1 for call in mock.log.entries() if call["status"] == 200)


@dataclass(slots=True)
class Replicas:
    """Several gateway processes on one configuration, and the one model server behind them."""

    all: list[Serving]
    mock: MockServer

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Of their data planes."""
        return [each.address for each in self.all]


@asynccontextmanager
async def replicas(count: int, config: str, redis_url: str) -> AsyncIterator[Replicas]:
    """`count` processes that share a Redis; what is left of them is killed at the end."""
    mock = MockServer()
    await mock.start("127.0.0.1", 0)
    text = config.replace("MOCK_URL", mock.url)
    try:
        async with AsyncExitStack() as stack:
            starting = [
                asyncio.ensure_future(stack.enter_async_context(serving(text, environ={"REDIS_URL": redis_url})))
                for _ in range(count)
            ]
            yield Replicas(list(await asyncio.gather(*starting)), mock)
    finally:
        await mock.aclose()
