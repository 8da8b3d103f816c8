"""The most that a request may cost at one target, told before it is sent.

Strict. A token stands for at least one byte of text in the vocabularies of bytes that today's chat
models have, and no text gets shorter when it is written as JSON: so a request has no more input
tokens of its own than its body has bytes. Each message also gets a few tokens from the model's chat
template (three to six: who speaks, where it ends), which is less than the 29 bytes of
`{"role":"user","content":""},`. What the body does not pay for is added: the template's own text and
the tools' (`TEMPLATE_TOKENS`, `TOOL_TOKENS`), and what is an image to the model and a short URL in
the body (`IMAGE_TOKENS`). What the provider itself puts in (an earlier answer, a file, the results
of its own search) is bounded by the model's context window alone. Two things are beyond any such
bound, and outside of this one: a provider's own tool that makes the model read its window several
times for one request, and vocabularies that rewrite a text before they split it (NFKC, in some
embedding models).

Calibrated. Of plain text, the tokens are what `Calibration` has learned, once it has.

How it is found out cheaply: one regular expression looks behind each quote for the names of what
matters (10 µs for 32 kB of text). A client may write a name with escapes (`"image\\u005furl"`), so
these are undone first where there are any.
"""

import re
from collections.abc import Callable
from math import ceil

from gateway.core.exchange import Operation, Request
from gateway.core.price import Ceiling, Price, Quote, ceilings, most_nusd, request_ceiling
from gateway.policies.calibration import Calibration

TEMPLATE_TOKENS = 256
"""What a chat template says on its own: 70 tokens with gpt-oss (knowledge cutoff, date, effort, channels), 26 with
Llama 3.1; the rest is room."""

TOOL_TOKENS = 1_024
"""What a provider adds where there are tools: up to 735 tokens with Anthropic's computer use (docs.claude.com,
"Tool use", prices, November 2026)."""

IMAGE_TOKENS = 49_152
"""Of one image: the most that is known is gpt-4o-mini's, 2,833 + 8 tiles of 5,667 = 48,169 tokens (OpenAI, "Images and
vision", calculating costs). Others have less than 25,000, most less than 5,000."""

WINDOW_TOKENS = 200_000
"""The context window where none is known."""

_PRICED = (b'service_tier"', b'speed"', b'ttl"', b'audio"', b'input_audio"')
_PICTURES = (rb'image_url"(?=\s*:)', b'image"', b'input_image"')

# What is looked for, by operation. All that is not in `_BOUNDED` tells of tokens that the body does not show: they are
# stored by the provider, fetched by it, or pages inside of a compressed file.
_LOOKED_FOR: dict[Operation, tuple[bytes, ...]] = {
    "chat": (
        *(*_PRICED, *_PICTURES, b'tools"', b'functions"', b'prediction"'),
        *(b'file"', b'audio_url"', b'video_url"', b'file_url"', b'document_url"', b'video"'),
    ),
    "messages": (
        *(*_PRICED, *_PICTURES, b'tools"', b'document"', b'container_upload"', b'mcp_servers"'),
        *(b"web_search_2", b"web_fetch_2", b"code_execution_2", b"tool_search_tool"),
    ),
    "responses": (
        *(*_PRICED, *_PICTURES, b'tools"', b'input_file"', b'input_video"', b"pmpt_", b'item_reference"'),
        *(b"web_search", b'file_search"', b'code_interpreter"', b'image_generation"', b'mcp"', b'shell"'),
        *(b'tool_search"', rb'(?:previous_response_id|conversation)"\s*+:\s*+(?!null\b)'),
    ),
    "text_completion": (b'service_tier"', rb'best_of"\s*:\s*\d{1,6}', rb'prompt"\s*:\s*\['),
    "embeddings": (),
}
_BOUNDED = frozenset(
    {*_PRICED, b'image_url"', *_PICTURES[1:], b'tools"', b'functions"', b'prediction"'},
)
_find: dict[Operation, Callable[[bytes], list[bytes]]] = {
    operation: re.compile(rb'"(%s)' % b"|".join(names)).findall for operation, names in _LOOKED_FOR.items() if names
}
_re_escape = re.compile(rb"\\u00([2-7][0-9A-Fa-f])")
_UNTOUCHED = (b"22", b"5c", b"5C")


class TargetQuote:
    """Quotes for one target. `context_window` caps a prompt, so give the model's true one, or None.

    `template_tokens`: see TEMPLATE_TOKENS; 0 for a provider that is known to add nothing. `count`: the input
    tokens of a body, for a provider whose way of counting is known exactly; it may give None for a body of
    which it cannot tell. The quotes are exact then, and no money is held in vain.
    """

    __slots__ = ("_calibration", "_ceilings", "_count", "_price", "_template", "_usual", "_window")

    def __init__(
        self,
        price: Price | None,
        context_window: int | None,
        calibration: Calibration | None,
        *,
        template_tokens: int = TEMPLATE_TOKENS,
        count: Callable[[bytes], int | None] | None = None,
    ) -> None:
        self._price = price
        self._count = count
        self._window = context_window
        self._calibration = calibration
        self._template = template_tokens
        self._ceilings: dict[tuple[bool, bool, bool], tuple[Ceiling, ...]] = {}
        self._usual = () if price is None else ceilings(price, audio=False, hourly=False, services=False)

    def worst_case(self, request: Request, max_tokens: int, strict: bool) -> Quote:
        """No attempt at this target comes to more. `max_tokens` bounds one choice, whoever set it.

        Counting tokens costs none. Of relayed operations only a price per request is known, and only
        those that make something (POST) have it.
        """
        operation, price = request.operation, self._price
        if operation not in _LOOKED_FOR:
            is_made = operation == "relay" and request.method == "POST"
            return Quote(0, 0, None if price is None else (price.request if is_made else 0))
        body = request.body
        found = names(operation, body)
        output_tokens = 0 if operation == "embeddings" else max_tokens * request.head.n
        if not found:
            input_tokens = self._counted(body) or self._input(len(body), strict, 0)
            if price is None:
                return Quote(input_tokens, output_tokens, None)
            cost = price.request + most_nusd(self._usual, input_tokens, output_tokens)
            return Quote(input_tokens, output_tokens, cost)
        if operation == "text_completion":
            output_tokens *= _completions(found, body, request.head.n)
            input_tokens = self._input(len(body), strict, 0)
        elif _is_unbounded(found):
            input_tokens = self._window or max(WINDOW_TOKENS, len(body) + self._template)
        else:
            images = _images(found)
            input_tokens = self._input(len(body), strict or images > 0, TOOL_TOKENS + images * IMAGE_TOKENS)
            if b'prediction"' in found:
                # What was predicted and is wrong is charged as output.
                output_tokens += len(body)
        return self._priced(found, input_tokens, output_tokens)

    def _counted(self, body: bytes) -> int | None:
        return None if self._count is None else self._count(body)

    def _input(self, size: int, strict: bool, added: int) -> int:
        tokens = size + self._template + added
        if not strict and self._calibration is not None:
            ratio = self._calibration.tokens_per_byte
            if ratio is not None:
                tokens = min(tokens, ceil(size * ratio))
        if self._window is not None and tokens > self._window:
            return self._window
        return tokens

    def _priced(self, found: list[bytes], input_tokens: int, output_tokens: int) -> Quote:
        price = self._price
        if price is None:
            return Quote(input_tokens, output_tokens, None)
        audio = b'audio"' in found or b'input_audio"' in found
        services = b'service_tier"' in found or b'speed"' in found
        kind = (audio, b'ttl"' in found, services)
        known = self._ceilings.get(kind)
        if known is None:
            known = self._ceilings[kind] = ceilings(price, audio=audio, hourly=kind[1], services=services)
        cost = request_ceiling(price, services=services) + most_nusd(known, input_tokens, output_tokens)
        return Quote(input_tokens, output_tokens, cost)


def names(operation: Operation, body: bytes) -> list[bytes]:
    """What `body` has of the names that make its tokens other, or dearer, than plain text; as often as it has them."""
    find = _find.get(operation)
    if find is None:
        return []
    # One byte is found ten times faster than four, and most bodies have no escape at all.
    return find(plain(body) if b"\\" in body and b"\\u00" in body else body)


def is_plain_text(request: Request) -> bool:
    """Whether the body pays for its own tokens: it has no image or audio, and nothing that is kept elsewhere.

    Of no other request a ratio of tokens to bytes says anything.
    """
    found = names(request.operation, request.body)
    if not found:
        return request.operation in _LOOKED_FOR
    heard = b'audio"' in found or b'input_audio"' in found
    return not heard and not _is_unbounded(found) and _images(found) == 0


def plain(body: bytes) -> bytes:
    """`body` with ASCII letters and signs that stand there as escapes written out; for searching alone.

    Quotes and backslashes stay escaped: they end or begin something. A pair of backslashes before
    `u00` is no escape, and is taken for one: that adds words to a text, and never hides one.
    """
    return _re_escape.sub(_written_out, body)


def _is_unbounded(found: list[bytes]) -> bool:
    return not _BOUNDED.issuperset(found)


def _images(found: list[bytes]) -> int:
    # An image of Responses has both names, one of chat the key alone, one of Anthropic neither.
    return max(found.count(b'image_url"'), found.count(b'input_image"')) + found.count(b'image"')


def _completions(found: list[bytes], body: bytes, choices: int) -> int:
    """How many times `n` completions a request of that old API may make: the best of some, of several prompts."""
    best_of = max([1, *(int(name.rpartition(b":")[2]) for name in found if name.startswith(b"best_of"))])
    times = -(-max(best_of, choices) // choices)
    if any(name.startswith(b"prompt") for name in found):
        # Each prompt is a string or a list of numbers; so there are no more of them than quoted strings and lists.
        times *= max(1, body.count(b'"') // 2 + body.count(b"["))
    return times


def _written_out(escape: re.Match[bytes]) -> bytes:
    return escape[0] if escape[1] in _UNTOUCHED else bytes.fromhex(escape[1].decode("ascii"))
