"""Numbers that are written as words."""

from collections.abc import Sequence

from gateway.semantic.guards_lexicon import NUMBERS, ORDINALS, SCALES
from gateway.semantic.guards_scan import Token
from gateway.semantic.guards_stem import listed

_PRONOUN_AFTER = frozenset(listed("the which this that each any every no another"))
_UNIT_AFTER = frozenset(listed("a per each every one"))


def spoken(tokens: Sequence[Token], place: int) -> tuple[str, int] | None:
    """The number that begins at `place` and the place behind it: (`25`, …) for twenty five, (`3th`, …) for third.

    None where there is none; `one` that stands for a thing (`which one`) and `second` that measures time are none.
    """
    if tokens[place].low not in _ANY or _is_none(tokens, place):
        return None
    total, part, end = 0, 0, place
    while end < len(tokens) and tokens[end].kind == "w":
        word = tokens[end].low
        if word in NUMBERS and _adds(part, NUMBERS[word]):
            part += NUMBERS[word]
        elif word == "hundred":
            part = max(part, 1) * 100
        elif word in SCALES:
            total, part = total + max(part, 1) * SCALES[word], 0
        elif word in ORDINALS and _adds(part, ORDINALS[word]):
            return f"{total + part + ORDINALS[word]}th", end + 1
        elif not (word == "and" and part >= 100 and end + 1 < len(tokens) and tokens[end + 1].low in NUMBERS):
            break
        end += 1
    return str(total + part), end


def _is_none(tokens: Sequence[Token], place: int) -> bool:
    """Whether the word only looks like a number."""
    low = tokens[place].low
    before = tokens[place - 1].low if place else ""
    after = tokens[place + 1].low if place + 1 < len(tokens) else ""
    follows_number = place > 0 and (tokens[place - 1].kind == "n" or before in NUMBERS)
    if low == "one":
        return before in _PRONOUN_AFTER or after in ("of", "another")
    if low == "second":
        return follows_number or before in _UNIT_AFTER
    # Hundreds of them.
    return low in SCALES and not follows_number and before not in ("a", "an", "per")


def _adds(part: int, number: int) -> bool:
    """Whether `number` may follow what has been said: twenty five, hundred twelve, but not five six."""
    if part == 0:
        return True
    return (part % 100 == 0 and number < 100) or (part % 10 == 0 and part % 100 >= 20 and number < 10)


_ANY = NUMBERS.keys() | SCALES.keys() | ORDINALS.keys()
