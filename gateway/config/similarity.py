"""Sections about replies that are given for the same question in other words."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.config.fields import Duration, Name, matching, refuse
from gateway.config.limit_fields import Share
from gateway.config.section import Section
from gateway.config.units import show_percent

Mode = Literal["off", "shadow", "static", "verified"]

_MOST_WRONG = 0.2
_LEAST_ALIKE = 0.7


def _few(share: float) -> float:
    if not 0.001 <= share <= _MOST_WRONG:
        raise refuse(f"{show_percent(share)} is out of range", f"write 0.1% to {show_percent(_MOST_WRONG)}")
    return share


def _alike(share: float) -> float:
    if not _LEAST_ALIKE <= share <= 1:
        raise refuse(f"{share:g} is out of range", f"write {_LEAST_ALIKE:g} to 1")
    return share


Embedder = Annotated[
    str,
    AfterValidator(
        matching(r"minilm|target:[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "an embedder", "write minilm, or target:NAME")
    ),
]


class Judge(Section):
    """A model that says whether two answers are interchangeable, asked through the gateway and paid as any call."""

    model: Name = Field(description="A target, or a route.")
    calls_per_hour: int = Field(default=60, ge=1, le=100_000, description="Most questions to it, of each process.")


class Semantic(Section):
    """Replies that are also given for the same question in other words."""

    mode: Mode | None = Field(
        default=None,
        description="`shadow`: counted, never given; `static`: by `threshold`; `verified`: by `max_wrong`. "
        "Omitted: `verified` with `max_wrong`, else `off`.",
    )
    ttl: Duration | None = Field(
        default=None, description="How long a reply is given for another question; omitted: as `exact`."
    )
    max_wrong: Annotated[Share, AfterValidator(_few)] | None = Field(
        default=None, description="Of `verified` and `shadow`: allowed share of wrong ones among these hits; else `1%`."
    )
    threshold: Annotated[float, AfterValidator(_alike)] = Field(
        default=0.92, allow_inf_nan=False, description="Of `static`: least similarity (cosine), 0.7 to 1."
    )
    judge: Judge | None = Field(
        default=None, description="Who compares long answers, in `verified` and `shadow`; omitted: only short ones are."
    )

    @property
    def in_force(self) -> Mode:
        """The mode that holds."""
        return self.mode or ("off" if self.max_wrong is None else "verified")
