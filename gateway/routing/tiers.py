"""Short and simple prompts to a small model: the first tier whose declared conditions an exchange meets.

The cheap conditions come first (sizes, headers, tags), and a body is decoded only when they all hold and
one is left that needs it. A body over 1 MiB, one that is passed on as it comes, or one whose members are
not what the API says, meets no condition on its members: it takes the ordinary way.

A regular expression is the operator's own, and searched in at most 4,096 characters; but its time can
still grow exponentially with them, and nothing else runs meanwhile: a pattern with a repeat inside a
repeat, such as `(a+)+$` or `(\\w|\\d)*x`, must be written with possessive repeats (`(a++)+$`) or not at all.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.core.exchange import Exchange, Operation, Reply, Request
from gateway.core.globs import glob_pattern
from gateway.core.pipeline import Handler
from gateway.routing.sticky import header_value

SEARCHED_CHARS = 4096
"""So much of the last user message, from its beginning, a regular expression is shown."""

_MAX_DECODED_BYTES = 1024 * 1024
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_EMPTY = (b"null", b"[]", b"")


class _Body(msgspec.Struct):
    # All values stay raw: which of them is decoded further depends on the conditions.
    messages: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    functions: Raw | UnsetType = UNSET


class _Message(msgspec.Struct):
    role: Any = None
    content: Any = None


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_text = msgspec.json.Decoder(str | list[Raw]).decode
_decode_message = msgspec.json.Decoder(_Message | str).decode

_PROMPTS: Mapping[Operation, str] = {
    "chat": "messages",
    "messages": "messages",
    "count_tokens": "messages",
    "responses": "input",
    "embeddings": "input",
    "text_completion": "prompt",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """What an exchange must meet, in all that is given."""

    max_prompt_bytes: int | None = None
    """Of the whole JSON body: its tools are read by the model too."""
    max_messages: int | None = None
    """A prompt that is one string is one message."""
    tools: bool | None = None
    """Whether tools are offered to the model; False: none at all."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Globs by tag name."""
    header: Mapping[str, str] = field(default_factory=dict)
    """Globs by header name."""
    regex: str | None = None
    """Searched in the text of the last user message."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier: the target that serves those who meet its condition."""

    to: str
    handler: Handler
    condition: Condition


class Tiers:
    """Hands an exchange to the first tier whose condition it meets, else to `otherwise`.

    Each choice is written down with what decided it, never with anything that a client wrote. A pinned
    exchange goes to the tier of that target if there is one; its conditions are not asked.
    """

    def __init__(self, rules: Sequence[Tier], otherwise: Handler) -> None:
        self._rules = [(tier, _Test(tier.condition)) for tier in rules]
        self._otherwise = otherwise
        self._by_target = {tier.to: tier.handler for tier in reversed(rules)}

    def __call__(self, exchange: Exchange) -> AbstractAsyncContextManager[Reply]:
        """The reply of the tier that was chosen."""
        if exchange.pinned_target is not None:
            return self._by_target.get(exchange.pinned_target, self._otherwise)(exchange)
        prompt = _Prompt(exchange.request)
        misses = []
        for tier, test in self._rules:
            miss = test.missed(exchange, prompt)
            if miss is None:
                exchange.decide("tier", f"{tier.to}: {test.meaning}")
                return tier.handler(exchange)
            misses.append(f"not {tier.to}: {miss}")
        exchange.decide("tier", "; ".join(misses))
        return self._otherwise(exchange)


class _Prompt:
    """The body of one exchange, decoded as far as somebody asks, once for all tiers."""

    __slots__ = ("_body", "_is_read", "_messages", "_operation", "_tools", "size_bytes")

    def __init__(self, request: Request) -> None:
        self._operation = request.operation
        self._body = request.body
        self._is_read = False
        self._messages: list[Raw] | str | None = None
        self._tools: bool | None = None
        # Of a body that is passed on as it comes nothing is known.
        self.size_bytes: int | None = len(request.body) if request.body_stream is None else None

    @property
    def has_tools(self) -> bool | None:
        """Whether tools are offered; None when that cannot be told."""
        if self.size_bytes is not None and b'"tools"' not in self._body and b'"functions"' not in self._body:
            return False
        self._read()
        return self._tools

    @property
    def messages(self) -> int | None:
        """How many messages the prompt has; None when that cannot be told."""
        self._read()
        return 1 if isinstance(self._messages, str) else (None if self._messages is None else len(self._messages))

    @property
    def last_text(self) -> str | None:
        """The beginning of the last user message's text; None when there is none."""
        self._read()
        if not isinstance(self._messages, list):
            return None if self._messages is None else self._messages[:SEARCHED_CHARS]
        for raw in reversed(self._messages):
            try:
                message = _decode_message(raw)
            except _DECODE_ERRORS:
                continue
            if isinstance(message, str):
                return message[:SEARCHED_CHARS]
            if message.role == "user":
                return _text_of(message.content)
        return None

    def _read(self) -> None:
        if self._is_read:
            return
        self._is_read = True
        if self.size_bytes is None or not 0 < self.size_bytes <= _MAX_DECODED_BYTES:
            return
        name = _PROMPTS.get(self._operation)
        try:
            body = _decode_body(self._body)
            self._tools = _is_given(body.tools) or _is_given(body.functions)
            value = getattr(body, name) if name is not None else UNSET
            self._messages = _decode_text(value) if value is not UNSET else None
        except _DECODE_ERRORS:
            return


class _Test:
    """A condition made ready: its patterns compiled, its meaning in words."""

    __slots__ = ("_condition", "_headers", "_regex", "_tags", "meaning")

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._tags = [(name, glob_pattern(glob)) for name, glob in condition.tags.items()]
        self._headers = [
            (name, name.lower().encode("latin-1"), glob_pattern(glob)) for name, glob in condition.header.items()
        ]
        self._regex = re.compile(condition.regex) if condition.regex is not None else None
        self.meaning = ", ".join(_meaning(condition)) or "no condition"

    def missed(self, exchange: Exchange, prompt: _Prompt) -> str | None:
        """The first condition that is not met, in words; None when all are."""
        condition = self._condition
        if condition.max_prompt_bytes is not None:
            size = prompt.size_bytes
            if size is None:
                return "the body's size is not known"
            if size > condition.max_prompt_bytes:
                return f"{size} bytes > {condition.max_prompt_bytes}"
        for name, glob in self._tags:
            tag = exchange.tags.get(name)
            if tag is None or glob.fullmatch(tag) is None:
                return f"tag {name}"
        for name, lower, glob in self._headers:
            value = header_value(exchange.request.headers, lower)
            if value is None or glob.fullmatch(value.decode("latin-1")) is None:
                return f"header {name}"
        return self._missed_in_body(prompt)

    def _missed_in_body(self, prompt: _Prompt) -> str | None:
        condition = self._condition
        if condition.tools is not None and prompt.has_tools is not condition.tools:
            return "no tools" if condition.tools else "it has tools"
        if condition.max_messages is not None:
            count = prompt.messages
            if count is None:
                return "the prompt cannot be read"
            if count > condition.max_messages:
                return f"{count} messages > {condition.max_messages}"
        if self._regex is not None:
            text = prompt.last_text
            if text is None or self._regex.search(text) is None:
                return "the last user message"
        return None


def _meaning(condition: Condition) -> list[str]:
    words = []
    if condition.max_prompt_bytes is not None:
        words.append(f"at most {condition.max_prompt_bytes} bytes")
    words += [f"tag {name} is {glob}" for name, glob in condition.tags.items()]
    words += [f"header {name} is {glob}" for name, glob in condition.header.items()]
    if condition.tools is not None:
        words.append("tools" if condition.tools else "no tools")
    if condition.max_messages is not None:
        words.append(f"at most {condition.max_messages} messages")
    if condition.regex is not None:
        words.append(f"the last user message matches {condition.regex}")
    return words


def _is_given(value: Raw | UnsetType) -> bool:
    return isinstance(value, Raw) and bytes(value).strip() not in _EMPTY


def _text_of(content: object) -> str | None:
    if isinstance(content, str):
        return content[:SEARCHED_CHARS]
    if not isinstance(content, list):
        return None
    texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(texts)[:SEARCHED_CHARS] if texts else None
