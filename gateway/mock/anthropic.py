"""Messages as Anthropic words them, whole and streamed."""

import msgspec

from gateway.mock.complaints import anthropic_error_frame
from gateway.mock.content import Content, escape
from gateway.mock.openai import Reckoning

_STOP = {"stop": b"end_turn", "length": b"max_tokens", "tool": b"tool_use"}


class AnthropicMessage:
    """One message. In streams it has the grammar of the provider's page on streaming (2023-06-01)."""

    def __init__(self, content: Content, reckoning: Reckoning, *, number: int, model: str) -> None:
        self._content = content
        self._reckoning = reckoning
        self._directives = reckoning.directives
        self._number = number
        self._stop = _STOP[content.finish]
        self._model = msgspec.json.encode(model)
        kind = b"input_json_delta" if content.tool is not None else b"text_delta"
        field = b"partial_json" if content.tool is not None else b"text"
        self._before = (
            b"event: content_block_delta\ndata: "
            b'{"type":"content_block_delta","index":0,"delta":{"type":"%s","%s":"' % (kind, field)
        )

    def whole(self) -> bytes:
        """The JSON body of the answer that is not streamed."""
        if self._content.tool is not None:
            block = self._tool_block(b"{}")
        else:
            block = b'{"type":"text","text":"%s"}' % self._content.text
        return self._message(block, b'"%s"' % self._stop, self._reckoning.completion)

    def opening(self) -> list[bytes]:
        """`message_start`, `content_block_start` and a `ping`, in the provider's order."""
        tool = self._content.tool
        block = self._tool_block(b"{}") if tool is not None else b'{"type":"text","text":""}'
        # The provider counts one token there, so whoever takes it for the total bills too little.
        started = min(1, self._reckoning.completion)
        return [
            _frame(b"message_start", b'"message":' + self._message(b"", b"null", started)),
            _frame(b"content_block_start", b'"index":0,"content_block":' + block),
            _frame(b"ping", b""),
        ]

    def piece(self, text: bytes) -> bytes:
        """The delta of one token."""
        return self._before + text + b'"}}\n\n'

    def closing(self) -> list[bytes]:
        """`content_block_stop`, `message_delta` with the usage, `message_stop`."""
        usage = b"" if self._directives.nousage else b',"usage":' + self._usage(self._reckoning.completion)
        frames = [
            _frame(b"content_block_stop", b'"index":0'),
            _frame(b"message_delta", b'"delta":{"stop_reason":"%s","stop_sequence":null}%s' % (self._stop, usage)),
        ]
        if not self._directives.nodone:
            frames.append(_frame(b"message_stop", b""))
        return frames

    def error(self, status: int) -> bytes:
        """`event: error`."""
        return anthropic_error_frame(status)

    def _message(self, block: bytes, stop: bytes, output_tokens: int) -> bytes:
        usage = b"" if self._directives.nousage else b',"usage":' + self._usage(output_tokens)
        return (
            b'{"id":"msg_%024x","type":"message","role":"assistant","model":%s,"content":[%s],'
            b'"stop_reason":%s,"stop_sequence":null%s}' % (self._number, self._model, block, stop, usage)
        )

    def _tool_block(self, arguments: bytes) -> bytes:
        name = escape(self._content.tool or "")
        return b'{"type":"tool_use","id":"toolu_%024x","name":"%s","input":%s}' % (self._number, name, arguments)

    def _usage(self, output_tokens: int) -> bytes:
        return (
            b'{"input_tokens":%d,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,'
            b'"output_tokens":%d,"service_tier":"standard"}' % (self._reckoning.prompt, output_tokens)
        )


def _frame(name: bytes, fields: bytes) -> bytes:
    comma = b"," if fields else b""
    return b'event: %s\ndata: {"type":"%s"%s%s}\n\n' % (name, name, comma, fields)
