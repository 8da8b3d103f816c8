"""What `cache_rules` asks of requests, replies and texts: each a plain question with a plain answer."""

import re
from dataclasses import dataclass
from typing import Any

from gateway.core.exchange import Operation, Request

_FINISHED = frozenset({"stop", "end_turn", "stop_sequence", "completed", "eos", "eos_token"})
_CALLED = frozenset({"tool_calls", "tool_use", "function_call"})
_FILTERED = frozenset({"content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content", "spii"})
# What is not named here is a picture, a sound, a file, or something newer.
_TEXT_PARTS = frozenset(
    {"text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal", "thinking", "redacted_thinking"}
    | {"tool_use", "tool_result"}
)
_ITEMS = frozenset(
    {"message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
)
_STRANGE = "?"
_OWN_TOOLS = frozenset({None, "function", "custom"})
_HOSTED = ("web_search_options", "search_parameters", "data_sources", "mcp_servers", "container", "plugins")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a route's configuration says about what may be stored."""

    tool_calls: bool = False
    """Whether replies that call tools are stored; found by their exact key alone, as all others."""
    max_temperature: float = 1.0
    max_entry_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, for the table."""

    request: Request
    values: dict[str, Any]
    """Members of its body; empty before it was read."""
    terms: Terms


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply that is over, for the table."""

    status: int
    body: bytes | None
    """The whole reply; None when it did not come to its end."""
    traits: frozenset[str]
    """As from `Forms.traits`."""
    finish_reasons: tuple[str, ...]
    operation: Operation
    is_own: bool
    """Whether it came from the target that the key names, and from no cache."""
    terms: Terms


def is_stateful(asked: Asked) -> bool:
    """Whether the reply depends on, or leaves behind, what the provider keeps."""
    values = asked.values
    if any(values.get(name) for name in ("previous_response_id", "conversation", "background", "store")):
        return True
    if asked.request.operation != "responses":
        return False
    # Responses are kept by the provider unless the client says otherwise.
    return (
        values.get("store") is not False or isinstance(values.get("prompt"), dict) or "item_reference" in _items(asked)
    )


def _items(asked: Asked) -> set[str]:
    """The types of a Responses input's items; a message needs none."""
    items = asked.values.get("input")
    if not isinstance(items, list):
        return set()
    return {_kind(item) or "message" for item in items}


def _kind(item: object) -> str | None:
    """The `type` of an object, None without one; a strange one for what is no object."""
    kind = item.get("type") if isinstance(item, dict) else _STRANGE
    return kind if kind is None or isinstance(kind, str) else _STRANGE


def has_media(asked: Asked) -> bool:
    """Whether there is anything but text in it, or anything but text is wanted."""
    values = asked.values
    modalities = values.get("modalities")
    if values.get("audio") is not None or (modalities is not None and modalities != ["text"]):
        return True
    operation = asked.request.operation
    if operation == "responses":
        if not _items(asked) <= _ITEMS:
            return True
        turns = values.get("input")
    elif operation in ("chat", "messages"):
        turns = values.get("messages")
    else:
        return False
    if not isinstance(turns, list):
        return False
    return any(_turn_shows_media(turn) for turn in turns if isinstance(turn, dict))


def _turn_shows_media(turn: dict[str, Any]) -> bool:
    content = turn.get("content")
    if not isinstance(content, str) and _shows_media(content):
        return True
    return turn.get("audio") is not None or _shows_media(turn.get("output"))


def _shows_media(content: object) -> bool:
    if not isinstance(content, list):
        return False
    for part in content:
        if isinstance(part, str):
            continue
        if _kind(part) not in _TEXT_PARTS or _shows_media(part.get("content")):
            return True
    return False


def has_hosted_tools(asked: Asked) -> bool:
    """Whether the provider may use tools of its own."""
    values = asked.values
    if any(values.get(name) is not None for name in _HOSTED):
        return True
    tools = values.get("tools")
    if not isinstance(tools, list):
        return tools is not None
    return any(_kind(tool) not in _OWN_TOOLS for tool in tools)


def is_many(asked: Asked) -> bool:
    """Whether several answers are wanted."""
    best_of = asked.values.get("best_of")
    return asked.request.head.n > 1 or (isinstance(best_of, int) and best_of > 1)


def is_hot(asked: Asked) -> bool:
    """Whether variety is wanted."""
    temperature = asked.request.head.temperature
    return temperature is not None and temperature > asked.terms.max_temperature


def is_filtered(finish_reasons: tuple[str, ...]) -> bool:
    """Whether one of them says that a filter has cut it."""
    return not _FILTERED.isdisjoint(map(str.lower, finish_reasons))


def is_unfinished(answered: Answered) -> bool:
    """Whether it ended in any other way than that it was said."""
    if answered.operation == "embeddings":
        return False
    allowed = _FINISHED | _CALLED if answered.terms.tool_calls else _FINISHED
    reasons = {reason.lower() for reason in answered.finish_reasons}
    return not reasons or not reasons <= allowed


_DEICTIC = re.compile(
    r"\b(?:this|these|those|above|below|here|aforementioned|previous|previously|preceding|earlier|former|latter|again"
    r"|another one|the same|as before|following|attached|so far)\b"
    r"|^(?:that|and|but|or|so|then|also|no|yes)\b|\bthat\W*$",
    re.IGNORECASE,
)
_FOREIGN_SHARE = 10
_PRONOUN = re.compile(
    r"^\W*(?:[\w']+\W+){0,2}(?:it|its|he|she|they|them|him|her|his|hers|their|theirs)\b", re.IGNORECASE
)
_TIMED = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|now|nowadays|currently|current|latest|newest|recent|recently|upcoming|ago"
    r"|at the moment|as of|up to date|breaking|live scores?|(?:last|next|past|coming) "
    r"(?:\w+ )?(?:second|minute|hour|day|night|week|weekend|month|quarter|season|year|decade)s?"
    r"|what time|what day|what date|what year|how long until|weather|stock price|exchange rate)\b",
    re.IGNORECASE,
)


def is_deictic(text: str) -> bool:
    """Whether what it means stands elsewhere."""
    said = text.strip()
    return _DEICTIC.search(said) is not None or _PRONOUN.match(said) is not None


def is_timed(text: str) -> bool:
    """Whether it asks about a moment that moves."""
    return _TIMED.search(text) is not None


def is_foreign(text: str) -> bool:
    """Whether more than a tenth of it are letters outside of ASCII."""
    if text.isascii():
        return False
    foreign = sum(not letter.isascii() for letter in text if letter.isalpha())
    return foreign * _FOREIGN_SHARE > len(text)
