"""What an exact hit adds, in µs of CPU: the cache policy with a stored reply, against the same reply without a cache.

    python -m loadtests.cache_hit [--rounds 20]

One process, no sockets: a chat request of about 1 KB and a reply of about 700 bytes, told whole and as a stream. Both
ways take turns in one run, and the median of the rounds counts. A miss adds the look-up, the put, and for a stream the
putting together; it is shown too.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from gateway.core.clock import SystemClock
from gateway.core.exchange import Consumer, Exchange, Reply, Request, RequestHead, Trace, Usage
from gateway.core.pipeline import Handler
from gateway.policies.cache import Cache, CacheResult, Place
from gateway.policies.cache_look import CacheSettings, Shelf
from gateway.policies.single_flight import Flights
from gateway.store.memory_blobs import MemoryBlobs
from gateway.wire.replay import Replay

REQUESTS = 2_000
TEXT = "What does the gateway do with a request that it has seen before? " * 13
ANSWER = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4.1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 480}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300},
}
BODY = json.dumps(ANSWER).encode()


class Mute:
    """Counts nothing."""

    def count(self, result: CacheResult) -> None:
        """Nothing."""

    def saved(self, tokens: int, cost_nusd: int) -> None:
        """Nothing."""


def asked(number: int, *, stream: bool) -> Exchange:
    """A chat request; those with one number are equal."""
    messages = [{"role": "system", "content": f"Be brief. {number}"}, {"role": "user", "content": TEXT}]
    body = json.dumps({"model": "demo", "messages": messages, "temperature": 0.2, "stream": stream}).encode()
    head = RequestHead("demo", "demo", stream=stream, temperature=0.2)
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"accept", b"*/*")]
    request = Request("POST", "/v1/chat/completions", b"", headers, "openai", "chat", "chat/completions", head, body)
    trace = Trace("0" * 32, "0" * 16, sampled=False)
    return Exchange(request, "req-1", trace, 0.0, 0.0, 0.0, consumer=Consumer("checkout"), tags={"service": "shop"})


def answering(frames: bytes) -> Handler:
    """A model that has its reply at once."""

    async def events() -> AsyncIterator[bytes]:
        yield frames

    @asynccontextmanager
    async def answer(exchange: Exchange) -> AsyncIterator[Reply]:
        exchange.target = "gpt"
        if exchange.request.head.stream:
            yield Reply(200, [], events=events(), error_event=lambda error, request_id: b"")
        else:
            yield Reply(200, [(b"content-type", b"application/json")], body=BODY)
        exchange.usage = Usage(200, 100, source="provider")
        exchange.finish_reasons = ["stop"]

    return answer


async def spent_us(serve: Callable[[Exchange], AbstractAsyncContextManager[Reply]], asks: list[Exchange]) -> float:
    """µs of CPU for each of these requests, read to their end."""
    began = time.process_time()
    for each in asks:
        async with serve(each) as reply:
            if reply.events is not None:
                async for block in reply.events:
                    for tap in reply.taps:
                        tap(block)
    return (time.process_time() - began) / len(asks) * 1e6


async def measure(rounds: int) -> list[str]:
    """A line for each form of the reply."""
    clock, forms = SystemClock(), Replay()
    shelf = Shelf(MemoryBlobs(64 * 1024**2, clock), Flights(), forms, clock, random.Random(7), asyncio.sleep)
    cache = Cache(CacheSettings(3600.0), Place("demo", "gpt", "r1"), shelf, Mute())
    told = forms.stream("openai", "chat", BODY, include_usage=False)
    assert told is not None
    model = answering(told[0])
    lines = []
    for stream in (False, True):
        bare: list[float] = []
        hit: list[float] = []
        miss: list[float] = []
        fresh = 10_000_000 * (1 + stream)
        await spent_us(lambda exchange: cache(exchange, model), [asked(0, stream=stream)])
        for _ in range(rounds):
            bare.append(await spent_us(model, [asked(0, stream=stream) for _ in range(REQUESTS)]))
            equal = [asked(0, stream=stream) for _ in range(REQUESTS)]
            hit.append(await spent_us(lambda exchange: cache(exchange, model), equal))
            assert {each.cache for each in equal} == {"hit"}
            others = [asked(fresh + number, stream=stream) for number in range(REQUESTS)]
            fresh += REQUESTS
            miss.append(await spent_us(lambda exchange: cache(exchange, model), others))
        base_us = statistics.median(bare)
        added = [statistics.median(each) - base_us for each in (hit, miss)]
        form = "stream" if stream else "whole"
        lines.append(f"{form}: bare {base_us:.1f} µs, a hit adds {added[0]:.1f}, a miss adds {added[1]:.1f}")
    return lines


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="What an exact hit adds.")
    parser.add_argument("--rounds", type=int, default=20)
    for line in asyncio.run(measure(parser.parse_args().rounds)):
        sys.stdout.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
