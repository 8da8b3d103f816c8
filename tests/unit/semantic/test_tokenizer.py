"""WordPiece against ids known from BERT's own vocabulary."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.semantic.tokenizer import MAX_TOKENS, Tokenizer, words

# Pieces of bert-base-uncased's vocab.txt, by their line there.
KNOWN = {
    **{"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "!": 999, ",": 1010, ".": 1012, "?": 1029, "'": 1005},
    **{"the": 1996, "hello": 7592, "world": 2088, "cafe": 7668, "##able": 3085, "un": 4895, "##aff": 10354},
    **{"i": 1045, "t": 1056, "don": 2123, "how": 2129, "do": 2079, "##s": 2015, "token": 19204, "##ize": 4697},
    **{"一": 1740, "中": 1746},
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """BERT's, with holes where nothing is known."""
    pieces = [f"[unused{number}]" for number in range(30522)]
    for piece, number in KNOWN.items():
        pieces[number] = piece
    return Tokenizer(pieces)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("hello world", [7592, 2088]),
        ("Hello, World!", [7592, 1010, 2088, 999]),
        ("  hello\t\r\nworld  ", [7592, 2088]),
        ("café", [7668]),
        ("cafe\u0301", [7668]),
        ("CAFÉ", [7668]),
        ("unaffable", [4895, 10354, 3085]),
        ("tokenizes", [19204, 4697, 2015]),
        ("don't", [2123, 1005, 1056]),
        ("中一", [1746, 1740]),
        ("hello中world", [7592, 1746, 2088]),
        ("wo\u200brld", [2088]),
        ("wo\x00rld", [2088]),
        ("xyzzy", [100]),
        ("\u5b57", [100]),
        ("hello" * 30, [100]),
        ("", []),
        ("\ufffd\x07", []),
        ("¿how?", [100, 2129, 1029]),
    ],
)
def test_texts_become_the_ids_that_bert_gives_them(tokenizer: Tokenizer, text: str, ids: list[int]) -> None:
    assert tokenizer.ids(text) == [101, *ids, 102]


def test_long_texts_are_cut_and_still_end_with_the_mark(tokenizer: Tokenizer) -> None:
    found = tokenizer.ids("the " * 10_000)
    assert found == [101, *[1996] * (MAX_TOKENS - 2), 102]
    assert len(tokenizer.ids("unaffable " * 100)) == MAX_TOKENS
    assert len(tokenizer.ids("中" * 5_000)) == MAX_TOKENS


def test_spaces_do_not_use_up_what_may_be_read(tokenizer: Tokenizer) -> None:
    assert tokenizer.ids("hello" + " " * 100_000 + "world") == [101, 7592, 2088, 102]


def test_a_vocabulary_without_the_special_pieces_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[CLS\], \[SEP\]"):
        Tokenizer(["[UNK]", "hello"])


def test_a_vocabulary_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[UNK]\n[CLS]\n[SEP]\nhello\n", "utf-8")
    assert Tokenizer.read(path).ids("hello there") == [1, 3, 0, 2]


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_short_way_for_ascii_gives_the_same_words(text: str) -> None:
    # A letter with an accent, alone, sends the text the long way round.
    assert words(text) == words(f"{text} é")[:-1]


@given(st.text())
def test_every_text_has_ids_within_the_limit(text: str) -> None:
    found = Tokenizer(["[UNK]", "[CLS]", "[SEP]", "a", "##b"]).ids(text)
    assert found[0] == 1 and found[-1] == 2 and len(found) <= MAX_TOKENS


def test_the_installed_vocabulary_is_berts(model_folder: Path) -> None:
    tokenizer = Tokenizer.read(model_folder / "vocab.txt")
    assert tokenizer.ids("hello world") == [101, 7592, 2088, 102]
    assert tokenizer.ids("Unaffable café?") == [101, 14477, 20961, 3468, 7668, 1029, 102]
