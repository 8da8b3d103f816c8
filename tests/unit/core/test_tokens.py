"""Guesses at tokens."""

from gateway.core.tokens import estimate_tokens


def test_a_token_is_about_four_bytes() -> None:
    assert [estimate_tokens(n) for n in (0, 1, 4, 5, 4000)] == [0, 1, 1, 2, 1000]
