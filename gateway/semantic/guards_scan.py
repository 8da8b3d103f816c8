"""A question cut into tokens: words, numbers, quotes, and everything that is code.

The pattern tries the longest things first, so that an address or a path is one token and is compared letter by letter.
What is inside quotes is compared word by word without stemming, because there the wording is the matter.
"""

import re
from typing import NamedTuple

from gateway.semantic.guards_lexicon import PHRASES, UNMARKED
from gateway.semantic.guards_stem import listed

_PATTERN = re.compile(
    r"""
      (?P<code>  `[^`\n]*`
               | [A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s<>"')\]]+
               | [\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+
               | \b(?:[A-Za-z]\.){2,}
               | (?<!\S)--?[A-Za-z][\w-]*
               | (?<![\w.])\.{0,2}~?(?:/[\w.@%+-]+)+/?
               | [A-Za-z](?:\+\+|\#)(?!\w)
               | \.NET\b
               | \$[A-Za-z_]\w*
               | [^\s,;?!"']{0,80}[\\^{}|*=<>~_`][^\s,;?!"']*
               | [^\W\d_][\w.:]{0,80}\(\)
               | [^\W\d_]\w{0,80}(?:(?:\.|::)\w+)+
               | &&
      )
    | (?P<quote> "[^"\n]{1,400}" | (?<!\w)'[^'\n]{1,400}'(?!\w) )
    | (?P<number> (?<![\w.])[$€£¥₹]?\s?-?\.?\d+(?:[.,:/]\d+)*(?:\s?%|°?[^\W\d_]{1,7}\b)?
               | [$€£¥₹]\d+(?:[.,:/]\d+)* )
    | (?P<word>  [^\W_]+(?:'[^\W\d_]+)? )
    | (?P<sign>  [+&%@#°$€£¥₹/] | (?<!\w)-(?!\w) | (?<=\d)-(?=\d) )
    | (?P<stop>  [.?!]+ )
    | (?P<pause> [,;:()\[\]] )
    """,
    re.VERBOSE,
)
_NUMBER = re.compile(r"([$€£¥₹]?)\s?(-?[\d.,:/]*\d)\s?(.*)", re.DOTALL)
_TITLE_SHARE = 0.6


class Token(NamedTuple):
    """One piece of a question."""

    low: str
    """In lower case; code as it is written."""
    kind: str
    """`w`ord, `n`umber, `c`ode, `q`uoted word, `s`ign, `.` end of a sentence, `,` pause."""
    capital: int = 0
    """1: begins with a capital inside a sentence; 2: has no small letter at all; 0: says nothing."""
    possessive: bool = False
    unmarked: bool = False
    """Taken out of a contraction."""


def scan(text: str) -> list[Token]:
    """The tokens of a normalised text, contractions and set phrases resolved."""
    tokens: list[Token] = []
    fresh = True
    for match in _PATTERN.finditer(text):
        kind, raw = match.lastgroup, match.group()
        if kind == "word":
            tokens += _word(raw, fresh)
            fresh = False
        elif kind == "stop":
            tokens.append(Token(".", "."))
            fresh = True
        elif kind == "pause":
            tokens.append(Token(raw, ","))
            fresh = fresh or raw == ":"
        elif kind is not None:
            tokens += _OTHERS[kind](raw)
            fresh = False
    return _phrases(_without_titles(tokens))


def _word(raw: str, fresh: bool) -> list[Token]:
    low = raw if raw in _CASED_UNITS else raw.lower()
    capital = 0
    if low != raw:
        if raw.isupper() and len(raw) > 1:
            capital = 2
        elif not fresh or not raw[1:].islower():
            capital = 1
    if "'" not in low:
        if low in UNMARKED:
            return [Token(each, "w", 0, False, True) for each in UNMARKED[low]]
        return [Token(low, "w", capital)]
    return _contraction(low, capital)


def _contraction(low: str, capital: int) -> list[Token]:
    base, _, ending = low.partition("'")
    if ending == "t" and base.endswith("n"):
        base = {"can": "can", "won": "will", "shan": "shall"}.get(base, base[:-1])
        return [Token(base, "w"), Token("not", "w", 0, False, True)]
    if ending in _AUXILIARIES:
        return [Token(base, "w"), Token(_AUXILIARIES[ending], "w")]
    if ending == "s" and base in _IS:
        return [Token(base, "w"), Token("is", "w")]
    return [Token(base, "w", capital, True)]


_AUXILIARIES = {"re": "are", "m": "are", "ve": "have", "ll": "will", "d": "would"}
# Mb and MB, mW and MW: only there the case of a unit says anything.
_CASED_UNITS = frozenset(("Mb", "Gb", "Kb", "Tb", "Mbit", "mW"))
_IS = frozenset(listed("what how where who when why that there here it he she let which this"))


def _number(raw: str) -> list[Token]:
    match = _NUMBER.fullmatch(raw)
    assert match is not None
    currency, digits, ending = match.groups()
    tokens = []
    low = ending.lower().removeprefix("°")
    digits = digits.replace(",", "") if re.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", digits) else digits
    if low in ("st", "nd", "rd", "th"):
        return [Token(digits + "th", "n")]
    if low == "s":
        return [Token(digits + "s", "n")]
    if low == "k" and not ending.startswith("°") and "." not in digits:
        digits, low = digits + "000", ""
    tokens.append(Token(digits, "n"))
    if currency:
        tokens.append(Token(currency, "s"))
    if low == "%":
        tokens.append(Token("percent", "w"))
    elif low:
        tokens.append(Token(ending if ending in _CASED_UNITS else low, "w"))
    return tokens


def _quote(raw: str) -> list[Token]:
    return [Token(each, "q") for each in raw[1:-1].lower().split()]


def _code(raw: str) -> list[Token]:
    bare = raw.strip("`") if len(raw) > 2 else raw
    if bare.count(".") >= 2 and bare.endswith(".") and all(len(each) == 1 for each in bare[:-1].split(".")):
        low = bare.lower()
        # a.m. and p.m. are am and pm; e.g. and i.e. say nothing.
        return [] if low in ("e.g.", "i.e.") else [Token(low.replace(".", "") if low[-2] == "m" else low, "w", 2)]
    bare = bare.rstrip(".:)") if not bare.endswith("()") and "(" not in bare else bare.rstrip(".:")
    return [Token(bare, "c")] if bare else []


def _sign(raw: str) -> list[Token]:
    return [Token(raw, "s")]


_OTHERS = {"number": _number, "quote": _quote, "code": _code, "sign": _sign}


def _without_titles(tokens: list[Token]) -> list[Token]:
    """Where nearly every word has a capital, capitals are the writer's manner and name nobody."""
    words = [each for each in tokens if each.kind == "w"]
    if len(words) < 4 or sum(each.capital > 0 for each in words) < _TITLE_SHARE * len(words):
        return tokens
    return [each._replace(capital=0) if each.capital else each for each in tokens]


def _phrases(tokens: list[Token]) -> list[Token]:
    out: list[Token] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        for length in _LENGTHS.get(token.low, ()):
            said = PHRASES.get(tuple([each.low for each in tokens[place : place + length]]))
            if said is not None:
                out += [Token(each, "w") for each in said]
                place += length
                break
        else:
            out.append(token)
            place += 1
    return out


_LENGTHS: dict[str, tuple[int, ...]] = {
    first: tuple(sorted({len(each) for each in PHRASES if each[0] == first}, reverse=True))
    for first in {each[0] for each in PHRASES}
}
