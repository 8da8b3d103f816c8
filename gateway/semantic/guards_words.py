"""One word as the guards see it: its stem or the head of its synonyms, its kind, and how it is inflected."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.semantic.guards_lexicon import CLASSES, LIGHT, MANNER, NAMES, UNITS
from gateway.semantic.guards_stem import PARTICIPLES, degree, listed, stem
from gateway.semantic.guards_synonyms import antonyms, synonyms

PLURAL, DEFINITE, PASSIVE, COMPARATIVE, SUPERLATIVE, ATTACHED, POSSESSIVE, LEADING, CONTRACTED = (
    *(1, 2, 4, 8, 16, 32),
    *(64, 128, 256),
)
"""Flags of a word: in the plural; named by `the` or `my`; a participle after a form of be; -er; -est; directly before
another word of content; with 's; before a colon or comma at the beginning; the not of a contraction."""

_DEGREE_FLAGS = (0, COMPARATIVE, SUPERLATIVE)


class Word(NamedTuple):
    """What is compared of a word."""

    canonical: str
    kind: str
    """`w`, or `u`nit, `e`ntity (a name), `l`ight, `m`anner, cla`s`s."""
    flags: int
    """PLURAL, COMPARATIVE, SUPERLATIVE."""


def _stemmed(words: Sequence[str] | frozenset[str]) -> frozenset[str]:
    return frozenset(stem(each)[0] for each in words)


_HEADS = {stem(word)[0]: stem(head)[0] for word, head in synonyms().items()}
_OPPOSITES = antonyms()
_KINDS: dict[str, str] = {
    **dict.fromkeys(_stemmed(CLASSES), "s"),
    **dict.fromkeys(_stemmed(UNITS), "u"),
    **dict.fromkeys(_stemmed(LIGHT), "l"),
    **dict.fromkeys(_stemmed(MANNER), "m"),
    **dict.fromkeys(_stemmed(NAMES), "e"),
}
_PREFIXES = listed("un in im il ir dis non a de anti mis counter")


def word(low: str) -> Word:
    """The word `low`, which is in lower case."""
    plain, grade = degree(low)
    base, plural = stem(plain)
    canonical = _HEADS.get(base) or _HEADS.get(low, base)
    kind = _KINDS.get(base) or _KINDS.get(canonical, "w")
    return Word(canonical, kind, (PLURAL if plural else 0) | _DEGREE_FLAGS[grade])


def is_participle(low: str) -> bool:
    """Whether `low` may be the second part of a passive: `chased`, `written`."""
    return low in PARTICIPLES or (low.endswith("ed") and len(low) > 4)


_STEMMED_OPPOSITES = frozenset(
    (_HEADS.get(stem(one)[0], stem(one)[0]), _HEADS.get(stem(other)[0], stem(other)[0])) for one, other in _OPPOSITES
)


def antonymous(one: str, other: str) -> bool:
    """Whether two canonical words are opposites by the table."""
    return (one, other) in _STEMMED_OPPOSITES


def negated(one: str, other: str) -> bool:
    """Whether one word is the other behind a prefix that turns it round."""
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    return len(shorter) > 3 and longer.endswith(shorter) and longer[: -len(shorter)] in _PREFIXES


_REASONS = {"n": "number", "u": "unit", "c": "identifier", "q": "quote", "x": "negation", "e": "entity"}


def reason_for(missing: Sequence[tuple[str, str]], added: Sequence[tuple[str, str]]) -> str:
    """The name of the guard for words (canonical, kind) that only the one or only the other question has."""
    kinds = {kind for _, kind in (*missing, *added)}
    for kind, name in _REASONS.items():
        if kind in kinds:
            return name
    for one, _ in missing:
        for other, _ in added:
            if negated(one, other):
                return "negation"
            if antonymous(one, other):
                return "antonym"
    return "content"
