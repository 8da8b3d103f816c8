"""Lexical guards: whether two similar questions may have the same answer.

Sentence embeddings put `transfer 500` beside `transfer 5000` and `from A to B` beside `from B to A`. So a candidate
that is similar enough must pass here as well. Theory of operation: each question is brought into one form once
(`features`): what it asks for, and its content words in order, inflections and synonyms made equal, each with the
preposition that governs it. Two questions may be the same (`compare`) when these forms are equal but for what English
leaves free: politeness, light words, `a pancake recipe` for `a recipe for pancakes`. Whatever else differs is named:

number, unit, entity, identifier, quote, negation, antonym, content   a word that only one of them has
comparison, plural, voice                                             the same word in another form
question, modality, tense, person, quantifier                         the same matter, asked otherwise
order, role                                                           the same words in other places
text                                                                  no words to compare, or too many

The guards know English. In another language a different word is a different question, so they are only stricter.
"""

from collections.abc import Sequence

from gateway.semantic.guards_features import VERSION as VERSION
from gateway.semantic.guards_features import Features as Features
from gateway.semantic.guards_order import may_move, symmetric
from gateway.semantic.guards_reading import MAX_CHARACTERS as MAX_CHARACTERS
from gateway.semantic.guards_reading import features as features
from gateway.semantic.guards_words import ATTACHED, COMPARATIVE, DEFINITE, PASSIVE, PLURAL, SUPERLATIVE, reason_for

GUARDS = (
    *("number", "unit", "entity", "identifier", "quote", "negation", "antonym", "content", "comparison", "plural"),
    *("voice", "question", "modality", "tense", "person", "quantifier", "order", "role", "text"),
)
"""Every name that `compare` gives."""

_OPTIONAL = "ls"
_DEGREES = COMPARATIVE | SUPERLATIVE
_EXCHANGEABLE = frozenset(
    {("howto", "do"), ("do", "howto"), ("what", "do"), ("do", "what"), ("who", "what:list"), ("what:list", "who")}
)


def compare(one: Features, other: Features) -> str | None:
    """None where the two may be the same question, else the name of the first guard that says no. Symmetric."""
    if one.text or other.text:
        return None if one.text == other.text else "text"
    places: Sequence[int] = range(len(one.words))
    others = places
    if one.words != other.words:
        found = _aligned(one, other)
        if isinstance(found, str):
            return found
        places, others = found
    if symmetric(one, other):
        return None
    return (
        _question(one, other)
        or _order(one, other, places, others)
        or _forms(one, other, places, others)
        or _circumstances(one, other)
    )


def _aligned(one: Features, other: Features) -> str | tuple[Sequence[int], Sequence[int]]:
    """The places of the words that both have, light words of one of them left out; or why there are none."""
    left, right = _surplus(one, other.words), _surplus(other, one.words)
    if (
        (left and right)
        or any(one.kinds[each] not in _OPTIONAL for each in left)
        or any(other.kinds[each] not in _OPTIONAL for each in right)
    ):
        return reason_for(
            [(one.words[each], one.kinds[each]) for each in left],
            [(other.words[each], other.kinds[each]) for each in right],
        )
    return (
        [each for each in range(len(one.words)) if each not in left],
        [each for each in range(len(other.words)) if each not in right],
    )


def _surplus(text: Features, others: Sequence[str]) -> list[int]:
    """Places of the words that `others` has not, or not so often."""
    rest = list(others)
    surplus = []
    for place, each in enumerate(text.words):
        if each in rest:
            rest.remove(each)
        else:
            surplus.append(place)
    return surplus


def _question(one: Features, other: Features) -> str | None:
    if one.asks == other.asks:
        return None
    (base, _, detail), (its_base, _, its_detail) = one.asks.partition(":"), other.asks.partition(":")
    if base == its_base == "yesno":
        return None if _same_mood(detail, its_detail) else "modality"
    if base == its_base:
        return "question" if detail and its_detail else None
    pairs = ((base, its_base), (one.asks, other.asks))
    return None if any(each in _EXCHANGEABLE for each in pairs) else "question"


def _same_mood(mood: str, its: str) -> bool:
    moods = {mood, its}
    return "*" in moods or moods == {"", "will"}


def _order(one: Features, other: Features, places: Sequence[int], others: Sequence[int]) -> str | None:
    if all(one.words[here] == other.words[there] for here, there in zip(places, others, strict=True)):
        return None
    return None if may_move(one, other, places, others) else "order"


def _forms(one: Features, other: Features, places: Sequence[int], others: Sequence[int]) -> str | None:
    """Whether every word has the same governing preposition and form in both."""
    in_order = True
    rest = list(others)
    for here in places:
        there = next(each for each in rest if other.words[each] == one.words[here])
        in_order = in_order and there == rest[0]
        rest.remove(there)
        if in_order and not _same_link(one.links[here], other.links[there]):
            return "role"
        flags, its = one.flags[here], other.flags[there]
        if flags == its:
            continue
        differing = flags ^ its
        named = one.kinds[here] == other.kinds[there] == "e" or flags & its & DEFINITE
        if differing & DEFINITE and _stands_alone(one, here) and _stands_alone(other, there):
            # The Amazon is a river.
            return "entity"
        if differing & PLURAL and named:
            return "plural"
        if differing & _DEGREES and one.kinds[here] != "m":
            return "comparison"
        if differing & PASSIVE and len(one.words) > 2:
            return "voice"
    return None


def _stands_alone(text: Features, place: int) -> bool:
    """Whether the word is a name of one word."""
    before = place > 0 and text.kinds[place - 1] == "e" and text.flags[place - 1] & ATTACHED
    return text.kinds[place] == "e" and not before and not text.flags[place] & ATTACHED


_STRICT_LINKS = frozenset({"from", "by", "than"})


def _same_link(link: str, its: str) -> bool:
    if link == its:
        return True
    if link in _STRICT_LINKS or its in _STRICT_LINKS:
        return False
    return "to" not in (link, its) or "" in (link, its)


def _circumstances(one: Features, other: Features) -> str | None:
    if one.tense and other.tense and one.tense != other.tense:
        return "tense"
    if one.mood and other.mood and one.mood != other.mood and not one.asks.startswith("howto"):
        return "modality"
    if one.persons and other.persons and one.persons != other.persons:
        return "person"
    if one.quantifiers and other.quantifiers and one.quantifiers != other.quantifiers:
        return "quantifier"
    return None
