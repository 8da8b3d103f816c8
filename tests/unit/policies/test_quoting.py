"""What a request may come to at worst."""

from gateway.policies.quoting import AnyTarget, Quotes, Worst, bound_tokens
from tests.fakes import exchange, request
from tests.unit.policies.admitting import Quoting, asking


def figures(quote: object) -> tuple[int, int, int | None]:
    """Of any quote."""
    assert isinstance(quote, Worst)
    return quote.input_tokens, quote.output_tokens, quote.cost_nusd


def test_the_worst_of_several_targets_is_the_worst_in_each_figure() -> None:
    quoter = AnyTarget({"dear": Quoting(900, 10), "long": Quoting(100, 40)})
    assert figures(quoter.quote(asking(), 7, True)) == (40, 7, 900)
    assert figures(quoter.quote(asking(), 7, False)) == (4, 7, 90)
    assert quoter.covers("long")
    assert not quoter.covers("other")


def test_a_pinned_request_is_quoted_for_its_target_alone() -> None:
    quoter = AnyTarget({"dear": Quoting(900), "cheap": Quoting(1)})
    assert figures(quoter.quote(asking(pinned_target="cheap"), 7, True))[2] == 1
    assert figures(quoter.quote(asking(pinned_target="unknown"), 7, True))[2] == 900


def test_without_the_price_of_one_target_there_is_none_of_all() -> None:
    assert figures(AnyTarget({"a": Quoting(5), "b": Quoting(None)}).quote(asking(), 7, True))[2] is None
    assert figures(AnyTarget({"b": Quoting(None)}).quote(asking(), 7, True))[2] is None


def test_each_quote_is_asked_for_once() -> None:
    quoting = Quoting()
    quotes = Quotes(lambda strict: quoting.worst_case(request(), 7, strict))
    assert quotes(True) is quotes(True)
    assert quotes(False) is quotes(False)
    assert quoting.asked == [(7, True), (7, False)]


def test_a_request_without_a_bound_gets_one_and_it_is_sent() -> None:
    """F52, F104."""
    bounded, unbounded = asking(50), asking(None)
    assert bound_tokens(bounded, 4096) == 50
    assert bounded.max_tokens_sent is None
    assert bound_tokens(unbounded, 4096) == 4096
    assert unbounded.max_tokens_sent == 4096
    assert bound_tokens(unbounded, 9) == 4096, "the first bound stays"


def test_what_has_no_output_gets_no_bound() -> None:
    for operation in ("embeddings", "count_tokens", "relay"):
        asked = exchange(request(operation=operation))
        assert bound_tokens(asked, 4096) == 0
        assert asked.max_tokens_sent is None
