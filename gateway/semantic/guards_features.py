"""What is kept of a question for the guards."""

from dataclasses import dataclass

VERSION = 1
"""Of the form that Features have; those stored with another one are worth nothing."""


@dataclass(frozen=True, slots=True, repr=False)
class Features:
    """What the guards know of one text. Plain tuples, so that any codec can store it; it holds words of the prompt."""

    asks: str
    """What is wanted: howto, how, what, who, when, where, why, count, amount, yesno, do; a detail after a colon."""
    words: tuple[str, ...]
    kinds: str
    """A letter for each word: `w`ord, `n`umber, `u`nit, `e`ntity, `c`ode, `q`uote, negation `x`, `l`ight, `m`anner,
    cla`s`s."""
    links: tuple[str, ...]
    """The preposition that governs each word."""
    flags: tuple[int, ...]
    """Of each word, as in guards_words."""
    tense: str = ""
    mood: str = ""
    persons: tuple[str, ...] = ()
    quantifiers: tuple[str, ...] = ()
    text: str = ""
    """The whole text, where it is too long, or has nothing, to be compared by words."""

    def __repr__(self) -> str:
        return "Features(***)"
