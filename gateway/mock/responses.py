"""OpenAI's Responses, whole and streamed."""

import msgspec

from gateway.mock.complaints import openai_error
from gateway.mock.content import Content, escape
from gateway.mock.openai import Reckoning


class Response:
    """One response with one output item: a message, or a function call."""

    def __init__(self, content: Content, reckoning: Reckoning, *, number: int, created: int, model: str) -> None:
        self._content = content
        self._reckoning = reckoning
        self._directives = reckoning.directives
        self._number = number
        self._created = created
        self._model = msgspec.json.encode(model)
        self._sequence = 0
        self._is_cut = content.finish == "length"
        kind = b"fc" if content.tool is not None else b"msg"
        self._item_id = b"%s_%024x" % (kind, number)
        self._place = b'"item_id":"%s","output_index":0' % self._item_id
        if content.tool is None:
            self._place += b',"content_index":0'

    def whole(self) -> bytes:
        """The JSON body of the answer that is not streamed."""
        return self._response(b"incomplete" if self._is_cut else b"completed", self._item(b"completed"), is_final=True)

    def opening(self) -> list[bytes]:
        """From `response.created` to `response.content_part.added`."""
        started = self._response(b"in_progress", b"", is_final=False)
        frames = [
            self._frame(b"response.created", b'"response":' + started),
            self._frame(b"response.in_progress", b'"response":' + started),
            self._frame(b"response.output_item.added", b'"output_index":0,"item":' + self._item(b"in_progress")),
        ]
        if self._content.tool is None:
            frames.append(self._frame(b"response.content_part.added", self._place + b',"part":' + _part(b"")))
        return frames

    def piece(self, text: bytes) -> bytes:
        """The delta of one token."""
        if self._content.tool is not None:
            return self._frame(b"response.function_call_arguments.delta", self._place + b',"delta":"' + text + b'"')
        return self._frame(b"response.output_text.delta", self._place + b',"delta":"' + text + b'","logprobs":[]')

    def closing(self) -> list[bytes]:
        """From `response.output_text.done` to `response.completed` (`response.incomplete` at the token limit)."""
        text = self._content.text
        item = self._item(b"completed")
        if self._content.tool is not None:
            name = escape(self._content.tool)
            fields = self._place + b',"name":"%s","arguments":"%s"' % (name, text)
            frames = [self._frame(b"response.function_call_arguments.done", fields)]
        else:
            frames = [
                self._frame(b"response.output_text.done", self._place + b',"text":"%s","logprobs":[]' % text),
                self._frame(b"response.content_part.done", self._place + b',"part":' + _part(text)),
            ]
        frames.append(self._frame(b"response.output_item.done", b'"output_index":0,"item":' + item))
        if not self._directives.nodone:
            end = b"response.incomplete" if self._is_cut else b"response.completed"
            frames.append(self._frame(end, b'"response":' + self.whole()))
        return frames

    def error(self, status: int) -> bytes:
        """The `error` event, whose fields stand at its top level."""
        error = openai_error(status)
        fields = msgspec.json.encode({"code": error["code"], "message": error["message"], "param": None})
        return self._frame(b"error", fields[1:-1])

    def _frame(self, name: bytes, fields: bytes) -> bytes:
        number = self._sequence
        self._sequence = number + 1
        return b'event: %s\ndata: {"type":"%s","sequence_number":%d,%s}\n\n' % (name, name, number, fields)

    def _item(self, status: bytes) -> bytes:
        is_done = status == b"completed"
        if self._content.tool is not None:
            name = escape(self._content.tool)
            arguments = self._content.text if is_done else b""
            return (
                b'{"id":"%s","type":"function_call","status":"%s","arguments":"%s","call_id":"call_%024x","name":"%s"}'
                % (
                    self._item_id,
                    status,
                    arguments,
                    self._number,
                    name,
                )
            )
        parts = _part(self._content.text) if is_done else b""
        shown = b"incomplete" if is_done and self._is_cut else status
        return b'{"id":"%s","type":"message","status":"%s","content":[%s],"role":"assistant"}' % (
            self._item_id,
            shown,
            parts,
        )

    def _response(self, status: bytes, output: bytes, *, is_final: bool) -> bytes:
        details = b'{"reason":"max_output_tokens"}' if is_final and self._is_cut else b"null"
        usage = b"null"
        if is_final and not self._directives.nousage:
            prompt, completion = self._reckoning.prompt, self._reckoning.completion
            usage = (
                b'{"input_tokens":%d,"input_tokens_details":{"cached_tokens":0},"output_tokens":%d,'
                b'"output_tokens_details":{"reasoning_tokens":0},"total_tokens":%d}'
                % (prompt, completion, prompt + completion)
            )
        return (
            b'{"id":"resp_%024x","object":"response","created_at":%d,"status":"%s","background":false,"error":null,'
            b'"incomplete_details":%s,"instructions":null,"max_output_tokens":null,"metadata":{},"model":%s,'
            b'"output":[%s],"parallel_tool_calls":true,"previous_response_id":null,"service_tier":"default",'
            b'"store":false,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],'
            b'"top_p":1.0,"truncation":"disabled","usage":%s,"user":null}'
            % (self._number, self._created, status, details, self._model, output, usage)
        )


def _part(text: bytes) -> bytes:
    return b'{"type":"output_text","annotations":[],"logprobs":[],"text":"%s"}' % text
