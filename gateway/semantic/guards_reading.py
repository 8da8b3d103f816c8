"""A question read once: what it asks for, and its words of content in the form in which they are compared."""

from collections.abc import Sequence

from gateway.semantic.guards_features import Features
from gateway.semantic.guards_frames import frame
from gateway.semantic.guards_lexicon import (
    ARTICLES,
    BE,
    CURRENCIES,
    DATIVE,
    DROPPED,
    FUTURE,
    MODALS,
    MONTHS,
    NEGATIONS,
    PARTICIPIAL,
    PAST,
    PERSONS,
    PLACED,
    QUANTIFIERS,
    ROLES,
    ROMANS,
    SOFT,
    STRICT,
)
from gateway.semantic.guards_lexicon import (
    DEFINITE as DETERMINERS,
)
from gateway.semantic.guards_numbers import spoken
from gateway.semantic.guards_scan import Token, scan
from gateway.semantic.guards_stem import listed
from gateway.semantic.guards_words import (
    ATTACHED,
    CONTRACTED,
    DEFINITE,
    LEADING,
    PASSIVE,
    PLURAL,
    POSSESSIVE,
    is_participle,
    word,
)
from gateway.semantic.normalise import normalise

MAX_CHARACTERS = 1_200
MAX_WORDS = 120
"""Of a longer text, or one of more words of content, only the letters are compared."""


def features(text: str) -> Features:
    """What is compared of `text`, worked out once. Never raises."""
    plain = normalise(text)
    if len(plain) > MAX_CHARACTERS:
        return Features("", (), "", (), (), text=plain)
    tokens = scan(plain)
    if not tokens:
        return Features("", (), "", (), (), text=plain)
    return _Reader(tokens).run(plain)


class _Reader:
    __slots__ = (
        *("_tokens", "_frame", "_words", "_kinds", "_links", "_flags", "_persons", "_quantifiers"),
        *("_link", "_linked", "_definite", "_passive", "_front", "_touching"),
    )

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._frame = frame(tokens)
        self._words: list[str] = []
        self._kinds: list[str] = []
        self._links: list[str] = []
        self._flags: list[int] = []
        self._persons: set[str] = set()
        self._quantifiers: set[str] = set()
        self._link = ""
        self._linked = False
        self._definite = False
        self._passive = False
        # `was the car stolen`: the form of be that the frame has taken belongs to a participle further on.
        self._front = self._frame.start > 0 and tokens[self._frame.start - 1].low in BE
        self._touching = False

    def run(self, plain: str) -> Features:
        tokens, (asks, start, says, gap, opening) = self._tokens, self._frame
        for each in says:
            found = word(each)
            self._emit(found.canonical, found.kind, found.flags & PLURAL)
        self._touching = False
        if start > 0 and tokens[start - 1].low in DETERMINERS:
            self._definite = True
        place, end = start, len(tokens)
        while end > place and (tokens[end - 1].kind in ".," or tokens[end - 1].low == "please"):
            end -= 1
        if asks == "howto" and end > place and tokens[end - 1].low == "how":
            end -= 1
        elif asks.startswith("what") and end > place and tokens[end - 1].low == "mean":
            end -= 1
            asks = "what:explain"
        while place < end:
            place = gap[1] if gap[0] <= place < gap[1] else self._step(place, end)
        if asks.startswith("what") and any(each.low == "like" for each in tokens[start:end]):
            asks = "how"
        if not 0 < len(self._words) <= MAX_WORDS:
            return Features(asks, (), "", (), (), text=plain)
        self._settle()
        return Features(
            asks,
            tuple(self._words),
            "".join(self._kinds),
            tuple(self._links),
            tuple(self._flags),
            *_tense_and_mood(tokens[opening:]),
            tuple(sorted(self._persons)),
            tuple(sorted(self._quantifiers)),
        )

    def _step(self, place: int, end: int) -> int:
        """Take in the token at `place`; the next one's place."""
        token = self._tokens[place]
        kind = token.kind
        if kind == "w":
            number = spoken(self._tokens, place)
            if number is not None:
                self._emit(number[0], "n")
                return number[1]
            self._word(token, place)
        elif kind == "n":
            digits = token.low
            if digits.endswith("th") and place > 0 and self._tokens[place - 1].low in MONTHS:
                digits = digits[:-2]
            self._emit(digits, "n")
        elif kind in "cq":
            self._emit(token.low, kind)
        elif kind == "s":
            self._sign(token, place, end)
        else:
            if len(self._words) == 1 and (token.low == ":" or self._frame.gap[0] == place + 1):
                self._flags[0] |= LEADING
            self._clear()
        return place + 1

    def _clear(self) -> None:
        self._link, self._linked, self._definite, self._passive, self._touching = "", False, False, False, False

    def _emit(self, canonical: str, kind: str, flags: int = 0) -> None:
        if self._touching:
            self._flags[-1] |= ATTACHED
        self._words.append(canonical)
        self._kinds.append(kind)
        self._links.append(self._link)
        self._flags.append(flags | (DEFINITE if self._definite else 0))
        self._linked = self._touching = True
        self._passive = False

    def _sign(self, token: Token, place: int, end: int) -> None:
        if token.low in CURRENCIES:
            self._emit(word(CURRENCIES[token.low]).canonical, "u")
        elif token.low == "%":
            self._emit("percent", "u")
        elif token.low == "-":
            numbers = (
                place > 0 and place + 1 < end and self._tokens[place - 1].kind == self._tokens[place + 1].kind == "n"
            )
            if numbers:
                self._emit("-", "c")
        elif token.low in "+@#":
            self._emit(token.low, "c")
        else:
            self._touching = False

    def _word(self, token: Token, place: int) -> None:
        low = token.low
        if token.capital and self._named(token, place):
            return
        if low == "go" and self._link == "in":
            self._emit("golang", "e")
            return
        if low in _SPECIAL:
            self._function(token, place)
            return
        found = word(low)
        kind, canonical = found.kind, found.canonical
        after_number = bool(self._kinds) and self._kinds[-1] == "n" and self._touching
        if after_number and low in _SHORT_UNITS:
            canonical, kind = _SHORT_UNITS[low], "u"
        elif kind == "u" and len(low) < 3 and not after_number:
            kind = "w"
        if token.capital and kind in "wl":
            kind = "e"
        if low in PARTICIPIAL and self._tokens[place + 1 : place + 2] and self._tokens[place + 1].low in SOFT:
            kind = "l"
        if canonical == "new" and self._words and self._words[-1] == "creat":
            kind = "l"
        flags = found.flags | (POSSESSIVE if token.possessive else 0)
        if (self._passive or self._front) and is_participle(low):
            flags |= PASSIVE
        self._emit(canonical, kind, flags)

    def _named(self, token: Token, place: int) -> bool:
        """Whether a capital makes a name, or a number, of what would be a function word."""
        low = token.low
        before = self._tokens[place - 1] if place else None
        if low in ROMANS and (token.capital == 2 or len(low) == 1) and before is not None:
            self._emit(str(ROMANS[low]), "n")
            return True
        if low == "i" and before is not None and before.capital and before.kind == "w":
            self._emit("1", "n")
            return True
        if low in _SPECIAL and low != "i" and (token.capital == 2 or low in MONTHS or low == "will"):
            self._emit(word(low + "^").canonical, "e")
            return True
        # A letter that stands for something: vitamin A, plan B. And the language, not the verb.
        if low in _CAPITALISED:
            self._emit(_CAPITALISED[low], "e")
            return True
        return False

    def _function(self, token: Token, place: int) -> None:
        low = token.low
        if low in SOFT or low in STRICT:
            self._clear()
            self._link = STRICT.get(low, low)
        elif low in NEGATIONS:
            link = self._link
            self._clear()
            self._link = link
            self._emit(NEGATIONS[low] or low, "x", CONTRACTED if token.unmarked else 0)
            self._touching = False
        elif low in PLACED:
            self._clear()
            self._emit(low, "w")
            self._touching = False
        elif low in QUANTIFIERS:
            self._quantifiers.add(QUANTIFIERS[low])
            self._touching = False
        elif low in ARTICLES or low in DETERMINERS:
            self._determiner(low, place)
        elif low in ROLES:
            before = self._tokens[place - 1].low if place else ""
            last = place + 1 == len(self._tokens) or self._tokens[place + 1].kind in ".,"
            self._clear()
            # Show me, and show it to me: who asks is known.
            if not (low in ("me", "us") and (before in DATIVE or (before in ("for", "to") and last))):
                self._emit(low, "w")
                self._touching = False
        elif low == "may" and place and self._tokens[place - 1].low in _BEFORE_MONTHS:
            self._emit("may^", "e")
        else:
            passive = low in BE or (self._passive and low not in DROPPED)
            self._clear()
            self._passive = passive
            if low in PERSONS:
                self._persons.add(PERSONS[low])

    def _determiner(self, low: str, place: int) -> None:
        follower = self._tokens[place + 1] if place + 1 < len(self._tokens) else None
        if low == "her" and (follower is None or follower.kind != "w" or follower.low in _SPECIAL):
            self._clear()
            self._emit("her", "w")
            return
        # From a to b: a letter, because no noun follows.
        if low == "a" and (follower is None or follower.kind in ".," or follower.low in _AFTER_LETTERS):
            self._emit("a^", "w")
            return
        if self._linked:
            self._link = ""
        self._linked = False
        self._definite = low in DETERMINERS
        self._touching = False
        if low in PERSONS or low == "her":
            self._persons.add(PERSONS.get(low, low))

    def _settle(self) -> None:
        kinds, words = self._kinds, self._words
        for place, kind in enumerate(kinds):
            if kind == "s" and "e" not in kinds[max(place - 1, 0) : place + 2]:
                kinds[place] = "w"
        # To say it in French is to translate it into French.
        if "translat" in words and "from" not in self._links:
            self._links = ["in" if each == "to" else each for each in self._links]


_SHORT_UNITS = {
    "c": "celsius",
    "f": "fahrenheit",
    "s": "second",
    "h": "hour",
    "l": "liter",
    "g": "gram",
    "min": "minut",
}
_AFTER_LETTERS = frozenset(
    listed("and or to into onto from in on at of for about with is than by as vs versus plus minus")
)
_CAPITALISED = {"a": "a^", "go": "golang"}
_BEFORE_MONTHS = frozenset(listed("in since until by of this next last early late mid"))
_SPECIAL = (
    SOFT | STRICT.keys() | NEGATIONS.keys() | PLACED | QUANTIFIERS.keys() | ARTICLES | DETERMINERS | ROLES | DROPPED
    | BE | PERSONS.keys() | MODALS.keys() | PAST | FUTURE
) - {"able", "us^"}  # fmt: skip


def _tense_and_mood(tokens: Sequence[Token]) -> tuple[str, str]:
    """Whether any auxiliary is in the past, or at least there is one; and the first modal verb."""
    low = [each.low for each in tokens]
    auxiliaries = _AUXILIARIES.intersection(low)
    tense = "past" if not PAST.isdisjoint(auxiliaries) else "other" if auxiliaries else ""
    return tense, next((MODALS[each] for each in low if each in MODALS), "")


_AUXILIARIES = PAST | FUTURE | frozenset(listed("is are am do does has can could should may might must"))
