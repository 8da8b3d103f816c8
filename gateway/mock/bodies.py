"""What the mock reads of a request body: one lenient shape for every JSON endpoint it plays."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from gateway.core.errors import InvalidRequest

MAX_CHOICES = 128
_MAX_REMEMBERED = 4096
_EXPECTED = re.compile(r"expect(?:ed)?:[ \t]*(\S[^\r\n]*)", re.IGNORECASE)
_TOOL_CALL = re.compile(r"call ([A-Za-z0-9_.-]+)")


class Part(msgspec.Struct):
    """One part of a message. Images, sounds and files are accepted and not looked at."""

    type: str = ""
    text: str | None = None
    content: "str | list[Part] | None" = None


class Message(msgspec.Struct):
    """One turn of a conversation, or one item of a Responses input."""

    role: str = ""
    content: str | list[Part] | None = None
    output: str | list[Part] | None = None
    text: str | None = None

    def texts(self) -> Iterator[str]:
        """Every text of this turn, in order."""
        yield from _texts(self.content)
        yield from _texts(self.output)
        if self.text:
            yield self.text


class StreamOptions(msgspec.Struct):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None


class NamedFunction(msgspec.Struct):
    """The part of a tool that has its name."""

    name: str | None = None


class Tool(msgspec.Struct):
    """A tool, or a choice of one, in any of the three ways of writing it."""

    type: str = "function"
    name: str | None = None
    function: NamedFunction | None = None

    @property
    def called(self) -> str | None:
        """The function's name, wherever the dialect keeps it."""
        return self.function.name if self.function is not None else self.name


class Body(msgspec.Struct):
    """The fields of all endpoints together; each endpoint says which it must have."""

    model: str | None = None
    stream: bool | None = None
    messages: list[Message] | None = None
    system: str | list[Part] | None = None
    instructions: str | None = None
    prompt: str | list[str | int | list[int]] | None = None
    input: str | list[str | int | list[int] | Message] | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | Tool | None = None
    dimensions: int | None = None
    encoding_format: str | None = None
    response_format: Any = None

    @property
    def include_usage(self) -> bool:
        """Whether the client asked for a usage chunk in the stream."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def token_limit(self) -> int | None:
        """The longest answer that the client wants, None when it does not say."""
        for limit in (self.max_completion_tokens, self.max_tokens, self.max_output_tokens):
            if limit is not None:
                return limit
        return None

    @property
    def choices(self) -> int:
        """How many answers are wanted. Raises InvalidRequest outside 1 to 128, OpenAI's own bounds."""
        n = 1 if self.n is None else self.n
        if not 1 <= n <= MAX_CHOICES:
            raise InvalidRequest(f"Invalid 'n': {n}. It must be from 1 to {MAX_CHOICES}.", param="n")
        return n

    def input_tokens(self) -> int:
        """Words of every text, plus ready-made token ids; at least 1."""
        total = _count(self.prompt) + _count(self.input)
        for text in (*_texts(self.system), *_texts(self.instructions)):
            total += count_words(text)
        for message in self.messages or ():
            for text in message.texts():
                total += count_words(text)
        return max(total, 1)

    def last_user_text(self) -> str:
        """What the user said last; empty when there is nothing."""
        turns: list[Message] = list(self.messages or ())
        if isinstance(self.input, list):
            turns += [item for item in self.input if isinstance(item, Message)]
        for turn in reversed(turns):
            if turn.role == "user":
                return "".join(turn.texts())
        for plain in (self.input, self.prompt):
            if isinstance(plain, str):
                return plain
            if plain:
                return next((item for item in reversed(plain) if isinstance(item, str)), "")
        return ""

    def expected_text(self) -> str:
        """The text after `expect:` in what the user said last, on its line; `correct` without one."""
        match = _EXPECTED.search(self.last_user_text())
        return match[1].strip() if match else "correct"

    def tool_to_call(self) -> str | None:
        """The tool that the answer must call: a forced one, or the one the user names with `call NAME`."""
        if not self.tools or self.tool_choice == "none":
            return None
        names = [tool.called for tool in self.tools if tool.called]
        choice = self.tool_choice
        if isinstance(choice, Tool) and choice.called:
            return choice.called
        if choice == "required" or (isinstance(choice, Tool) and choice.type in ("any", "required")):
            return names[0] if names else None
        asked = _TOOL_CALL.match(self.last_user_text())
        return asked[1] if asked and asked[1] in names else None


_decoder = msgspec.json.Decoder(Body)


def read_body(raw: bytes) -> Body:
    """The body as JSON. Raises InvalidRequest that says what is wrong where."""
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError as fault:
        raise InvalidRequest(f"Invalid request body: {fault}") from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise InvalidRequest(
            f"We could not parse the JSON body of your request: {fault}", code="invalid_json"
        ) from fault


def count_words(text: str) -> int:
    """Words between white space: what the mock calls tokens of a prompt."""
    return _count_words(text) if len(text) <= _MAX_REMEMBERED else len(text.split())


@lru_cache(maxsize=256)
def _count_words(text: str) -> int:
    # Load tests send one prompt again and again; splitting 1 KB was a fifth of an answer's time.
    return len(text.split())


def require(name: str, value: object) -> None:
    """Raises InvalidRequest in OpenAI's words when a field that must be there is missing."""
    if value is None:
        raise InvalidRequest(f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)


def embedding_inputs(body: Body) -> list[str]:
    """One text for each vector that is wanted; token ids become text of their numbers."""
    given = body.input
    if isinstance(given, str):
        return [given]
    if not given:
        raise InvalidRequest("'input' must be a string or a list that is not empty.", param="input")
    if all(isinstance(item, int) for item in given):
        return [" ".join(str(item) for item in given)]
    return [
        item if isinstance(item, str) else " ".join(item.texts() if isinstance(item, Message) else map(str, _ids(item)))
        for item in given
    ]


def _ids(item: int | list[int]) -> list[int]:
    return [item] if isinstance(item, int) else item


def _texts(content: str | list[Part] | None) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif content:
        for part in content:
            if part.text:
                yield part.text
            yield from _texts(part.content)


def _count(given: "str | list[Any] | None") -> int:
    if given is None:
        return 0
    if isinstance(given, str):
        return count_words(given)
    total = 0
    for item in given:
        if isinstance(item, Message):
            total += sum(count_words(text) for text in item.texts())
        elif isinstance(item, int):
            total += 1
        else:
            total += count_words(item) if isinstance(item, str) else len(item)
    return total
