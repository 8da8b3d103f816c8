"""When the same words in another order are still the same question.

English lets little move: who does it stands before the verb, and to whom behind it. Free are adverbs of manner, a part
with its own preposition (`in vim, how do I …`), and a noun that becomes another one's first half (`a joke about cats`,
`a cat joke`). Only short questions are given that freedom; in a long one nobody can say what a word belongs to.
"""

from collections.abc import Sequence

from gateway.semantic.guards_features import Features
from gateway.semantic.guards_lexicon import SOFT
from gateway.semantic.guards_words import ATTACHED, CONTRACTED, LEADING, POSSESSIVE, SUPERLATIVE

MAX_WORDS = 9
"""Longer sequences have to be equal."""

_SYMMETRIC = frozenset({"differ", "compar"})
_SYMMETRIC_WORDS = 4


def symmetric(one: Features, other: Features) -> bool:
    """Whether both ask how two things differ, so that either may be named first."""
    return (
        len(one.words) <= _SYMMETRIC_WORDS
        and any(each in _SYMMETRIC for each in one.words)
        and "n" not in one.kinds
        and "x" not in one.kinds
        and sorted(one.words) == sorted(other.words)
    )


def may_move(one: Features, other: Features, these: Sequence[int], those: Sequence[int]) -> bool:
    """Whether the words of `one` at places `these` may stand in the order in which `other` has them at `those`.

    Both hold the same words, and not in the same order.
    """
    if len(these) > MAX_WORDS:
        return False
    these, those = (
        [each for each in places if text.kinds[each] != "m"] for text, places in ((one, these), (other, those))
    )
    left, right = [one.words[each] for each in these], [other.words[each] for each in those]
    if left == right:
        return True
    first = next(place for place, (a, b) in enumerate(zip(left, right, strict=True)) if a != b)
    last = next(place for place in range(len(left) - 1, -1, -1) if left[place] != right[place])
    for cut in range(first + 1, last + 1):
        if left[cut : last + 1] + left[first:cut] == right[first : last + 1]:
            # The block before the cut has moved behind the other one, or the other way round: either will do.
            moved = last + 1 - cut
            return _free(other, one, those[first + moved : last + 1], these[first:cut]) or _free(
                one, other, these[cut : last + 1], those[first : first + moved]
            )
    return False


def _free(late: Features, early: Features, here: Sequence[int], there: Sequence[int]) -> bool:
    """Whether the block that stands at `here` in `late` may stand at `there`, before its neighbour, in `early`."""
    if all(late.kinds[each] == "x" for each in here):
        # why doesn't it start, why does it not start
        contracted = late.flags[here[0]] | early.flags[there[0]]
        return late.kinds.count("x") == early.kinds.count("x") == 1 and bool(contracted & CONTRACTED)
    if all(late.flags[each] & early.flags[its] & SUPERLATIVE for each, its in zip(here, there, strict=True)):
        # The tallest mountain, the mountain that is the tallest: while nothing else is the most of its kind.
        return sum(bool(each & SUPERLATIVE) for each in late.flags) == len(here)
    links = {late.links[each] for each in here}
    if len(links) != 1:
        return False
    link = links.pop()
    own = here[0] == 0 or not late.flags[here[0] - 1] & ATTACHED
    if all(early.links[each] == link for each in there) and there[0] == 0 and not early.flags[there[-1]] & ATTACHED:
        return own and link in SOFT and link != "of"
    # A joke about cats, a cat joke: the preposition goes where its noun comes before what it describes, and takes the
    # other's: in a list in Python, in a Python list.
    last = there[-1]
    if not own or link not in SOFT or not early.flags[last] & (ATTACHED | POSSESSIVE | LEADING):
        return False
    taken = early.links[last + 1] if last + 1 < len(early.links) else ""
    return all(early.links[each] in ("", taken) for each in there)
