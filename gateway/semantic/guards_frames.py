"""What a question asks for, read from the words around its matter: a way, a reason, a number, a yes.

Openings are taken off the front one after the other: politeness first (`could you tell me`), then the question itself
(`what is the best way to`). What is left is the matter, which the guards compare.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.semantic.guards_lexicon import NUMBERS
from gateway.semantic.guards_openings import MOODS, OPENINGS, PLEAS, POLITE, REQUESTS
from gateway.semantic.guards_scan import Token
from gateway.semantic.guards_stem import listed


class Frame(NamedTuple):
    """How a question begins."""

    asks: str
    """howto, how, what, who, when, where, why, count, amount, long, often, yesno, do; with a detail after a colon."""
    start: int
    """The token with which its matter begins."""
    says: tuple[str, ...] = ()
    """Words of the matter that the opening itself holds."""
    gap: tuple[int, int] = (-1, -1)
    """The tokens of an opening that stands behind the beginning of the matter: `in vim, how do I`."""
    opening: int = 0
    """The first token that is not mere politeness."""


_LONGEST = max(map(len, OPENINGS))
_LONGEST_POLITE = max(map(len, POLITE | PLEAS))
_WAYS = frozenset(listed("way ways method methods approach steps procedure process trick instructions"))
_BEFORE_WAY = frozenset(
    listed("what is are was show give tell me us some there any the a an best good right correct proper")
)
_WAY_OPENERS = frozenset(listed("what show give tell the a an best good right correct proper"))
_LEADS = frozenset(listed("in at on by for to from with of"))
_LED = frozenset(listed("what which whom how when where"))
_ASKING = frozenset(listed("how what which who whom whose when where why if whether"))
_LATER = frozenset(listed("how what which who whom whose when where why list explain describe define tell show give"))


def frame(tokens: Sequence[Token]) -> Frame:
    """What the question asks for and where its matter begins. A text that asks nothing is a request (`do`)."""
    low = [each.low for each in tokens]
    start, is_plea = _polite(low)
    found = _question(low, start)
    if found is None or (found.asks == "do" and not found.says):
        found = _later(low, start) or found
    if found is not None:
        return found._replace(opening=start)
    if "how" in low[-3:] and (is_plea or low[-2:-1] == [","]):
        return Frame("howto", start, opening=start)
    return Frame("do", start, opening=start)


def _polite(low: Sequence[str]) -> tuple[int, bool]:
    """Where the question stands after what is only polite, and whether that said what somebody wants."""
    start, is_plea = 0, False
    while True:
        end = max(_request(low, start), _longest(low, start, POLITE))
        if end == start:
            end = _longest(low, start, PLEAS)
            is_plea = is_plea or end > start
        if end == start:
            return start, is_plea
        start = end
        while start < len(low) and low[start] in (",", ".", "if"):
            start += 1


def _request(low: Sequence[str], start: int) -> int:
    """The end of `can you please`: only before something to be done, for one can also ask what people can do."""
    if len(low) < start + 3 or low[start] not in ("can", "could", "would", "will") or low[start + 1] != "you":
        return start
    end = start + 2
    while end < len(low) - 1 and low[end] == "just":
        end += 1
    return end if low[end] in REQUESTS else start


def _longest(low: Sequence[str], start: int, known: frozenset[tuple[str, ...]]) -> int:
    for length in range(min(_LONGEST_POLITE, len(low) - start - 1), 0, -1):
        if tuple(low[start : start + length]) in known:
            return start + length
    return start


def _question(low: Sequence[str], start: int) -> Frame | None:
    rest = len(low) - start
    if rest <= 0:
        return None
    if rest > 1 and low[start] in _LEADS and low[start + 1] in _LED:
        start += 1
    elif rest > 2 and low[start] in ("tell", "show") and low[start + 1] == "me" and low[start + 2] in _ASKING:
        start += 2
    if low[start] in _WAY_OPENERS:
        ways = _way(low, start)
        if ways is not None:
            return ways
    for length in range(min(_LONGEST, len(low) - start), 0, -1):
        known = OPENINGS.get(tuple(low[start : start + length]))
        if known is not None:
            return Frame(known[0], start + length, known[1])
    if low[start] in MOODS and start + 1 < len(low):
        mood = MOODS[low[start]]
        return Frame(f"yesno:{mood}" if mood else "yesno", start + 1)
    return None


def _way(low: Sequence[str], start: int) -> Frame | None:
    """`what is a fast way to`: how to, with what stands before `way` as the manner."""
    for place in range(start, min(start + 7, len(low) - 1)):
        if low[place] in _WAYS and low[place + 1] in ("to", "of", "for", "i"):
            between = [each for each in low[start:place] if each not in _BEFORE_WAY]
            # More than a word of it, or a number, is another matter: five ways are a list.
            is_manner = not between or (len(between) == 1 and between[0].isalpha() and between[0] not in NUMBERS)
            return Frame("howto", place + 2, tuple(between)) if is_manner else None
    return None


def _later(low: Sequence[str], start: int) -> Frame | None:
    """The question after a comma, a colon or a sentence: `in vim, how do I`; its matter begins before it."""
    for place in range(start, len(low) - 1):
        if low[place] in (",", ":", ".", ";") and low[place + 1] in _LATER:
            found = _question(low, place + 1)
            if found is not None:
                # I want to …, how?
                is_end = found.asks == "how" and all(each in (",", ".") for each in low[found.start :])
                return Frame("howto" if is_end else found.asks, start, found.says, (place + 1, found.start))
    return None
