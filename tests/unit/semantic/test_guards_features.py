"""What is kept of a question."""

import msgspec

from gateway.semantic.guards import Features, features


def test_features_never_show_the_words_of_a_prompt() -> None:
    assert "secret" not in repr(features("my secret plan"))


def test_features_survive_being_stored() -> None:
    found = features("Pay 20 dollars from my account, not today")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Features) == found
