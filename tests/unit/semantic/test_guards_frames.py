"""What a question asks for, and where its matter begins."""

import pytest

from gateway.semantic.guards_frames import frame
from gateway.semantic.guards_scan import scan


@pytest.mark.parametrize(
    ("text", "asks", "matter"),
    [
        ("How do I cook rice?", "howto", "cook rice ."),
        ("How to cook rice", "howto", "cook rice"),
        ("What is the best way to cook rice?", "howto", "cook rice ."),
        ("What are the steps to cook rice", "howto", "cook rice"),
        ("Could you please tell me how to cook rice?", "howto", "cook rice ."),
        ("I want to cook rice, how?", "howto", "cook rice , how ."),
        ("In a pan, how do I cook rice?", "howto", "in a pan , how do i cook rice ."),
        ("Cook rice", "do", "cook rice"),
        ("Can you cook rice", "yesno:can", "you cook rice"),
        ("Can you write a poem", "do", "write a poem"),
        ("How do you say yes in Thai", "do", "yes in thai"),
        ("What is rice?", "what", "rice ."),
        ("Explain rice", "what:explain", "rice"),
        ("Tell me about rice", "what:explain", "rice"),
        ("List the kinds of rice", "what:list", "kinds of rice"),
        ("Explain why rice is white", "why", "rice is white"),
        ("What is the reason for rain", "why", "rain"),
        ("How does rice grow", "how", "rice grow"),
        ("How many grains", "count", "grains"),
        ("What is the number of grains", "count", "grains"),
        ("How much rice", "amount", "rice"),
        ("How old is rice", "what", "is rice"),
        ("What year did it rain", "when:year", "did it rain"),
        ("In which year did it rain", "when:year", "did it rain"),
        ("When did it rain", "when", "did it rain"),
        ("Where is it", "where", "is it"),
        ("Tell me who cooks", "who", "cooks"),
        ("Is rice white", "yesno", "rice white"),
        ("Should I eat it", "yesno:should", "i eat it"),
        ("Is it healthy to eat", "yesno:*", "healthy to eat"),
        ("Is it possible to pay", "yesno:can", "pay"),
        ("Am I allowed to pay", "yesno:can", "pay"),
        ("Five ways to cook", "do", "five ways to cook"),
    ],
)
def test_openings_are_read(text: str, asks: str, matter: str) -> None:
    tokens = scan(text)
    found = frame(tokens)
    assert (found.asks, " ".join(each.low for each in tokens[found.start :])) == (asks, matter)


def test_an_opening_in_the_middle_leaves_a_gap() -> None:
    tokens = scan("In vim, how do I quit?")
    found = frame(tokens)
    assert [each.low for each in tokens[found.gap[0] : found.gap[1]]] == ["how", "do", "i"]


def test_the_manner_of_a_way_belongs_to_the_matter() -> None:
    assert frame(scan("What is a fast way to quit?")).says == ("fast",)
    assert frame(scan("How tall is it?")).says == ("height",)


def test_nothing_is_a_request() -> None:
    assert frame([]) == ("do", 0, (), (-1, -1), 0)
