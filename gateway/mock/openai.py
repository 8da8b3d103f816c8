"""Chat completions and text completions as OpenAI words them, whole and streamed."""

import msgspec

from gateway.core.errors import InvalidRequest
from gateway.mock.complaints import openai_error_frame
from gateway.mock.content import Content, escape
from gateway.mock.directives import Directives

_FINISH = {"stop": b"stop", "length": b"length", "tool": b"tool_calls"}
DONE = b"data: [DONE]\n\n"


class Reckoning:
    """The token counts of one answer, as the directives want them reported."""

    __slots__ = ("completion", "directives", "prompt")

    def __init__(self, prompt: int, completion: int, directives: Directives) -> None:
        self.directives = directives
        self.prompt = 0 if directives.zero_usage else prompt
        self.completion = 0 if directives.zero_usage else completion

    def openai(self) -> bytes:
        """OpenAI's `usage` object."""
        return (
            b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
            b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
            b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
            b'"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
            % (self.prompt, self.completion, self.prompt + self.completion)
        )


class Chat:
    """One chat completion."""

    object_name = b"chat.completion"
    id_prefix = b"chatcmpl-"

    def __init__(
        self,
        content: Content,
        reckoning: Reckoning,
        *,
        number: int,
        created: int,
        model: str,
        choices: int = 1,
        include_usage: bool = False,
    ) -> None:
        if content.tool is not None and choices > 1:
            raise InvalidRequest("The mock calls a tool for n=1 only.", param="n")
        self._content = content
        self._reckoning = reckoning
        self._directives = reckoning.directives
        self._choices = choices
        self._asked_usage = include_usage and not self._directives.nousage
        self._finish = _FINISH[content.finish]
        self._id = self.id_prefix + b"%024x" % number
        self._tail = b',"usage":null}\n\n' if self._asked_usage and not self._directives.usage_in_choice else b"}\n\n"
        self._created = created
        self._model = msgspec.json.encode(model)
        self._stem = self._before = self._after = b""

    def whole(self) -> bytes:
        """The JSON body of the answer that is not streamed."""
        choices = b",".join(self._whole_choice(index) for index in range(self._choices))
        usage = b"" if self._directives.nousage else b',"usage":' + self._reckoning.openai()
        return self._envelope(self.object_name) + b'"choices":[' + choices + b"]" + usage + b"}"

    def opening(self) -> list[bytes]:
        """The chunk with the role, one for each choice."""
        self._prepare()
        delta = b'"role":"assistant","content":"","refusal":null'
        if self._content.tool is not None:
            delta = b'"role":"assistant","content":null,"tool_calls":[{"index":0,%s]' % self._tool_call(b"")
        return [
            self._chunk(b'{"index":%d,"delta":{%s},"logprobs":null,"finish_reason":null}' % (index, delta))
            for index in range(self._choices)
        ]

    def piece(self, text: bytes) -> bytes:
        """The chunk of one token; with several choices, one chunk for each."""
        if self._content.tool is not None:
            return self._chunk(
                b'{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"%s"}}]},'
                b'"logprobs":null,"finish_reason":null}' % text
            )
        if self._choices == 1:
            return self._before + text + self._after
        return b"".join(
            b'data: %s"choices":[{"index":%d,%s%s%s' % (self._stem, index, self._delta_open(), text, self._after)
            for index in range(self._choices)
        )

    def closing(self) -> list[bytes]:
        """The chunks with the finish reason, the usage where it was asked for, and `[DONE]`."""
        frames = [self._chunk(self._last_choice(index)) for index in range(self._choices)]
        if self._directives.usage_in_choice and not self._directives.nousage:
            last = self._stem + b'"choices":[' + self._last_choice(self._choices - 1) + b'],"usage":'
            frames[-1] = b"data: " + last + self._reckoning.openai() + b"}\n\n"
        elif self._asked_usage:
            frames.append(b"data: " + self._stem + b'"choices":[],"usage":' + self._reckoning.openai() + b"}\n\n")
        if not self._directives.nodone:
            frames.append(DONE)
        return frames

    def error(self, status: int) -> bytes:
        """`data: {"error": …}`."""
        return openai_error_frame(status, named=self._directives.event_error)

    def _prepare(self) -> None:
        # What is the same in all chunks, put together once, and only for a stream.
        self._stem = self._envelope(self.object_name + self._chunk_suffix())
        self._before = b"data: " + self._stem + b'"choices":[{"index":0,' + self._delta_open()
        self._after = self._delta_close() + b"]" + self._tail

    def _envelope(self, name: bytes) -> bytes:
        return (
            b'{"id":"%s","object":"%s","created":%d,"model":%s,"service_tier":"default",'
            b'"system_fingerprint":"fp_mock000001",' % (self._id, name, self._created, self._model)
        )

    def _chunk(self, choice: bytes) -> bytes:
        return b"data: " + self._stem + b'"choices":[' + choice + b"]" + self._tail

    def _chunk_suffix(self) -> bytes:
        return b".chunk"

    def _delta_open(self) -> bytes:
        return b'"delta":{"content":"'

    def _delta_close(self) -> bytes:
        return b'"},"logprobs":null,"finish_reason":null}'

    def _last_choice(self, index: int) -> bytes:
        return b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%s"}' % (index, self._finish)

    def _whole_choice(self, index: int) -> bytes:
        if self._content.tool is not None:
            message = b'"content":null,"tool_calls":[{%s],' % self._tool_call(self._content.text)
        else:
            message = b'"content":"%s",' % self._content.text
        return (
            b'{"index":%d,"message":{"role":"assistant",%s"refusal":null,"annotations":[]},'
            b'"logprobs":null,"finish_reason":"%s"}' % (index, message, self._finish)
        )

    def _tool_call(self, arguments: bytes) -> bytes:
        return b'"id":"call_%s","type":"function","function":{"name":"%s","arguments":"%s"}}' % (
            self._id[-24:],
            escape(self._content.tool or ""),
            arguments,
        )


class TextCompletion(Chat):
    """One completion of a plain prompt."""

    object_name = b"text_completion"
    id_prefix = b"cmpl-"

    def opening(self) -> list[bytes]:
        """Nothing: the first chunk has text already."""
        self._prepare()
        return []

    def _chunk_suffix(self) -> bytes:
        return b""

    def _delta_open(self) -> bytes:
        return b'"text":"'

    def _delta_close(self) -> bytes:
        return b'","logprobs":null,"finish_reason":null}'

    def _last_choice(self, index: int) -> bytes:
        return b'{"index":%d,"text":"","logprobs":null,"finish_reason":"%s"}' % (index, self._finish)

    def _whole_choice(self, index: int) -> bytes:
        return b'{"index":%d,"text":"%s","logprobs":null,"finish_reason":"%s"}' % (
            index,
            self._content.text,
            self._finish,
        )
