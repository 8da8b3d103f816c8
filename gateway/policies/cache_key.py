"""What makes two requests the same, as one digest.

Theory of operation. The key is SHA-256 over who may share the reply, the route, the target and its
revision, the prompt's version, the dialect, the operation, what else goes to the provider, and every
member of the body but `stream` and `stream_options`, those that nobody here has heard of included. Only
what cannot matter is evened out: white space, the order of members, the way in which a character is
escaped. Fractions keep the text that they have.

That holds only if nothing was lost when the body was read. A member that stands twice is such a loss
(one parser takes the first, another the last), and a key that hides it would let one client plant its answer
under another's question. So the canonical form has to account for every byte of the compact body; where
it does not (escapes, mostly), a slower reading looks for members that stand twice. Such a body has no
key. 5 µs for 1 KB.
"""

import hashlib
import json
from typing import Any, Literal, NamedTuple

import msgspec

from gateway.core.exchange import Consumer, Exchange, Operation

Share = Literal["key", "team", "tenant"]
"""Who may be given a reply: the same client key; or keys with the same tag `team`, or `tenant`, in the file."""

VERSION = 1
"""Of the key and of what is stored under it: another one finds nothing of the former."""

VARYING = frozenset({b"anthropic-beta", b"anthropic-version", b"openai-beta", b"x-mock"})
"""Request headers that go to the provider and may change its answer."""

_decode = msgspec.json.Decoder(float_hook=msgspec.Raw).decode
_encode = msgspec.json.Encoder(order="sorted").encode
_pack = msgspec.msgpack.Encoder().encode
_NOT_IN_KEY = ("stream", "stream_options")
_TEXT_PARTS = frozenset({"text", "input_text"})


class Members(NamedTuple):
    """A body that was read without loss."""

    values: dict[str, Any]
    """Its members; fractions are `msgspec.Raw`. To be read only."""
    canonical: bytes


class Last(NamedTuple):
    """The last message, where a question may be similar to another one, and all the rest, which may not."""

    text: str
    context: dict[str, Any]
    """The body's members without that text."""
    earlier: int
    """Messages of the user and the model before it."""


class _Twice(Exception):
    pass


def read_members(body: bytes) -> Members | None:
    """The members of a JSON object; None when one stands twice at any depth, or it cannot be read."""
    try:
        values = _decode(body)
        if not isinstance(values, dict):
            return None
        whole = _encode(values)
        # Nothing that is read and written again gets longer, so equal lengths mean that nothing was lost.
        if len(whole) != len(body) and len(whole) != len(msgspec.json.format(body, indent=-1)):
            json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)
    except (msgspec.DecodeError, ValueError, RecursionError, _Twice):
        return None
    if "stream" not in values and "stream_options" not in values:
        return Members(values, whole)
    for name in _NOT_IN_KEY:
        values.pop(name, None)
    return Members(values, _encode(values))


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Twice


def share_of(consumer: Consumer, share: Share) -> str:
    """Whose replies a consumer may be given: `team=…` or `tenant=…` by its own tag, else `key=…`.

    The tag must be the key's own: one that a request brings in a header is nobody's proof of anything.
    """
    if share != "key":
        value = consumer.tags.get(share)
        if value:
            return f"{share}={value}"
    return f"key={consumer.id}"


class Keys:
    """Makes the keys of one route and target."""

    __slots__ = ("_context", "_exact", "_share")

    def __init__(self, share: Share, route: str, target: str, revision: str) -> None:
        """`revision`: a digest of all that makes the target what it is (provider, base_url, model, ...)."""
        self._share: Share = share
        self._exact = hashlib.sha256(_pack((VERSION, "exact", route, target, revision)))
        self._context = hashlib.sha256(_pack((VERSION, "context", route, target, revision)))

    def exact(self, exchange: Exchange, members: Members) -> bytes:
        """The key of an exchange: 32 bytes."""
        digest = self._exact.copy()
        # MessagePack says where it ends, so nothing of one part can be taken for a piece of the other.
        digest.update(self._head(exchange) + members.canonical)
        return digest.digest()

    def context(self, exchange: Exchange, last: Last) -> bytes:
        """The digest of everything but the last message's text: only below an equal one may texts be similar."""
        digest = self._context.copy()
        digest.update(self._head(exchange) + _encode(last.context))
        return digest.digest()

    def _head(self, exchange: Exchange) -> bytes:
        request, consumer = exchange.request, exchange.consumer
        assert consumer is not None
        return _pack(
            (
                share_of(consumer, self._share),
                exchange.prompt_name,
                exchange.prompt_version,
                request.dialect,
                request.operation,
                request.head.model,
                exchange.max_tokens_sent,
                request.query,
                [item for item in request.headers if item[0] in VARYING],
            )
        )


def last_message(operation: Operation, values: dict[str, Any]) -> Last | None:
    """The last message and its context; None unless it is one text of the user's."""
    member = "input" if operation == "responses" else "messages"
    if operation not in ("chat", "messages", "responses"):
        return None
    turns = values.get(member)
    if isinstance(turns, str):
        return Last(turns, {**values, member: None}, 0)
    if not isinstance(turns, list) or not turns or not isinstance(turns[-1], dict) or turns[-1].get("role") != "user":
        return None
    last = turns[-1]
    found = _only_text(last.get("content"))
    if found is None:
        return None
    text, rest = found
    context = {**values, member: [*turns[:-1], {**last, "content": rest}]}
    earlier = [
        turn for turn in turns[:-1] if isinstance(turn, dict) and turn.get("role") not in ("system", "developer")
    ]
    return Last(text, context, len(earlier))


def _only_text(content: object) -> tuple[str, list[dict[str, Any]] | None] | None:
    """The text of a message that has nothing else, and its content without it."""
    if isinstance(content, str):
        return content, None
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
        return None
    part = content[0]
    text = part.get("text")
    if part.get("type") not in _TEXT_PARTS or not isinstance(text, str):
        return None
    return text, [{name: value for name, value in part.items() if name != "text"}]
