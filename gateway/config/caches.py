"""Sections about stored replies: what a route keeps and for whom, and how much room there is for all of them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.config.fields import Duration, Pause, Size, refuse
from gateway.config.section import Section
from gateway.config.similarity import Embedder, Semantic
from gateway.config.units import show_duration

_MIB = 1024 * 1024
_LONGEST_WAIT_S = 300.0


def _bounded(seconds: float) -> float:
    if seconds > _LONGEST_WAIT_S:
        raise refuse(f"{show_duration(seconds)} is too long", f"{show_duration(_LONGEST_WAIT_S)} is the longest")
    return seconds


class RouteCache(Section):
    """Replies that are kept, to be given to whoever asks exactly the same again."""

    exact: Duration = Field(description="How long a reply is kept, a tenth more or less.")
    share: Literal["key", "team", "tenant"] = Field(
        default="key", description="Who is given it: the same key; keys with the same tag `team`, or `tenant`."
    )
    tool_calls: bool = Field(default=False, description="Whether replies that call tools are kept.")
    max_temperature: float = Field(
        default=1.0, ge=0, le=2, allow_inf_nan=False, description="A request above it is never looked up nor kept."
    )
    max_entry: Size = Field(default=_MIB, description="Largest reply that is kept.")
    semantic: Semantic | None = Field(
        default=None, description="Whether they are given for the same question in other words; omitted: never."
    )
    wait: Annotated[Pause, AfterValidator(_bounded)] = Field(
        default=60.0, description="Longest wait for an equal request that asks the model already; `0s`: none."
    )


class Cache(Section):
    """The room for stored replies, of all routes together."""

    max_bytes: Size = Field(
        default=64 * _MIB, description="Of each process, or of the Redis; the reply longest unused makes room."
    )
    persist: bool = Field(
        default=False, description="Whether they survive a restart, in `server.state_dir`; a Redis does that itself."
    )
    embedder: Embedder = Field(
        default="minilm",
        description="What tells similar questions, for `semantic`: `minilm` on this machine, or `target:NAME`.",
    )
    model_dir: str = Field(
        default="~/.cache/llm-gateway/minilm",
        min_length=1,
        description="Where `gateway cache model install` has put `minilm`.",
    )
    embed_timeout: Duration | None = Field(
        default=None, description="Longest wait for an embedding; omitted: `25ms`, or `250ms` for a target."
    )
