"""A question's words of content, and what governs them."""

import pytest

from gateway.semantic.guards import features
from gateway.semantic.guards_words import ATTACHED, DEFINITE, PASSIVE, PLURAL, POSSESSIVE


@pytest.mark.parametrize(
    ("text", "words", "kinds"),
    [
        ("How do I reset my password?", ["reset", "password"], "ww"),
        ("Transfer $200 to savings", ["transfer", "200", "dollar", "savings"], "wnuw"),
        ("Is it safe for us?", ["safe"], "w"),
        ("Is it safe for us to go?", ["safe", "us", "go"], "www"),
        ("Is it safe for US pilots?", ["safe", "usa", "pilot"], "wew"),
        ("Give it to me", [], ""),
        ("Who saw me?", ["see", "me"], "ww"),
        ("What happened in may?", ["happen", "may^"], "we"),
        ("Who may enter?", ["enter"], "w"),
        ("Is vitamin A good?", ["vitamin", "a^", "good"], "wew"),
        ("What is 20 C in F?", ["20", "celsius", "f"], "nue"),
        ("Is the Postgres database fast?", ["postgresql", "databas", "fast"], "esm"),
        ("Is the database fast?", ["databas", "fast"], "wm"),
        ("a path from a to b", ["path", "a^", "b"], "www"),
        ("Write it in Go", ["writ", "golang"], "we"),
        ("write it in go", ["writ", "golang"], "we"),
        ("Do not use a loop", ["not", "use", "loop"], "xww"),
        ("What is the currency used in Peru?", ["currency", "use", "peru"], "wle"),
    ],
)
def test_words_of_content_are_kept_in_their_order(text: str, words: list[str], kinds: str) -> None:
    found = features(text)
    assert (list(found.words), found.kinds) == (words, kinds)


def test_each_word_knows_its_preposition() -> None:
    found = features("Send the box from Reno to the old town by truck")
    assert dict(zip(found.words, found.links, strict=True)) == {
        **{"send": "", "box": "", "reno": "from", "old": "to", "town": "to", "truck": "by"},
    }


def test_to_say_it_in_a_language_is_to_translate_it_into_one() -> None:
    one, other = features("Translate 'yes' into Thai"), features("How do you say 'yes' in Thai?")
    assert (one.words, one.links) == (other.words, other.links)


@pytest.mark.parametrize(
    ("text", "word", "flags"),
    [
        ("Delete the files", "file", PLURAL | DEFINITE),
        ("Delete files", "file", PLURAL),
        ("Who was robbed?", "rob", PASSIVE),
        ("Who robbed?", "rob", 0),
        ("What is the cat food?", "cat", ATTACHED | DEFINITE),
        ("What is Ann's food?", "ann", ATTACHED | POSSESSIVE),
    ],
)
def test_each_word_knows_its_form(text: str, word: str, flags: int) -> None:
    found = features(text)
    assert found.flags[found.words.index(word)] == flags


def test_circumstances_are_kept_beside_the_words() -> None:
    found = features("Did all of my friends come, or should your cat?")
    assert (found.tense, found.mood) == ("past", "should")
    assert (found.persons, found.quantifiers) == (("my", "your"), ("all",))


def test_a_text_without_words_is_kept_whole() -> None:
    assert features("?!").text == "?!"
    assert features("").words == () and features("   ").text == ""
