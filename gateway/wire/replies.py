"""Whole replies in JSON: the few facts that telemetry and limits need of them."""

from typing import Annotated, Any

import msgspec

from gateway.core.errors import UpstreamReplyError
from gateway.core.exchange import Dialect, Operation, Usage
from gateway.core.tokens import estimate_tokens
from gateway.wire.errors import reply_error
from gateway.wire.usage import AnthropicUsage, fill_usage, is_far_below, read_openai_usage, service_tier

_Count = Annotated[int, msgspec.Meta(ge=0)]
_NULL = msgspec.Raw(b"null")


class ReplyFacts(msgspec.Struct):
    """What one reply says of itself; empty where it says nothing."""

    usage: Usage = msgspec.field(default_factory=Usage)
    model: str | None = None
    response_id: str | None = None
    finish_reasons: list[str] = msgspec.field(default_factory=list)
    error: UpstreamReplyError | None = None
    """A top-level error, whatever the HTTP status was (F42)."""
    is_json: bool = True
    """Whether the body is a JSON object at all."""
    is_settled: bool = False
    """Whether the usage is as it should be, so that nothing is left to estimate."""
    content_bytes: int = 0
    """About how much the model wrote."""


class _Message(msgspec.Struct):
    content: msgspec.Raw = _NULL
    reasoning_content: msgspec.Raw = _NULL
    tool_calls: msgspec.Raw = _NULL


class _Choice(msgspec.Struct):
    finish_reason: Any = None
    message: _Message | None = None
    text: msgspec.Raw = _NULL


class _Piece(msgspec.Struct):
    # What a model writes, wherever Responses and Messages keep it. All else in them was not written by it, or says
    # nothing of tokens: ids, signatures, encrypted reasoning, pictures in base64, results of the provider's tools.
    type: Any = None
    text: Any = None
    refusal: Any = None
    thinking: Any = None
    arguments: Any = None
    input: msgspec.Raw = _NULL
    content: msgspec.Raw = _NULL
    summary: msgspec.Raw = _NULL


class _Incomplete(msgspec.Struct):
    reason: Any = None


class _Basic(msgspec.Struct):
    id: Any = None
    model: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None


class _Reply(_Basic):
    # The grammars do not collide, so one struct reads them all: chat and completions, Responses, Messages.
    choices: list[_Choice] | None = None
    status: Any = None
    incomplete_details: _Incomplete | None = None
    output: msgspec.Raw = _NULL
    stop_reason: Any = None
    content: msgspec.Raw = _NULL


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    audio_tokens: _Count | None = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None


class _ChatUsage(msgspec.Struct, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _ChatChoice(msgspec.Struct, gc=False):
    finish_reason: str


class _ChatReply(msgspec.Struct, gc=False):
    id: str
    model: str
    usage: _ChatUsage
    choices: list[_ChatChoice]
    service_tier: str | None = None
    error: None = None


_decode_chat = msgspec.json.Decoder(_ChatReply).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_basic = msgspec.json.Decoder(_Basic).decode
_decode_pieces = msgspec.json.Decoder(list[_Piece]).decode
# Pieces of these types have pieces of their own.
_NESTING = frozenset({"message", "reasoning"})


def read_reply(dialect: Dialect, operation: Operation, body: bytes) -> ReplyFacts:
    """The facts in `body`. Takes anything: what is not as it should be is left out, never raised."""
    if operation == "chat":
        usual = _read_usual_chat(body)
        if usual is not None:
            return usual
    reply: _Basic
    try:
        reply = _decode_reply(body) if operation not in ("embeddings", "count_tokens", "relay") else _decode_basic(body)
    except msgspec.ValidationError:
        try:
            reply = _decode_basic(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ReplyFacts(is_json=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ReplyFacts(is_json=False)
    facts = ReplyFacts(model=_text(reply.model), response_id=_text(reply.id))
    if dialect == "anthropic":
        AnthropicUsage(facts.usage).read(reply.usage)
    else:
        read_openai_usage(facts.usage, reply.usage)
        facts.usage.service_tier = service_tier(reply.service_tier)
    if reply.error:
        facts.error = reply_error(dialect, body)
    if isinstance(reply, _Reply):
        _read_answer(facts, reply)
    return facts


def _read_usual_chat(body: bytes) -> ReplyFacts | None:
    """The facts in a chat completion that is as OpenAI's are, in a third of the time; None for any other."""
    try:
        reply = _decode_chat(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    reported = reply.usage
    said, total = reported.completion_tokens, reported.prompt_tokens + reported.completion_tokens
    if reported.total_tokens != total or is_far_below(said, estimate_tokens(len(body))):
        return None
    prompt, completion = reported.prompt_tokens_details, reported.completion_tokens_details
    usage = Usage(reported.prompt_tokens, said, source="provider")
    if reply.service_tier is not None:
        usage.service_tier = service_tier(reply.service_tier)
    if prompt is not None:
        usage.cached_input_tokens = prompt.cached_tokens
        usage.cache_write_tokens = prompt.cache_write_tokens
        usage.audio_input_tokens = prompt.audio_tokens
    if completion is not None:
        usage.reasoning_tokens = completion.reasoning_tokens
        usage.audio_output_tokens = completion.audio_tokens
    choices = reply.choices
    reasons = [choices[0].finish_reason] if len(choices) == 1 else [choice.finish_reason for choice in choices]
    return ReplyFacts(usage, reply.model, reply.id, reasons, is_settled=True)


def estimate(facts: ReplyFacts, operation: Operation, *, prompt_bytes: int) -> None:
    """Fill the usage that the provider did not report, or reported far too low (F53, F56), and mark it.

    Embeddings have no output; counting tokens costs none, and relayed operations are not counted in
    them: for both nothing is filled, nor for a reply that is an error.
    """
    if facts.is_settled or operation in ("count_tokens", "relay") or facts.error is not None:
        return
    if operation == "embeddings" and facts.usage.output_tokens is None:
        facts.usage.output_tokens = 0
    fill_usage(facts.usage, prompt_bytes=prompt_bytes, relayed_tokens=estimate_tokens(facts.content_bytes))


def _read_answer(facts: ReplyFacts, reply: _Reply) -> None:
    for choice in reply.choices or ():
        _add_reason(facts, choice.finish_reason)
        facts.content_bytes += _size(choice.text)
        message = choice.message
        if message is not None:
            facts.content_bytes += _size(message.content) + _size(message.reasoning_content) + _size(message.tool_calls)
    facts.content_bytes += _written(reply.output) + _written(reply.content)
    if reply.incomplete_details is not None and reply.incomplete_details.reason:
        _add_reason(facts, reply.incomplete_details.reason)
    else:
        _add_reason(facts, reply.status)
    _add_reason(facts, reply.stop_reason)


def _add_reason(facts: ReplyFacts, reason: object) -> None:
    if isinstance(reason, str) and reason:
        facts.finish_reasons.append(reason)


def _written(raw: msgspec.Raw) -> int:
    """Bytes of what the model wrote in a list of pieces; of another shape, all of it."""
    if bytes(raw) == b"null":
        return 0
    try:
        pieces = _decode_pieces(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _size(raw)
    written = 0
    for piece in pieces:
        for text in (piece.text, piece.refusal, piece.thinking, piece.arguments):
            if isinstance(text, str):
                written += len(text.encode("utf-8", "replace"))
        written += _size(piece.input)
        if piece.type in _NESTING:
            written += _written(piece.content) + _written(piece.summary)
    return written


def _size(raw: msgspec.Raw) -> int:
    """Bytes of a JSON value without its quotes or brackets; 0 for null."""
    value = bytes(raw)
    return 0 if value == b"null" else len(value) - 2


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
