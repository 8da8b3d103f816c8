"""Text to token ids as BERT's uncased WordPiece does it, in plain Python.

Theory of operation (google-research/bert, tokenization.py; Devlin et al. 2019). Control characters go, white space
separates, letters lose case and accents, every punctuation mark and every Chinese character stands alone. Each word is
then covered from its left with the longest pieces of the vocabulary; a word that cannot be covered, or has more than
100 characters, is unknown as a whole. Words repeat, so the ids of each are remembered.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

MAX_TOKENS = 256
"""What the model was trained for, the two marks at the ends included; the rest of a longer text is not seen."""

_MAX_WORD = 100
_REMEMBERED = 20_000
# What the rules can be spared for: nothing in such a text has an accent, a category or a script to look up.
_ASCII_WORDS = re.compile(r"[0-9a-z]+|[!-/:-@\[-`{-~]")
_ASCII_DELETED = {code: None for code in (*range(9), 11, 12, *range(14, 32), 127)}
# What is read of a text, spaces apart: a token seldom has as many as 16 characters, and a long text without spaces must
# not keep the interpreter busy.
_MAX_CHARACTERS = MAX_TOKENS * 16


class Tokenizer:
    """Ids of texts, for one vocabulary. Threads may share it."""

    __slots__ = ("_end", "_limit", "_start", "_unknown", "_vocabulary", "_word")

    def __init__(self, vocabulary: Iterable[str], limit: int = MAX_TOKENS) -> None:
        """`vocabulary`: the pieces in order of their ids. Raises ValueError where a special piece is missing."""
        self._vocabulary = {piece: number for number, piece in enumerate(vocabulary)}
        missing = {"[CLS]", "[SEP]", "[UNK]"} - self._vocabulary.keys()
        if missing:
            raise ValueError(f"the vocabulary has no {', '.join(sorted(missing))}")
        self._start, self._end = self._vocabulary["[CLS]"], self._vocabulary["[SEP]"]
        self._unknown = (self._vocabulary["[UNK]"],)
        self._limit = limit - 2
        self._word = lru_cache(_REMEMBERED)(self._pieces)

    @classmethod
    def read(cls, path: Path) -> "Tokenizer":
        """The tokenizer of a `vocab.txt`, one piece a line. Raises OSError, ValueError."""
        return cls(path.read_text("utf-8").removesuffix("\n").split("\n"))

    def ids(self, text: str) -> list[int]:
        """The ids of `text` between the marks of start and end, at most as many as the limit."""
        out = [self._start]
        room = self._limit + 1
        word = self._word
        spaced = " ".join(text.split(maxsplit=self._limit)[: self._limit])
        for each in words(spaced[:_MAX_CHARACTERS]):
            out += word(each)
            if len(out) >= room:
                del out[room:]
                break
        out.append(self._end)
        return out

    def _pieces(self, word: str) -> tuple[int, ...]:
        vocabulary = self._vocabulary
        whole = vocabulary.get(word)
        if whole is not None:
            return (whole,)
        if len(word) > _MAX_WORD:
            return self._unknown
        found = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                number = vocabulary.get(prefix + word[start:end])
                if number is not None:
                    found.append(number)
                    start = end
                    break
            else:
                return self._unknown
        return tuple(found)


def words(text: str) -> list[str]:
    """`text` without case, accents and control characters, cut at white space and around every punctuation mark."""
    if text.isascii():
        return _ASCII_WORDS.findall(text.translate(_ASCII_DELETED).lower())
    spaced = "".join(map(_spaced, text))
    out = []
    for word in spaced.split():
        bare = "".join(
            each for each in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(each) != "Mn"
        )
        out += "".join(f" {each} " if _is_punctuation(each) else each for each in bare).split()
    return out


def _spaced(character: str) -> str:
    if character in "\t\n\r":
        return " "
    if _is_han(ord(character)):
        return f" {character} "
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    # U+FFFD: what a decoder puts where it could not read.
    return "" if category[0] == "C" or character in "\0�" else character


def _is_punctuation(character: str) -> bool:
    code = ord(character)
    # Every ASCII mark counts, those too that Unicode calls symbols: $ + < = > ^ ` | ~.
    if code < 128:
        return 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return unicodedata.category(character)[0] == "P"


def _is_han(code: int) -> bool:
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2A6DF
        or 0x2A700 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )
