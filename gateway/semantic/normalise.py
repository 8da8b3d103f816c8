"""One spelling for what is the same text: the form in which two prompts are equal without any judgement."""

import re
import unicodedata

_QUOTES = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2013\u2212", "-"),
        "\u2014": " - ",
        "\u2026": "...",
    }
)
_DELETED = dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD))
_SPACES = re.compile(r"\s+")


def normalise(text: str) -> str:
    """`text` with compatible characters made one (NFKC), plain quotes and dashes, and single spaces.

    Case and punctuation stay: they may matter. Superscripts become digits after a caret, so that 2² is not 22.
    """
    if text.isascii():
        return " ".join(text.split())
    raised = "".join(_raised(each) for each in text.translate(_QUOTES).translate(_DELETED))
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", raised)).strip()


def _raised(character: str) -> str:
    kind = unicodedata.decomposition(character) if character > "\x7f" else ""
    if kind.startswith("<super>") and character.isdigit():
        return "^" + unicodedata.normalize("NFKC", character)
    return f" {unicodedata.normalize('NFKC', character)}" if kind.startswith("<fraction>") else character


def equal_text(one: str, other: str) -> bool:
    """Whether two prompts differ in nothing but case, spaces and the mark at the end, where case decides nothing.

    A text that may hold code or names with a case of their own (anything but letters and plain punctuation, or a
    capital inside a word) is compared with its case.
    """
    one, other = normalise(one).rstrip(" .?!"), normalise(other).rstrip(" .?!")
    if one == other:
        return True
    return one.lower() == other.lower() and _is_plain(one) and _is_plain(other)


_CASED = re.compile(r"[^\w\s.,;:?!'-]|[_\d]|\w[A-Z]|(?<=[a-z,] )[A-Z]\w")


def _is_plain(text: str) -> bool:
    return not _CASED.search(text)
