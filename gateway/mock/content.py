"""What the mock says: tokens that are the same for the same directives, prompt and seed."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import msgspec

from gateway.mock.bodies import Body
from gateway.mock.directives import Directives

DEFAULT_TOKENS = 16
_WORD = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, slots=True)
class Content:
    """One answer before it is put into a dialect."""

    pieces: Sequence[bytes]
    """The tokens' texts, escaped for the inside of a JSON string, without quotation marks."""
    finish: Literal["stop", "length", "tool"]
    tool: str | None = None
    """The function to call; `pieces` are its arguments then."""

    @property
    def text(self) -> bytes:
        """The whole text, escaped for the inside of a JSON string."""
        return b"".join(self.pieces)


def escape(text: str) -> bytes:
    """`text` as it stands between the quotation marks of a JSON string, in UTF-8."""
    return msgspec.json.encode(text)[1:-1]


def compose_content(body: Body, directives: Directives, draw: float) -> Content:
    """The answer to `body`. `draw` is this call's share of luck, 0 ≤ draw < 1, for `quality`."""
    tool = body.tool_to_call()
    if tool is not None:
        return Content((b"{}",), "tool", tool)
    if directives.echo:
        return Content(_split(body.last_user_text()), "stop")
    if directives.quality is not None:
        good = draw < directives.quality
        answer = _split(f"The answer is {body.expected_text()}." if good else "I cannot tell.")
        filler = _numbered(directives.tokens or 0)[len(answer) :]
        return Content((*answer, *filler), "stop")
    wanted = DEFAULT_TOKENS if directives.tokens is None else directives.tokens
    finish: Literal["stop", "length"] = "stop"
    limit = body.token_limit
    # Only the default length bends to max_tokens: a test that asks for 100 tokens means 100.
    if directives.tokens is None and limit is not None and 0 < limit < wanted:
        wanted, finish = limit, "length"
    if directives.bigchunk is not None:
        # The same object many times: a stream of 200 MB must not need 200 MB here.
        return Content([b"x" * directives.bigchunk] * wanted, finish)
    return Content(_numbered(wanted), finish)


def luck(*parts: object) -> float:
    """A number 0 ≤ x < 1 that depends on `parts` alone, evenly spread."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@lru_cache(maxsize=16)
def _numbered(count: int) -> tuple[bytes, ...]:
    return tuple(b"tok%d" % n if n == 1 else b" tok%d" % n for n in range(1, count + 1))


def _split(text: str) -> tuple[bytes, ...]:
    return tuple(escape(piece) for piece in _WORD.findall(text))
