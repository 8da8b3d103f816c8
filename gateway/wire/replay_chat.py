"""Chat completions and completions of OpenAI: from a stream to the whole reply, and back."""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.core.exchange import Usage
from gateway.wire.openai_stream import DONE
from gateway.wire.replay_parts import Unfit, array, decode, events, obj, pieces, text

_ENVELOPE = frozenset({"choices", "usage", "object", "obfuscation"})
"""What a chunk has besides what it shares with the whole reply."""
_CHOICE = frozenset({"index", "delta", "message", "text", "finish_reason", "logprobs"})
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
_encode = msgspec.json.Encoder().encode


class ChatCollector:
    """The whole reply out of chunks. What it does not know how to put together makes it give none."""

    __slots__ = ("_choices", "_done", "_envelope", "_is_chat", "_is_unfit", "_usage")

    def __init__(self, *, is_chat: bool) -> None:
        self._is_chat = is_chat
        self._is_unfit = False
        self._done = False
        self._envelope: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: dict[str, Any] | None = None

    def feed(self, block: bytes) -> None:
        """Take complete frames, as the client got them. Never fails."""
        if self._is_unfit:
            return
        try:
            for name, data in events(block):
                if data.strip() == b"[DONE]":
                    self._done = True
                elif name not in (None, b"message"):
                    raise Unfit
                else:
                    self._take(obj(decode(data)))
        except (Unfit, msgspec.DecodeError, RecursionError):
            self._is_unfit = True

    def body(self, usage: Usage) -> bytes | None:
        """The whole reply; None when the stream did not come to its end. `usage`: where the stream says none."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        if self._is_unfit or not self._done or not choices or any(choice.finish_reason is None for choice in choices):
            return None
        whole: dict[str, Any] = {
            "object": "chat.completion" if self._is_chat else "text_completion",
            **self._envelope,
            "choices": [choice.whole(self._is_chat) for choice in choices],
            "usage": self._usage if self._usage is not None else openai_usage(usage),
        }
        return _encode(whole)

    def _take(self, chunk: dict[str, Any]) -> None:
        for name, value in chunk.items():
            if name not in _ENVELOPE and value is not None:
                # The first one counts: the id and the model of a reply do not change.
                self._envelope.setdefault(name, value)
        if chunk.get("error"):
            raise Unfit
        if chunk.get("usage") is not None:
            self._usage = obj(chunk["usage"])
        for said in array(chunk.get("choices")):
            choice = obj(said)
            index = choice.get("index", 0)
            if not isinstance(index, int):
                raise Unfit
            state = self._choices.get(index)
            if state is None:
                state = self._choices[index] = _Choice(index)
            state.take(choice)


class _Choice:
    __slots__ = ("_annotations", "_calls", "_function", "_logprobs", "_others", "_texts", "finish_reason", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._function: dict[str, str] | None = None
        self._annotations: list[Any] = []
        self._logprobs: dict[str, list[Any]] | None = None
        self._others: dict[str, Any] = {}

    def take(self, choice: dict[str, Any]) -> None:
        """Add what one chunk says."""
        for name, value in choice.items():
            if name not in _CHOICE and value is not None:
                self._others[name] = value
        if choice.get("finish_reason") is not None:
            self.finish_reason = text(choice["finish_reason"])
        if choice.get("logprobs") is not None:
            self._add_logprobs(obj(choice["logprobs"]))
        if choice.get("text") is not None:
            self._texts.setdefault("text", []).append(text(choice["text"]))
        if choice.get("delta") is not None:
            for name, value in obj(choice["delta"]).items():
                self._add(name, value)

    def whole(self, is_chat: bool) -> dict[str, Any]:
        """This choice as a whole reply has it."""
        found: dict[str, Any] = {"index": self.index}
        if not is_chat:
            found["text"] = "".join(self._texts.get("text", ()))
        else:
            message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
            message |= {name: "".join(parts) for name, parts in self._texts.items() if parts}
            if self._annotations:
                message["annotations"] = self._annotations
            if self._calls:
                message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
            if self._function is not None:
                message["function_call"] = self._function
            found["message"] = message
        found["logprobs"] = self._logprobs
        found["finish_reason"] = self.finish_reason
        return found | self._others

    def _add(self, name: str, value: Any) -> None:
        if name in _TEXTS:
            if value is not None:
                self._texts.setdefault(name, []).append(text(value))
        elif name == "tool_calls":
            for call in array(value):
                self._add_call(obj(call))
        elif name == "function_call" and value is not None:
            self._function = self._function or {"name": "", "arguments": ""}
            _append(self._function, obj(value))
        elif name == "annotations":
            self._annotations += array(value)
        elif name == "role":
            if value not in (None, "", "assistant"):
                raise Unfit
        elif value:
            # Nobody knows how its pieces belong together.
            raise Unfit

    def _add_call(self, said: dict[str, Any]) -> None:
        index = said.get("index", 0)
        if not isinstance(index, int):
            raise Unfit
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        for name, value in said.items():
            if name in ("id", "type"):
                call[name] = value or call[name]
            elif name == "function":
                _append(call["function"], obj(value or {}))
            elif name != "index" and value:
                raise Unfit

    def _add_logprobs(self, said: dict[str, Any]) -> None:
        if self._logprobs is None:
            self._logprobs = {}
        for name, values in said.items():
            self._logprobs[name] = self._logprobs.get(name, []) + array(values)


def _append(function: dict[str, str], said: dict[str, Any]) -> None:
    for name, value in said.items():
        if value:
            function[name] = function.get(name, "") + text(value)


def openai_usage(usage: Usage) -> dict[str, Any]:
    """OpenAI's `usage` object that says what is known."""
    tokens_in, tokens_out = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }


def chat_stream(body: bytes, *, is_chat: bool, include_usage: bool) -> bytes:
    """The frames of a stream that says what the whole reply `body` does, to `[DONE]`. Raises Unfit."""
    whole = obj(decode(body))
    envelope = {name: value for name, value in whole.items() if name not in ("choices", "usage")}
    envelope["object"] = "chat.completion.chunk" if is_chat else "text_completion"
    # With usage asked for, every other chunk says that it has none.
    tail: dict[str, Any] = {"usage": None} if include_usage else {}
    frames: list[bytes] = []
    for said in array(whole.get("choices")):
        choice = obj(said)
        for changed in _chat_choices(choice) if is_chat else _text_choices(choice):
            frames.append(b"data: %b\n\n" % _encode({**envelope, "choices": [changed], **tail}))
    if include_usage:
        chunk = {**envelope, "choices": [], "usage": whole.get("usage")}
        frames.append(b"data: %b\n\n" % _encode(chunk))
    frames.append(DONE)
    return b"".join(frames)


def _chat_choices(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    index = choice.get("index", 0)
    message = obj(choice.get("message"))

    def with_delta(delta: dict[str, Any], logprobs: Any = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}

    content = message.get("content")
    opening = {"role": "assistant", "content": "" if content is not None else None, "refusal": None}
    yield with_delta(opening | {name: value for name, value in message.items() if name not in _OPENED})
    logprobs = choice.get("logprobs")
    for name in ("reasoning_content", "reasoning"):
        for piece in pieces(message.get(name)):
            yield with_delta({name: piece})
    for piece in pieces(content):
        # All of them with the first piece: which token is in which piece is nobody's business.
        yield with_delta({"content": piece}, logprobs)
        logprobs = None
    for number, call in enumerate(array(message.get("tool_calls"))):
        yield with_delta({"tool_calls": [{"index": number, **obj(call)}]})
    others = {name: value for name, value in choice.items() if name not in _CHOICE}
    last = {"index": index, "delta": {}, "logprobs": logprobs, "finish_reason": choice.get("finish_reason")}
    yield last | others


_OPENED = frozenset({"role", "content", "refusal", "reasoning_content", "reasoning", "tool_calls"})


def _text_choices(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    index, logprobs = choice.get("index", 0), choice.get("logprobs")
    for piece in pieces(choice.get("text")):
        yield {"index": index, "text": piece, "logprobs": logprobs, "finish_reason": None}
        logprobs = None
    others = {name: value for name, value in choice.items() if name not in _CHOICE}
    yield {"index": index, "text": "", "logprobs": None, "finish_reason": choice.get("finish_reason")} | others


def chat_traits(whole: dict[str, Any], *, is_chat: bool) -> set[str]:
    """See `Replay.traits`. Raises Unfit."""
    found: set[str] = set()
    choices = array(whole.get("choices"))
    if not choices:
        raise Unfit
    for said in choices:
        choice = obj(said)
        if not isinstance(choice.get("finish_reason"), str):
            raise Unfit
        if is_chat:
            found |= _message_traits(obj(choice.get("message")))
        elif not text(choice.get("text")):
            found.add("empty")
    return found


def _message_traits(message: dict[str, Any]) -> set[str]:
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise Unfit
    found: set[str] = set()
    if message.get("refusal"):
        found.add("refusal")
    if message.get("audio") or message.get("images"):
        found.add("media")
    if message.get("tool_calls") or message.get("function_call"):
        found.add("tool_calls")
    elif not content:
        found.add("empty")
    return found
