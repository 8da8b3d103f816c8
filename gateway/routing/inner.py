"""Requests that the gateway makes itself, through its own pipeline: a question to a model, vectors from one.

Theory of operation. Such a call is an exchange like any client's, with a consumer of its own: limits,
budgets, queue, breaker, retries, bills, metrics, traces and the log know of it, and rules can name its
consumer as any key. Its way is looked for anew with each call, in the configuration that is in force
then, and kept (with its connections) until the call is over, whatever ended it. No cache stands on that
way: a cache that asks a model must not be answered by itself. Nor does a shadow, nor a cheaper model
that a budget leads to: another model's judgement, or vectors, would be mistaken for this one's.
"""

import asyncio
import base64
import binascii
import math
import struct
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from gateway.core.clock import Clock
from gateway.core.errors import DeadlineExceeded, UpstreamError, UpstreamReplyError
from gateway.core.exchange import Consumer, Dialect, Exchange, Operation, Request, RequestHead, Trace
from gateway.core.pipeline import Handler

JUDGE_CONSUMER = Consumer("judge", priority="low")
"""Who pays for judgements: nobody waits for one. Rules of the configuration can name it as any key."""
EMBEDDER_CONSUMER = Consumer("embedder", priority="normal")
"""Who pays for vectors: a client's request waits for each."""

WHY = "why"
"""The tag that tells in the log line what a call was made for."""

_JSON = [(b"content-type", b"application/json"), (b"accept", b"application/json")]
_SUFFIXES: dict[Operation, str] = {"chat": "chat/completions", "messages": "messages", "embeddings": "embeddings"}
# A larger body of vectors takes milliseconds to read, in which nothing else would run.
_READ_AT_ONCE_BYTES = 256 * 1024

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class Way(NamedTuple):
    """Where a call goes, in the configuration that is in force."""

    handler: Handler
    """With an admission of its own; without a cache, a shadow, or another model to go to when money is short."""
    dialect: Dialect
    """In which it is asked for an answer. Vectors are asked for as OpenAI's are."""
    route: str
    """The route's configured name; empty for a target, which is reached by none."""
    config_revision: str


class Observed(Protocol):
    """The scope in which an exchange is watched."""

    def routed(self) -> None:
        """Its route is known, if it has one."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What calls need of the house, besides their way."""

    clock: Clock
    begin: Callable[[], Trace]
    """The context of a new trace."""
    observe: Callable[[Exchange], AbstractContextManager[Observed]]
    """A scope that writes down what becomes of an exchange: log line, metrics, span."""


Enter = Callable[[str, Consumer], AbstractContextManager[Way]]
"""The way to the target, else the route, of this name; what it needs is kept until the scope ends.

Raises GatewayError when there is neither, and when an operator has shut the consumer out.
"""


class Inner:
    """Sends requests to the target, or the route, called `model`, and has `consumer` pay for them.

    Every method raises GatewayError, and nothing else, when there is no good answer: whatever admission,
    breaker or provider raises; DeadlineExceeded after `max_s`; UpstreamError for an error status;
    UpstreamReplyError for an answer that is none.
    """

    def __init__(
        self,
        enter: Enter,
        model: str,
        consumer: Consumer,
        surroundings: Surroundings,
        new_id: Callable[[], str],
        max_s: float,
    ) -> None:
        """`new_id`: a request id for each call. `max_s`: the longest that one may take, all waits and tries in it."""
        self.model = model
        self.consumer = consumer
        self.max_s = max_s
        self._enter = enter
        self._house = surroundings
        self._new_id = new_id

    async def chat(self, prompt: str, *, max_tokens: int = 16, why: str) -> str:
        """The text of a model's answer to one user message, at temperature 0; it may be empty.

        `why` is a configured name or a fixed word, never text of anybody's: it is logged.
        """
        message = {"role": "user", "content": _sound(prompt)}
        # The bound is not in it: the target knows what it is called there.
        body = _encode({"model": self.model, "messages": [message], "temperature": 0})
        with self._enter(self.model, self.consumer) as way:
            is_anthropic = way.dialect == "anthropic"
            exchange = self._exchange(way, "messages" if is_anthropic else "chat", body, why)
            exchange.max_tokens_sent = max_tokens
            return await self._call(way, exchange, _anthropic_text if is_anthropic else _openai_text)

    async def embed(self, texts: Sequence[str], *, why: str) -> list[list[float]]:
        """The vector of each of `texts`, in their order: finite, and all of one length. Of no text no one is asked.

        `why` as for `chat`. Vectors of two models do not compare, so name a target, or a route to one alone.
        """
        if not texts:
            return []
        body = _encode(
            {"model": self.model, "input": [_sound(text) for text in texts], "encoding_format": "float"},
        )

        def read(reply: bytes) -> list[list[float]]:
            return _vectors(reply, len(texts))

        with self._enter(self.model, self.consumer) as way:
            return await self._call(way, self._exchange(way, "embeddings", body, why), read)

    def _exchange(self, way: Way, operation: Operation, body: bytes, why: str) -> Exchange:
        house, consumer = self._house, self.consumer
        suffix = _SUFFIXES[operation]
        request = Request(
            method="POST",
            path=f"/v1/{suffix}",
            query=b"",
            headers=list(_JSON),
            dialect="anthropic" if operation == "messages" else "openai",
            operation=operation,
            suffix=suffix,
            head=RequestHead(
                model=self.model, body_model=self.model, temperature=None if operation == "embeddings" else 0.0
            ),
            body=body,
            content_type=b"application/json",
        )
        now_s = house.clock.monotonic()
        exchange = Exchange(
            request=request,
            request_id=self._new_id(),
            trace=house.begin(),
            started_s=now_s,
            received_s=now_s,
            started_wall_s=house.clock.wall(),
            config_revision=way.config_revision,
            consumer=consumer,
            tags={**consumer.tags, WHY: why},
            client_deadline_s=now_s + self.max_s,
            route=way.route,
            priority=consumer.priority or "normal",
        )
        exchange.decide("inner", f"the gateway itself asks {self.model}, for {why}")
        return exchange

    async def _call(self, way: Way, exchange: Exchange, read: Callable[[bytes], T]) -> T:
        with self._house.observe(exchange) as observed:
            observed.routed()
            try:
                # The deadline of the exchange keeps tries from being begun in vain; this one is exact.
                async with asyncio.timeout(self.max_s):
                    body = await self._body(way.handler, exchange)
                    if len(body) > _READ_AT_ONCE_BYTES:
                        return await asyncio.to_thread(read, body)
                    return read(body)
            except TimeoutError as error:
                raise DeadlineExceeded(f"The gateway's own request to {self.model} took too long.") from error

    async def _body(self, handler: Handler, exchange: Exchange) -> bytes:
        async with handler(exchange) as reply:
            exchange.status = reply.status
            body = reply.body
        # Outside of the scope: a reply that came whole is billed as one, and no breaker's matter.
        if reply.status >= 400:
            raise UpstreamError(
                f"{self.model} answered a request of the gateway's own with {reply.status}.",
                upstream_status=reply.status,
            )
        if body is None:
            raise UpstreamReplyError("The provider answered with a stream that nobody had asked for.")
        return body


class _Message(msgspec.Struct):
    content: Any = None


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Row(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _Embeddings(msgspec.Struct):
    data: list[_Row]


_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_embeddings = msgspec.json.Decoder(_Embeddings).decode


def _sound(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON can name and UTF-8 cannot write."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _openai_text(body: bytes) -> str:
    choices = _decoded(_decode_completion, body).choices
    return _text(choices[0].message.content if choices else None)


def _anthropic_text(body: bytes) -> str:
    return _text(_decoded(_decode_message, body).content)


def _text(content: object) -> str:
    """What the model wrote: a string, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        if texts:
            return "".join(texts)
    raise UpstreamReplyError("The provider's answer has no text.")


def _vectors(body: bytes, count: int) -> list[list[float]]:
    rows = _decoded(_decode_embeddings, body).data
    if len(rows) != count:
        raise UpstreamReplyError(f"The provider gave {len(rows)} vectors for {count} texts.")
    # Some look-alikes do not number them.
    if any(row.index is not None for row in rows):
        by_index = {row.index: row for row in rows}
        if by_index.keys() != set(range(count)):
            raise UpstreamReplyError("The provider's vectors are not numbered as the texts are.")
        rows = [by_index[index] for index in range(count)]
    vectors = [_vector(row.embedding) for row in rows]
    length = len(vectors[0])
    if not length or any(len(vector) != length for vector in vectors):
        raise UpstreamReplyError("The provider's vectors are empty, or not of one length.")
    if not all(math.isfinite(number) for vector in vectors for number in vector):
        raise UpstreamReplyError("The provider's vectors have numbers that are not finite.")
    return vectors


def _vector(written: list[float] | str) -> list[float]:
    """Numbers, or base64 of little-endian float32, which some give unasked."""
    if not isinstance(written, str):
        return written
    try:
        packed = base64.b64decode(written, validate=True)
        return list(struct.unpack(f"<{len(packed) // 4}f", packed))
    except (binascii.Error, struct.error, ValueError) as error:
        raise UpstreamReplyError("The provider's vectors are neither numbers nor base64 of them.") from error


def _decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # Without what was read: its message may quote the provider's text.
        raise UpstreamReplyError("The provider's answer is not what was asked for.") from error
