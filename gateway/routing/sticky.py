"""Who belongs where: a stable key of an exchange, and weighted rendezvous hashing of it over targets.

Theory of operation. Every target gets a score from the key: `-weight / ln(u)`, where u in (0, 1) is a
hash of key and target; the highest wins (C. Schindelhauer and G. Schomaker, "Weighted Distributed Hash
Tables", 2005). A target's chance is its share of the weights, and its score depends on nothing but the
key and its own name and weight. So a weight that grows draws keys to that target and moves no other,
one that falls lets go of the keys that no longer fit, a target that is added takes only what it gets,
and one that is ejected gives its keys away and has them back later. Nothing is remembered: every
replica, and every restart, comes to the same answer. Hence no salted `hash()`.
"""

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import log

from gateway.core.errors import Headers
from gateway.core.exchange import Exchange, Operation

_MASK = (1 << 64) - 1
# Odd constants of SplitMix64's kind; two rounds spread every bit of the key's digest over the score.
_FIRST = 0x9E3779B97F4A7C15
_SECOND = 0xD6E8FEB86659FD93
# 52 bits, so that the largest value is still below 1 as a double: ln(1) would divide by zero.
_STEP = 2.0**-52

_WINDOW = 1024
"""Bytes of a prompt that count; what providers cache of prompts is longer, but it begins with these."""
_BACKSLASH = 0x5C

# The value tells a member from a word of the same spelling: a role "system" is followed by no colon, a property
# "input" of a tool's schema by an object.
_SYSTEM, _MESSAGES, _INSTRUCTIONS, _INPUT, _PROMPT = (
    re.compile(rb'"%b"[ \t\r\n]*+:[ \t\r\n]*+(?=["\[])' % name)
    for name in (b"system", b"messages", b"instructions", b"input", b"prompt")
)
_PROMPTS: dict[Operation, tuple[re.Pattern[bytes], ...]] = {
    "chat": (_MESSAGES,),
    "text_completion": (_PROMPT,),
    "embeddings": (_INPUT,),
    "responses": (_INSTRUCTIONS, _INPUT),
    "messages": (_SYSTEM, _MESSAGES),
    "count_tokens": (_SYSTEM, _MESSAGES),
}
_PARTS = rb'\[[ \t\r\n]*+\{[^{}\[\]]*?"text"[ \t\r\n]*+:[ \t\r\n]*+"'
_FIRST_TEXT = re.compile(_PARTS)
_TEXT_OF_USER = re.compile(rb'"user"[ \t\r\n]*+,[ \t\r\n]*+"content"[ \t\r\n]*+:[ \t\r\n]*+(?:"|' + _PARTS + rb")")

Key = Callable[[Exchange], bytes | None]
"""A stable key of an exchange, or None when it has none of that kind."""


class Ring:
    """Targets with their weights, to choose from by key."""

    __slots__ = ("_seats",)

    def __init__(self, weights: Sequence[tuple[str, float]]) -> None:
        """Targets whose weight is not above 0 are never chosen."""
        self._seats = [(index, _digest(name.encode()), weight) for index, (name, weight) in enumerate(weights)]
        self._seats = [seat for seat in self._seats if seat[2] > 0]

    def choose(self, key: bytes) -> int:
        """The place of the key's target in the list this was made from. About 1 µs for two targets."""
        digest = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
        best, highest = -1, -1.0
        for index, seed, weight in self._seats:
            score = _score(digest, seed, weight)
            if score > highest:
                best, highest = index, score
        assert best >= 0, "a ring without targets was asked"
        return best

    def ranked(self, key: bytes) -> list[int]:
        """All places, the key's own first, then who stands in for it when it is out, in turn."""
        digest = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
        scores = [(_score(digest, seed, weight), index) for index, seed, weight in self._seats]
        return [index for _, index in sorted(scores, reverse=True)]


def _score(digest: int, seed: int, weight: float) -> float:
    mixed = ((digest ^ seed) * _FIRST) & _MASK
    mixed = ((mixed ^ (mixed >> 32)) * _SECOND) & _MASK
    return -weight / log(((mixed >> 12) + 0.5) * _STEP)


def _digest(name: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big")


class Sticky:
    """The first of several keys that an exchange has."""

    __slots__ = ("_keys",)

    def __init__(self, sources: Sequence[str]) -> None:
        """`sources` as configured: `header:NAME`, `key`, `prompt`; in order of preference."""
        self._keys = [(source, _key_of(source)) for source in sources]

    def find(self, exchange: Exchange) -> tuple[str, bytes] | None:
        """The source and the key it gave; None when the exchange has none of them: it then sticks nowhere."""
        for source, key in self._keys:
            found = key(exchange)
            if found:
                return source, found
        return None


def _key_of(source: str) -> Key:
    kind, _, name = source.partition(":")
    if kind == "header":
        return _header(name.lower().encode("latin-1"))
    assert source in ("key", "prompt"), source
    return consumer_key if source == "key" else prompt_key


def _header(name: bytes) -> Key:
    def value(exchange: Exchange) -> bytes | None:
        return header_value(exchange.request.headers, name)

    return value


def header_value(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a header, or None. `name` in lower case."""
    for item in headers:
        if item[0] == name:
            return item[1]
    return None


def consumer_key(exchange: Exchange) -> bytes | None:
    """The id of whose key it is; None before anybody was identified."""
    return exchange.consumer.id.encode() if exchange.consumer is not None else None


def prompt_key(exchange: Exchange) -> bytes | None:
    """The beginning of the prompt: system prompt and first user message, at most 1,024 bytes of each member.

    The same for every turn of a conversation, so that the provider that has its prefix cached gets the
    next turn. Found by byte search, 2 µs: a body is not parsed for it. None where there is no prompt in it.
    """
    request = exchange.request
    body = request.body
    pieces = []
    for pattern in _PROMPTS.get(request.operation, ()):
        found = pattern.search(body)
        if found is not None:
            pieces.append(_prefix(body, found.end()))
    return b"\0".join(pieces) if pieces else None


def _prefix(body: bytes, start: int) -> bytes:
    """A string to its end; of an array everything to the end of the first user message's first text.

    Where it ends depends only on what comes before: neither more turns behind it nor a mark for the
    provider's cache that moves on with them (`cache_control`) changes it.
    """
    limit = start + _WINDOW
    if body.startswith(b'"', start):
        return body[start : _end_of_text(body, b'"', start + 1, limit)]
    user = body.find(b'"user"', start, limit)
    text = _TEXT_OF_USER.match(body, user, limit) if user >= 0 else _FIRST_TEXT.match(body, start, limit)
    if text is not None:
        return body[start : _end_of_text(body, b'"', text.end(), limit)]
    # Not as the SDKs write it (the role may stand last): to the end of the message that it is in.
    return body[start : _end_of_text(body, b'"}', max(user, start), limit)]


def _end_of_text(body: bytes, mark: bytes, start: int, limit: int) -> int:
    """The place of the first `mark` whose quote is not escaped, at most `limit`."""
    at = body.find(mark, start, limit)
    while at >= 0:
        before = at
        while body[before - 1] == _BACKSLASH:
            before -= 1
        if (at - before) % 2 == 0:
            return at
        at = body.find(mark, at + 1, limit)
    return limit
