"""Tokens: each provider's way of counting them turned into ours, and estimates where it is silent.

Ours (`gateway.core.exchange.Usage`): cached, cache-write and audio tokens are part of `input_tokens`,
reasoning and audio tokens of `output_tokens`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.core.exchange import Usage
from gateway.core.tokens import estimate_tokens

ONE_TOKEN_BYTES = 16
"""A piece of a stream up to this size is taken for one token, which is how providers mostly send them."""

# OpenAI calls it default, Anthropic standard; auto is what was asked for, before anything is decided.
_USUAL_SERVICES = frozenset({"", "auto", "default", "standard"})
_MAX_SERVICE = 32
_FAR_BELOW = 3
_FAR_BELOW_TOKENS = 16


def piece_tokens(text: object) -> int:
    """A guess at the tokens in one piece of a stream; 0 for nothing.

    A short piece counts as one token, so a stream of single tokens is counted exactly. Anything but
    a string (a list of parts) is counted by the size of its JSON.
    """
    if not text:
        return 0
    if not isinstance(text, str):
        return estimate_tokens(len(msgspec.json.encode(text)))
    n_bytes = len(text) if text.isascii() else len(text.encode())
    return 1 if n_bytes <= ONE_TOKEN_BYTES else estimate_tokens(n_bytes)


def read_openai_usage(usage: Usage, reported: object) -> None:
    """Put what an OpenAI `usage` object says into `usage`; fields that it does not have stay.

    Chat, completions and embeddings say `prompt_tokens`, Responses `input_tokens`. A provider whose
    completion tokens leave the reasoning out (its total tells) is put right. Anything but an object is ignored.
    """
    if not isinstance(reported, dict):
        return
    for prefix in (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")):
        tokens_in, tokens_out = _count(reported, prefix[0]), _count(reported, prefix[1])
        if tokens_in is None and tokens_out is None:
            continue
        usage.source = "provider"
        parts_in, parts_out = _details(reported, prefix[0]), _details(reported, prefix[1])
        cached = _count(parts_in, "cached_tokens")
        if cached is None:
            cached = _count(reported, "prompt_cache_hit_tokens")
        reasoning = _count(parts_out, "reasoning_tokens")
        if reasoning and _count(reported, "total_tokens") == (tokens_in or 0) + (tokens_out or 0) + reasoning:
            # xAI: total = prompt + completion + reasoning.
            tokens_out = (tokens_out or 0) + reasoning
        usage.input_tokens = _last(tokens_in, usage.input_tokens)
        usage.output_tokens = _last(tokens_out, usage.output_tokens)
        usage.cached_input_tokens = _last(cached, usage.cached_input_tokens)
        usage.cache_write_tokens = _last(_count(parts_in, "cache_write_tokens"), usage.cache_write_tokens)
        usage.reasoning_tokens = _last(reasoning, usage.reasoning_tokens)
        usage.audio_input_tokens = _last(_count(parts_in, "audio_tokens"), usage.audio_input_tokens)
        usage.audio_output_tokens = _last(_count(parts_out, "audio_tokens"), usage.audio_output_tokens)
        return


class AnthropicUsage:
    """Anthropic's usage, which comes in parts: the input first, the output last, either corrected on the way."""

    __slots__ = ("_parts", "_usage")

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._parts: dict[str, int] = {}

    def read(self, reported: object) -> None:
        """Take over one `usage` object; counts that it does not have stay. Anything else is ignored."""
        if not isinstance(reported, dict):
            return
        parts, usage = self._parts, self._usage
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            count = _count(reported, name)
            if count is not None:
                parts[name] = count
        if not parts:
            return
        usage.source = "provider"
        if "input_tokens" in parts:
            usage.cached_input_tokens = parts.get("cache_read_input_tokens")
            usage.cache_write_tokens = parts.get("cache_creation_input_tokens")
            usage.input_tokens = (
                parts["input_tokens"] + (usage.cached_input_tokens or 0) + (usage.cache_write_tokens or 0)
            )
        usage.output_tokens = parts.get("output_tokens")
        thinking = _count(_details(reported, "output_tokens"), "thinking_tokens")
        usage.reasoning_tokens = _last(thinking, usage.reasoning_tokens)
        written = reported.get("cache_creation")
        if isinstance(written, dict):
            hourly = _count(written, "ephemeral_1h_input_tokens")
            usage.cache_write_1h_tokens = _last(hourly, usage.cache_write_1h_tokens)
        # The fast mode has prices of its own, whatever the tier is called.
        service = "fast" if reported.get("speed") == "fast" else service_tier(reported.get("service_tier"))
        usage.service_tier = service or usage.service_tier


def service_tier(said: object) -> str | None:
    """The service that a reply says it had; None for the usual one, for nothing, and for what is no short word."""
    if not isinstance(said, str) or said in _USUAL_SERVICES or len(said) > _MAX_SERVICE:
        return None
    return said


def is_far_below(reported: int, relayed: int) -> bool:
    """Whether a report of output tokens cannot be true, given how many our own count found relayed."""
    return relayed > reported * _FAR_BELOW + _FAR_BELOW_TOKENS


def fill_usage(usage: Usage, *, prompt_bytes: int, relayed_tokens: int, output_is_final: bool = True) -> None:
    """Estimate what the provider did not report, or reported far too low, and mark it so.

    `relayed_tokens` is our own count of what went to the client. It replaces a reported 0, a report
    of less than a third of it (with 16 tokens of grace), and any lower one that was not the provider's
    last word. A higher report stands: reasoning and tools are billed without being relayed.
    """
    if usage.input_tokens is None:
        usage.input_tokens = estimate_tokens(prompt_bytes)
        usage.source = "estimated"
    reported = usage.output_tokens
    if reported is None:
        too_low = True
    elif reported == 0 or not output_is_final:
        too_low = relayed_tokens > reported
    else:
        too_low = is_far_below(reported, relayed_tokens)
    if too_low:
        usage.output_tokens = relayed_tokens
        usage.source = "estimated"


def _details(reported: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    details = reported.get(name + "_details")
    return details if isinstance(details, dict) else {}


def _count(reported: Mapping[str, Any], name: str) -> int | None:
    value = reported.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None


def _last(new: int | None, old: int | None) -> int | None:
    return old if new is None else new
