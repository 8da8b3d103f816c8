"""Messages of Anthropic: from a stream to the whole message, and back."""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.core.exchange import Usage
from gateway.wire.anthropic_stream import MESSAGE_STOP
from gateway.wire.replay_parts import Unfit, array, decode, events, obj, pieces, text

_encode = msgspec.json.Encoder().encode
_KNOWN = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
# Type of a delta -> the member of the block that it continues, which is the delta's own member too.
_CONTINUES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


class AnthropicCollector:
    """The whole message out of its events. What it does not know how to put together makes it give none."""

    __slots__ = ("_blocks", "_done", "_is_unfit", "_json", "_message")

    def __init__(self) -> None:
        self._is_unfit = False
        self._done = False
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._json: dict[int, list[str]] = {}

    def feed(self, block: bytes) -> None:
        """Take complete frames, as the client got them. Never fails."""
        if self._is_unfit:
            return
        try:
            for _, data in events(block):
                self._take(obj(decode(data)))
        except (Unfit, msgspec.DecodeError, RecursionError):
            self._is_unfit = True

    def body(self, usage: Usage) -> bytes | None:
        """The whole message; None when the stream did not come to its end. Its usage is always its own."""
        message = self._message
        if self._is_unfit or not self._done or message is None or message.get("stop_reason") is None:
            return None
        try:
            content = [self._block(index) for index in sorted(self._blocks)]
            return _encode({**message, "content": content})
        except (Unfit, msgspec.DecodeError, RecursionError):
            return None

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "ping":
            return
        if kind == "message_start":
            self._message = dict(obj(event.get("message")))
        elif self._message is None:
            raise Unfit
        elif kind == "content_block_start":
            self._blocks[_index(event)] = _known(obj(event.get("content_block")))
        elif kind == "content_block_delta":
            self._continue(_index(event), obj(event.get("delta")))
        elif kind == "message_delta":
            counted = obj(self._message.get("usage") or {}) | obj(event.get("usage") or {})
            self._message |= obj(event.get("delta")) | {"usage": counted}
        elif kind == "message_stop":
            self._done = True
        elif kind != "content_block_stop":
            raise Unfit

    def _continue(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks.get(index)
        kind = delta.get("type")
        if block is None:
            raise Unfit
        if kind in _CONTINUES:
            member = _CONTINUES[kind]
            block[member] = text(block.get(member) or "") + text(delta.get(member))
        elif kind == "input_json_delta":
            self._json.setdefault(index, []).append(text(delta.get("partial_json")))
        elif kind == "citations_delta":
            block["citations"] = [*array(block.get("citations")), obj(delta.get("citation"))]
        else:
            raise Unfit

    def _block(self, index: int) -> dict[str, Any]:
        block = self._blocks[index]
        said = "".join(self._json.get(index, ()))
        return {**block, "input": obj(decode(said.encode()))} if said else block


def _known(block: dict[str, Any]) -> dict[str, Any]:
    if block.get("type") not in _KNOWN:
        raise Unfit
    return dict(block)


def _index(event: dict[str, Any]) -> int:
    index = event.get("index")
    if not isinstance(index, int):
        raise Unfit
    return index


def anthropic_stream(body: bytes) -> bytes:
    """The frames of a stream that says what the whole message `body` does. Raises Unfit."""
    message = obj(decode(body))
    usage = obj(message.get("usage") or {})
    # As the provider counts there: what was read, and no more than the first token of what is written.
    begun = {**usage, "output_tokens": min(1, usage["output_tokens"])} if usage.get("output_tokens") else usage
    start = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": begun}
    frames = [_frame("message_start", {"message": start})]
    for index, said in enumerate(array(message.get("content"))):
        frames.extend(_block_frames(index, obj(said)))
    ended = {"stop_reason": message.get("stop_reason"), "stop_sequence": message.get("stop_sequence")}
    frames.append(_frame("message_delta", {"delta": ended, "usage": usage}))
    frames.append(MESSAGE_STOP)
    return b"".join(frames)


def _block_frames(index: int, block: dict[str, Any]) -> Iterator[bytes]:
    kind = block.get("type")
    opened: dict[str, Any] = dict(block)
    deltas: list[dict[str, Any]] = []
    if kind == "text":
        opened["text"] = ""
        if opened.get("citations"):
            opened["citations"] = []
            deltas += [{"type": "citations_delta", "citation": each} for each in array(block["citations"])]
        deltas += [{"type": "text_delta", "text": piece} for piece in pieces(block.get("text"))]
    elif kind == "thinking":
        opened |= {"thinking": "", "signature": ""}
        deltas += [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block.get("thinking"))]
        deltas.append({"type": "signature_delta", "signature": block.get("signature") or ""})
    elif kind == "tool_use":
        opened["input"] = {}
        deltas.append({"type": "input_json_delta", "partial_json": _encode(block.get("input") or {}).decode()})
    elif kind != "redacted_thinking":
        raise Unfit
    yield _frame("content_block_start", {"index": index, "content_block": opened})
    for delta in deltas:
        yield _frame("content_block_delta", {"index": index, "delta": delta})
    yield _frame("content_block_stop", {"index": index})


def _frame(kind: str, members: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **members}))


def anthropic_traits(whole: dict[str, Any]) -> set[str]:
    """See `Replay.traits`. Raises Unfit."""
    found: set[str] = set()
    if not isinstance(whole.get("stop_reason"), str):
        raise Unfit
    has_content = False
    for said in array(whole.get("content")):
        block = obj(said)
        kind = block.get("type")
        if kind not in _KNOWN:
            raise Unfit
        if kind == "tool_use":
            found.add("tool_calls")
            has_content = True
        elif kind == "text":
            has_content = has_content or bool(text(block.get("text")))
    if not has_content:
        found.add("empty")
    return found
