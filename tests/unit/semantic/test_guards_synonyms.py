"""The two tables do not contradict each other."""

from gateway.semantic.guards_stem import stem
from gateway.semantic.guards_synonyms import antonyms, synonyms
from gateway.semantic.guards_words import word


def test_no_opposites_stand_in_one_group() -> None:
    heads = synonyms()
    assert [pair for pair in antonyms() if heads.get(pair[0], pair[0]) == heads.get(pair[1], pair[1])] == []


def test_no_opposites_become_one_word_by_their_stems() -> None:
    assert [pair for pair in antonyms() if word(pair[0]).canonical == word(pair[1]).canonical] == []


def test_opposites_are_known_in_both_orders() -> None:
    assert ("buy", "sell") in antonyms() and ("sell", "buy") in antonyms()
    assert len(antonyms()) > 700


def test_groups_that_share_a_word_are_one_group() -> None:
    heads = synonyms()
    assert heads["get"] == heads["obtain"] == heads["acquire"]
    assert len({heads[each] for each in ("delete", "remove", "erase")}) == 1
    assert all(heads.get(head) == head for head in heads.values())


def test_synonyms_are_no_longer_than_a_word() -> None:
    assert all(stem(each)[0] for each in synonyms())
