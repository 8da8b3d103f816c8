"""What the cache never stores and never looks up: one table, each line with its reason.

Three stages. `request`: what is asked decides; such a request passes by, and nothing of it is stored.
`reply`: what came decides; it was looked up, and is not stored. `similar`: it may be stored and found by
its exact key, and is neither found nor offered by similarity.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from gateway.core.exchange import Operation, Request
from gateway.core.tokens import estimate_tokens
from gateway.policies.cache_checks import (
    Answered,
    Asked,
    Terms,
    has_hosted_tools,
    has_media,
    is_deictic,
    is_filtered,
    is_foreign,
    is_hot,
    is_many,
    is_stateful,
    is_timed,
    is_unfinished,
)
from gateway.policies.cache_key import Last, Members, read_members

Stage = Literal["request", "reply", "similar"]

LARGEST_REQUEST_BYTES = 256 * 1024
LONGEST_SIMILAR_TOKENS = 200
MOST_EARLIER_TURNS = 2
LEAST_SIMILAR_WORDS = 3

OPERATIONS: frozenset[Operation] = frozenset({"chat", "text_completion", "embeddings", "responses", "messages"})
"""Those whose replies can be stored."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """One line of the table. `applies`: whether it keeps the cache away."""

    name: str
    what: str
    reason: str
    applies: Callable[[T], bool]


# The first two are asked before the body is read, the third is the reading itself.
_OTHER: Rule[Asked] = Rule(
    "operation",
    "anything but chat, completions, embeddings, Responses and Messages, and every upload",
    "it changes something at the provider, costs nothing, or has a reply that is not known well enough",
    lambda asked: asked.request.operation not in OPERATIONS or asked.request.body_stream is not None,
)
_LARGE: Rule[Asked] = Rule(
    "large_request",
    f"a body of more than {LARGEST_REQUEST_BYTES // 1024} KiB",
    "to work out its key would hold up other requests, and nobody asks that twice",
    lambda asked: len(asked.request.body) > LARGEST_REQUEST_BYTES,
)
AMBIGUOUS: Rule[Asked] = Rule(
    "ambiguous",
    "a body in which a member stands twice",
    "one parser takes the first, another the last: under one key they would be two questions",
    lambda asked: False,
)
_BY_BODY: tuple[Rule[Asked], ...] = (
    Rule(
        "temperature",
        "a temperature above `max_temperature` (1.0)",
        "the client wants variety, not repetition",
        is_hot,
    ),
    Rule("choices", "`n` or `best_of` above 1", "the client wants several different answers", is_many),
    Rule(
        "media",
        "pictures, sounds, files, and any part that is not text, asked with or asked for",
        "a link may show something else tomorrow, and the bodies are large",
        has_media,
    ),
    Rule(
        "hosted_tools",
        "tools that the provider itself runs (search, code, connectors)",
        "what they find is of its moment",
        has_hosted_tools,
    ),
    Rule(
        "stateful",
        "`previous_response_id`, `conversation`, `background`, `store`; a Responses call without `store: false`; "
        "a prompt or an item that the provider keeps",
        "the reply depends on, or leaves behind, something that is not in the request",
        is_stateful,
    ),
)
REQUEST_RULES: tuple[Rule[Asked], ...] = (_OTHER, _LARGE, AMBIGUOUS, *_BY_BODY)

REPLY_RULES: tuple[Rule[Answered], ...] = (
    Rule("status", "a status other than 200", "an error is not an answer", lambda answered: answered.status != 200),
    Rule(
        "incomplete",
        "a reply that broke off, or whose client left before its end",
        "nobody knows how it would have gone on",
        lambda answered: answered.body is None,
    ),
    Rule(
        "other_origin",
        "a reply of another target than the key's (a fallback), or out of a cache",
        "under this key it would pass for the target's own, with a new lease of life",
        lambda answered: not answered.is_own,
    ),
    Rule(
        "filtered",
        "a reply that a filter cut, or a refusal",
        "filters are moody, and a refusal that is repeated looks like an outage",
        lambda answered: "refusal" in answered.traits or is_filtered(answered.finish_reasons),
    ),
    Rule(
        "tool_calls",
        "a reply that calls tools, unless `tool_calls: true`",
        "a call has effects, and its ids are meant for once",
        lambda answered: "tool_calls" in answered.traits and not answered.terms.tool_calls,
    ),
    Rule(
        "unfinished",
        "a reply cut by its length, or ended for any reason but that it was said",
        "the client could not tell it from a whole one",
        is_unfinished,
    ),
    Rule(
        "hosted_reply",
        "a reply in which the provider used tools of its own",
        "what they found is of its moment",
        lambda answered: "hosted_tools" in answered.traits,
    ),
    Rule(
        "unknown",
        "a reply with sounds, pictures, or a shape that cannot be told both whole and as a stream",
        "told again it might lose a part",
        lambda answered: not answered.traits.isdisjoint({"media", "unknown"}),
    ),
    Rule(
        "empty",
        "a reply that says nothing",
        "it is a mishap more often than an answer",
        lambda answered: "empty" in answered.traits,
    ),
    Rule(
        "large_reply",
        "a reply of more than `max_entry` (1 MiB)",
        "it would drive a thousand others out",
        lambda answered: answered.body is not None and len(answered.body) > answered.terms.max_entry_bytes,
    ),
)

SIMILAR_RULES: tuple[Rule[Last], ...] = (
    Rule(
        "tools",
        "a request that offers tools",
        "which of them is called, and with what, turns on single words",
        lambda last: bool(last.context.get("tools") or last.context.get("functions")),
    ),
    Rule(
        "deictic",
        'a last message that points elsewhere: "this", "above", "the same", "and ...", "it" near its beginning',
        "what it means stands in something else than its words",
        lambda last: is_deictic(last.text),
    ),
    Rule(
        "timed",
        'a last message bound to its moment: "today", "now", "latest", "last week"',
        "the same words have another answer tomorrow",
        lambda last: is_timed(last.text),
    ),
    Rule(
        "short",
        f"a last message of fewer than {LEAST_SIMILAR_WORDS} words",
        "so few words lean on what was said before",
        lambda last: len(last.text.split()) < LEAST_SIMILAR_WORDS,
    ),
    Rule(
        "long",
        f"a last message of more than {LONGEST_SIMILAR_TOKENS} tokens",
        "an embedding of so much text no longer shows one changed number or name",
        lambda last: estimate_tokens(len(last.text.encode())) > LONGEST_SIMILAR_TOKENS,
    ),
    Rule(
        "conversation",
        f"more than {MOST_EARLIER_TURNS} earlier messages",
        "the further a conversation goes, the less its last message says by itself",
        lambda last: last.earlier > MOST_EARLIER_TURNS,
    ),
    Rule(
        "foreign",
        "a last message that is not mostly in Latin letters",
        "the embedder and the guards know English",
        lambda last: is_foreign(last.text),
    ),
)
NO_LAST_MESSAGE = "no_last_message"
"""Why a request is not looked up by similarity that has no last message of one text: completions, embeddings, parts."""


def refuse_request(request: Request, terms: Terms) -> Rule[Asked] | Members:
    """The first rule that keeps the cache away from a request; the members of its body when there is none."""
    early = Asked(request, {}, terms)
    for rule in (_OTHER, _LARGE):
        if rule.applies(early):
            return rule
    members = read_members(request.body)
    if members is None:
        return AMBIGUOUS
    asked = Asked(request, members.values, terms)
    for rule in _BY_BODY:
        if rule.applies(asked):
            return rule
    return members


def refuse_reply(answered: Answered) -> Rule[Answered] | None:
    """The first rule that keeps a reply from being stored."""
    for rule in REPLY_RULES:
        if rule.applies(answered):
            return rule
    return None


def refuse_similar(last: Last | None) -> str | None:
    """Why a request must not be looked up by similarity, by the rule's name; None when it may."""
    if last is None:
        return NO_LAST_MESSAGE
    for rule in SIMILAR_RULES:
        if rule.applies(last):
            return rule.name
    return None


def table() -> Iterator[tuple[Stage, str, str, str]]:
    """Stage, name, what, and reason of every rule: the table of the documentation."""
    for request_rule in REQUEST_RULES:
        yield "request", request_rule.name, request_rule.what, request_rule.reason
    for reply_rule in REPLY_RULES:
        yield "reply", reply_rule.name, reply_rule.what, reply_rule.reason
    what = "completions, embeddings, and a last message that is not one text of the user's"
    yield "similar", NO_LAST_MESSAGE, what, "there is nothing that could be said in other words"
    for similar_rule in SIMILAR_RULES:
        yield "similar", similar_rule.name, similar_rule.what, similar_rule.reason


def markdown() -> str:
    """The table as Markdown, for `docs/`, which a test compares with it."""
    lines = ["| stage | rule | what | why |", "| --- | --- | --- | --- |"]
    lines += [f"| {stage} | `{name}` | {what} | {reason} |" for stage, name, what, reason in table()]
    return "\n".join(lines) + "\n"
