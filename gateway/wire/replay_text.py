"""What a stored reply says, as one text: what two replies are compared by."""

from typing import Any

import msgspec

from gateway.core.exchange import Dialect, Operation
from gateway.wire.replay_parts import Unfit, array, decode, obj, text


def said(dialect: Dialect, operation: Operation, body: bytes) -> str | None:
    """The text of a whole reply; None when it has none, or something besides text."""
    try:
        whole = obj(decode(body))
        if dialect == "anthropic":
            found = _parts(whole.get("content"), "text", ("thinking", "redacted_thinking"))
        elif operation == "responses":
            found = _items(whole)
        elif operation == "chat":
            found = _message(whole)
        else:
            return None
        return "".join(found).strip() or None
    except (Unfit, msgspec.DecodeError, RecursionError):
        return None


def _message(whole: dict[str, Any]) -> list[str]:
    choices = array(whole.get("choices"))
    message = obj(obj(choices[0]).get("message")) if len(choices) == 1 else {}
    if any(message.get(name) for name in ("tool_calls", "function_call", "audio")):
        raise Unfit
    return [text(message.get("content"))]


def _items(whole: dict[str, Any]) -> list[str]:
    found = []
    for item in map(obj, array(whole.get("output"))):
        if item.get("type") == "message":
            found += _parts(item.get("content"), "output_text", ())
        elif item.get("type") != "reasoning":
            raise Unfit
    return found


def _parts(parts: object, kind: str, silent: tuple[str, ...]) -> list[str]:
    """The texts of parts of one kind; those of the `silent` kinds say nothing to the reader."""
    found = []
    for part in map(obj, array(parts)):
        if part.get("type") == kind:
            found.append(text(part.get("text")))
        elif part.get("type") not in silent:
            raise Unfit
    return found
