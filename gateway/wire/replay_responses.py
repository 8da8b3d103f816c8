"""Responses of OpenAI: from a stream to the whole response, and back.

The stream's last event holds the whole response. The way back tells it with the events that the
provider sends for messages, summaries of reasoning and calls of functions, numbered from 0; any other
item is added and done at once.
"""

from typing import Any

import msgspec

from gateway.core.exchange import Usage
from gateway.wire.replay_parts import Unfit, array, decode, events, obj, pieces, text

_encode = msgspec.json.Encoder().encode
_ENDS = frozenset({"response.incomplete", "response.failed", "error"})
_MARKS = (b"response.completed", b"response.incomplete", b"response.failed", b"error")
_CALLS = frozenset({"function_call", "custom_tool_call"})


class _Event(msgspec.Struct):
    type: str = ""
    response: msgspec.Raw = msgspec.Raw(b"null")


_decode_event = msgspec.json.Decoder(_Event).decode


class ResponsesCollector:
    """The whole response out of its events."""

    __slots__ = ("_is_unfit", "_whole")

    def __init__(self) -> None:
        self._is_unfit = False
        self._whole: bytes | None = None

    def feed(self, block: bytes) -> None:
        """Take complete frames, as the client got them. Never fails."""
        # Most events are pieces of text, which the last one repeats as a whole.
        if self._is_unfit or not any(mark in block for mark in _MARKS):
            return
        try:
            for _, data in events(block):
                if data.strip() == b"[DONE]":
                    continue
                event = _decode_event(data)
                if event.type in _ENDS:
                    raise Unfit
                if event.type == "response.completed":
                    self._whole = bytes(event.response)
        except (Unfit, msgspec.DecodeError, RecursionError):
            self._is_unfit = True

    def body(self, usage: Usage) -> bytes | None:
        """The whole response; None when it was not completed. Its usage is always its own."""
        return None if self._is_unfit else self._whole


def responses_stream(body: bytes) -> bytes:
    """The frames of a stream that says what the whole response `body` does. Raises Unfit."""
    whole = obj(decode(body))
    teller = _Teller()
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    if "completed_at" in started:
        started["completed_at"] = None
    teller.tell("response.created", response=started)
    teller.tell("response.in_progress", response=started)
    for index, said in enumerate(array(whole.get("output"))):
        teller.item(index, obj(said))
    teller.tell("response.completed", response=whole)
    return b"".join(teller.frames)


class _Teller:
    """Writes the events of one stream, numbered."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def tell(self, kind: str, **members: Any) -> None:
        """One event."""
        data = _encode({"type": kind, "sequence_number": len(self.frames), **members})
        self.frames.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))

    def item(self, index: int, item: dict[str, Any]) -> None:
        """The events of one item of the output."""
        kind = item.get("type")
        place = {"item_id": item.get("id"), "output_index": index}
        if kind == "message":
            opened = {**item, "status": "in_progress", "content": []}
        elif kind == "reasoning":
            opened = {**item, "summary": []}
        elif kind == "function_call":
            opened = {**item, "status": "in_progress", "arguments": ""}
        else:
            opened = item
        self.tell("response.output_item.added", output_index=index, item=opened)
        if kind == "message":
            for number, part in enumerate(array(item.get("content"))):
                self._text({**place, "content_index": number}, obj(part))
        elif kind == "reasoning":
            for number, part in enumerate(array(item.get("summary"))):
                self._summary({**place, "summary_index": number}, obj(part))
        elif kind == "function_call":
            self._arguments(place, item)
        self.tell("response.output_item.done", output_index=index, item=item)

    def _text(self, place: dict[str, Any], part: dict[str, Any]) -> None:
        said = text(part.get("text"))
        opened = {**part, "text": "", "annotations": []}
        logprobs = array(part.get("logprobs"))
        self.tell("response.content_part.added", **place, part=opened | ({"logprobs": []} if logprobs else {}))
        shown = logprobs
        for piece in pieces(said):
            self.tell("response.output_text.delta", **place, delta=piece, logprobs=shown)
            shown = []
        for number, annotation in enumerate(array(part.get("annotations"))):
            self.tell("response.output_text.annotation.added", **place, annotation_index=number, annotation=annotation)
        self.tell("response.output_text.done", **place, text=said, logprobs=logprobs)
        self.tell("response.content_part.done", **place, part=part)

    def _summary(self, place: dict[str, Any], part: dict[str, Any]) -> None:
        said = text(part.get("text"))
        self.tell("response.reasoning_summary_part.added", **place, part={**part, "text": ""})
        for piece in pieces(said):
            self.tell("response.reasoning_summary_text.delta", **place, delta=piece)
        self.tell("response.reasoning_summary_text.done", **place, text=said)
        self.tell("response.reasoning_summary_part.done", **place, part=part)

    def _arguments(self, place: dict[str, Any], item: dict[str, Any]) -> None:
        said = text(item.get("arguments"))
        for piece in pieces(said):
            self.tell("response.function_call_arguments.delta", **place, delta=piece)
        self.tell("response.function_call_arguments.done", **place, name=item.get("name"), arguments=said)


def responses_traits(whole: dict[str, Any]) -> set[str]:
    """See `Replay.traits`. Raises Unfit."""
    found: set[str] = set()
    if not isinstance(whole.get("status"), str):
        raise Unfit
    has_content = False
    for said in array(whole.get("output")):
        item = obj(said)
        kind = item.get("type")
        if kind == "message":
            for part in array(item.get("content")):
                has_content = _read_part(obj(part), found) or has_content
        elif kind == "reasoning":
            for part in array(item.get("summary")):
                text(obj(part).get("text"))
        else:
            # The provider's own tools: what they looked up is of its moment.
            found.add("tool_calls" if kind in _CALLS else "hosted_tools")
            has_content = True
    if not has_content:
        found.add("empty")
    return found


def _read_part(part: dict[str, Any], found: set[str]) -> bool:
    """Whether a part of a message says anything."""
    kind = part.get("type")
    if kind == "refusal":
        found.add("refusal")
        return True
    if kind != "output_text":
        raise Unfit
    return bool(text(part.get("text")))
