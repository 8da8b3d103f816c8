"""What tests of coalescing share: a provider of embeddings that says what it was asked, and callers of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.core.exchange import Exchange, Reply, RequestHead, Usage
from gateway.core.pipeline import Policy
from gateway.core.price import Price
from gateway.policies.attempt import Attempted
from gateway.policies.billing import Billing
from gateway.policies.coalesce import Coalesce, CoalesceSettings
from gateway.policies.coalesce_bills import bills
from gateway.policies.coalesce_member import Dispatch, Result, Way
from gateway.telemetry.tracing import Destination
from tests.fakes import FakeClock, Sightings, exchange, request

PRICE = Price(input=1_000_000, output=0, request=10)
"""One nano-USD a token, ten a request."""


class Counts:
    """A meter that shows what it was told."""

    def __init__(self) -> None:
        self.ways: list[tuple[Way, int]] = []
        self.batches: list[Result] = []

    def call(self, way: Way, calls: int) -> None:
        """Note it."""
        self.ways.append((way, calls))

    def batch(self, result: Result) -> None:
        """Note it."""
        self.batches.append(result)


class Provider:
    """Answers with one made-up vector for each input, ten tokens each, unless `outcomes` have something else.

    With `gate` every call waits for it.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.exchanges: list[Exchange] = []
        self.outcomes: list[BaseException | Reply] = []
        self.gate: asyncio.Event | None = None
        self.reverses = False
        self.size = 1
        self.cancelled = 0

    @asynccontextmanager
    async def __call__(self, asked: Exchange) -> AsyncIterator[Reply]:
        """One call."""
        self.exchanges.append(asked)
        body = json.loads(asked.request.body)
        self.bodies.append(body)
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            asked.attempts[-1].status = outcome.status if isinstance(outcome, Reply) else None
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
            return
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        asked.attempts[-1].status = 200
        asked.attempts[-1].upstream_request_id = "up-1"
        asked.usage = Usage(input_tokens=10 * len(inputs), output_tokens=0, source="provider")
        asked.model_served = "served"
        yield Reply(200, [(b"x-up", b"1")], body=self._answer(inputs), usage=asked.usage)

    def _answer(self, inputs: Sequence[object]) -> bytes:
        rows = [
            {"object": "embedding", "index": n, "embedding": f"of {text}" * self.size} for n, text in enumerate(inputs)
        ]
        if self.reverses:
            rows.reverse()
        tokens = 10 * len(inputs)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json.dumps({"object": "list", "data": rows, "model": "served", "usage": usage}).encode()


class House:
    """A target that coalesces, and those who call it."""

    def __init__(
        self,
        settings: CoalesceSettings | None = None,
        queue: Sequence[Policy] = (),
        clock: FakeClock | None = None,
    ) -> None:
        """`clock`: the batches' own."""
        self.clock = FakeClock()
        self.provider = Provider()
        self.counts = Counts()
        sightings = Sightings(self.clock, targets=["a"])
        self.registry = sightings.registry
        destination = Destination("openai", None, "h", 443)
        together = Attempted("a", destination, sightings.observer, self.clock, None)
        dispatch = Dispatch("a", self.provider, queue, 60.0, clock or self.clock, self.counts)
        settings = settings or CoalesceSettings(wait_s=0.0, max_inputs=100, max_tokens=1000)
        self.coalesce = Coalesce(settings, dispatch, together, bills(PRICE, None), _forwarded)
        alone = Attempted("a", destination, sightings.observer, self.clock, Billing(PRICE, None))
        self.alone = alone.bind(self.provider)
        self._tasks: list[asyncio.Task[Any]] = []

    async def ask(self, asked: Exchange) -> dict[str, Any]:
        """The reply to one request, parsed."""
        async with self.coalesce(asked, self.alone) as reply:
            assert reply.body is not None
            parsed: dict[str, Any] = json.loads(reply.body)
            return parsed | {"status": reply.status}

    async def busy(self) -> "asyncio.Task[dict[str, Any]]":
        """A request that is under way, so that later ones have company; the provider waits for its gate."""
        self.provider.gate = asyncio.Event()
        return await self.start(embedding("busy"))

    async def start(self, asked: Exchange) -> "asyncio.Task[dict[str, Any]]":
        """A request as far as it comes."""
        (task,) = await self.start_all(asked)
        return task

    async def start_all(self, *asked: Exchange) -> "list[asyncio.Task[dict[str, Any]]]":
        """Requests that come in the same turn of the loop."""
        found = [asyncio.ensure_future(self.ask(each)) for each in asked]
        self._tasks += found
        await asyncio.sleep(0)
        return found

    async def together(self, *asked: Exchange) -> list[Any]:
        """What comes of these, asked at once while another one is under way: replies, or what was raised."""
        first = await self.busy()
        found = await self.start_all(*asked)
        await turns()
        assert self.provider.gate is not None
        self.provider.gate.set()
        await first
        outcomes: list[Any] = await asyncio.gather(*found, return_exceptions=True)
        return outcomes

    async def end(self) -> None:
        """Cancel whoever is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _forwarded(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [item for item in headers if item[0] in (b"user-agent", b"idempotency-key")]


async def turns(count: int = 20) -> None:
    """Let everybody go on as far as they come."""
    for _ in range(count):
        await asyncio.sleep(0)


def embedding(
    *inputs: object, headers: Sequence[tuple[bytes, bytes]] = (), body: bytes | None = None, **more: Any
) -> Exchange:
    """An exchange that asks for embeddings of these; of one, as a plain text."""
    if body is None:
        fields = {name: more.pop(name) for name in ("user", "dimensions") if name in more}
        asked = {"model": "m", "input": inputs[0] if len(inputs) == 1 else list(inputs)} | fields
        body = json.dumps(asked, separators=(",", ":")).encode()
    asked_for = request(
        operation="embeddings",
        suffix="embeddings",
        body=body,
        head=RequestHead(model="m", body_model="m"),
        headers=list(headers),
    )
    return exchange(asked_for, **more)


def vectors(reply: dict[str, Any]) -> list[str]:
    """The vectors of a reply; asserts that they are counted from 0."""
    assert [row["index"] for row in reply["data"]] == list(range(len(reply["data"])))
    return [row["embedding"] for row in reply["data"]]
